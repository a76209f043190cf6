"""What gives a person away in what is released: a rare combination of values, the way they read, or what they typed."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import Advance

_SMALL_GROUP = 5
# On the study's release 50 trees name as many workers as 200 (0.58 to 0.59 and 0.58 to 0.60 of three seeds each), and
# building a dataset takes two thirds of the time.
_FOLDS, _TREES, _RESAMPLES, _SEED = 5, 50, 2_000, 0

# Presidio's own grade of a pattern: below this, a match is any number or word of some length.
_MIN_SCORE = 0.4
# Recognizers that check more than a pattern (checksums, phone number plans), by the name of Presidio's class.
_CHECKED = (
    "CreditCard",
    "Crypto",
    "Iban",
    "InAadhaar",
    "Ip",
    "MacAddress",
    "Nhs",
    "Phone",
    "UkNino",
    "UsItin",
    "UsMbi",
    "UsSsn",
)
# Patterns only: their checks would fetch a list of domains from the network, or take most of the time.
_UNCHECKED = {"EMAIL_ADDRESS": "Email", "URL": "Url", "IN_PAN": "InPan"}
# Ours: what a worker of this study may have typed by mistake or on purpose.
_OURS = {
    "MTURK_WORKER_ID": r"(?-i:\bA(?=[A-Z]*[0-9])[0-9A-Z]{11,13}\b)",
    "SELF_DISCLOSURE": (
        r"\b(my (full |last |first |maiden )?name|my (home |email |e-mail )?address|my (phone|cell|mobile|number|ssn)"
        r"|my (wife|husband|spouse|partner|boyfriend|girlfriend|son|daughter|child|children|kids|mother|mom|father|dad"
        r"|brother|sister|boss|doctor|therapist|employer|school|company|hometown)"
        r"|i('m| am) (from|called|a resident of|\d{1,2}( years|\b))"
        r"|i (live|grew up|was born|work|study) (in|at|for|near)"
        r"|i('m| am| was|'ve been| have been) diagnosed|call me)\b"
    ),
}
CANNOT_FIND = "names of persons, places and employers in running text: no language model was used"

_FINDINGS = {
    "config": pl.String,
    "question_id": pl.Int64,
    "column": pl.String,
    "entity": pl.String,
    "score": pl.Float64,
    "start": pl.Int64,
    "end": pl.Int64,
    "text": pl.String,
}


def k_anonymity(rows: pl.DataFrame, quasi_identifiers: list[str]) -> dict[str, Any]:
    """How many workers share what is known about one question: the smallest group, and who is in small ones.

    A group is the workers who have a question with the same values, so a worker with many questions is in many groups
    and is only as safe as in the smallest. Null is a value like any other, so that knowing more never makes anybody
    look safer. Where every worker has one row this is pyCANON's k (which counts rows, and cannot be installed here: it
    pins NumPy 2.0.2 and pandas 2.3.3).

    Args:
        rows: `worker_id` and the quasi-identifiers.

    Returns:
        `quasi_identifiers`, `k`, and the shares of workers who are alone in a group (`workers_alone`), or in one of
        fewer than five (`workers_below_5`).
    """
    groups = rows.group_by(quasi_identifiers).agg(pl.col("worker_id").unique())
    sizes = groups.with_columns(size=pl.col("worker_id").list.len()).explode("worker_id")
    smallest = sizes.group_by("worker_id").agg(pl.col("size").min())["size"].to_numpy()
    workers = max(1, rows["worker_id"].n_unique())
    return {
        "quasi_identifiers": quasi_identifiers,
        "k": int(smallest.min(initial=workers)),
        "workers_alone": round(float((smallest == 1).sum() / workers), 4),
        "workers_below_5": round(float((smallest < _SMALL_GROUP).sum() / workers), 4),
    }


def reidentify(rows: pl.DataFrame, columns: list[str]) -> dict[str, Any] | None:
    """Attack: a forest that has seen other conversations of the same workers names the worker of a new one.

    Of workers with two conversations or more. Each worker's conversations are dealt in order to five folds, and those
    of a fold are named by a forest of the other four: by the mean of its probabilities over the questions.

    Args:
        rows: one a question: `question_id`, `worker_id`, `conversation_id` and `columns`.
        columns: numbers the attacker uses; null where there is none.

    Returns:
        `workers`, `conversations`, and shares of conversations: `top1` (named rightly), `low` and `high` (95 %
        bootstrap interval over workers), `majority` (if always the worker with most conversations were named); and
        `top1_mean_over_workers`, where every worker counts the same. None if fewer than two workers can be attacked.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    dealt = (
        rows.group_by("worker_id", "conversation_id")
        .agg(first=pl.col("question_id").min())
        .sort("worker_id", "first")
        .with_columns(fold=pl.int_range(pl.len()).over("worker_id") % _FOLDS)
        .filter(pl.len().over("worker_id") > 1)
    )
    attacked = rows.join(dealt, on=["worker_id", "conversation_id"]).sort("question_id")
    workers, worker = np.unique(attacked["worker_id"].to_list(), return_inverse=True)
    if len(workers) < 2:
        return None
    probabilities = cross_val_predict(
        ExtraTreesClassifier(_TREES, random_state=_SEED),
        attacked.select(columns).to_numpy().astype(np.float64),
        worker,
        cv=PredefinedSplit(attacked["fold"].to_numpy()),
        method="predict_proba",
    )
    conversations = attacked["conversation_id"].to_list()
    _, first, conversation = np.unique(conversations, return_index=True, return_inverse=True)
    summed = np.zeros((len(first), len(workers)))
    np.add.at(summed, conversation, probabilities)
    truth = worker[first]
    total, right = np.bincount(truth), np.bincount(truth, weights=summed.argmax(axis=1) == truth)
    drawn = np.random.default_rng(_SEED).integers(len(workers), size=(_RESAMPLES, len(workers)))
    low, high = np.quantile(right[drawn].sum(axis=1) / total[drawn].sum(axis=1), (0.025, 0.975))
    shares = {
        "top1": right.sum() / total.sum(),
        "low": low,
        "high": high,
        "majority": total.max() / total.sum(),
        "top1_mean_over_workers": (right / total).mean(),
    }
    return {
        "workers": len(workers),
        "conversations": len(first),
        **{name: round(float(share), 4) for name, share in shares.items()},
    }


def free_text(folder: Path) -> pl.DataFrame:
    """Queries and answers of a dataset folder: `config`, `question_id`, `column`, `text`; `messages` repeat them.

    Raises:
        IfllmError: the folder is not a dataset.
    """
    columns = {"pairwise": ("query", "response_left", "response_right"), "pointwise": ("query", "response")}
    parts = [
        load_config(folder, config).select(
            pl.lit(config).alias("config"), "question_id", pl.lit(column).alias("column"), pl.col(column).alias("text")
        )
        for config, names in columns.items()
        for column in names
    ]
    return pl.concat(parts).sort("question_id", "column")


def find_personal_data(texts: pl.DataFrame, advance: Advance | None = None) -> pl.DataFrame:
    """What looks like personal data, a row a match.

    Found: what has a form of its own (numbers with checksums, addresses of mail and web, phone numbers), worker ids of
    Mechanical Turk, and phrases by which people speak of themselves. Not found: `CANNOT_FIND`.

    Args:
        texts: `config`, `question_id`, `column` and `text`.
        advance: called with the share done (0-1).

    Returns:
        The same columns with, in `text`, the match alone; `entity`, Presidio's `score` (0-1), and `start` and `end` of
        the match (code points).

    Raises:
        IfllmError: the extra `privacy` is not installed.
    """
    recognizers = _recognizers()
    matches = []
    for done, (*where, text) in enumerate(texts.select("config", "question_id", "column", "text").iter_rows(), start=1):
        found = [
            match for recognizer in recognizers for match in recognizer.analyze(text, recognizer.supported_entities)
        ]
        matches += [
            (*where, match.entity_type, match.score, match.start, match.end, text[match.start : match.end])
            for match in sorted(found, key=lambda match: (match.start, match.end, match.entity_type))
            if match.score >= _MIN_SCORE
        ]
        if advance:
            advance(done / texts.height)
    return pl.DataFrame(matches, schema=_FINDINGS, orient="row")


def scanner_info() -> dict[str, Any]:
    """The tool, its version, and the entities that `find_personal_data` knows.

    Raises:
        IfllmError: the extra `privacy` is not installed.
    """
    entities = sorted({entity for recognizer in _recognizers() for entity in recognizer.supported_entities})
    return {"tool": f"presidio-analyzer {version('presidio-analyzer')}, patterns only", "entities": entities}


def _recognizers() -> list[Any]:
    """No NLP engine: spaCy's models are not on PyPI, and must not be fetched while this runs."""
    try:
        from presidio_analyzer import Pattern, PatternRecognizer, predefined_recognizers
    except ImportError as error:
        raise IfllmError(
            "Searching texts for personal data needs Presidio. Install it with: pip install 'ifllm_hub[privacy]'"
        ) from error

    def of(name: str) -> Any:
        return getattr(predefined_recognizers, f"{name}Recognizer")

    unchecked = {
        entity: [pattern for pattern in of(name).PATTERNS if pattern.score >= _MIN_SCORE]
        for entity, name in _UNCHECKED.items()
    }
    ours = {entity: [Pattern(entity, regex, _MIN_SCORE)] for entity, regex in _OURS.items()}
    patterns = unchecked | ours
    return [
        *(of(name)() for name in _CHECKED),
        *(PatternRecognizer(supported_entity=entity, patterns=patterns[entity]) for entity in patterns),
    ]
