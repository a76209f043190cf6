"""The folder is the repo: `load_dataset` reads it where this package is not installed, and so does `load_config`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.dataset.builder import build_dataset
from ifllm_hub.dataset.load import _from_hub, load_config
from ifllm_hub.dataset.schema import CONFIGS, SPLITS, features
from ifllm_hub.errors import IfllmError
from ifllm_hub.release.simulate import simulate_release
from ifllm_hub.release.source import open_release

BUILT = ("pairwise", "pointwise", "trajectories", "features")

# A researcher elsewhere: no ifllm_hub, no network, a fresh cache.
ELSEWHERE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ifllm_hub":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import json
import os
from datasets import get_dataset_config_names, load_dataset

folder = sys.argv[1]
seen = {"configs": get_dataset_config_names(folder), "default": load_dataset(folder)["train"].column_names}
for config in seen["configs"]:
    whole = load_dataset(folder, config)
    streamed = load_dataset(folder, config, streaming=True)
    seen[config] = {
        split: {
            "features": repr(part.features),
            "ids": part["question_id"][:],
            "streamed": [row["question_id"] for row in streamed[split]],
            "same": list(streamed[split].take(1)) == part.to_list()[:1],
            "workers": sorted(set(part["worker_id"])),
        }
        for split, part in whole.items()
    }
assert "ifllm_hub" not in sys.modules
print(json.dumps(seen), flush=True)
# A thread of a stream may outlive it and abort the interpreter at its end: huggingface/datasets#7566.
os._exit(0)
"""


def load_elsewhere(folder: Path, home: Path) -> dict:
    env = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ELSEWHERE, str(folder)],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def parquet(folder: Path, config: str, split: str) -> Path:
    return folder / f"data/{config}/{split}-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def elsewhere(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return load_elsewhere(dataset, tmp_path_factory.mktemp("home"))


def test_one_line_loads_the_default_config(elsewhere: dict) -> None:
    assert sorted(elsewhere["configs"]) == sorted(BUILT)
    assert elsewhere["default"] == [column.name for column in CONFIGS["pairwise"]]


@pytest.mark.parametrize("config", BUILT)
def test_every_config_loads_with_the_declared_features(elsewhere: dict, dataset: Path, config: str) -> None:
    assert elsewhere[config].keys() == set(SPLITS)
    for split, seen in elsewhere[config].items():
        assert seen["features"] == repr(features(config))
        ids = pl.read_parquet(parquet(dataset, config, split))["question_id"].to_list()
        assert len(ids) > 0
        assert seen["ids"] == seen["streamed"] == ids
        assert seen["same"]
    assert not set(elsewhere[config]["train"]["workers"]) & set(elsewhere[config]["test"]["workers"])


@pytest.mark.slow
def test_a_simulation_too_small_for_a_test_split_loads_too(tmp_path: Path) -> None:
    release = open_release(simulate_release(tmp_path / "release", 4, 30, 1))
    build_dataset(release, tmp_path / "out")
    seen = load_elsewhere(tmp_path / "out", tmp_path)
    assert sorted(seen["configs"]) == sorted(BUILT)
    assert all(seen[config].keys() == {"train"} for config in BUILT)


@pytest.mark.parametrize("config", BUILT)
def test_load_config_gives_both_splits(dataset: Path, config: str) -> None:
    frame = load_config(dataset, config)
    assert frame.columns == [column.name for column in CONFIGS[config]] + ["split"]
    parts = [pl.read_parquet(parquet(dataset, config, split)) for split in SPLITS]
    assert frame.drop("split").equals(pl.concat(parts))
    assert frame["split"].to_list() == ["train"] * parts[0].height + ["test"] * parts[1].height
    assert load_config(str(dataset), config).equals(frame)


@pytest.mark.parametrize("config", BUILT)
def test_the_hub_gives_the_same_frame_as_the_folder(dataset: Path, config: str) -> None:
    frames = _from_hub(str(dataset), config, None)
    whole = pl.concat([frame.with_columns(split=pl.lit(split)) for split, frame in frames.items()])
    assert whole.equals(load_config(dataset, config))


def test_what_is_not_there_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"preferences/train-.*not there\. Write the config 'preferences' first"):
        load_config(dataset, "preferences")
    (tmp_path / "file").write_text("")
    for name in (tmp_path / "file", tmp_path / "nowhere", "nowhere"):
        with pytest.raises(IfllmError, match=f"{name}: no such dataset folder, and not a Hub repo id"):
            load_config(name, "pairwise")


@pytest.mark.parametrize("repo_id", ["owner/name", "./nowhere"])
def test_a_repo_that_cannot_be_reached_is_said(repo_id: str) -> None:
    with pytest.raises(IfllmError, match=rf"^{repo_id}: config 'pairwise' cannot be loaded from the Hub .*Check"):
        load_config(repo_id, "pairwise")


def test_a_damaged_file_or_an_old_schema_is_said(dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    path = parquet(copy, "features", "test")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not Parquet"):
        path.write_bytes(damaged)
        with pytest.raises(IfllmError, match=rf"{path.name}: is not readable Parquet"):
            load_config(copy, "features")
    for split in SPLITS:
        pl.read_parquet(parquet(dataset, "features", split)).drop("length_left").write_parquet(
            parquet(copy, "features", split)
        )
    with pytest.raises(
        IfllmError, match=r"config 'features' lacks the column length_left\. Build it with this version"
    ):
        load_config(copy, "features")
