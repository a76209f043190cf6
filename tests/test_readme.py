"""The front door says what is so: short, its numbers those of the shipped model, its paths and commands there."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from ifllm_hub.features.catalog import CATALOG
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.tables import leaderboard_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REWARD_PAGE = (ROOT / "docs" / "reward.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((default_model() / "leaderboard.json").read_text(encoding="utf-8"))
    return loaded


def test_it_can_be_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 100
    assert README.count("![") == 1
    assert README.count("```python") == 3


def test_its_first_table_is_of_the_shipped_models_leaderboard(board: dict[str, Any]) -> None:
    header, line, *rows = tables()[0]
    assert len(rows) == 3
    assert {header, line, *rows} < set(leaderboard_markdown(board).splitlines())
    assert f"({board['pairs']} pairs, {board['workers']} workers, {board['seeds']} seeds, 95 % intervals)" in README


def test_its_second_table_is_of_the_labels_compared() -> None:
    assert len(tables()[1]) == 2 + 5
    page = (ROOT / "docs" / "results" / "labels.md").read_text(encoding="utf-8")
    assert set(tables()[1]) < set(page.splitlines())


def tables() -> list[list[str]]:
    """The lines of the two tables."""
    found = [paragraph.splitlines() for paragraph in README.split("\n\n") if paragraph.startswith("|")]
    assert len(found) == 2
    return found


def test_the_reward_page_has_all_of_it(board: dict[str, Any]) -> None:
    assert leaderboard_markdown(board) in REWARD_PAGE
    assert f"{board['pairs']} pairs, {board['workers']} workers, {board['seeds']} seeds" in REWARD_PAGE
    accuracy = {row["model"]: row["accuracy"]["mean"] for row in board["rows"] if row["protocol"] == "worker"}
    prose = " ".join(REWARD_PAGE.split())
    assert f"is already right in {accuracy[LONGER_ANSWER.name] * 100:.1f} % of the pairs" in prose
    assert f"moves that to {accuracy[FOREST.name] * 100:.1f} %" in prose
    assert f"the forest falls to {board['permuted_labels']['worker']['mean']:.3f}" in prose


def test_the_dataset_page_counts_the_features() -> None:
    assert f"{len(CATALOG)} features" in (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")


@pytest.mark.real
def test_its_figure_is_the_one_that_a_build_draws(real_dataset: tuple[Path, float]) -> None:
    shown = matplotlib.image.imread(ROOT / "docs" / "preference.png")
    drawn = matplotlib.image.imread(real_dataset[0] / "figures" / "preference.png")
    assert shown.shape == drawn.shape
    assert np.abs(shown - drawn).mean() < 0.01  # other versions of matplotlib smooth letters differently


def test_what_it_tells_to_make_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([\w-]+)", pages))
    assert {"demo", "test", "docs"} <= targets
    for target in targets:
        assert f"\n{target}:" in makefile
