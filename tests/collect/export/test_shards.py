"""An export in shards: the same rows, and only what changed is written again."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from datasets import load_dataset

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.export.shards import export_shard, export_shard_elsewhere
from ifllm_hub.collect.export.stored import stored_readings
from ifllm_hub.collect.export.upkeep import erase_exports
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.layout import Shard, bucket_of
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import read_manifest
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import unfinished
from tests.collect.conftest import Site
from tests.collect.export.test_export import collect

SHARDS = 8


@pytest.fixture
def in_postgres(make_site: Callable[..., Site], postgres_database: str) -> Site:
    """Only PostgreSQL shares snapshots."""
    return make_site(database=postgres_database)


def rows(folder: Path) -> dict[str, str]:
    """The rows of each config in the order of their questions; 0.0 and -0.0 differ."""
    return {config: repr(load_config(folder, config).sort("question_id").rows()) for config in present_configs(folder)}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file is at each place; a file that was written again is another one."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("data/*/*.parquet")
    }


def shard_of(site: Site, person: str) -> int:
    return bucket_of(site.pseudonyms.worker(site.pseudonyms.person(person)), SHARDS)


def test_the_rows_do_not_depend_on_the_shards(site: Site, tmp_path: Path) -> None:
    collect(site, people=12)
    manifests = [export_dataset(site.store, tmp_path / str(n), site.pseudonyms, shards=n) for n in (1, SHARDS, 32)]
    assert manifests[0] == manifests[1] == manifests[2]
    assert manifests[0]["people"] == 12
    expected = rows(tmp_path / "1")
    assert {"pairwise", "pointwise", "trajectories", "features", "preferences_explicit"} <= expected.keys()
    assert rows(tmp_path / "8") == rows(tmp_path / "32") == expected
    for config in expected:
        for path in (tmp_path / "8" / "data" / config).iterdir():
            workers = pl.read_parquet(path)["worker_id"]
            assert all(f"-{bucket_of(worker, SHARDS):05d}-of-00008" in path.name for worker in workers)
        height = load_config(tmp_path / "1", config).height
        if config == "preferences_thumbs":  # nobody gave one, so the card names no such config
            assert height == 0
            continue
        loaded = load_dataset(str(tmp_path / "8"), config)
        assert sum(split.num_rows for split in loaded.values()) == height > 0
    lines = [sorted((tmp_path / n / "trl/preferences_explicit.jsonl").read_text().splitlines()) for n in ("1", "8")]
    assert lines[0] == lines[1] != []


def test_only_shards_in_which_something_changed_are_written_again(site: Site, tmp_path: Path) -> None:
    collect(site, people=12)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
    before, same = written(out), rows(out)
    export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
    assert written(out) == before
    assert rows(out) == same
    token = site.register("p3", "q0", text="left 3 0 " * 60)["token"]
    assert site.post("ratings", {"token": token, "preference": "right"}).status_code == 202
    export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
    changed = {path for path, file in written(out).items() if file != before[path]}
    assert changed == {path for path in before if f"-{shard_of(site, 'p3'):05d}-of-" in path}
    export_dataset(site.store, tmp_path / "anew", site.pseudonyms, shards=SHARDS)
    assert rows(out) == rows(tmp_path / "anew") != same


def test_an_interrupted_export_goes_on(site: Site, tmp_path: Path) -> None:
    collect(site, people=12)
    out = tmp_path / "out"
    with stored_readings(site.store, site.pseudonyms) as source:
        for number in (0, 1, 2):
            export_shard(Shard(number, SHARDS), source, unfinished(out), out)
    done = written(unfinished(out))
    assert len(done) == 3 * 2 * 8  # shards, splits, configs
    (unfinished(out) / ".accounts/00002-of-00008.json").unlink()  # it was being written
    with stored_readings(site.store, site.pseudonyms) as source:  # and once more, in another layout
        export_shard(Shard(1, 3), source, unfinished(out), out)
    export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
    assert not unfinished(out).exists()
    kept = {path for path, file in written(out).items() if done.get(path) == file}
    assert kept == {path for path in done if "-00002-of-" not in path}
    export_dataset(site.store, tmp_path / "at_once", site.pseudonyms)
    assert rows(out) == rows(tmp_path / "at_once")


def test_a_withdrawal_rewrites_one_shard(site: Site, tmp_path: Path) -> None:
    collect(site, people=12)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
    before, manifest = written(out), read_manifest(out)
    with stored_readings(site.store, site.pseudonyms) as source:  # an export that was interrupted
        export_shard(Shard(shard_of(site, "p3"), SHARDS), source, unfinished(out), out)
    site.forget(site.register("p3", "q0")["person_token"])
    erase_exports(site.store)
    changed = {path for path, file in written(out).items() if file != before[path]}
    assert changed == {path for path in before if f"-{shard_of(site, 'p3'):05d}-of-" in path}
    gone = site.pseudonyms.worker(site.pseudonyms.person("p3"))
    assert not any(gone in load_config(out, config)["worker_id"] for config in present_configs(out))
    assert not unfinished(out).exists()
    left = read_manifest(out)
    assert left["people"] == manifest["people"] - 1
    assert left["questions"] == {"pairwise": 11, "pointwise": 22}
    assert left["conversations"] == load_config(out, "pairwise")["conversation_id"].n_unique() == 11
    export_dataset(site.store, tmp_path / "anew", site.pseudonyms, shards=SHARDS)
    assert rows(out) == rows(tmp_path / "anew")


def test_what_a_killed_withdrawal_left_is_in_no_export(site: Site, tmp_path: Path) -> None:
    collect(site, people=12)
    out = tmp_path / "out"
    with stored_readings(site.store, site.pseudonyms) as source:
        export_shard(Shard(0, SHARDS), source, unfinished(out), out)
    for folder in (unfinished(out), out):
        scratch = folder / "data/.pairwise"
        scratch.mkdir()
        (scratch / "train-00001-of-00008.parquet").write_bytes(b"PAR1, cut off")
        export_dataset(site.store, out, site.pseudonyms, shards=SHARDS)
        assert not list(out.glob("data/.*"))
    (out / "data/.features").mkdir()
    (out / "data/.features/train-00002-of-00008.parquet").write_bytes(b"somebody else's")
    before = rows(out)
    site.forget(site.register("p3", "q0")["person_token"])
    erase_exports(site.store)
    gone = {config: load_config(out, config).height for config in before}
    assert gone["features"] == 33
    assert not list(out.glob("data/.*"))


def test_a_withdrawal_reaches_an_export_that_was_never_finished(site: Site, tmp_path: Path) -> None:
    collect(site, people=2)
    out = tmp_path / "out"
    site.store.note_export(out, 0)
    with stored_readings(site.store, site.pseudonyms) as source:
        export_shard(Shard(0, 2), source, unfinished(out), out)
    site.forget(site.register("p1", "q0")["person_token"])
    erase_exports(site.store)
    assert not unfinished(out).exists()


def test_a_shard_that_is_missing_is_refused(site: Site, tmp_path: Path) -> None:
    collect(site, people=3)
    export_dataset(site.store, tmp_path / "out", site.pseudonyms, shards=3)
    (tmp_path / "out/data/features/train-00001-of-00003.parquet").unlink()
    with pytest.raises(IfllmError, match=r"1 of 3 files of train are missing \(the first: train-00001-of-00003"):
        load_config(tmp_path / "out", "features")
    (tmp_path / "out/data/pairwise/train-00000-of-00001.parquet").touch()
    with pytest.raises(IfllmError, match="in several layouts"):
        load_config(tmp_path / "out", "pairwise")


def test_several_processes_need_postgresql(site: Site, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="only in PostgreSQL"):
        export_dataset(site.store, tmp_path / "out", site.pseudonyms, shards=2, engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_other_connections_see_one_moment(in_postgres: Site, tmp_path: Path) -> None:
    """Shards read by other connections to PostgreSQL, the second half of them after somebody withdrew."""
    site = in_postgres
    collect(site, people=12)
    export_dataset(site.store, tmp_path / "before", site.pseudonyms)
    expected = rows(tmp_path / "before")  # which the withdrawal reaches
    with site.store.shared_snapshot() as snapshot:
        reading = partial(export_shard_elsewhere, database=site.store.url, snapshot=snapshot, key=site.pseudonyms.key)
        task = partial(reading, folder=tmp_path / "out", earlier=tmp_path / "none")
        for number in range(SHARDS):
            task(Shard(number, SHARDS))
            if number == SHARDS // 2:
                site.forget(site.register("p3", "q0")["person_token"])
    assert rows(tmp_path / "out") == expected
    with closing(Store(site.store.url)) as other, stored_readings(other, site.pseudonyms) as source:
        assert site.pseudonyms.worker(site.pseudonyms.person("p3")) not in source.people


@pytest.mark.slow
def test_an_export_on_ray_is_the_same(in_postgres: Site, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    site = in_postgres
    collect(site, people=12)
    manifests = [
        export_dataset(site.store, tmp_path / engine, site.pseudonyms, shards=4, engine=engine)
        for engine in ("local", "ray")
    ]
    assert manifests[0] == manifests[1]
    files = [sorted((tmp_path / engine).glob("data/*/*.parquet")) for engine in ("local", "ray")]
    assert len(files[0]) == 2 * 4 * 6
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
