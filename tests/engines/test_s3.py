"""A dataset, its partition and its scores on S3: a server on this machine, which the unmodified client talks to."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.partition import partition_dataset
from ifllm_hub.engines.places import files_in, locked
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.scoring import SUMMARY, score_dataset
from tests.dataset.folders import content
from tests.engines.made import lake

server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"lake-{secrets.token_hex(4)}"  # all servers of a process share their buckets
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_the_same_files_as_on_a_disk(bucket, dataset, tmp_path) -> None:
    source = lake(dataset, tmp_path / "lake")
    partition_dataset(source, tmp_path / "people", 4)
    score_dataset(tmp_path / "people", tmp_path / "scores")

    s3fs.S3FileSystem().put(str(source), f"{bucket}/raw", recursive=True)
    rows = partition_dataset(f"{bucket}/raw", f"{bucket}/people", 4)
    counts = score_dataset(f"{bucket}/people", f"{bucket}/scores")
    assert counts["readings"] == rows["trajectories"]
    first = files_in(f"{bucket}/scores")
    for what in ("people", "scores"):
        s3fs.S3FileSystem().get(f"{bucket}/{what}", str(tmp_path / "from" / what), recursive=True)
        assert content(tmp_path / "from" / what / "data") == content(tmp_path / what / "data")
    assert load_config(tmp_path / "from/scores", "scores").height == counts["readings"]

    # Again: nothing changes, and of a lost shard only that one is written.
    assert partition_dataset(f"{bucket}/raw", f"{bucket}/people", 4) == rows
    assert score_dataset(f"{bucket}/people", f"{bucket}/scores") == counts
    s3fs.S3FileSystem().rm(f"{bucket}/scores/data/scores/train-00002-of-00004.parquet")
    assert score_dataset(f"{bucket}/people", f"{bucket}/scores") == counts
    assert files_in(f"{bucket}/scores") == first


def test_a_second_run_refuses_and_a_stale_lock_is_named(bucket, dataset, tmp_path) -> None:
    with locked(f"{bucket}/scores"):
        with pytest.raises(IfllmError, match=rf"another run is writing .*delete {bucket}/scores/\.lock and run this"):
            score_dataset(dataset, f"{bucket}/scores")
        assert list(files_in(bucket)) == ["scores/.lock"]
    score_dataset(dataset, f"{bucket}/scores")
    assert SUMMARY in files_in(f"{bucket}/scores")
    assert "scores/.lock" not in files_in(bucket)


def test_on_ray(bucket, dataset, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    partition_dataset(lake(dataset, tmp_path / "lake"), f"{bucket}/people", 4)
    here = score_dataset(f"{bucket}/people", tmp_path / "scores")
    assert score_dataset(f"{bucket}/people", f"{bucket}/scores", engine="ray") == here
    s3fs.S3FileSystem().get(f"{bucket}/scores", str(tmp_path / "from"), recursive=True)
    assert content(tmp_path / "from/data") == content(tmp_path / "scores/data")


def test_a_bucket_that_is_not_there_is_named(bucket, dataset) -> None:
    with pytest.raises(IfllmError, match=r"^s3://nowhere/scores: cannot be used \(FileNotFoundError"):
        score_dataset(dataset, "s3://nowhere/scores")
    with pytest.raises(IfllmError, match=r"^s3://nowhere/people/data/features: cannot be used \(File"):
        score_dataset("s3://nowhere/people", f"{bucket}/scores")
