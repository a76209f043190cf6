"""The built folder holds what was recorded: every line accounted for, every column declared, no window text."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.schema import CONFIGS, SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import study
from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import Release
from tests.dataset.folders import rows
from tests.slow_reader import Row, columns_of, read_file, read_table

BUILT = ("pairwise", "pointwise", "trajectories", "features")


@pytest.fixture(scope="module")
def manifest(dataset: Path) -> dict[str, Any]:
    return json.loads((dataset / "manifest.json").read_text())


@pytest.fixture(scope="module")
def truth(simulated: Path) -> pl.DataFrame:
    return pl.read_parquet(simulated / "ground_truth.parquet")


# --- accounts


def behavior_files(release: Release) -> Iterator[tuple[str, list[Row | None]]]:
    for task in release.tasks:
        for name in task.files:
            yield f"{task.worker_id}/{task.task_id}/{name}", read_file(task.path / name, columns_of(task, name))


def test_every_line_of_every_file_is_accounted_for(release: Release, dataset: Path, manifest: dict[str, Any]) -> None:
    expected, reasons = {}, []
    for file, lines in behavior_files(release):
        good = [row for row in lines if row is not None]
        kept = len(set(good)) if "/abs_" in file else len(good)
        expected[file] = [len(lines), kept, len(good) - kept, len(lines) - len(good), 0]
        reasons += [(file, number + 1) for number, row in enumerate(lines) if row is None]
    names = ("lines", "ticks", "duplicates", "quarantined", "unaccounted")
    assert {row["file"]: [row[name] for name in names] for row in manifest["files"]} == expected
    for kind in ("abs", "rel"):
        sums = [sum(column) for column in zip(*(v for f, v in expected.items() if f"/{kind}_" in f), strict=True)]
        total = manifest["lines"][kind]
        assert [total[name] for name in names] == sums
        assert total["files"] == sum(f"/{kind}_" in file for file in expected)
    quarantine = pl.read_csv(dataset / "quarantine.csv")
    assert quarantine.select("file", "line").rows() == sorted(reasons)
    assert dict(Counter(quarantine["reason"])) == manifest["quarantine_reasons"]
    assert len(reasons) > 0


def test_the_lines_become_the_ticks_of_the_trajectories(
    dataset: Path, manifest: dict[str, Any], truth: pl.DataFrame
) -> None:
    ticks = manifest["ticks"]
    assert ticks["ticks"] == sum(row["ticks"] for row in manifest["files"] if row["file"].endswith("abs_mouse.csv"))
    assert ticks["on_a_question"] == rows(dataset, "trajectories")["t"].list.len().sum()
    assert ticks["on_a_question"] == truth.filter(~pl.col("no_date"))["ticks"].sum()
    assert ticks["ticks"] == sum(ticks.values()) - ticks["ticks"]
    located = dict.fromkeys(("left", "right"), 0)
    for row in manifest["carets"]:
        located[row["side"]] += row["ticks"] * (row["status"] in ("matched", "repaired"))
    for side, count in located.items():
        on_text = [rows(dataset, "trajectories")[f"{m}_char_{side}"].explode() >= 0 for m in ("mouse", "gaze")]
        assert sum(int(flags.sum()) for flags in on_text) == count


def test_questions_are_counted_in_the_manifest(manifest: dict[str, Any], truth: pl.DataFrame, release: Release) -> None:
    counted = manifest["questions"]
    parts = {"all": truth, "pairwise": truth.filter(mode="pairwise"), "pointwise": truth.filter(mode="pointwise")}
    for name, part in parts.items():
        conversations = part.select("worker_id", "task_id").n_unique()
        assert counted[name] == {
            "questions": part.height,
            "workers": part["worker_id"].n_unique(),
            "conversations": conversations,
        }
    largest = sorted(Counter(truth["worker_id"]).values())[-5:]
    assert counted["share_of_five_largest_workers"] == sum(largest) / truth.height
    seen = truth.filter(pl.sum_horizontal(pl.col("^(mouse|gaze)_text_ticks_.*$").fill_null(0)) > 0, ~pl.col("no_date"))
    assert counted["with_on_text_behavior"]["questions"] == seen.height
    assert manifest["release_sha256"] == release.digest()
    assert manifest["is_the_released_data"] is False
    assert manifest["tables"]["clock_4h_corrected"] == truth["clock_error"].sum()


def test_accounts_that_do_not_balance_stop_the_build(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align_tasks = study.align_tasks

    def lose_a_line(tasks: list, questions: pl.DataFrame, accounts: Accounts, unanswered: pl.DataFrame) -> pl.DataFrame:
        ticks = align_tasks(tasks, questions, accounts, unanswered)
        accounts.files[0] = accounts.files[0].with_columns(pl.col("lines") + 1)
        return ticks

    monkeypatch.setattr(study, "align_tasks", lose_a_line)
    with pytest.raises(IfllmError, match=r"abs_mouse|abs_gaze.* does not balance"):
        build_dataset(release, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# --- rows


@pytest.mark.parametrize("config", BUILT)
def test_a_config_has_the_declared_columns(dataset: Path, config: str) -> None:
    expected = pa.schema([(column.name, column.type) for column in CONFIGS[config]])
    for split in SPLITS:
        assert pq.read_schema(dataset / f"data/{config}/{split}-00000-of-00001.parquet").equals(expected)


def test_configs_join_on_the_question(dataset: Path, truth: pl.DataFrame) -> None:
    by_config = {config: rows(dataset, config) for config in BUILT}
    split = dict(by_config["features"].select("question_id", "split").iter_rows())
    for config, frame in by_config.items():
        assert frame["question_id"].is_unique().all()
        assert all(split[question] == s for question, s in frame.select("question_id", "split").iter_rows())
        if config in ("pairwise", "pointwise"):
            assert set(frame["question_id"]) == set(truth.filter(mode=config)["question_id"])
    assert split.keys() == set(truth["question_id"])
    recorded = truth.filter(pl.col("ticks") > 0, ~pl.col("no_date"))
    assert set(by_config["trajectories"]["question_id"]) == set(recorded["question_id"])


def test_no_worker_is_in_both_splits(dataset: Path) -> None:
    for config in BUILT:
        frame = rows(dataset, config)
        assert frame.group_by("worker_id").agg(pl.col("split").n_unique())["split"].max() == 1
    questions = pl.concat([rows(dataset, mode) for mode in ("pairwise", "pointwise")], how="diagonal")
    assert set(questions["split"]) == set(SPLITS)
    for fold, group in (("fold_worker", "worker_id"), ("fold_conversation", "conversation_id")):
        assert questions.group_by(group).agg(pl.col(fold).n_unique())[fold].max() == 1
    assert ((questions["fold_worker"] == 4) == (questions["split"] == "test")).all()


def test_ratings_and_preferences_are_the_workers(dataset: Path, release: Release) -> None:
    log = {int(row["query_ID"]): row for row in read_table(release.root / "query_logs_table.csv")}
    sides = {"1.0": "left", "2.0": "right", "": None}
    likert = {"": None} | {f"{i}.0": i for i in range(1, 6)}
    for row in rows(dataset, "pairwise").iter_rows(named=True):
        raw = log[row["question_id"]]
        assert (row["rating_left"], row["rating_right"]) == (likert[raw["likert_1"]], likert[raw["likert_2"]])
        assert row["preference"] == sides[raw["preference"]]
    for row in rows(dataset, "pointwise").iter_rows(named=True):
        raw = log[row["question_id"]]
        assert row["rating"] == likert[raw["likert_1"]]
        assert row["better_than_previous"] == {"1.0": True, "0.0": False, "": None}[raw["preference"]]
    agreement = rows(dataset, "pairwise").filter(pl.col("rating_left") != pl.col("rating_right"))
    prefers_left = agreement["preference"] == "left"
    assert ((agreement["rating_left"] > agreement["rating_right"]) == prefers_left).mean() > 0.8


def test_each_llm_sees_its_own_side_of_the_conversation(dataset: Path) -> None:
    pairs, singles = rows(dataset, "pairwise"), rows(dataset, "pointwise")
    views = [(pairs, f"messages_{side}", f"response_{side}") for side in ("left", "right")]
    for frame, messages, response in [*views, (singles, "messages", "response")]:
        long = 0
        for _, turns in frame.sort("turn").group_by("conversation_id", maintain_order=True):
            so_far: list[dict[str, str]] = []
            for row in turns.iter_rows(named=True):
                so_far.append({"role": "user", "content": row["query"]})
                assert row[messages] == so_far
                so_far.append({"role": "assistant", "content": row[response]})
                long = max(long, row["turn"])
        assert long >= 3


def test_flags_of_behavior_and_viewports_follow_the_ticks(dataset: Path, truth: pl.DataFrame) -> None:
    trajectories = rows(dataset, "trajectories")
    has: dict[str, set[int]] = {}
    for modality in ("mouse", "gaze"):
        chars = [pl.col(f"{modality}_char_{side}").list.max() for side in ("left", "right")]
        has[modality] = set(trajectories.filter(pl.max_horizontal(chars) >= 0)["question_id"])
    for mode in ("pairwise", "pointwise"):
        for row in rows(dataset, mode).iter_rows(named=True):
            assert (row["has_mouse"], row["has_gaze"]) == tuple(row["question_id"] in has[m] for m in ("mouse", "gaze"))
    keyed = trajectories.join(truth.select("question_id", "task_id"), on="question_id")
    for _, conversation in keyed.group_by("worker_id", "task_id"):
        for axis, name in (("x", "viewport_width"), ("y", "viewport_height")):
            largest = conversation[f"mouse_{axis}"].explode().max()
            assert set(conversation[name]) == {int(largest) + 1}
    lengths = pl.concat([rows(dataset, "pairwise"), rows(dataset, "pointwise")], how="diagonal")
    texts = lengths.select(
        "question_id",
        left=pl.coalesce("response_left", "response").str.len_chars(),
        right=pl.col("response_right").str.len_chars(),
        asked=pl.col("query").str.len_chars(),
    )
    for row in trajectories.join(texts, on="question_id").iter_rows(named=True):
        assert (row["length_left"], row["length_right"], row["length_query"]) == (
            row["left"],
            row["right"],
            row["asked"],
        )


def test_the_text_of_the_recorded_windows_is_nowhere(release: Release, dataset: Path) -> None:
    """Texts of the rating form and of the page are recorded in windows only, so any trace of them is a leak."""
    windows: Counter[str] = Counter(
        row.window for _, lines in behavior_files(release) for row in lines if row and row.window
    )
    pages = [window for window in windows if "Rate this" in window or "very bad" in window or "going to be" in window]
    assert len(pages) > 20
    texts = [*rows(dataset, "pairwise")["response_left"], *rows(dataset, "pointwise")["response"]]
    assert not any(page in text for page in pages for text in texts)
    for config in BUILT:
        strings = rows(dataset, config).select(pl.col(pl.String)).columns
        assert not {"window", "index"} & set(rows(dataset, config).columns)
        assert set(strings) <= {c.name for c in CONFIGS[config] if c.type == pa.string()} | {"split"}
    assert rows(dataset, "trajectories").select(pl.col(pl.String)).columns == [
        "worker_id",
        "mode",
        "schema_version",
        "split",
    ]
    plain = b"".join(path.read_bytes() for path in dataset.glob("*.*"))
    assert not any(page.encode() in plain for page in pages)
    demographics = read_table(release.root / "record_info_table.csv")
    assert not any(row["location"].encode() in plain for row in demographics if row["location"])
