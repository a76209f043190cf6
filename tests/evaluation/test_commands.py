"""`ifllm generate | judge | compare | rate | score-models | add-results | report`: what eval/ does, from the wheel."""

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub import cli
from ifllm_hub.align.runs.script import parse_flags
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.statistics import BOOTSTRAPS, SEED
from ifllm_hub.evaluation.generation.generate import GenerateArguments
from ifllm_hub.evaluation.human.task import KEY
from ifllm_hub.evaluation.judge.run import JudgeArguments
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table, write_table
from tests.evaluation.human.test_ratings import FILLED
from tests.evaluation.made import both, table, write_generations

EVAL = Path(__file__).parents[2] / "eval"
JUDGE = {
    "judge": "j",
    "output": "~/judged.parquet",
    "model_answers": "a.parquet",
    "baseline_answers": "b.parquet",
    "llm": "qwen",
    "label_source": "forest",
    "max_tokens": 60,
    "backoff": 0.5,
    "retry_malformed": True,
}
GENERATE = {
    "model": "tiny",
    "output": "a.parquet",
    "dataset": "ds",
    "history": "chosen_side",
    "max_new_tokens": 7,
    "greedy": True,
}


def ifllm(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def flags(values: dict[str, Any], dashes: bool) -> list[str]:
    named = [(f"--{name.replace('_', '-') if dashes else name}", value) for name, value in values.items()]
    return [word for name, value in named for word in ([name] if value is True else [name, str(value)])]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the two commands would run, in the order of their calls."""
    taken: list[Any] = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("ifllm_hub.evaluation.generation.generate.run_generate", taken.append)
    monkeypatch.setattr("ifllm_hub.evaluation.judge.run.run_judge", taken.append)
    return taken


@pytest.mark.parametrize(
    ("command", "values", "arguments"), [("judge", JUDGE, JudgeArguments), ("generate", GENERATE, GenerateArguments)]
)
def test_a_command_and_its_script_understand_the_same(
    command: str, values: dict[str, Any], arguments: type, taken: list[Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", [command, *flags(values, dashes=False)])
    expected = parse_flags(arguments)
    assert parse_flags(arguments, [word.replace("~", str(tmp_path)) for word in flags(values, dashes=True)]) == expected
    assert ifllm(monkeypatch, command, *flags(values, dashes=True)) == 0
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({**values, "seed" if command == "generate" else "attempts": 3}))
    assert ifllm(monkeypatch, command, "--config", file) == 0
    assert ifllm(monkeypatch, command, "--config", file, "--output", tmp_path / "x.parquet") == 0
    assert taken[0] == expected
    assert taken[1] == parse_flags(arguments, ["--config", str(file)]) != expected
    assert taken[2].output == tmp_path / "x.parquet"
    assert isinstance(taken[2].output, Path)


def test_switches_that_are_on_can_be_turned_off(taken: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    words = flags(JUDGE, dashes=True)
    assert ifllm(monkeypatch, "judge", *words, "--no-explanation", "--no-structured") == 0
    assert (taken[0].explanation, taken[0].structured, taken[0].dry_run) == (False, False, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [("polycy: x", "polycy is not a setting of this command"), ("{", "cannot be read as YAML"), (None, "No such file")],
)
def test_a_settings_file_that_is_not_accepted(
    content: str | None, message: str, taken: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_text(content)
    assert ifllm(monkeypatch, "generate", "--config", file) == 2
    assert message in capsys.readouterr().err
    assert not taken


@pytest.mark.parametrize("words", [["--output", "x.parquet"], ["--modle", "x"], ["--examples", "many"]])
def test_words_that_are_not_accepted(words: list[str], taken: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ifllm(monkeypatch, "judge", *words) == 2
    assert not taken


def test_generate_and_judge_work(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "tiny.parquet"
    words = ["--model", "tiny", "--dataset", dataset, "--prompts", 2, "--max-new-tokens", 4, "--output", answers]
    assert ifllm(monkeypatch, "generate", *words) == 0
    assert capsys.readouterr().out.endswith(f"answers: {answers}\n")
    both_answers = ["--model-answers", answers, "--baseline-answers", answers, "--llm", "tiny"]
    judged = tmp_path / "judged.parquet"
    words = ["--judge", "j", *both_answers, "--label-source", "forest", "--dry-run", "--output", judged]
    assert ifllm(monkeypatch, "judge", *words) == 0
    assert "judgments: " not in capsys.readouterr().out
    assert not judged.exists()


def test_from_judgments_to_card_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for question in range(4) for row in both(question, (7 + question % 2, 5), (7, 5))]
    write_table(tmp_path / "judgments" / "one.parquet", table(rows))
    words = (tmp_path / "judgments", "--out", tmp_path / "comparison")
    assert ifllm(monkeypatch, "compare", *words) == 0
    assert capsys.readouterr().out == f"comparison: {tmp_path / 'comparison/comparison.md'}\n"
    script = str(EVAL / "compare.py")
    monkeypatch.setattr(sys, "argv", [script, str(words[0]), "--out", str(tmp_path / "same")])
    assert runpy.run_path(script)["main"]() == 0
    files = sorted(path.name for path in (tmp_path / "same").iterdir())
    for name in files:
        assert (tmp_path / "comparison" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    found = json.loads((tmp_path / "comparison/comparison.json").read_text())
    assert (found["draws"], found["seed"]) == (BOOTSTRAPS, SEED)
    (tmp_path / "a-forest").mkdir()
    (tmp_path / "a-forest/README.md").write_text("---\nbase_model: lab/a\n---\n\n# A model\n")
    assert ifllm(monkeypatch, "add-results", tmp_path / "comparison", tmp_path / "a-forest") == 0
    assert "win_rate" in (tmp_path / "a-forest/README.md").read_text()
    capsys.readouterr()
    assert ifllm(monkeypatch, "report", tmp_path) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'evaluation.html'}\n"
    (tmp_path / "comparison").rename(tmp_path / "elsewhere")
    assert ifllm(monkeypatch, "report", tmp_path) == 2
    assert "comparison.json" in capsys.readouterr().err


def test_rating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model", "baseline"):
        write_generations(tmp_path / f"{name}.parquet", name, {q: f"{name} {q}" for q in range(3)})
    files = ["--model", tmp_path / "model.parquet", "--baseline", tmp_path / "baseline.parquet"]
    names = ["--llm", "qwen", "--label-source", "forest", "--rater", "ann", "--rater", "bob", "--seed", 1]
    assert ifllm(monkeypatch, "rate", "export", *files, *names, "--out", tmp_path / "task") == 0
    assert "3 items for 2 raters" in capsys.readouterr().out
    key = tmp_path / "task" / "key.parquet"
    filled = [ids | FILLED for ids in read_table(key, KEY).select("task_id", "item_id", "rater_id").to_dicts()]
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, filled[0])
        writer.writeheader()
        writer.writerows(filled)
    ratings = tmp_path / "ratings.parquet"
    assert ifllm(monkeypatch, "rate", "import", tmp_path / "all.csv", "--key", key, "--out", ratings) == 0
    assert f"6 of 6 ratings, by 2 raters: {ratings}" in capsys.readouterr().out
    assert ifllm(monkeypatch, "rate", "score", ratings, "--out", tmp_path / "scores") == 0
    assert capsys.readouterr().out.startswith("# Human ratings")
    assert json.loads((tmp_path / "scores/human.json").read_text())["groups"][0]["ratings"] == 6


def test_score_models_on_rewardbench_and_what_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "out"]
    assert ifllm(monkeypatch, "score-models", *out) == 2
    assert "Name a dataset (--dataset), or a file of RewardBench 2 (--reward-bench)" in capsys.readouterr().err
    rows = [{"id": "1", "prompt": "?", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"}]
    pl.DataFrame(rows).write_parquet(tmp_path / "bench.parquet")
    assert ifllm(monkeypatch, "score-models", "--reward-bench", tmp_path / "bench.parquet", *out) == 2
    assert "name a text model (--text)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_score_models_hands_on_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []

    def scored(dataset: str, behavior: list[str], text: list[str], judged: Any, *rest: Any) -> Any:
        given.extend([dataset, behavior, text, judged.height, *rest])
        raise IfllmError("enough")

    monkeypatch.setattr("ifllm_hub.evaluation.reward_models.score.evaluate_reward_models", scored)
    write_table(tmp_path / "j.parquet", table(both(1, (7, 5), (7, 5))).select(*JUDGMENTS))
    models = ["--behavior", "default", "--behavior", "mine", "--text", "student", "--judgments", tmp_path / "j.parquet"]
    more = ["--every-worker", "--seeds", 3, "--revision", "v1", "--out", tmp_path / "out"]
    assert ifllm(monkeypatch, "score-models", "--dataset", "ORG/ifllm", *models, *more) == 2
    assert given == ["ORG/ifllm", ["default", "mine"], ["student"], 2, True, False, 3, "v1"]


def test_what_needs_more_packages_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ifllm(monkeypatch, "generate", "--model", "m", "--dataset", "d", "--output", "answers.parquet") == 2
    assert capsys.readouterr().err == (
        "error: Generating answers needs torch, transformers, which this environment lacks. Install them: pip install "
        "'ifllm_hub[train]'\n"
    )
