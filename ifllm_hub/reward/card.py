"""The reward model's card and the leaderboard as Markdown, written from the numbers."""

from typing import Any

import yaml

from ifllm_hub.reward.protocol import LONGER_ANSWER


def leaderboard_markdown(board: dict[str, Any], protocol: str = "worker") -> str:
    """One protocol's rows as a Markdown table."""
    lines = [
        "| model | accuracy [95 % CI] | AUC [95 % CI] | Brier | ECE | accuracy at 50 % coverage | gain over longer |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['model']} | {_interval(row['accuracy'])} | {_interval(row['auc'])} | {row['brier']:.4f} "
        f"| {row['ece']:.3f} | {row['accuracy_at_50']:.3f} | {_interval(row['gain_over_longer_answer'], '+')} |"
        for row in board["rows"]
        if row["protocol"] == protocol
    ]
    return "\n".join(lines)


def model_card(config: dict[str, Any], board: dict[str, Any]) -> str:
    """README.md of a model folder."""
    head = {
        "library_name": "ifllm_hub",
        "license": "apache-2.0",
        "tags": ["reward-model", "implicit-feedback", "preference", "skops", "arxiv:2606.20482"],
    }
    training = config["training"]
    released = training.get("is_the_released_data", True)
    origin = (
        ""
        if released
        else "\n> **Trained on simulated or modified data, not on the study's**, and judged on that data.\n"
    )
    null = board["permuted_labels"]["worker"]
    features = "\n".join(f"- `{feature['name']}` ({feature['unit']})" for feature in config["features"])
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# Implicit feedback reward model
{origin}
P(left answer preferred over right) from how a person read the two answers: randomised trees, antisymmetric in the
answers, monotone, calibrated. Trained on {training["pairs"]} rated pairs of {training["workers"]} workers. A reading
that was not recorded speaks for neither answer; with no reading at all this is a length model.

```python
from pathlib import Path
from ifllm_hub.reward.persistence import load_model

model, config = load_model(Path("."))
probability_left = model.predict_proba(X)[:, 1]  # X: the features below, left minus right, NaN where not recorded
```

## Features

{features}

## Accuracy on workers never seen

{board["pairs"]} pairs, {board["workers"]} workers, {board["seeds"]} seeds, 5 folds; intervals are bootstraps over
workers. "{LONGER_ANSWER.name}" is what a rule without any behaviour gets. With permuted labels, the first forest falls
to {null["mean"]:.3f} (sd {null["sd"]:.3f}).

{leaderboard_markdown(board)}

Folds over conversations and over questions are in `leaderboard.json`; they share workers between training and test and
so flatter every model that can tell workers apart.

## Limits

Workers were told to follow the text with the cursor; cursors in the wild say less. The model compares two answers
that one person read; it cannot score a text nobody read.
"""


def _interval(value: dict[str, float], sign: str = "") -> str:
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"
