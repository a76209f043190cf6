"""Each study runs from the repository root by the command that it names, and its page names the same."""

import importlib
import re
from pathlib import Path

import pytest

from eval.studies import last_seconds

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path for path in ROOT.glob("eval/[rs]*/**/*.py") if "__main__" in path.read_text())


def test_studies_are_found() -> None:
    pages = {"last_seconds", "live_score", "coarse_tier", "reward_ideas", "judge_simulation", "paper_features"}
    pages |= {"pointwise_reward", "viewport_truth"}
    checks = {"interval_coverage", "permutation_check", "label_value", "plan_check", "patterns_recovery"}
    labels = {"two_worlds", "flip_probabilities", "real_training", "answers", "by_size", "end_to_end"}
    assert pages | checks | labels == {path.stem for path in STUDIES}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_names_its_command(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert f"python -m {module} " in (importlib.import_module(module).__doc__ or "")
    text = path.read_text()
    assert "benchmarks/" not in text
    if "Written by" in text:
        # What simulates all of its data takes no dataset.
        assert re.search(f"Written by `python -m {re.escape(module)} (DATASET|--out FILE`)", text)


def test_a_page_is_written(study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seconds, "SEEDS", 1)
    every = last_seconds.parts()
    kept = ("without the last 5 s", "without the last visit")
    monkeypatch.setattr(last_seconds, "parts", lambda: {name: every[name] for name in kept})
    last_seconds.main(study)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# What the last seconds of a reading tell"
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| reading",
        "| all of it",
        "| ticks in reverse",
        "| ticks shuffled",
        *(f"| {name}" for name in kept),
    ]
