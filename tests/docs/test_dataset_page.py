"""docs/dataset.md: its code runs, and on the real release it prints what the page says."""

import re
from pathlib import Path

import pytest

from tests.docs.snippets import blocks, run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/dataset.md"


def test_its_code_runs(dataset: Path, tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    printed = run(page, dataset, tmp_path)
    assert len(printed) == len(blocks(page)) > 5
    for (_, shown), output in zip(blocks(page), printed, strict=True):
        assert bool(shown) == bool(output.strip())
    assert (tmp_path / "first_plot.png").stat().st_size > 0


@pytest.mark.real
def test_its_output_is_that_of_the_release(real_dataset: tuple[Path, float], tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for (code, shown), output in zip(blocks(page), run(page, real_dataset[0], tmp_path), strict=True):
        assert output.strip() == shown.strip(), code


def test_it_shows_numbers_and_names_no_worker() -> None:
    page = PAGE.read_text(encoding="utf-8")
    outputs = "".join(shown for _, shown in blocks(page))
    assert len(re.findall(r"\d+", outputs)) > 40
    assert max(map(len, re.findall(r"[A-Za-z ]+", outputs))) < 40  # no sentence of a participant
    assert not re.search(r"worker_[0-9a-f]{8}", page)
