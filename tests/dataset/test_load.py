"""The folder is the repo: `load_dataset` reads it where this package is not installed, and so does `load_config`."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ifllm_hub.dataset import load
from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import MOST_METADATA, _frame, _from_hub, by_people, load_config, scan_config
from ifllm_hub.dataset.schema import CONFIGS, SPLITS, columns, features, present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.simulation.simulate import simulate_release

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
import math
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
    assert from_hub(dataset, config).equals(load_config(dataset, config))
    assert pl.concat(scan_config(dataset, config)).equals(load_config(dataset, config))


def from_hub(dataset: Path, config: str) -> pl.DataFrame:
    names = [column.name for column in columns(config)]
    return pl.concat(_frame(batch, split) for batch, split, _ in _from_hub(str(dataset), config, names, None))


def test_a_scan_reads_only_what_is_asked(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_BATCH_OF_TICKS", 10)
    whole = load_config(dataset, "trajectories")
    frames = list(scan_config(dataset, "trajectories", ["worker_id", "t"]))
    assert max(frame.height for frame in frames) <= 10 < whole.height
    assert pl.concat(frames).equals(whole.select("worker_id", "t", "split"))


def test_by_people_no_worker_is_in_two_frames(dataset: Path) -> None:
    whole = load_config(dataset, "features")
    for size in (1, 3, 7, 1000):
        frames = list(by_people(whole[start : start + size] for start in range(0, whole.height, size)))
        assert pl.concat(frames).equals(whole)
        assert sum(frame["worker_id"].n_unique() for frame in frames) == whole["worker_id"].n_unique()
    assert list(by_people([whole.clear()])) == []


def test_what_is_not_there_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        IfllmError, match=r"preferences_forest/train-.*missing\. Write the config 'preferences_forest' first"
    ):
        load_config(dataset, "preferences_forest")
    for name in ("preferences", "preferences_", "preferences_../x", "../data", "Pairwise"):
        with pytest.raises(IfllmError, match=r"There is no config '.*'\. Choose one of: .*preferences_<label source>"):
            load_config(dataset, name)
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


def rewrite(folder: Path, config: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """Change the train split of a config; the schema's own types are kept where they can be."""
    path = parquet(folder, config, "train")
    change(pl.read_parquet(path)).write_parquet(path)
    return path


def set_first(name: str, value: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The first row with another value in a column."""
    first = pl.int_range(pl.len()) == 0
    return lambda rows: rows.with_columns(pl.when(first).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))


def first_tick(rows: pl.DataFrame) -> pl.DataFrame:
    x = rows["gaze_x"].to_list()
    x[0][0] = float("inf")
    return rows.with_columns(gaze_x=pl.Series(x, dtype=pl.List(pl.Float32)))


def zoneless(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("asked_at").dt.replace_time_zone(None))


WRONG = {
    "ids as text": ("pairwise", lambda rows: rows.cast({"question_id": pl.String}), "question_id of .* not 'int64'"),
    "another number": ("features", lambda rows: rows.cast({"length_left": pl.Float32}), "'float', not 'double'"),
    "messages as text": ("pairwise", lambda rows: rows.with_columns(messages_left="query"), "messages_left of config"),
    "dates without a zone": ("pointwise", zoneless, "asked_at of config"),
    "a column is gone": ("pointwise", lambda rows: rows.drop("rating"), "'pointwise' lacks the column rating"),
    "no id": ("features", set_first("question_id", None), "has rows without question_id"),
    "no worker": ("pairwise", set_first("worker_id", None), "has rows without worker_id"),
    "no fold": ("pairwise", set_first("fold_worker", None), "has rows without fold_worker"),
    "infinite": (
        "features",
        set_first("length_log_ratio", math.inf),
        "length_log_ratio has values that are not finite",
    ),
    "no number": (
        "features",
        set_first("length_log_ratio", math.nan),
        "length_log_ratio has values that are not finite",
    ),
    "infinite tick": ("trajectories", first_tick, "gaze_x has values that are not finite"),
    "twice": ("pairwise", lambda rows: pl.concat([rows, rows]), "have more than one row in config 'pairwise'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_as_the_schema_says_is_one_clear_error(copy: Path, kind: str) -> None:
    config, change, message = WRONG[kind]
    rewrite(copy, config, change)
    with pytest.raises(IfllmError, match=rf"^{copy}.*{message}.*\. Build [^\n]+\.$"):
        load_config(copy, config)


def test_a_question_in_both_splits(copy: Path) -> None:
    other = pl.read_parquet(parquet(copy, "pairwise", "test"))
    rewrite(copy, "pairwise", lambda rows: pl.concat([rows, other[:1]]))
    with pytest.raises(IfllmError, match="1 questions have more than one row in config 'pairwise'"):
        load_config(copy, "pairwise")


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_the_hub_passes_the_same_checks(copy: Path) -> None:
    rewrite(copy, "features", set_first("length_log_ratio", float("inf")))
    with pytest.raises(IfllmError, match="length_log_ratio has values that are not finite"):
        from_hub(copy, "features")


def varint(number: int) -> bytes:
    """As Thrift's compact protocol writes an i64."""
    number, encoded = number << 1, b""
    while number > 127:
        number, encoded = number >> 7, encoded + bytes([number & 127 | 128])
    return encoded + bytes([number])


def test_a_footer_with_another_number_of_rows(copy: Path) -> None:
    path = parquet(copy, "features", "train")
    content, rows = path.read_bytes(), pq.read_metadata(path).num_rows
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # In the footer, the number of rows of the file comes before those of its row groups.
    path.write_bytes(content[:start] + content[start:].replace(b"\x16" + varint(rows), b"\x16" + varint(rows + 1), 1))
    assert pq.read_metadata(path).num_rows == rows + 1
    with pytest.raises(IfllmError, match=rf"train-.*: has {rows} rows but declares {rows + 1}|is not readable Parquet"):
        load_config(copy, "features")


def test_a_footer_without_end(copy: Path) -> None:
    path = parquet(copy, "features", "train")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"note": "x" * (MOST_METADATA + 1)}), path)
    with pytest.raises(IfllmError, match="is not readable Parquet"):
        load_config(copy, "features")
    with pytest.raises(IfllmError, match="is not readable Parquet"):
        write_card(copy)


def test_a_few_bytes_that_unpack_to_many(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nulls take next to nothing in a file. The bound is read off the footer, before any row is read."""
    path = parquet(copy, "pointwise", "train")
    schema = pq.read_schema(path)
    nulls = pa.table([pa.nulls(200_000, field.type) for field in schema], schema=schema)
    pq.write_table(nulls, path, compression="zstd")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(load, "MOST_UNPACKED", 20_000_000)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    with pytest.raises(IfllmError, match=r"pointwise/train-.*: unpacks to 0\.0 GiB, but at most"):
        load_config(copy, "pointwise")


def test_a_footer_that_plays_it_down(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends as soon as more was unpacked than is allowed, whatever the footer says."""
    size = load_config(copy, "trajectories").estimated_size()
    monkeypatch.setattr(load, "MOST_UNPACKED", size // 2)
    monkeypatch.setattr(load, "_BATCH", 4)
    check, asked = load._check_size, []
    monkeypatch.setattr(
        load, "_check_size", lambda size, where: asked.append(size) or len(asked) == 1 or check(size, where)
    )
    with pytest.raises(IfllmError, match="unpacks to"):
        load_config(copy, "trajectories")
    assert len(asked) > 3


def test_any_damage_is_one_clear_error(copy: Path) -> None:
    """Bytes changed, cut out and put in, anywhere."""
    path = parquet(copy, "pointwise", "test")
    whole, said = path.read_bytes(), []
    for seed in range(60):
        draw = random.Random(seed)
        damaged = bytearray(whole)
        footer_at = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        for _ in range(draw.choice([1, 4, 32])):
            at = draw.randrange(footer_at if seed % 2 else 0, len(damaged))
            kind = draw.randrange(3)
            damaged[at : at + (kind == 1)] = b"" if kind == 1 else bytes([draw.randrange(256)])
        path.write_bytes(damaged)
        try:
            load_config(copy, "pointwise")
        except IfllmError as error:
            said.append(str(error))
    assert len(said) > 30
    assert not [message for message in said if "\n" in message or not message.startswith(str(path))]


def test_a_path_is_no_pattern(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "run [v1] {a,b}*?~" / "dataset"))
    for config in BUILT:
        assert load_config(folder, config).equals(load_config(dataset, config))
    write_card(folder)
    assert present_configs(folder) == list(BUILT)


def test_some_questions_alone(dataset: Path) -> None:
    whole = load_config(dataset, "trajectories")
    some = whole["question_id"][[3, -1]].to_list()
    assert load_config(dataset, "trajectories", question_ids=some).equals(whole[[3, -1]])
    assert load_config(dataset, "trajectories", question_ids=[]).equals(whole.clear())
