"""Two nodes of a Ray cluster on this machine: what they write is equal, whoever is killed meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.partition import partition_dataset
from ifllm_hub.engines.run import run_shards
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward import scoring
from ifllm_hub.reward.scoring import SUMMARY, score_dataset
from ifllm_hub.sources.ifllm.archive import Release
from tests.dataset.folders import content
from tests.engines import tasks
from tests.engines.made import by_person, lake, scores
from tests.waiting import kill_after, until

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path_factory.mktemp("ray") / "token"))
        (Path(os.environ["RAY_AUTH_TOKEN_PATH"])).write_text("0" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def laid_out(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_person(dataset, tmp_path_factory.mktemp("laid-out"), 8)


@pytest.fixture(scope="module")
def here(laid_out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run in this process."""
    out = tmp_path_factory.mktemp("here")
    score_dataset(laid_out, out)
    return content(out / "data")


@pytest.fixture
def troubled(tmp_path: Path) -> Path:
    """A file for as long as which `tasks` make trouble, beside `scores`."""
    (tmp_path / "trouble").touch()
    return tmp_path / "trouble"


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("data/scores/*.parquet")}


def accounts(out: Path) -> set[str]:
    """The shards that are done."""
    return {path.stem for path in out.glob(".accounts/*.json")}


@pytest.mark.parametrize("shards", [1, 3])
def test_a_build_is_the_same(shards: int, cluster, release: Release, tmp_path: Path) -> None:
    for name, where in {"here": {}, "there": {"engine": "ray", "address": cluster.address}}.items():
        build_dataset(release, tmp_path / name, shards=shards, report=False, advance=lambda share: None, **where)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_both_nodes_work_and_the_order_is_kept(cluster) -> None:
    shares: list[float] = []
    nodes = run_shards(tasks.node_of, [0.5] * 8, "ray", cluster.address, advance=shares.append)
    assert len(set(nodes)) == 2
    assert shares == [share / 8 for share in range(1, 9)]
    assert not ray.is_initialized()
    assert run_shards(tasks.reciprocal, [4, 2, 1], "ray", cluster.address) == [0.25, 0.5, 1.0]
    assert run_shards(tasks.threads, [0], "ray", cluster.address) == [("1", 1)]
    assert run_shards(tasks.reciprocal, [], "ray", cluster.address) == []


def test_who_was_connected_stays_connected(cluster) -> None:
    ray.init(cluster.address)
    try:
        assert run_shards(tasks.reciprocal, [2], "ray") == [0.5]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_what_a_task_raises_is_not_tried_again(cluster) -> None:
    with pytest.raises(IfllmError, match=r"^1 of 3 shards failed \(0\)\. The first: ZeroDivisionError: division by z"):
        run_shards(tasks.reciprocal, [1, 0, 2], "ray", cluster.address)


def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(IfllmError, match=r"^The Ray cluster at '127\.0\.0\.1:1' cannot be used \(.*refused"):
        run_shards(tasks.reciprocal, [1], "ray", "127.0.0.1:1")


def test_the_same_files(cluster, laid_out, here, tmp_path) -> None:
    score_dataset(laid_out, tmp_path, engine="ray", address=cluster.address)
    assert content(tmp_path / "data") == here


def test_the_same_partition(cluster, dataset, tmp_path) -> None:
    source = lake(dataset, tmp_path / "lake")
    partition_dataset(source, tmp_path / "here", 8)
    partition_dataset(source, tmp_path / "there", 8, "ray", cluster.address)
    assert content(tmp_path / "here/data") == content(tmp_path / "there/data")


def test_a_worker_that_is_killed_changes_nothing(cluster, laid_out, here, troubled, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "score_shard", tasks.die_once)
    out = troubled.with_name("scores")
    score_dataset(laid_out, out, engine="ray", address=cluster.address)
    assert not troubled.exists()  # it was killed
    [left] = out.glob("data/scores/.staged-*")  # with its shard almost written
    assert len(list(left.iterdir())) == 2
    files = content(out / "data")
    assert {name: files[name] for name in here} == here
    assert scores(out)["question_id"].is_unique().all()
    score_dataset(laid_out, out)
    assert content(out / "data") == here


def test_a_node_that_is_lost_changes_nothing(cluster, laid_out, here, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "score_shard", tasks.score_slowly)
    (second,) = cluster.worker_nodes
    out, starts = tmp_path / "scores", tmp_path / "starts"
    lost: set[str] = set()

    def advance(_: float) -> None:
        begun = {shard for node, shard in map(str.split, starts.read_text().splitlines()) if node == second.node_id}
        if not lost and (under_way := begun - accounts(out)):
            lost.update(under_way)
            cluster.remove_node(second, allow_graceful=False)

    try:
        score_dataset(laid_out, out, engine="ray", address=cluster.address, advance=advance)
    finally:
        cluster.add_node(num_cpus=1)
    [shard] = lost
    nodes = [node for node, begun in map(str.split, starts.read_text().splitlines()) if begun == shard]
    assert len(nodes) == 2  # it was begun again, on the other node
    assert nodes[0] == second.node_id != nodes[1]
    assert {name: data for name, data in content(out / "data").items() if ".staged-" not in name} == here


def test_a_shard_that_kills_every_worker_stops_no_other(cluster, laid_out, here, troubled, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "score_shard", tasks.die_always)
    out = troubled.with_name("scores")
    run = partial(score_dataset, laid_out, out, engine="ray", address=cluster.address)
    with pytest.raises(
        IfllmError, match=r"^1 of 8 shards failed \(00003-of-00008\)\. The first: every worker .* died, 3"
    ):
        run()
    assert troubled.read_text() == "xxx"
    assert len(accounts(out)) == 7
    assert not (out / SUMMARY).exists()
    before = times(out)
    troubled.unlink()
    counts = run()
    now = times(out)
    assert {name for name in now if now[name] != before.get(name)} == {
        f"{split}-00003-of-00008.parquet" for split in ("train", "test")
    }
    assert content(out / "data") == here
    assert json.loads((out / SUMMARY).read_text())["readings"] == counts["readings"] == scores(out).height


def test_a_driver_that_is_killed_is_gone_on_from(cluster, laid_out, here, tmp_path) -> None:
    out = tmp_path / "scores"
    command = [sys.executable, "-m", "tests.engines.tasks", laid_out, out, cluster.address]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as driver:
        until((out / ".accounts").exists, 120)
        with pytest.raises(IfllmError, match="another run is writing there"):
            score_dataset(laid_out, out)
        kill_after(driver, lambda: len(accounts(out)) >= 2, 120)
    done = accounts(out)
    assert 2 <= len(done) < 8
    assert not (out / SUMMARY).exists()
    before: dict[str, Any] = {name: time for name, time in times(out).items() if name.partition("-")[2][:-8] in done}
    assert len(before) == 2 * len(done)
    score_dataset(laid_out, out, engine="ray", address=cluster.address)
    assert before.items() <= times(out).items()
    assert content(out / "data") == here
    assert scores(out).select(pl.col("question_id").is_unique().all()).item()
