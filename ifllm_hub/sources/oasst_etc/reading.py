"""The files of a trial -> the fixations on its answer: when, and on which character."""

from collections import Counter

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.oasst_etc.files import Session, complete_it
from ifllm_hub.sources.oasst_etc.session import Answer
from ifllm_hub.sources.oasst_etc.words import MOST_WORDS, locate_words

# By which the duration of a fixation may differ in the two files that have it, s; they have 5 digits of it.
_SAME_S = 1e-3
# No session lasts a day.
_LONGEST_S = 24 * 3600


def fixations_on(session: Session, answer: Answer, starts: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]] | None:
    """The fixations while an answer was on the screen, or None if nothing was recorded of it.

    Args:
        session: of the reader.
        answer: what was on the screen.
        starts: from `Session.starts`.

    Returns:
        `start`, `end` (Int64, ms since the first of them began, each at most the next one's start), `x`, `y` (Float64,
        px), `char` (Int64, code points; -1 on no word of the answer), and what became of the fixations and words.

    Raises:
        IfllmError: a file is damaged.
    """
    recorded = session.fixations(answer.trial)
    if recorded is None or recorded[0].is_empty():
        return None
    fixations, words = recorded
    where = f"{session.folder}: trial {answer.trial}"
    _check(where, fixations, words)
    words = words.sort("number")
    places = locate_words(words["text"].fill_null("").to_list(), answer.text)
    chars = pl.DataFrame({"word_number": words["number"].cast(pl.Float64), "char": pl.Series(places, dtype=pl.Int64)})
    placed = _timed(fixations, starts).join(chars, on="word_number", how="left", maintain_order="left")
    on_word = placed["word_number"].is_not_null()
    found = placed["char"].fill_null(-1) >= 0
    lost = words["text"].len() - sum(place >= 0 for place in places)
    by_tracker = bool(placed["by_tracker"][0])
    account = Counter(
        {
            "fixations: on a word": int(found.sum()),
            "fixations: on a word that is not in the answer": int((on_word & ~found).sum()),
            "fixations: on no word": int((~on_word).sum()),
            "words: matched": len(places) - lost,
            "words: not in the answer": lost,
            f"clocks: {'of the tracker' if by_tracker else 'durations, one after the other'}": 1,
        }
    )
    return placed.select("start", "end", "x", "y", pl.col("char").fill_null(-1)), account


def _check(where: str, fixations: pl.DataFrame, words: pl.DataFrame) -> None:
    """Refuse what the authors' own tables never have."""
    measured = fixations.select("ID", "x", "y", "duration")
    if measured.null_count().sum_horizontal().item() or fixations["ID"].is_duplicated().any():
        raise IfllmError(f"{where}: has a fixation twice, or without a value. {complete_it()}")
    finite = measured.select(pl.all_horizontal(pl.col("x", "y").abs() < 1e6, pl.col("duration").is_between(0, 1e4)))
    if not finite.to_series().all() or fixations["duration"].sum() > _LONGEST_S:
        raise IfllmError(f"{where}: has a fixation that no screen or session can have. {complete_it()}")
    if words["number"].is_null().any() or words["number"].is_duplicated().any():
        raise IfllmError(f"{where}: has a word twice, or without a number. {complete_it()}")
    if len(words) > MOST_WORDS:
        raise IfllmError(
            f"{where}: has {len(words)} words on a screen, at most {MOST_WORDS} expected. Clone the data again."
        )


def _timed(fixations: pl.DataFrame, starts: pl.DataFrame) -> pl.DataFrame:
    """Fixations with `start` and `end` (ms) and `by_tracker`: whether the tracker's file has all of them, in this order
    and as long. Where it does not, one is taken to begin where the last ended."""
    joined = fixations.join(starts, left_on="ID", right_on="FPOGID", how="left", maintain_order="left")
    same = (pl.col("FPOGD") - pl.col("duration")).abs() < _SAME_S
    later = (pl.col("FPOGS").diff() > 0).fill_null(True)
    known = pl.col("FPOGS").is_between(0, _LONGEST_S)
    by_tracker = joined.select((same & later & known).fill_null(False).all()).item()
    if by_tracker:
        begun = pl.col("FPOGS") - pl.col("FPOGS").first()
    else:
        begun = pl.col("duration").cum_sum() - pl.col("duration")
    start, end = ((1000 * at).round().cast(pl.Int64) for at in (begun, begun + pl.col("duration")))
    timed = joined.with_columns(start=start, end=end, by_tracker=pl.lit(by_tracker))
    return timed.with_columns(end=pl.min_horizontal("end", pl.col("start").shift(-1)))
