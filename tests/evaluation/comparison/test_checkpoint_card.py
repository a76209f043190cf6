"""What a judge found, in the card of the checkpoint: parsed back by the Hub's own reader."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.checkpoint_card import RESULTS_FILE, add_results
from ifllm_hub.evaluation.comparison.compare import compare
from tests.evaluation.made import both, table

CARD = """---
base_model: lab/a
model-index:
- name: a-forest
  results:
  - task: {type: text-generation}
    dataset: {name: other, type: lab/other}
    metrics:
    - {type: accuracy, value: 0.5}
---

# A model

Text, with --- in it.
"""


@pytest.fixture
def comparison() -> dict[str, Any]:
    return compare(table([*both(1, (7, 5), (7, 5)), *both(2, (6, 5), (8, 5))]), draws=50)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "a-forest"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    return folder


def test_results_join_those_of_others_and_replace_their_own(checkpoint: Path, comparison: dict[str, Any]) -> None:
    for _ in range(2):
        add_results(checkpoint, comparison, "lab/ifllm", "c0ffee")
    card = ModelCard.load(checkpoint / "README.md")
    # Two wins of two: a of 2 (1 - p) = 0.01 a, with p = 1 / (1 + exp(-a)), is 3.912.
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {"accuracy": 0.5, "relative_quality": 2.0, "win_rate": 1.0, "length_controlled_win_rate": 0.9804}
    assert card.text.endswith("# A model\n\nText, with --- in it.\n")
    quality = next(result for result in card.data.eval_results if result.metric_type == "relative_quality")
    assert (quality.dataset_type, quality.dataset_revision) == ("lab/ifllm", "c0ffee")
    assert quality.metric_name.startswith("Relative quality (judge lab/judge, both orders, 2 prompts, against a-sft")
    entries = parse_eval_result_entries(yaml.safe_load((checkpoint / RESULTS_FILE).read_text()))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("lab/ifllm", "judged_relative_quality", 2.0),
        ("lab/ifllm", "judged_win_rate", 1.0),
        ("lab/ifllm", "judged_length_controlled_win_rate", 0.9804),
    ]


def test_without_a_hub_dataset_the_card_alone_has_them(checkpoint: Path, comparison: dict[str, Any]) -> None:
    add_results(checkpoint, comparison)
    assert not (checkpoint / RESULTS_FILE).exists()
    assert len(ModelCard.load(checkpoint / "README.md").data.eval_results) == 4


def test_a_checkpoint_that_was_not_judged_is_refused(checkpoint: Path, comparison: dict[str, Any]) -> None:
    other = checkpoint.rename(checkpoint.with_name("b-forest"))
    with pytest.raises(IfllmError, match="no such model, only a-forest"):
        add_results(other, comparison)
    assert (other / "README.md").read_text() == CARD


def test_models_of_one_name_are_told_apart(checkpoint: Path) -> None:
    rows = [*both(1, (7, 5), (7, 5)), *both(1, (4, 5), (4, 5), label_source="explicit")]
    comparison = compare(table(rows), draws=20)
    with pytest.raises(IfllmError, match=r"several models .* a / explicit, a / forest"):
        add_results(checkpoint, comparison)
    assert add_results(checkpoint, comparison, label_source="explicit")["difference"]["mean"] == -1


@pytest.mark.parametrize("content", [None, "---\na: [\n---\n"])
def test_a_missing_or_damaged_card_is_refused(
    checkpoint: Path, comparison: dict[str, Any], content: str | None
) -> None:
    (checkpoint / "README.md").unlink()
    if content is not None:
        (checkpoint / "README.md").write_text(content)
    with pytest.raises(IfllmError, match="missing, or not a model card"):
        add_results(checkpoint, comparison)
