"""The table of eight LLMs and six label sources equals a computation by hand, and shows what it lacks."""

import csv
import json
import math
import runpy
import statistics as plain
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.compare import compare, run_comparison
from ifllm_hub.evaluation.comparison.document import read_comparison
from ifllm_hub.evaluation.comparison.names import LABEL_SOURCES, LLMS, label_source_order, llm_order, name_of
from ifllm_hub.evaluation.comparison.tables import comparison_latex
from ifllm_hub.evaluation.tables import write_table
from tests.evaluation.made import both, judgment, table

PROMPTS = 7
MISSING, ALL_FAILED = ("explicit", "gpt2-xl"), ("forest_gaze", "qwen3-4b")
FILES = ["comparison.csv", "comparison.json", "comparison.md", "comparison.png", "comparison.svg", "comparison.tex"]


def scores(source: int, llm: int, question: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Made-up scores of both orders, different in every cell."""
    first = (4 + (3 * source + llm + question) % 6, 3 + (llm * question + source) % 5)
    return first, (min(first[0] + question % 3 - 1, 10), first[1] + (source + question) % 2)


def grid() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, source in enumerate(LABEL_SOURCES):
        for j, llm in enumerate(LLMS):
            names = {"llm": llm, "label_source": source, "model": f"{llm}-{source}", "baseline": f"{llm}-sft"}
            if (source, llm) == MISSING:
                continue
            for question in range(PROMPTS):
                if (source, llm) == ALL_FAILED:
                    rows.append(judgment(question, "model_first", None, None, **names))
                else:
                    rows += both(question, *scores(i, j, question), **names)
    return rows


@pytest.fixture(scope="module")
def judgments() -> pl.DataFrame:
    return table(grid())


@pytest.fixture(scope="module")
def comparison(judgments: pl.DataFrame) -> dict[str, Any]:
    return compare(judgments, draws=40)


def by_hand(source: int, llms: list[int]) -> list[float]:
    """The differences of a source on some LLMs, both orders averaged, in plain Python."""
    return [
        ((a - b) + (c - d)) / 2
        for llm in llms
        for question in range(PROMPTS)
        for (a, b), (c, d) in [scores(source, llm, question)]
    ]


def test_every_cell_equals_the_computation_by_hand(comparison: dict[str, Any]) -> None:
    cells = {(cell["label_source"], cell["llm"]): cell for cell in comparison["cells"]}
    assert len(cells) == 47
    for i, source in enumerate(LABEL_SOURCES):
        there = [j for j, llm in enumerate(LLMS) if (source, llm) not in (MISSING, ALL_FAILED)]
        for j in there:
            cell, values = cells[source, list(LLMS)[j]], by_hand(i, [j])
            assert cell["n"] == PROMPTS
            assert cell["difference"]["mean"] == pytest.approx(plain.fmean(values))
            assert cell["difference"]["paper_se"] == pytest.approx(plain.pstdev(values) / math.sqrt(PROMPTS - 1))
            half = [1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in values]
            assert cell["win_rate"]["mean"] == pytest.approx(plain.fmean(half))
        pooled = next(row for row in comparison["pooled"] if row["label_source"] == source)
        assert pooled["difference"]["mean"] == pytest.approx(plain.fmean(by_hand(i, there)))
        assert (pooled["n"], pooled["llms"]) == (PROMPTS * len(there), len(there))
    assert cells[ALL_FAILED]["n"] == 0
    assert cells[ALL_FAILED]["set_aside"] == PROMPTS


def test_rows_and_columns_are_in_the_papers_order_and_missing_cells_are_named(comparison: dict[str, Any]) -> None:
    assert comparison["llms"] == list(LLMS)
    assert comparison["label_sources"] == list(LABEL_SOURCES)
    missing = [(cell["label_source"], cell["llm"]) for cell in comparison["missing"]]
    assert missing == [MISSING, ALL_FAILED]


def test_the_printed_tables_hold_the_cells_and_a_dash(judgments: pl.DataFrame, tmp_path: Path) -> None:
    write_table(tmp_path / "judgments.parquet", judgments)
    run_comparison([tmp_path / "judgments.parquet"], tmp_path / "out", draws=40)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    page = (tmp_path / "out/comparison.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("|")]
    table_rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:8]]
    assert table_rows[0] == ["labels from", *LLMS.values(), "pooled"]
    for i, (source, row) in enumerate(zip(LABEL_SOURCES, table_rows[2:], strict=True)):
        assert row[0] == name_of(source)
        for j, llm in enumerate(LLMS):
            if (source, llm) in (MISSING, ALL_FAILED):
                assert row[1 + j] == "\u2013"
            else:
                shown = f"{plain.fmean(by_hand(i, [j])):+.2f}".replace("-", "\u2212")
                assert row[1 + j].split(" ± ")[0] == shown
    assert "(2): explicit feedback / GPT2-XL; forest, gaze / Qwen3-4B." in page
    assert "set aside (no order scored: malformed: 7)" in " ".join(page.split())
    tex = (tmp_path / "out/comparison.tex").read_text()
    assert sum(line.count(" & ") for line in tex.splitlines()) == (1 + 2 * 6) * 9  # head, then two lines a row
    assert tex.count(" -- &") == 2
    assert tex.count("$n=7$") == 46
    with (tmp_path / "out/comparison.csv").open() as file:
        records = {(record["label_source"], record["llm"]): record for record in csv.DictReader(file)}
    assert len(records) == 9 * 6
    assert [key for key, record in records.items() if not record["asked"]] == [MISSING]
    assert [key for key, record in records.items() if record["n"] == "0"] == [ALL_FAILED]
    assert (records[ALL_FAILED]["asked"], records[ALL_FAILED]["set_aside"]) == ("7", "7")
    assert all((record["difference"] == "") == (key in (MISSING, ALL_FAILED)) for key, record in records.items())


def test_the_same_judgments_give_the_same_bytes(judgments: pl.DataFrame, tmp_path: Path) -> None:
    some = judgments.filter(pl.col("llm").is_in(["gpt2-xl", "qwen3-4b"]))
    write_table(tmp_path / "j.parquet", some)
    for out in ("one", "two"):
        run_comparison([tmp_path / "j.parquet"], tmp_path / out, draws=20)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_comparison(tmp_path / "one")["llms"] == list(LLMS)
    (tmp_path / "two/comparison.json").write_text("{}")
    with pytest.raises(IfllmError, match=r"`ifllm_hub` is missing or damaged\. Another version may have written it"):
        read_comparison(tmp_path / "two")


def test_a_study_of_other_llms_is_not_padded() -> None:
    rows = [
        *both(1, (7, 5), (7, 5), llm="smollm2", label_source="mine"),
        *both(1, (7, 5), (7, 5), llm="smollm2", label_source="shuffled", model="b"),
        *both(1, (7, 5), (7, 5), llm="smollm2", label_source="forest", model="c"),
    ]
    found = compare(table(rows), draws=20)
    assert found["llms"] == ["smollm2"]
    assert found["label_sources"] == ["forest", "shuffled", "mine"]
    assert found["missing"] == []
    assert found["cells"][0]["difference"]["low"] is None  # one prompt has no interval
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_unknown_llms_and_sources_come_after_the_known() -> None:
    assert llm_order(["zeta", "qwen3-4b", "alpha"]) == [*LLMS, "alpha", "zeta"]
    assert label_source_order(["mine", "longer"], ["qwen3-4b"]) == [*LABEL_SOURCES, "longer", "mine"]
    assert label_source_order(["mine", "forest"], ["zeta"]) == ["forest", "mine"]


def test_names_from_outside_do_not_break_the_tables() -> None:
    evil = r"a|b & c_d \ {x} % # ~ ^ $"
    found = compare(table(both(1, (7, 5), (7, 5), llm=evil, judge=evil)), draws=20)
    tex = comparison_latex(found)
    assert r"a|b \& c\_d \textbackslash{} \{x\} \% \# \textasciitilde{} \textasciicircum{} \$" in tex


def test_names_from_outside_break_neither_table_nor_figure(tmp_path: Path) -> None:
    """Two dollar signs would be a formula to the figure; a pipe and a line end would end a cell or a row."""
    evil = "gpt $x_1^{ | a\\|b\n\x1b[31m $"
    rows = both(1, (7, 5), (7, 5), llm=evil, label_source=evil, judge=evil)
    write_table(tmp_path / "j.parquet", table(rows))
    run_comparison([tmp_path / "j.parquet"], tmp_path / "out", draws=20)
    page = (tmp_path / "out/comparison.md").read_text()
    assert "\x1b" not in page
    shown = r"gpt $x_1^{ \| a\\\|b [31m $"
    assert f"| labels from | {shown} | pooled |\n|---|---:|---:|\n| {shown} | +2.00 | +2.00 |" in page
    assert r"Judge: `gpt $x_1^{ | a\|b [31m $`" in page
    with (tmp_path / "out/comparison.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["llm"] == evil


def test_nothing_scored_is_an_error(tmp_path: Path) -> None:
    write_table(
        tmp_path / "j.parquet", table([judgment(1, "model_first", None, None), judgment(2, "model_first", 7, 5)])
    )
    says = r"Not one of 2 pairs .* no order scored: malformed \(1\), one order scored: the other is not there \(1\)"
    with pytest.raises(IfllmError, match=says):
        run_comparison([tmp_path / "j.parquet"], tmp_path / "out", draws=20)
    assert not (tmp_path / "out").exists()


def test_one_order_is_said(judgments: pl.DataFrame) -> None:
    once = judgments.filter(pl.col("order") == "model_first", pl.col("llm") == "gpt2-xl")
    found = compare(once.with_columns(preset=pl.lit("reference")), draws=20)
    assert found["position"] is None
    assert found["pooled"][-1]["wins_in_both"] is None


def test_position_of_the_judge(comparison: dict[str, Any]) -> None:
    verdicts = [
        tuple((a > b) - (a < b) for a, b in scores(i, j, question))
        for i, source in enumerate(LABEL_SOURCES)
        for j, llm in enumerate(LLMS)
        if (source, llm) not in (MISSING, ALL_FAILED)
        for question in range(PROMPTS)
    ]
    share = sum(one == other for one, other in verdicts) / len(verdicts)
    assert comparison["position"]["consistency"] == pytest.approx(share)
    assert 0 < share < 1


def test_the_script_says_where_the_page_is_and_fails_in_one_line(
    judgments: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "judgments/one.parquet", judgments.filter(pl.col("llm") == "gpt2-xl"))
    script = Path(__file__).parents[3] / "eval/compare.py"
    words = [script, tmp_path / "judgments", "--out", tmp_path / "out", "--draws", "20"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    main = runpy.run_path(str(script))["main"]
    assert main() == 0
    assert capsys.readouterr().out == f"comparison: {tmp_path / 'out/comparison.md'}\n"
    (tmp_path / "judgments/one.parquet").unlink()
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (tmp_path / "out/comparison.md").exists()  # the earlier comparison stays


def test_a_folder_of_something_else_is_not_replaced(judgments: pl.DataFrame, tmp_path: Path) -> None:
    write_table(tmp_path / "one.parquet", judgments.filter(pl.col("llm") == "gpt2-xl"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(IfllmError, match="not made by this command"):
        run_comparison([tmp_path / "one.parquet"], tmp_path / "mine", draws=20)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
