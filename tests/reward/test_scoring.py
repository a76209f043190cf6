"""Every reading of a dataset is scored, whatever its shards, the batches, and the config that it is scored from."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from datasets import load_dataset

from ifllm_hub import ImplicitFeedbackReward
from ifllm_hub.cli import app
from ifllm_hub.dataset.layout import bucket_of
from ifllm_hub.dataset.load import load_config
from ifllm_hub.engines.places import locked
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.scoring import SUMMARY, score_dataset
from tests.engines.made import by_person, replicated, scores

SHARDS = (1, 8, 32)


@pytest.fixture(scope="module")
def laid_out(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The trajectories of 40 people, in so many shards."""
    folder = tmp_path_factory.mktemp("laid-out")
    return {shards: by_person(dataset, folder / str(shards), shards) for shards in SHARDS}


def said(features: pl.DataFrame) -> pl.Series:
    """By the model, where somebody was seen reading."""
    p = ImplicitFeedbackReward.from_pretrained(default_model()).score(features)
    likely = pl.Series("probability_left", p, pl.Float64).fill_nan(None)
    read = features["mouse_dwell_left"].is_not_null() | features["gaze_dwell_left"].is_not_null()
    return features.select(pl.when(read).then(likely).alias("probability_left")).to_series()


@pytest.fixture(scope="module")
def expected(dataset: Path) -> pl.DataFrame:
    """By `load_config` and the model alone, from the features that were built with the dataset."""
    features = load_config(dataset, "features")
    known = features.select("question_id", "mode", probability_left=said(features))
    recorded = replicated(dataset, "trajectories").with_columns(original=pl.col("question_id") % 1_000_000)
    joined = recorded.join(known.drop("mode"), left_on="original", right_on="question_id", how="left")
    return joined.select("question_id", "worker_id", "mode", "probability_left").sort("question_id")


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("batch", [1, 20_000, 10**9])
def test_the_same_bits_whatever_the_shards_and_batches(shards, batch, laid_out, expected, tmp_path) -> None:
    counts = score_dataset(laid_out[shards], tmp_path, batch=batch)
    assert len(list(tmp_path.glob("data/scores/*.parquet"))) == 2 * shards
    found = scores(tmp_path)
    assert found.drop("split").equals(expected)
    assert counts == {
        "readings": expected.height,
        "scored": expected["probability_left"].count(),
        "abstained": expected["probability_left"].null_count(),
        "withdrawn": 0,
        "people": expected["worker_id"].n_unique(),
    }
    assert (
        expected.filter(mode="pointwise")["probability_left"].null_count() == expected.filter(mode="pointwise").height
    )


def test_from_features_every_question_has_a_row(dataset, tmp_path) -> None:
    score_dataset(dataset, tmp_path / "scores")
    features = load_config(dataset, "features")
    found = load_config(tmp_path / "scores", "scores")
    assert found.select("question_id", "worker_id", "mode", "split").equals(
        features.select("question_id", "worker_id", "mode", "split")
    )
    assert found["probability_left"].equals(said(features))
    unread = features.filter(pl.col("mouse_dwell_left").is_null() & pl.col("gaze_dwell_left").is_null())
    assert found.join(unread, on="question_id", how="semi")["probability_left"].null_count() == unread.height > 0


def test_datasets_reads_the_folder(laid_out, tmp_path) -> None:
    score_dataset(laid_out[8], tmp_path / "scores")
    files = {split: str(tmp_path / f"scores/data/scores/{split}-*.parquet") for split in ("train", "test")}
    rows = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows[split]) for split in rows} == {
        split: load_config(tmp_path / "scores", "scores").filter(split=split).height for split in ("train", "test")
    }


def test_a_second_run_does_only_what_changed(laid_out, tmp_path) -> None:
    out = tmp_path / "scores"
    source = shutil.copytree(laid_out[8], tmp_path / "dataset")
    score_dataset(source, out)
    before = times(out)
    summary = (out / SUMMARY).read_bytes()
    score_dataset(source, out)
    assert times(out) == before
    assert (out / SUMMARY).read_bytes() == summary
    # Somebody withdraws: one shard is written anew.
    rows = scores(out)
    worker = rows["worker_id"][0]
    counts = score_dataset(source, out, withdrawn=lambda: {worker, "nobody"})
    assert {name for name, time in times(out).items() if time != before[name]} == {
        f"{split}-{bucket_of(worker, 8):05d}-of-00008.parquet" for split in ("train", "test")
    }
    assert counts["withdrawn"] == rows.filter(worker_id=worker).height
    assert scores(out).equals(rows.filter(pl.col("worker_id") != worker))
    assert worker not in (out / SUMMARY).read_text() + "".join(path.read_text() for path in out.glob(".accounts/*"))


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("data/scores/*")}


def test_who_withdraws_meanwhile_is_gone(laid_out, tmp_path) -> None:
    worker = load_config(laid_out[8], "trajectories")["worker_id"][0]
    asked: list[int] = []

    def withdrawn() -> set[str]:
        asked.append(len(list(tmp_path.glob("data/scores/*"))))
        return {worker} if len(asked) > 1 else set()

    counts = score_dataset(laid_out[8], tmp_path, withdrawn=withdrawn)
    assert asked == [0, 16, 16]
    assert counts["withdrawn"] > 0
    assert worker not in scores(tmp_path)["worker_id"]


def test_a_damaged_shard_is_named_and_only_it_is_done_again(laid_out, expected, tmp_path) -> None:
    source, out = shutil.copytree(laid_out[8], tmp_path / "dataset"), tmp_path / "scores"
    file = source / "data/trajectories/train-00003-of-00008.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(IfllmError, match=r"^1 of 8 shards failed \(00003-of-00008\)\. The first: .*is not readable"):
        score_dataset(source, out)
    assert not (out / SUMMARY).exists()
    assert len(times(out)) == 14
    before = times(out)
    file.write_bytes(content)
    score_dataset(source, out)
    assert before.items() <= times(out).items()
    assert scores(out).drop("split").equals(expected)
    assert json.loads((out / SUMMARY).read_text())["readings"] == expected.height


def test_what_is_not_laid_out_by_person_is_refused(laid_out, tmp_path) -> None:
    source = shutil.copytree(laid_out[8], tmp_path / "dataset")
    one, other = (source / f"data/trajectories/train-0000{number}-of-00008.parquet" for number in (0, 1))
    one.replace(tmp_path / "kept")
    other.replace(one)
    (tmp_path / "kept").replace(other)
    with pytest.raises(IfllmError, match=r"2 of 8 shards failed.*ifllm partition SOURCE --out FOLDER"):
        score_dataset(source, tmp_path / "scores")


def test_a_repeated_question_is_refused(laid_out, tmp_path) -> None:
    source = shutil.copytree(laid_out[1], tmp_path / "dataset")
    file = source / "data/trajectories/train-00000-of-00001.parquet"
    rows = pl.read_parquet(file)
    pl.concat([rows, rows[:1]]).write_parquet(file)
    with pytest.raises(IfllmError, match=f"question {rows['question_id'][0]} has more than one row"):
        score_dataset(source, tmp_path / "scores")


def test_another_layout_in_the_folder_is_refused(laid_out, tmp_path) -> None:
    score_dataset(laid_out[8], tmp_path)
    with pytest.raises(IfllmError, match="holds scores of another layout"):
        score_dataset(laid_out[32], tmp_path)
    assert (tmp_path / SUMMARY).exists()


def test_a_second_run_at_once_is_refused(laid_out, tmp_path) -> None:
    with locked(str(tmp_path)), pytest.raises(IfllmError, match="another run is writing there"):
        score_dataset(laid_out[1], tmp_path)


def test_what_is_no_dataset_is_refused(dataset, laid_out, tmp_path) -> None:
    for what, message in {"nowhere": "no such dataset folder", tmp_path: "has neither features nor"}.items():
        with pytest.raises(IfllmError, match=message):
            score_dataset(what, tmp_path / "scores")
    with pytest.raises(IfllmError, match="is the dataset itself"):
        score_dataset(dataset, dataset)
    (tmp_path / "data/features").mkdir(parents=True)
    shutil.copy(dataset / "data/features/train-00000-of-00001.parquet", tmp_path / "data/features")
    with pytest.raises(IfllmError, match="has no files of test"):
        score_dataset(tmp_path, tmp_path / "scores")


def test_the_command(laid_out, tmp_path, capsys) -> None:
    worker = load_config(laid_out[8], "trajectories")["worker_id"][0]
    (tmp_path / "gone.txt").write_text(f"{worker}  # asked by mail\n")
    words = ["score", str(laid_out[8]), "--out", str(tmp_path / "scores"), "--withdrawn", str(tmp_path / "gone.txt")]
    app(words, standalone_mode=False)
    total = json.loads((tmp_path / "scores" / SUMMARY).read_text())
    assert capsys.readouterr().out == (
        f"{total['readings']} readings of 39 people: {total['scored']} scored, {total['abstained']} not (one "
        f"answer, or nobody was seen reading)\nwithdrawn: {total['withdrawn']} readings left out\n"
        f"scores: {tmp_path / 'scores'}\n"
    )
    assert total["withdrawn"] > 0
