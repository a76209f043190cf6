"""The reward model's card, filled in from its numbers."""

from ifllm_hub.reward.model.config import Trained
from ifllm_hub.reward.model.results import dataset_name, evaluations
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER
from ifllm_hub.reward.protocol.leaderboard import Board
from ifllm_hub.reward.protocol.tables import leaderboard_markdown, precision_note

_TITLE = "Implicit feedback reward model"


def model_card(config: Trained, board: Board) -> str:
    """The text of a model folder's README.md."""
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
        eval_results=evaluations(config),
    )
    released = training.get("is_the_released_data", True)
    origin = (
        ""
        if released
        else "\n> **Trained on simulated or modified data, not on the study's**, and judged on that data.\n"
    )
    source = f"the Hub dataset `{training['dataset']}`" if on_hub else f"a local build of the {dataset_name(training)}"
    revision = f" at revision `{training['revision']}`" if training.get("revision") else ""
    null = board["permuted_labels"]["worker"]
    features = "\n".join(f"- `{feature['name']}` ({feature['unit']})" for feature in config["features"])
    return f"""---
{head.to_yaml()}
---

# {_TITLE}
{origin}
P(left answer preferred over right) from how a person read the two answers. The model adds the logits of a logistic
regression and of randomized trees; it is antisymmetric in the answers, monotone and calibrated. A reading that was not
recorded favors neither answer; with no reading at all, this is a model of length.

Trained on {training["pairs"]} rated pairs of {training["workers"]} workers, from {source}{revision}.

```python
from ifllm_hub import ImplicitFeedbackReward

reward = ImplicitFeedbackReward.from_pretrained(".")  # this folder, or the id of its repo
probability_left = reward.predict(X)  # X: the features below, left minus right, NaN where not recorded
```

This reads plain arrays (`forest.safetensors`), which are checked before use. The scikit-learn estimator is in
`reward_model.skops`, for `ifllm_hub.reward.model.persistence.load_model`, which accepts a fixed list of types only.

## Features

{features}

## Accuracy on unseen workers

{board["pairs"]} pairs, {board["workers"]} workers, {board["seeds"]} seeds, 5 folds; intervals are by jackknife over
workers. A reader's habit is taken from earlier readings and the reading itself, as a live score has to; in the rows
"later readings too" it is that of the finished dataset. "{LONGER_ANSWER.name}" is the result of a rule that uses no
behavior. With permuted labels, the first forest falls to {null["mean"]:.3f} (sd {null["sd"]:.3f}).

{leaderboard_markdown(board)}

{precision_note(board)}

Results with folds over conversations and over questions are in `leaderboard.json`; these share workers between training
and test, and so flatter every model that can tell workers apart.

## Limits

Features named `_centered` are contrasts minus the same reader's habit on all questions, estimated from readings alone
(`ifllm_hub.features.centering.center_by_worker`; the dataset's config `features` has them). The features were chosen
while looking at these pairs; the row "nested choice" of `ifllm leaderboard` makes the choice inside the folds.
Swapping the answers of all of a worker's questions turns P into 1 - P; of one question alone it does not quite, as the
habit stays.

Much of the mouse's information comes from its last visit to the text before the rating form
(`docs/results/last_seconds.md` of the package's repository): reading an answer once more, or crossing it on the way.

Workers were told to follow the text with the cursor; cursors in the wild say less. The model compares two answers
that one person read; it cannot score a text that nobody read.
"""
