"""All of a person's rows come to lie in one shard, none lost and none changed, however they lay before."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.cli import app
from ifllm_hub.dataset import partition
from ifllm_hub.dataset.layout import bucket_of
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.partition import SUMMARY, partition_dataset
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.errors import IfllmError
from tests.dataset.folders import content
from tests.engines.made import lake, replicated


def files(folder: Path) -> dict[str, pl.DataFrame]:
    return {path.name: pl.read_parquet(path) for path in sorted(folder.glob("data/trajectories/*"))}


@pytest.mark.parametrize("chunk", [1, 100_000, 64 << 20])
@pytest.mark.parametrize("shards", [1, 7])
def test_every_person_has_one_shard(shards, chunk, dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(partition, "_CHUNK", chunk)
    before = replicated(dataset, "trajectories")
    rows = partition_dataset(lake(dataset, tmp_path / "lake"), tmp_path / "out", shards)
    assert rows == {"trajectories": before.height}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data", ".accounts", ".lock", SUMMARY}
    for name, part in files(tmp_path / "out").items():
        assert {bucket_of(worker, shards) for worker in part["worker_id"]} <= {int(name.split("-")[1])}
        assert part.equals(part.sort("worker_id", "question_id"))
    after = load_config(tmp_path / "out", "trajectories")
    assert after.sort("question_id").equals(before.select(after.columns).sort("question_id"))


def test_the_files_depend_on_no_order(dataset, tmp_path) -> None:
    for number, count in enumerate((1, 3, 10)):
        partition_dataset(lake(dataset, tmp_path / f"lake{number}", files=count), tmp_path / f"out{number}", 4)
    data = [content(tmp_path / f"out{number}" / "data") for number in range(3)]
    assert len(data[0]) == 8
    assert data[0] == data[1] == data[2]


def test_all_configs_of_a_dataset(dataset, tmp_path) -> None:
    rows = partition_dataset(dataset, tmp_path / "out", 3)
    for config, count in rows.items():
        before, after = load_config(dataset, config), load_config(tmp_path / "out", config)
        assert count == before.height
        assert after.sort("question_id").equals(before.sort("question_id"))
    assert set(rows) == {"pairwise", "pointwise", "trajectories", "features"}


def test_without_a_split_people_get_that_of_data_that_grows(dataset, tmp_path) -> None:
    rows = replicated(dataset, "trajectories").drop("split")
    (tmp_path / "lake").mkdir()
    rows.write_parquet(tmp_path / "lake/training.parquet")  # is not the name of a split
    partition_dataset(tmp_path / "lake", tmp_path / "out", 2)
    expected = assign_folds(rows.with_columns(conversation_id=pl.col("question_id")), grows=True)
    found = load_config(tmp_path / "out", "trajectories").sort("question_id")
    assert found.select("question_id", "split").equals(expected.select("question_id", "split").sort("question_id"))


def test_the_name_of_a_file_gives_the_split(dataset, tmp_path) -> None:
    rows = load_config(dataset, "trajectories")
    for split in SPLITS:
        place = tmp_path / "lake" / f"{split}.parquet"
        place.parent.mkdir(exist_ok=True)
        rows.filter(split=split).drop("split").write_parquet(place)
    partition_dataset(tmp_path / "lake", tmp_path / "out", 2)
    found = load_config(tmp_path / "out", "trajectories")
    assert found.sort("question_id").equals(rows.sort("question_id"))


def test_a_second_run_does_nothing_and_one_of_changed_files_all(dataset, tmp_path) -> None:
    source, out = lake(dataset, tmp_path / "lake"), tmp_path / "out"
    first = partition_dataset(source, out, 4)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    summary = (out / SUMMARY).read_bytes()
    assert partition_dataset(source, out, 4) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == times
    next(iter(times)).unlink()
    partition_dataset(source, out, 4)
    assert sum(path.stat().st_mtime_ns == times[path] for path in out.rglob("*.parquet")) == 6  # a shard has two files
    assert (out / SUMMARY).read_bytes() == summary
    (source / "part 0.parquet").unlink()
    assert partition_dataset(source, out, 4)["trajectories"] < first["trajectories"]
    with pytest.raises(IfllmError, match="holds another layout"):
        partition_dataset(source, out, 5)


def changed(rows: pl.DataFrame, how: str) -> pl.DataFrame:
    if how == "a question twice":
        return pl.concat([rows, rows[3:4]])
    if how == "a person in both splits":
        number = rows["worker_id"].value_counts().sort("count")["worker_id"][-1]
        first = pl.int_range(pl.len()).over("worker_id") == 0
        other = pl.when(pl.col("split") == "test").then(pl.lit("train")).otherwise(pl.lit("test"))
        return rows.with_columns(split=pl.when(first & (pl.col("worker_id") == number)).then(other).otherwise("split"))
    if how == "another split":
        return rows.with_columns(split=pl.lit("validation"))
    if how == "no worker":
        return rows.with_columns(worker_id=pl.when(pl.int_range(pl.len()) > 0).then("worker_id"))
    return rows.drop(how)


@pytest.mark.parametrize(
    ("how", "message"),
    {
        "a question twice": "trajectories: question {} has more than one row",
        "a person in both splits": "has rows in both splits, which hold out whole persons",
        "another split": "split has other values than train and test",
        "no worker": "has rows without worker_id",
        "mouse_char_left": "lacks the column mouse_char_left",
    }.items(),
)
def test_what_cannot_be_laid_out_is_refused(how, message, dataset, tmp_path) -> None:
    rows = load_config(dataset, "trajectories")
    (tmp_path / "lake").mkdir()
    changed(rows, how).write_parquet(tmp_path / "lake/all.parquet")
    with pytest.raises(IfllmError, match=re.escape(message.format(rows["question_id"][3]))):
        partition_dataset(tmp_path / "lake", tmp_path / "out", 1)
    assert not (tmp_path / "out" / SUMMARY).exists()
    assert not list(tmp_path.glob("out/data/**/*.parquet"))


def test_a_place_without_rows_is_refused(dataset, tmp_path) -> None:
    with pytest.raises(IfllmError, match="has no Parquet files"):
        partition_dataset(tmp_path, tmp_path.parent / "out", 2)
    source = lake(dataset, tmp_path / "lake")
    with pytest.raises(IfllmError, match="whose files are read"):
        partition_dataset(source, source / "by-person", 2)
    odd = lake(dataset, tmp_path / "odd/data/clicks").parents[1]
    with pytest.raises(IfllmError, match="There is no config 'clicks'"):
        partition_dataset(odd, tmp_path / "out", 2)


def test_the_command(dataset, tmp_path, capsys) -> None:
    source = lake(dataset, tmp_path / "lake")
    app(["partition", str(source), "--out", str(tmp_path / "out"), "--shards", "4"], standalone_mode=False)
    rows = replicated(dataset, "trajectories").height
    assert capsys.readouterr().out == f"trajectories: {rows} rows\n4 shards by person: {tmp_path / 'out'}\n"


def test_a_config_that_the_source_has_no_longer_goes(dataset: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(dataset / "data", source / "data")
    partition_dataset(source, tmp_path / "out", 2)
    shutil.rmtree(source / "data/features")
    rows = partition_dataset(source, tmp_path / "out", 2)
    assert (
        rows.keys()
        == {path.name for path in (tmp_path / "out/data").iterdir()}
        == {"pairwise", "pointwise", "trajectories"}
    )
