"""The pages on what labels are worth and on planned studies are written, with the numbers of the package."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from eval.studies import label_value, plan_check
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.preferences.plan import plan_study
from ifllm_hub.preferences.value import worth_by_source
from tests.conftest import few_trees


def written(study: object, dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["study", str(dataset), "--out", str(out)])
    with few_trees():
        study.main()  # type: ignore[attr-defined]
    return out.read_text(encoding="utf-8")


def test_the_page_on_worth(labeled_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = written(label_value, labeled_study, tmp_path / "value.md", monkeypatch)
    worths = worth_by_source(labeled_study)
    for name, worth in worths.items():
        assert f"| {name} | {worth.labels} | " in page
    more = 100 * worths["forest"].beyond(worths["longer"]).mean
    each = worths["forest"].per_reading()
    assert each is not None
    assert f"| forest | {100 * each['mean']:.1f} [" in page
    assert f"] | {more:+.1f} [" in page
    assert "](value.png)" in page
    with Image.open(tmp_path / "value.png") as image:
        image.verify()


def test_the_page_on_plans(labeled_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STUDIES": 20, "GAINS": (0.06,), "DEVIATIONS": (0.05,), "POWERS": (0.5,)}.items():
        monkeypatch.setattr(plan_check, name, value)
    page = written(plan_check, labeled_study, tmp_path / "plan.md", monkeypatch)
    plan = plan_study(plan_check.STUDY, 0.06, 0.5, 0.0025)
    assert markdown_table(plan_check.HEAD, []) in page
    assert f"| 0.06 | 0.05 | {plan.readers} | {plan.pairs:.0f} | {plan.power:.3f} | 0." in page
