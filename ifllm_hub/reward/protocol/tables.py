"""The leaderboard as Markdown, written from the numbers."""

import math

from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.folds import LEAVE_ONE_OUT, PROTOCOLS
from ifllm_hub.reward.protocol.leaderboard import Board, FullBoard, Null, Row
from ifllm_hub.reward.protocol.text import MINILM_PACKAGE
from ifllm_hub.statistics import Adjusted, Estimate

# Clean ablations: "only" has no length and no camera column in it.
_BY_MODALITY = (
    LONGER_ANSWER.name,
    "forest: mouse only",
    "forest: gaze only",
    "forest: mouse + gaze",
    "forest: mouse + length",
    "forest: gaze + length",
    FOREST.name,
)
_COVERAGE_TENTHS = (1, 2, 3, 5, 7, 10)


def leaderboard_markdown(board: Board, protocol: str = "worker") -> str:
    """One protocol's rows as a Markdown table."""
    return markdown_table(
        (
            "model",
            "accuracy [95 % CI]",
            "AUC [95 % CI]",
            ">Brier",
            ">ECE",
            ">accuracy at 50 % coverage",
            "gain over longer [95 % CI]",
            "[all at once]",
            ">adjusted p",
        ),
        [
            (
                row["model"],
                with_interval(row["accuracy"]),
                with_interval(row["auc"]),
                f"{row['brier']:.4f}",
                f"{row['ece']:.3f}",
                f"{row['accuracy_at_50']:.3f}",
                with_interval(row["gain_over_longer_answer"], "+.3f"),
                *(("", "") if row["model"] == LONGER_ANSWER.name else _adjusted(row["adjusted"]["accuracy"])),
            )
            for row in board["rows"]
            if row["protocol"] == protocol
        ],
    )


def leaderboard_page(board: FullBoard) -> str:
    """`leaderboard.md` of the full leaderboard; its figures stand beside it."""
    origin = "" if board["source"].get("is_the_released_data", True) else _NOT_THE_STUDY
    return f"""# Leaderboard: who can tell which answer a worker prefers?

Written by `{_command(board)}`; do not edit.
{origin}
{board["pairs"]} rated pairs of {board["workers"]} workers in {board["conversations"]} conversations,
{"with" if board["excluded_workers_kept"] else "without"} the workers on the authors' exclusion list; left is
preferred in {100 * board["left_preferred"]:.1f} %. Every number is out of fold: the mean over {board["seeds"]} seeds,
each with new folds and new models. Intervals are 95 %, by jackknife over workers and Student's t; what they cover is in
[coverage of the intervals](interval_coverage.md). Of Brier and ECE, less is better. Habits are those of a reader's
earlier readings and the reading itself, but for the rows "later readings too". "{LONGER_ANSWER.name}" is a logistic
regression on the log ratio of the lengths, so that it has a probability; as a rule, the longer answer is right in
{board["longer_rule"]:.3f} of the pairs. "Always left" claims certainty.
{_text_note(board)}
## Workers never seen

Five folds over workers: the headline.

{leaderboard_markdown(board)}

{precision_note(board)}

![Accuracy of every model under every protocol, with intervals](leaderboard.png)

Bars: 95 % intervals as in the tables; for permuted labels one standard deviation over seeds. Dashed: chance.

## Differences to the longer answer, workers never seen

Better is positive for accuracy and AUC, negative for Brier. Intervals and p values are adjusted for all differences of
this table.

{_differences(board)}

## When the model may abstain, workers never seen

Accuracy on the pairs a model is surest of, by their share. No intervals: 10 % are {board["pairs"] // 10} pairs.

{_coverage(board)}

![Accuracy against coverage](coverage.png)

## Short, medium and long pairs; ties and clear ratings, workers never seen

Models are trained on all pairs. Length thirds are of the characters in both answers together; the gap is between the
two ratings (1-5) of a pair. Accuracy [95 % CI] / AUC; the last column is the gain of accuracy of
"{FOREST.name}" over the longer answer.

{_parts(board)}

## Mouse and gaze apart

Accuracy / AUC. "Only" and "mouse + gaze" have no length in them, and nothing of the camera but where the gaze was on
the text.

{_modalities(board)}

## One worker left out

As many folds as workers; {board["leave_one_out_seeds"]} seeds of the models.

{leaderboard_markdown(board, LEAVE_ONE_OUT)}

## Conversations never seen

Training and test share workers, not conversations. That can flatter a model that tells workers apart.

{leaderboard_markdown(board, "conversation")}

## Questions never seen

Training and test share workers and conversations, as in the paper. That can flatter a model that tells either apart.

{leaderboard_markdown(board, "question")}

## Labels that mean nothing

Accuracy of "{FOREST.name}" on labels drawn anew for each seed: mean (sd over draws).
Permuted: all preferences are shuffled. Swapped: conversations of equal length exchange theirs as a whole, so that what
is left above chance is conversations being recognized.

{_nulls(board)}
"""


_NOT_THE_STUDY = "\n> **Simulated or modified data, not the study's.**\n"


def _command(board: FullBoard) -> str:
    options = " --all-workers" if board["excluded_workers_kept"] else ""
    if board["text_model"] not in (None, MINILM_PACKAGE):
        options += f" --text-model {board['text_model']}"
    return f"ifllm leaderboard DATASET --out FOLDER --seeds {board['seeds']}{options}"


def _text_note(board: FullBoard) -> str:
    if board["left_out"]:
        return f"\nLeft out, because no text encoder was available: {', '.join(board['left_out'])}.\n"
    return f"\nThe text encoder is {board['text_model']}, on the first 256 tokens of each answer.\n"


def _differences(board: FullBoard) -> str:
    return markdown_table(
        ("model", "accuracy", ">p", "AUC", ">p", "Brier", ">p"),
        [
            (
                row["model"],
                *_difference(row["gain_over_longer_answer"], row["adjusted"]["accuracy"]),
                *_difference(row["auc_over_longer_answer"], row["adjusted"]["auc"]),
                *_difference(row["brier_over_longer_answer"], row["adjusted"]["brier"], "+.4f"),
            )
            for row in _rows(board, "worker").values()
            if row["model"] != LONGER_ANSWER.name
        ],
    )


def _difference(value: Estimate, adjusted: Adjusted, form: str = "+.3f") -> tuple[str, str]:
    interval, p = _adjusted(adjusted, form)
    return f"{_number(value['mean'], form)} {interval}", p


def _adjusted(adjusted: Adjusted, form: str = "+.3f") -> tuple[str, str]:
    return f"[{_number(adjusted['low'], form)}, {_number(adjusted['high'], form)}]", _number(adjusted["p"])


def precision_note(board: Board) -> str:
    """What stands under the tables: how many workers these are worth, and the least gain that shows."""
    return f"""The {board["workers"]} workers tell as much as {board["effective_workers"]:.1f} with equally many pairs
each where workers differ much. By its own interval, a true gain of accuracy below {board["detectable_gain"]:.3f} is
missed in more than one of five such studies, and in more of them where it is adjusted.
"All at once" are intervals that hold together, with 95 % probability, for every model and measure compared, and the
adjusted p pays for looking at all of them; a row's own interval does not."""


def _coverage(board: FullBoard) -> str:
    return markdown_table(
        ("model", *(f">{10 * tenths} %" for tenths in _COVERAGE_TENTHS)),
        [
            (row["model"], *(f"{row['coverage'][tenths - 1]:.3f}" for tenths in _COVERAGE_TENTHS))
            for row in _rows(board, "worker").values()
        ],
    )


def _parts(board: FullBoard) -> str:
    models = list(dict.fromkeys(row["model"] for row in board["parts"]))
    cells = []
    for by, part in dict.fromkeys((row["by"], row["part"]) for row in board["parts"]):
        rows = {row["model"]: row for row in board["parts"] if (row["by"], row["part"]) == (by, part)}
        numbers = (f"{with_interval(rows[name]['accuracy'])} / {_number(rows[name]['auc']['mean'])}" for name in models)
        cells.append(
            (
                f"{by}: {part}",
                str(rows[models[0]]["pairs"]),
                *numbers,
                with_interval(rows[FOREST.name]["gain_over_longer_answer"], "+.3f"),
            )
        )
    return markdown_table(("part", ">pairs", *models, "gain of the forest"), cells)


def _modalities(board: FullBoard) -> str:
    protocols = ("worker", LEAVE_ONE_OUT, "conversation", "question")
    rows = {protocol: _rows(board, protocol) for protocol in protocols}
    return markdown_table(
        ("model", *(protocol if protocol == LEAVE_ONE_OUT else f"{protocol} folds" for protocol in protocols)),
        [
            (
                name,
                *(
                    f"{rows[protocol][name]['accuracy']['mean']:.3f} / {_number(rows[protocol][name]['auc']['mean'])}"
                    for protocol in protocols
                ),
            )
            for name in _BY_MODALITY
        ],
    )


def _nulls(board: FullBoard) -> str:
    names: dict[Null, str] = {"permuted_labels": "permuted", "block_permuted_labels": "swapped"}
    return markdown_table(
        ("labels", *(f"{protocol} folds" for protocol in PROTOCOLS)),
        [
            (
                name,
                *(f"{board[key][protocol]['mean']:.3f} ({board[key][protocol]['sd']:.3f})" for protocol in PROTOCOLS),
            )
            for key, name in names.items()
        ],
    )


def _rows(board: Board, protocol: str) -> dict[str, Row]:
    return {row["model"]: row for row in board["rows"] if row["protocol"] == protocol}


def _number(value: float, form: str = ".3f") -> str:
    return f"{value:{form}}" if math.isfinite(value) else "not defined"


def with_interval(value: Estimate, form: str = ".3f") -> str:
    """`mean [low, high]`; what is NaN is "not defined", and of one worker there is no interval."""
    if math.isfinite(value["mean"]) and math.isnan(value["low"]):
        return _number(value["mean"], form)
    return f"{_number(value['mean'], form)} [{_number(value['low'], form)}, {_number(value['high'], form)}]"
