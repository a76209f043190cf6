"""The blinded task: what raters get says nothing, the coin is fair and seeded, bad input is one clear error."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.questions import FIELDS
from ifllm_hub.evaluation.human.task import KEY, export_task, page, sheet
from ifllm_hub.evaluation.tables import read_table
from tests.evaluation.made import write_generations

QUESTIONS = range(1, 41)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Answers of the aligned model and of its baseline to 40 questions; the baseline answered two more."""
    folder = tmp_path_factory.mktemp("generations")
    model = write_generations(folder / "model.parquet", "aligned-secret", {q: f"one {q}" for q in QUESTIONS})
    answers = {q: f"two {q}" for q in (*QUESTIONS, 98, 99)}
    return model, write_generations(folder / "baseline.parquet", "sft-secret", answers)


def export(files: tuple[Path, Path], out: Path, **changes: Any) -> pl.DataFrame:
    raters = changes.pop("raters", ["ann", "bob"])
    return export_task(*files, out, "qwen-secret", "forest-secret", raters, **{"seed": 5, **changes})


def test_what_raters_get_does_not_tell(files: tuple[Path, Path], tmp_path: Path) -> None:
    key = export(files, tmp_path / "task")
    handed_out = sorted((tmp_path / "task" / "for_raters").iterdir())
    assert [file.name for file in handed_out] == ["ann.html", "bob.html", "sheet.csv"]
    for file in handed_out:
        text = file.read_text()
        assert "secret" not in text
        assert "model_first" not in text
        assert "baseline_first" not in text
    # Nothing but the texts themselves differs between a page and the same page with the sides the other way round.
    turned = key.with_columns(
        order=pl.when(pl.col("order") == "model_first").then(pl.lit("baseline_first")).otherwise(pl.lit("model_first"))
    )
    for rater in ("ann", "bob"):
        mine = page(key.filter(pl.col("rater_id") == rater))
        theirs = page(turned.filter(pl.col("rater_id") == rater))
        exchanged = re.sub(r"\b(one|two) (\d+)", lambda m: {"one": "two", "two": "one"}[m[1]] + f" {m[2]}", theirs)
        assert mine == exchanged


def test_coin_and_order_are_of_each_rater_and_follow_from_the_seed(files: tuple[Path, Path], tmp_path: Path) -> None:
    key = export(files, tmp_path / "task", raters=["ann", "bob", "cyd"])
    assert read_table(tmp_path / "task/key.parquet", KEY).equals(key)
    assert key.height == 120
    assert key.group_by("rater_id").agg(pl.col("question_id").n_unique())["question_id"].to_list() == [40] * 3
    sides = key.pivot("rater_id", index="question_id", values="order").sort("question_id")
    # 40 tosses of a fair coin: 10 to 30 heads in all but about one of 1,000 cases.
    for rater in ("ann", "bob", "cyd"):
        assert 10 <= (sides[rater] == "model_first").sum() <= 30
    assert 5 < (sides["ann"] != sides["bob"]).sum() < 35
    orders = [rows["question_id"].to_list() for _, rows in key.group_by("rater_id", maintain_order=True)]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])
    assert export(files, tmp_path / "same", raters=["ann", "bob", "cyd"]).equals(key)
    other = export(files, tmp_path / "other", raters=["ann", "bob", "cyd"], seed=6)
    assert other["task_id"][0] != key["task_id"][0]
    assert not set(other["item_id"]) & set(key["item_id"])


def test_without_a_seed_nobody_can_guess_the_sides(files: tuple[Path, Path], tmp_path: Path) -> None:
    seeds = {export(files, tmp_path / f"task{n}", seed=None)["seed"][0] for n in range(3)}
    assert len(seeds) == 3
    assert min(seeds) > 2**32


def test_some_items_are_drawn(files: tuple[Path, Path], tmp_path: Path) -> None:
    key = export(files, tmp_path / "task", items=7)
    assert key["question_id"].n_unique() == 7
    assert set(key["question_id"]) <= set(QUESTIONS)
    assert key["question_id"].unique().sort().to_list() != list(range(1, 8))


def test_sheet_is_a_row_an_item_and_rater(files: tuple[Path, Path], tmp_path: Path) -> None:
    key = export(files, tmp_path / "task")
    rows = list(csv.DictReader(io.StringIO(sheet(key))))
    assert [(row["item_id"], row["rater_id"]) for row in rows] == key.select("item_id", "rater_id").rows()
    assert all(row[field] == "" for row in rows for field in FIELDS)
    by_side = [("one" if order == "model_first" else "two") for order in key["order"]]
    assert [row["answer_left"].split()[0] for row in rows] == by_side
    assert rows[0]["conversation"] == f"user: What is it? ({key['question_id'][0]})"


@pytest.mark.parametrize("answer", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx"])
def test_a_spreadsheet_gets_no_formula(answer: str, tmp_path: Path) -> None:
    model = write_generations(tmp_path / "a.parquet", "a", {1: answer})
    baseline = write_generations(tmp_path / "b.parquet", "b", {1: "plain"})
    key = export((model, baseline), tmp_path / "task", raters=["ann"])
    (row,) = csv.DictReader(io.StringIO(sheet(key)))
    assert sorted([row["answer_left"], row["answer_right"]]) == sorted([f"'{answer}", "plain"])


def test_a_page_names_its_own_script_and_style_and_nothing_else(files: tuple[Path, Path], tmp_path: Path) -> None:
    html = page(export(files, tmp_path / "task", raters=["ann"]))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r'\b(src|href)="(?!#)', html)
    data = re.search(r'<script type="application/json" id="task">(.*?)</script>', html, re.S)
    assert data is not None
    assert len(json.loads(data[1])["items"]) == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raters": []}, "at least one rater"),
        ({"raters": ["ann", "Ann"]}, "each only once"),
        ({"raters": ["../ann"]}, "Rater '../ann': identify raters by"),
        ({"raters": ["Ann Smith"]}, "not by their names"),
        ({"items": 41}, "41 items wanted, but the files have 40 questions"),
        ({"items": 0}, "0 items wanted"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=re.escape(message)):
        export(files, tmp_path / "task", **changes)
    assert not (tmp_path / "task").exists()


def test_bad_generations(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = files
    other = write_generations(tmp_path / "other.parquet", "b", {77: "x"})
    with pytest.raises(IfllmError, match="no question in common"):
        export((model, other), tmp_path / "task")
    asked = write_generations(tmp_path / "asked.parquet", "b", {1: "x"}, conversation="What else?")
    with pytest.raises(IfllmError, match=r"Question 1: .* different conversations"):
        export((model, asked), tmp_path / "task")
    twice = pl.concat([pl.read_parquet(model), pl.read_parquet(model)])
    twice.write_parquet(tmp_path / "twice.parquet")
    with pytest.raises(IfllmError, match="one answer per question, from one model"):
        export((tmp_path / "twice.parquet", model), tmp_path / "task")
    with pytest.raises(IfllmError, match="cannot be read as Parquet"):
        export((tmp_path / "none.parquet", model), tmp_path / "task")


def test_nothing_is_replaced(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Least of all a key: without it, nobody can say what the ratings that come back are of."""
    export(files, tmp_path / "task")
    before = (tmp_path / "task/key.parquet").read_bytes()
    with pytest.raises(IfllmError, match="is the key of an earlier task"):
        export(files, tmp_path / "task", seed=6)
    assert (tmp_path / "task/key.parquet").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(IfllmError, match="was not made by this command"):
        export(files, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "mine"
