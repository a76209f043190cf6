"""The reward model's card, written from the numbers."""

from typing import TYPE_CHECKING, Any

import yaml

from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER
from ifllm_hub.reward.protocol.tables import leaderboard_markdown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TITLE = "Implicit feedback reward model"
# What the Hub is told of the protocol's results: the key in `config.json`, the metric's id at the Hub, its name.
_METRICS = (("accuracy", "accuracy", "Accuracy"), ("auc", "roc_auc", "AUC"), ("brier", "brier_score", "Brier score"))


def model_card(config: dict[str, Any], board: dict[str, Any]) -> str:
    """README.md of a model folder."""
    from huggingface_hub import ModelCardData

    training = config["training"]
    on_hub = "dataset" in training
    head = ModelCardData(
        model_name=_TITLE,
        library_name="ifllm_hub",
        license="apache-2.0",
        pipeline_tag="tabular-classification",
        datasets=[training["dataset"]] if on_hub else None,
        tags=["reward-model", "implicit-feedback", "preference", "skops", "arxiv:2606.20482"],
        eval_results=_evaluations(config),
    )
    released = training.get("is_the_released_data", True)
    origin = (
        ""
        if released
        else "\n> **Trained on simulated or modified data, not on the study's**, and judged on that data.\n"
    )
    source = f"the Hub dataset `{training['dataset']}`" if on_hub else f"a local build of the {_dataset_name(training)}"
    revision = f" at revision `{training['revision']}`" if training.get("revision") else ""
    null = board["permuted_labels"]["worker"]
    features = "\n".join(f"- `{feature['name']}` ({feature['unit']})" for feature in config["features"])
    return f"""---
{head.to_yaml()}
---

# {_TITLE}
{origin}
P(left answer preferred over right) from how a person read the two answers: a logistic regression and randomized trees
whose logits add up, antisymmetric in the answers, monotone, calibrated. A reading that was not recorded speaks for
neither answer; with no reading at all this is a length model.

Trained on {training["pairs"]} rated pairs of {training["workers"]} workers, from {source}{revision}.

```python
from ifllm_hub import ImplicitFeedbackReward

reward = ImplicitFeedbackReward.from_pretrained(".")  # this folder, or the id of its repo
probability_left = reward.predict(X)  # X: the features below, left minus right, NaN where not recorded
```

That reads plain arrays (`forest.safetensors`), which are checked before they are followed. The scikit-learn estimator
is in `reward_model.skops`, for `ifllm_hub.reward.model.persistence.load_model`, which takes a fixed list of types only.

## Features

{features}

## Accuracy on workers never seen

{board["pairs"]} pairs, {board["workers"]} workers, {board["seeds"]} seeds, 5 folds; intervals are bootstraps over
workers. "{LONGER_ANSWER.name}" is what a rule without any behavior gets. With permuted labels, the first forest falls
to {null["mean"]:.3f} (sd {null["sd"]:.3f}).

{leaderboard_markdown(board)}

Folds over conversations and over questions are in `leaderboard.json`; they share workers between training and test and
so flatter every model that can tell workers apart.

## Limits

Features named `_centered` are contrasts less what the same reader does on every question, from readings alone
(`ifllm_hub.features.centering.center_by_worker`; the dataset's config `features` has them). They were chosen looking at these
pairs; the row "nested choice" of `ifllm leaderboard` chooses inside the folds.

Some of what the mouse tells lies in the last seconds before it left the text for the rating form
(`docs/last_seconds.md` of the package's repository): reading an answer once more, or crossing it on the way.

Workers were told to follow the text with the cursor; cursors in the wild say less. The model compares two answers
that one person read; it cannot score a text nobody read.
"""


def evaluation_yaml(config: dict[str, Any]) -> str | None:
    """The content of `.eval_results/*.yaml` at the Hub, or None for a model that was not trained on a Hub dataset.

    Source: https://huggingface.co/docs/hub/eval-results. Results appear beside the dataset once its `eval.yaml` has
    the tasks that are named here.
    """
    if "dataset" not in config["training"]:
        return None
    return evaluation_entries(_evaluations(config), "worker_folds", _notes(config))


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


def _evaluations(config: dict[str, Any]) -> list["EvalResult"]:
    from huggingface_hub import EvalResult

    training, scores = config["training"], config["protocol"]["worker"]
    values = {key: score["mean"] if isinstance(score, dict) else score for key, score in scores.items()}
    return [
        EvalResult(
            task_type="tabular-classification",
            task_name="Which of two answers was preferred",
            dataset_type=training.get("dataset", "ifllm"),
            dataset_name=_dataset_name(training),
            dataset_revision=training.get("revision"),
            metric_type=metric,
            metric_name=f"{name} ({_notes(config)})",
            metric_value=values[key],
        )
        for key, metric, name in _METRICS
    ]


def _dataset_name(training: dict[str, Any]) -> str:
    if "dataset" in training:
        return str(training["dataset"])
    kind = "IFLLM release" if training["is_the_released_data"] else "simulated or modified IFLLM release"
    return f"{kind} {training['release_sha256'][:12]}"


def _notes(config: dict[str, Any]) -> str:
    return f"workers never seen, 5 folds, mean of {config['seeds']} seeds"
