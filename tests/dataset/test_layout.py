"""Which shard a person is in, and that it makes no difference how many there are."""

from hashlib import sha256
from pathlib import Path

import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.layout import Shard, bucket_of, complete_shards, shard_name, shards_of
from ifllm_hub.dataset.load import load_config, scan_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.sources.ifllm.archive import Release

SHARDS = 5


@pytest.fixture(scope="module")
def sharded(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharded") / "dataset"
    build_dataset(release, out, shards=SHARDS)
    write_preferences(out)
    return out


def test_a_shard_is_a_hash_of_the_id() -> None:
    for worker in ("", "ada", "reader_f909e3fe22f1caba", "Łukasz"):
        for shards in (1, 2, 7, 256):
            assert bucket_of(worker, shards) == int(sha256(worker.encode()).hexdigest()[:16], 16) % shards
    assert [shard.has("ada") for shard in map(Shard, range(4), [4] * 4)] == [False, False, True, False]


def test_a_set_of_files_is_whole_or_refused() -> None:
    names = [shard_name("train", Shard(number, 3)) for number in range(3)]
    assert names[1] == "train-00001-of-00003.parquet"
    assert complete_shards("here", "train", names) == 3
    with pytest.raises(IfllmError, match=r"here: 2 of 3 files of train are missing \(the first: train-00000-of"):
        complete_shards("here", "train", names[2:])
    with pytest.raises(IfllmError, match="in several layouts"):
        complete_shards("here", "train", [*names, shard_name("train")])


def test_rows_do_not_depend_on_the_shards(sharded: Path, labeled_dataset: Path) -> None:
    assert present_configs(sharded) == present_configs(labeled_dataset)
    assert (sharded / "manifest.json").read_bytes() == (labeled_dataset / "manifest.json").read_bytes()
    assert (sharded / "privacy_report.json").read_bytes() == (labeled_dataset / "privacy_report.json").read_bytes()
    for config in present_configs(labeled_dataset):
        rows = [load_config(folder, config).sort("question_id").rows() for folder in (sharded, labeled_dataset)]
        assert repr(rows[0]) == repr(rows[1]) != "[]"  # 0.0 and -0.0 differ


def test_everybody_is_in_their_shard_in_every_config(sharded: Path) -> None:
    assert shards_of(sharded) == [Shard(number, SHARDS) for number in range(SHARDS)]
    for config in present_configs(sharded):
        for shard in shards_of(sharded):
            for rows in scan_config(sharded, config, ["worker_id"], shard=shard):
                assert all(map(shard.has, rows["worker_id"]))
