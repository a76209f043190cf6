"""RewardBench 2 on a hand-made file: every score worked out by hand, and bad files refused."""

import json
import math
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.reward_models.best_of_n import benchmark_page, read_benchmark, score_benchmark
from ifllm_hub.evaluation.reward_models.text_scorer import TextScorer

# The scorer of these tests reads the score off the answer.
OUTSPOKEN = TextScorer(lambda conversations, answers: [float(answer) for answer in answers], ours=True)


def row(id_: str, subset: str, chosen: list[Any], rejected: list[Any]) -> dict[str, Any]:
    """With all columns of the benchmark that are not metadata."""
    counts = {"num_correct": len(chosen), "num_incorrect": len(rejected)}
    counts["total_completions"] = len(chosen) + len(rejected)
    answers = {"chosen": [str(value) for value in chosen], "rejected": [str(value) for value in rejected]}
    return {"id": id_, "prompt": f"Prompt {id_}?", **answers, **counts, "models": ["m"], "subset": subset}


ROWS = [
    row("1", "Math", [5], [1, 2, 3]),  # right: 1
    row("2", "Math", [5], [5, 2, 5]),  # shared by three: 1/3
    row("3", "Math", [2], [3, 1, 0]),  # wrong: 0
    row("4", "Focus", [0], [-1, -2, -3]),  # right: 1
    # 7: gap 2 > spread 1; its ref has gap 4, so the smaller is 2 > 1: tanh(2 / 1 - 1)
    row("tied:7", "Ties", [6, 5], [3, 1, 0]),
    row("ref:7", "Ties", [9], [5, 1, 0]),
    # 8: gap 3 > spread 2; its ref has gap -1, so the smaller is -1: not hard, tanh(-1 / 2 - 1)
    row("tied:8", "Ties", [8, 7, 6], [3, 2]),
    row("ref:8", "Ties", [1], [2, 0]),
    # 9: gap 1 < spread 4; ref gap 5: tanh(1 / 4 - 1)
    row("tied:9", "Ties", [9, 5], [4]),
    row("ref:9", "Ties", [6], [1]),
    # 10: no spread, gap 0, not accurate: 0 / 0 counts 0
    row("tied:10", "Ties", [4, 4], [4]),
    row("ref:10", "Ties", [6], [1]),
    # 11: no ref; counts for accuracy only, and is not accurate
    row("tied:11", "Ties", [4, 1], [2]),
]
MARGINS = (math.tanh(1) + math.tanh(-1.5) + math.tanh(-0.75) + 0) / 4
TIES_BY_HAND = 0.3 * 3 / 5 + 0.3 * 3 / 4 + 0.2 * 2 / 4 + 0.2 * 1 / 4 + 0.01 * MARGINS


@pytest.fixture(params=["parquet", "jsonl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / f"test.{request.param}"
    if request.param == "jsonl":
        file.write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    else:
        pl.DataFrame(ROWS).write_parquet(file)
    return file


def test_scores_by_hand(file: Path) -> None:
    result = score_benchmark(read_benchmark(file), OUTSPOKEN)
    assert list(result["subsets"]) == ["Math", "Focus", "Ties"]
    assert result["subsets"]["Math"] == {"prompts": 3, "score": pytest.approx((1 + 1 / 3) / 3)}
    assert result["subsets"]["Focus"] == {"prompts": 1, "score": 1}
    assert result["subsets"]["Ties"] == {"prompts": 9, "score": pytest.approx(TIES_BY_HAND)}
    assert result["score"] == pytest.approx((4 / 9 + 1 + TIES_BY_HAND) / 3)
    assert result["answers"] == sum(one["total_completions"] for one in ROWS)
    page = benchmark_page({"runs/student": result})
    assert f"| `runs/student` | {result['score']:.3f} | 0.444 | 1.000 | {TIES_BY_HAND:.3f} |" in page


def test_ties_without_a_pair_of_prompts_have_no_margins() -> None:
    rows = pl.DataFrame([row("tied:1", "Ties", [2, 3], [1]), row("ref:2", "Ties", [2], [3])])
    assert score_benchmark(rows, OUTSPOKEN)["score"] == pytest.approx(0.3)


def test_answers_that_all_tie_earn_what_chance_would() -> None:
    rows = pl.DataFrame([row(str(n), "Math", [1], [1, 1, 1]) for n in range(5)])
    assert score_benchmark(rows, OUTSPOKEN)["score"] == 0.25


def test_no_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="hf download allenai/reward-bench-2 --repo-type dataset"):
        read_benchmark(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": []}, "id '5': needs a prompt, at least one chosen"),
        ({"rejected": None}, "id '5': needs a prompt"),
        ({"subset": "Ties"}, "an id of its own such as 'tied:3'"),
        ({"subset": "Ties", "id": "tied:x"}, "id 'tied:x'"),
    ],
)
def test_bad_row(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (ROWS[0], row("5", "Math", [1], [0]) | changes)))
    with pytest.raises(IfllmError, match=re.escape(message)):
        read_benchmark(file)


def test_two_rows_of_one_id(tmp_path: Path) -> None:
    """Elsewhere ids mean nothing; those of ties say which prompts belong together."""
    pl.DataFrame([ROWS[0], ROWS[0], ROWS[4]]).write_parquet(tmp_path / "test.parquet")
    assert read_benchmark(tmp_path / "test.parquet").height == 3
    pl.DataFrame([ROWS[0], ROWS[4], ROWS[4]]).write_parquet(tmp_path / "test.parquet")
    with pytest.raises(IfllmError, match="id 'tied:7'"):
        read_benchmark(tmp_path / "test.parquet")


def test_bad_file(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no Parquet")
    with pytest.raises(IfllmError, match="cannot be read as Parquet or JSON lines"):
        read_benchmark(tmp_path / "x.parquet")
    pl.DataFrame(ROWS).clear().write_parquet(tmp_path / "x.parquet")
    with pytest.raises(IfllmError, match="holds no prompts"):
        read_benchmark(tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text('{"id": "1", "prompt": "?"}\n')
    with pytest.raises(IfllmError, match="lacks the column 'chosen'"):
        read_benchmark(tmp_path / "x.jsonl")
