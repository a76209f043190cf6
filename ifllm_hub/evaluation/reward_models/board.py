"""Any reward model under the protocol of `ifllm_hub.reward`: behavior models, text models, and judges.

A finished model is not retrained in folds, so by default it is scored on the workers of the test split, and its row
says what it was trained on. A judge gives no probability, so one slope is fitted out of fold, over workers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.reward_models.text_scorer import load_scorer
from ifllm_hub.files import read_json
from ifllm_hub.pages.markdown import one_line
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.config import DataSource
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER
from ifllm_hub.reward.protocol.candidates import longer as choose_longer
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.leaderboard import data_source
from ifllm_hub.reward.protocol.pairs import LEAST_PAIRS, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.scores import adjusted_gains, correct, gains, score
from ifllm_hub.reward.protocol.tables import leaderboard_markdown
from ifllm_hub.terms import SIDES

# The name of the model that ships in the package.
EMBEDDED = "default"
# What JUDGMENTS over the dataset's own pairs carry as `llm`: model is the left answer, baseline the right one.
DATASET_LLM = "ifllm"
_DIFFERENCE = "judge_difference"
_MAX_SLOPE = 10.0
# What rows that are fitted here were trained on.
_LONGER = "other workers, out of fold"
_JUDGE = "unknown data, and its slope on other workers, out of fold"

# Of a row: the model's name, (k, n) P(left preferred), what it was trained on.
_Row = tuple[str, np.ndarray, str]


def evaluate_reward_models(
    dataset: str | Path,
    behavior: Sequence[str] = (),
    text: Sequence[str] = (),
    judgments: pl.DataFrame | None = None,
    every_worker: bool = False,
    all_workers: bool = False,
    seeds: int = 20,
    revision: str | None = None,
) -> dict[str, Any]:
    """Leaderboard rows of models beside the longer answer on the same pairs.

    Args:
        dataset: a dataset folder or Hub repo id.
        behavior: this package's reward models, by folder or Hub id; `default` is the one in the package.
        text: text reward models, see `load_scorer`.
        judgments: JUDGMENTS over the dataset's pairs in both orders, see `judge_differences`.
        every_worker: score on the train split's workers too.
        all_workers: score on the workers on the authors' exclusion list too.
        seeds: of the folds in which the longer answer and the slopes of judges are fitted.

    Returns:
        `source`, `seeds`, and `parts`: one for each set of pairs, with `pairs`, `workers`, `on`, `longer_rule`
        (accuracy of choosing the longer answer) and `rows`: `model`, `trained_on` and the numbers of `scores.score`.

    Raises:
        IfllmError: the dataset or a model cannot be used; there is nothing to score; a set of pairs is too small; or
            the judgments are about other answers than the dataset's, or in one order only.
    """
    source = data_source(dataset, revision)
    pairs = labeled(load_pairs(dataset, source.get("revision")), all_workers)
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", seeds)
    judges = [] if judgments is None else judge_differences(pairs, judgments)
    if not behavior and not text and not judges:
        raise IfllmError("Nothing to score: name a behavior model, a text model or a file of judgments.")
    on = "all workers" if every_worker else "the workers of the test split"
    held_out = np.ones(len(pairs), dtype=bool) if every_worker else (pairs.rows["split"] == "test").to_numpy()
    parts = []
    if behavior or text:
        some = _chosen(pairs, held_out, on)
        rows = [*(_behavior(name, some, source) for name in behavior), *(_text(name, some) for name in text)]
        parts.append(_part(some, longer[:, held_out], rows, on))
    for name, settings, difference in judges:
        asked = difference.is_not_null().to_numpy()
        among = f"{on}, of the pairs {name} was asked about"
        some = _chosen(pairs, held_out & asked, among)
        probability = _by_judge(pairs, difference, asked, seeds)[:, held_out & asked]
        row = (f"judge: {name}", probability, f"{_JUDGE}; settings {settings}")
        parts.append(_part(some, longer[:, held_out & asked], [row], among))
    return {"source": source, "seeds": seeds, "parts": parts}


def _chosen(pairs: Pairs, scored: np.ndarray, on: str) -> Pairs:
    """The pairs of a mask, if there are enough of them."""
    some = Pairs(pairs.rows.filter(scored))
    workers = some.rows["worker_id"].n_unique()
    if len(some) < LEAST_PAIRS or workers < 2 or some.rows["preference"].n_unique() < 2:
        raise IfllmError(
            f"Only {len(some)} rated pairs of {workers} worker(s) among {on}; a score needs {LEAST_PAIRS} pairs, two "
            "workers and both preferences. Score on every worker, or judge more pairs."
        )
    return some


def _part(pairs: Pairs, longer: np.ndarray, models: list[_Row], on: str) -> dict[str, Any]:
    """Rows of the longer answer, (seeds, n), and of some models, all on the same pairs."""
    shown = ((LONGER_ANSWER.name, longer, _LONGER), *models)
    adjusted = adjusted_gains([gains(probability, longer, pairs) for _, probability, _ in shown])
    rows = [
        {
            "model": name,
            "trained_on": trained_on,
            "protocol": on,
            **score(probability, longer, pairs),
            "adjusted": of_all,
        }
        for (name, probability, trained_on), of_all in zip(shown, adjusted, strict=True)
    ]
    return {
        "on": on,
        "pairs": len(pairs),
        "workers": pairs.rows["worker_id"].n_unique(),
        "longer_rule": float(correct(choose_longer(pairs), pairs.y).mean()),
        "rows": rows,
    }


def _behavior(name: str, pairs: Pairs, source: DataSource) -> _Row:
    model = ImplicitFeedbackReward.from_pretrained(default_model() if name == EMBEDDED else name)
    training = model.config["training"]
    names: tuple[Literal["release_sha256", "dataset"], ...] = ("release_sha256", "dataset")
    shared = next((key for key in names if key in source and key in training), None)
    label, trained_on = f"behavior: {name}", "data that may or may not include these pairs"
    if shared is not None and training[shared] == source[shared]:
        label, trained_on = f"{label} (saw these pairs)", "these very pairs, so this row proves nothing"
    elif shared == "release_sha256":
        trained_on = "another release"
    # Not `score`: a pair that the model knows nothing about counts as undecided here.
    return label, model.predict(model.columns(pairs.rows))[None], trained_on


def _text(name: str, pairs: Pairs) -> _Row:
    """P(left preferred) of a text model, which reads the query (ours), or what each side's LLM had seen."""
    scorer = load_scorer(name)
    sides = []
    for side in SIDES:
        asked = [[{"role": "user", "content": query}] for query in pairs.rows["query"]]
        conversations = asked if scorer.ours else pairs.rows[f"messages_{side}"].to_list()
        sides.append(np.array(scorer.score(conversations, pairs.rows[f"response_{side}"].to_list())))
    return f"text: {name}", expit(sides[0] - sides[1])[None], _trained_on(Path(name))


def _trained_on(folder: Path) -> str:
    """What a model was trained on, from the `results.json` that the training scripts write beside it."""
    if not (folder / "results.json").is_file():
        return "unknown data"
    results = read_json(folder / "results.json")
    return f"the train split of {Path(results['dataset']).name}, labels {results['label_source']}"


def judge_differences(pairs: Pairs, judgments: pl.DataFrame) -> list[tuple[str, str, pl.Series]]:
    """Each judge and, for each pair, by how much it scores the left answer above the right one.

    That is the mean over both orders, so a judge that always takes the first answer gives 0, a tie. A pair that was
    asked about in both orders but has no verdict in one of them is a tie too.

    Args:
        judgments: JUDGMENTS with llm `ifllm`: model is the left answer, baseline the right one.

    Returns:
        Names, settings, and (n,) Float64, points; null where the judge was not asked in both orders.

    Raises:
        IfllmError: there is no such judgment, one is about other answers than the dataset's, or a judge was asked about
            no pair in both orders, or gave no pair a verdict in both.
    """
    ours = judgments.filter(pl.col("llm") == DATASET_LLM, pl.col("mode") == "pairwise")
    if ours.is_empty():
        raise IfllmError(f"No judgment of the dataset's own pairs (llm {DATASET_LLM!r}). Judge these first.")
    answers = pairs.rows.select("question_id", "response_left", "response_right")
    ours = ours.join(answers, on="question_id", maintain_order="left")
    other = ours.filter(
        (pl.col("answer_model") != pl.col("response_left")) | (pl.col("answer_baseline") != pl.col("response_right"))
    )
    if other.height:
        raise IfllmError(
            f"Question {other['question_id'][0]}: the judgment is about other answers than the dataset's, or the sides "
            f"are swapped. Judge with the left answer as the model, the right one as the baseline."
        )
    judges = []
    for (judge, preset, settings), rows in ours.group_by("judge", "preset", "judge_settings", maintain_order=True):
        by_order = rows.group_by("question_id", "order").agg(
            difference=(pl.col("score_model") - pl.col("score_baseline")).filter(pl.col("status") == "ok").mean()
        )
        both = by_order.group_by("question_id").agg(
            orders=pl.len(), difference=pl.when(pl.col("difference").count() == 2).then(pl.col("difference").mean())
        )
        asked = both.filter(pl.col("orders") == 2)
        if asked.is_empty():
            raise IfllmError(f"Judge {judge} ({preset}) was asked in one order only; a verdict needs both.")
        if asked["difference"].is_null().all():
            raise IfllmError(f"Judge {judge} ({preset}) gave no verdict in both orders of any pair. Judge again.")
        asked = asked.with_columns(pl.col("difference").fill_null(0))
        found = answers.join(asked, on="question_id", how="left", maintain_order="left")["difference"]
        judges.append((f"{judge} ({preset})", str(settings), found))
    return judges


def _by_judge(pairs: Pairs, difference: pl.Series, asked: np.ndarray, seeds: int) -> np.ndarray:
    """(seeds, n) P(left preferred), 0.5 where the judge was not asked."""
    judged = Pairs(pairs.rows.with_columns(difference.alias(_DIFFERENCE)).filter(asked))
    probability = np.full((seeds, len(pairs)), 0.5)
    if judged.rows["worker_id"].n_unique() > 1:
        probability[:, asked] = out_of_fold(judged, fit_judge, "worker", seeds)
    return probability


def fit_judge(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    """P(left preferred) = expit(slope x difference of scores), the slope that minimizes the log loss on other workers.

    It is positive, so a verdict is never reversed: a judge that is wrong more often than right stays so. It is odd
    in the difference: swapping the answers turns p into 1 - p, and a tie is 0.5.
    """
    sign = 2 * train.y - 1
    known, new = (part.rows[_DIFFERENCE].to_numpy() for part in (train, test))
    found = minimize_scalar(
        lambda slope: np.logaddexp(0, -sign * slope * known).sum(), bounds=(0.001, _MAX_SLOPE), method="bounded"
    )
    return expit(found.x * new)


def reward_models_page(board: dict[str, Any]) -> str:
    """The rows as Markdown, in the columns of the leaderboard."""
    parts = []
    for part in board["parts"]:
        trained = "\n".join(f"- {one_line(row['model'])}: trained on {row['trained_on']}." for row in part["rows"])
        parts.append(f"""## On {part["on"]}

{part["pairs"]} rated pairs of {part["workers"]} workers; choosing the longer answer is right in
{part["longer_rule"]:.3f} of them.

{leaderboard_markdown(part, part["on"])}

{trained}
""")
    return f"""# Reward models

Which of two answers a worker prefers. Intervals are 95 %, by jackknife over workers; gains are over the longer answer
on the same pairs. "{LONGER_ANSWER.name}" and the slope that turns a judge's scores into a probability are fitted in
folds over workers, mean over {board["seeds"]} seeds. A text model's probability is its own, not calibrated here. A
judge's verdict is the mean of both orders; disagreement is a tie.

""" + "\n".join(parts)
