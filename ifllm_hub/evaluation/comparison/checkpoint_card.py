"""What a judge found, in the card of the checkpoint it judged: `model-index` and `.eval_results/*.yaml`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ifllm_hub.align.runs.push import CHECKPOINT
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.evaluation.comparison.document import Cell, Comparison, Score
from ifllm_hub.evaluation.comparison.names import name_of
from ifllm_hub.evaluation.comparison.tables import signed
from ifllm_hub.files import write_atomically
from ifllm_hub.hub import clear_hub_errors, commit_files, sort_out
from ifllm_hub.reward.model.results import evaluation_entries

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD_FILE, RESULTS_FILE = "README.md", ".eval_results/ifllm_judged.yaml"
# The task in the dataset's `eval.yaml`, without the metric.
TASK = "judged"
# The key in a cell of the comparison, the metric's id at the Hub, its name.
_METRICS: tuple[tuple[Literal["difference", "win_rate", "length_controlled_win_rate"], str, str], ...] = (
    ("difference", "relative_quality", "Relative quality"),
    ("win_rate", "win_rate", "Win rate"),
    ("length_controlled_win_rate", "length_controlled_win_rate", "Length-controlled win rate"),
)


def add_results(
    checkpoint: Path,
    comparison: Comparison,
    dataset: str | None = None,
    revision: str | None = None,
    llm: str | None = None,
    label_source: str | None = None,
) -> Cell:
    """Write a comparison's results into the card of a checkpoint; earlier ones of the same metrics are replaced.

    Args:
        checkpoint: folder with a README.md, named like the `model` of a cell.
        comparison: what `document.read_comparison` gives.
        dataset: Hub id of the dataset the prompts are from; without it no `.eval_results/*.yaml` is written, since that
            must name the dataset.
        revision: commit of that dataset.
        llm, label_source: which cell, if several models have that name.

    Returns:
        The cell.

    Raises:
        IfllmError: no cell, or more than one, belongs to this checkpoint; its card is missing or damaged; or the folder
            cannot be written.
    """
    from huggingface_hub import ModelCard

    cell = _cell_of(checkpoint, comparison, llm, label_source)
    file = checkpoint / CARD_FILE
    try:
        card = ModelCard(file.read_text(encoding="utf-8"), ignore_metadata_errors=False)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(
            f"{file}: missing, or not a model card ({first_line(error)}). Align the model again."
        ) from error
    results = _evaluations(comparison, cell, dataset, revision)
    ours = {result.metric_type for result in results}
    data: Any = card.data
    data.eval_results = [kept for kept in data.eval_results or [] if kept.metric_type not in ours] + results
    data.model_name = data.model_name or checkpoint.resolve().name
    if dataset is not None:
        (checkpoint / RESULTS_FILE).parent.mkdir(exist_ok=True)
        write_atomically(checkpoint / RESULTS_FILE, evaluation_entries(results, TASK, _notes(comparison, cell)))
    write_atomically(file, str(card))
    return cell


def push_results(checkpoint: Path, repo_id: str) -> str:
    """Push the card and results of a checkpoint that is already on the Hub, in one commit; in none if unchanged.

    Returns:
        The commit that `main` is at.

    Raises:
        IfllmError: there is no such repo, it holds no checkpoint of this package, no token may write there, or the Hub
            failed.
    """
    from huggingface_hub import HfApi

    card = replace(CHECKPOINT, files=(CARD_FILE, RESULTS_FILE), insist=None)
    sent, _ = sort_out(checkpoint, card)
    with clear_hub_errors(repo_id):
        HfApi().auth_check(repo_id, write=True)
    return commit_files(sent, repo_id, card)


def _cell_of(checkpoint: Path, comparison: Comparison, llm: str | None, label_source: str | None) -> Cell:
    name = checkpoint.resolve().name
    cells = [
        cell
        for cell in comparison["cells"]
        if cell["n"]
        and Path(cell["model"]).name == name
        and llm in (None, cell["llm"])
        and label_source in (None, cell["label_source"])
    ]
    if len(cells) == 1:
        return cells[0]
    if not cells:
        known = sorted({Path(cell["model"]).name for cell in comparison["cells"] if cell["n"]})
        raise IfllmError(f"{checkpoint}: the comparison has no such model, only {', '.join(known)}. Name one of these.")
    listed = ", ".join(f"{cell['llm']} / {cell['label_source']}" for cell in cells)
    raise IfllmError(
        f"{checkpoint}: several models of the comparison are named {name!r}: {listed}. Say which LLM and label source."
    )


def _evaluations(comparison: Comparison, cell: Cell, dataset: str | None, revision: str | None) -> list["EvalResult"]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name="Judged against its own SFT model",
            dataset_type=dataset or "ifllm",
            dataset_name=dataset or "IFLLM prompts",
            dataset_revision=revision,
            metric_type=metric,
            metric_name=f"{name} ({_notes(comparison, cell)}{_interval(cell[key])})",
            metric_value=round(cell[key]["mean"], 4),
        )
        for key, metric, name in _METRICS
    ]


def _notes(comparison: Comparison, cell: Cell) -> str:
    orders = "one order" if comparison["position"] is None else "both orders"
    return (
        f"judge {comparison['judge']}, {orders}, {cell['n']} prompts, against {cell['baseline']}, labels from "
        f"{name_of(cell['label_source'])}"
    )


def _interval(score: Score) -> str:
    return "" if score["low"] is None else f"; 95 % interval {signed(score['low'], 3)} to {signed(score['high'], 3)}"
