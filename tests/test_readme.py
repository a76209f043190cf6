"""The README says what is so: its numbers are the shipped model's, its commands and paths exist."""

import json
import re
from pathlib import Path

from ifllm_hub.features.catalog import CATALOG
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.tables import leaderboard_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_leaderboard_is_that_of_the_shipped_model() -> None:
    board = json.loads((default_model() / "leaderboard.json").read_text(encoding="utf-8"))
    assert leaderboard_markdown(board) in README
    assert f"{board['pairs']} pairs" in README
    assert f"{board['workers']} workers" in README
    assert f"{board['seeds']} seeds" in README
    assert f"{len(CATALOG)} features" in README
    accuracy = {row["model"]: row["accuracy"]["mean"] for row in board["rows"] if row["protocol"] == "worker"}
    prose = " ".join(README.split())
    assert f"is already right in {accuracy[LONGER_ANSWER.name] * 100:.1f} % of the pairs" in prose
    assert f"moves that to {accuracy[FOREST.name] * 100:.1f} %" in prose
    assert f"the forest falls to {board['permuted_labels']['worker']['mean']:.3f}" in prose


def test_the_files_and_commands_it_names_exist() -> None:
    for path in re.findall(r"training/[\w./-]+\.(?:py|yaml)", README) + re.findall(r"\]\((\w[\w.]*)\)", README):
        assert (ROOT / path).is_file(), path
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
