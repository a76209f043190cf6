"""The results of a reward model as the Hub shows them: in the card's header, and beside the dataset."""

from typing import TYPE_CHECKING

import yaml

from ifllm_hub.reward.model.config import Trained, Training

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# What the Hub is told of the protocol's results: the key in `config.json`, the metric's id at the Hub, its name.
_METRICS = (("accuracy", "accuracy", "Accuracy"), ("auc", "roc_auc", "AUC"), ("brier", "brier_score", "Brier score"))


def evaluation_yaml(config: Trained) -> str | None:
    """The content of `.eval_results/*.yaml` at the Hub, or None for a model that was not trained on a Hub dataset.

    Source: https://huggingface.co/docs/hub/eval-results. Results appear beside the dataset once its `eval.yaml` has
    the tasks that are named here.
    """
    if "dataset" not in config["training"]:
        return None
    return evaluation_entries(evaluations(config), "worker_folds", _notes(config))


def evaluation_entries(results: list["EvalResult"], task: str, notes: str) -> str:
    """Results on a Hub dataset as the content of `.eval_results/*.yaml`.

    Args:
        results: `dataset_type` is the dataset's Hub id.
        task: the dataset's `eval.yaml` has a task `<task>_<metric type>` for each.
        notes: how they came about, in a few words.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=result.dataset_type,
            task_id=f"{task}_{result.metric_type}",
            value=result.metric_value,
            dataset_revision=result.dataset_revision,
            notes=notes,
        )
        for result in results
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def evaluations(config: Trained) -> list["EvalResult"]:
    """What `config.json` says of workers never seen, as the Hub has it in a model's card."""
    from huggingface_hub import EvalResult

    training, scores = config["training"], config["protocol"]["worker"]
    values = {key: score["mean"] if isinstance(score, dict) else score for key, score in scores.items()}
    return [
        EvalResult(
            task_type="tabular-classification",
            task_name="Which of two answers was preferred",
            dataset_type=training.get("dataset", "ifllm"),
            dataset_name=dataset_name(training),
            dataset_revision=training.get("revision"),
            metric_type=metric,
            metric_name=f"{name} ({_notes(config)})",
            metric_value=values[key],
        )
        for key, metric, name in _METRICS
    ]


def dataset_name(training: Training) -> str:
    """What the training data are called: a Hub id, collected or imported data, or the release they were built from."""
    if "dataset" in training:
        return str(training["dataset"])
    if "collected_sha256" in training:
        return f"collected dataset {training['collected_sha256'][:12]}"
    if "imported_sha256" in training:
        return f"dataset imported from {training['imported']} {training['imported_sha256'][:12]}"
    kind = "IFLLM release" if training["is_the_released_data"] else "simulated or modified IFLLM release"
    return f"{kind} {training['release_sha256'][:12]}"


def _notes(config: Trained) -> str:
    return f"workers never seen, 5 folds, mean of {config['seeds']} seeds"
