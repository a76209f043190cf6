"""What a reader did about a question beside reading its answers: thumbs, copies, another answer asked for, a follow-up,
and how long it took to write on and to decide. What each says is in docs/signals.md.

Times are between two events of one page load, by that page's clock.
"""

import polars as pl

from ifllm_hub.terms import SIDES

# The config of an export.
SIGNALS = "signals"
# A person who comes back to an answer after a day reads it anew; this also catches wrong clocks.
LONGEST_MS = 24 * 3600 * 1000
_MOST = 2**31 - 1


def with_signals(
    questions: pl.DataFrame, answers: pl.DataFrame, events: pl.DataFrame, named: pl.Series
) -> pl.DataFrame:
    """The questions with the columns of the config `signals`.

    Args:
        questions: one row per question, with `question` and `mode`.
        answers: from `registered_answers`, also those of other questions of the same conversations.
        events: of some page loads, with `response_id` (null for those of the page as a whole), `name`, `value`,
            `session` and `at` (UTC ms by the page's clock).
        named: `response_id` of the answers that a page sent something about.
    """
    places = answers.select("response_id", "question", "side")
    about = events.join(places, on="response_id").sort("at", maintain_order=True)
    phases = _phases(about)
    sent = places.filter(pl.col("response_id").is_in(named.unique().implode())).select("question", sent=True).unique()
    joined = questions.join(sent, on="question", how="left", maintain_order="left")
    for found in (_done(about), _first_keys(events, phases), _decisions(about, phases), _followed_up(answers)):
        joined = joined.join(found, on="question", how="left", maintain_order="left")
    # What a page did not tell is not known.
    return joined.with_columns(
        copied_left=pl.when("sent").then(pl.col("copied_left").fill_null(0)),
        copied_right=pl.when(pl.col("sent"), mode="pairwise").then(pl.col("copied_right").fill_null(0)),
        regenerated=pl.when("sent").then(pl.col("regenerated").fill_null(False)),
    ).drop("sent")


def _phases(about: pl.DataFrame) -> pl.DataFrame:
    """For each question and page load, when its answers `began` to appear and when the last was `complete`."""
    at = pl.col("at")

    def when(name: str) -> pl.Expr:
        return at.filter(pl.col("name") == name)

    each = about.group_by("question", "session", "response_id").agg(
        began=pl.coalesce(when("stream_start").first(), when("shown").first()),
        complete=pl.coalesce(when("stream_end").last(), when("shown").first()),
    )
    return each.group_by("question", "session").agg(pl.col("began").min(), pl.col("complete").max()).drop_nulls()


def _done(about: pl.DataFrame) -> pl.DataFrame:
    """`question`, thumbs, copies and `regenerated`."""

    def said(name: str, side: str) -> pl.Expr:
        return pl.col("value").filter((pl.col("name") == name) & (pl.col("side") == side))

    return about.group_by("question").agg(
        *(said("thumb", side).last().sign().replace(0, None).cast(pl.Int8).alias(f"thumb_{side}") for side in SIDES),
        *(said("copy", side).clip(0).sum().clip(0, _MOST).cast(pl.Int32).alias(f"copied_{side}") for side in SIDES),
        regenerated=(pl.col("name") == "regenerate").any(),
    )


def _first_keys(events: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """`question`, `first_key_ms`. The page times the first key after each message that is sent: it belongs to the
    question whose answers were the last to appear."""
    keys = events.filter(pl.col("name") == "first_key").select("session", "at").sort("at")
    found = keys.join_asof(
        phases.sort("began"), left_on="at", right_on="began", by="session", strategy="backward", check_sortedness=False
    )
    return _lasted(found.unique("question", keep="first", maintain_order=True), "first_key_ms")


def _decisions(about: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """`question`, `decision_ms`: of the last vote, which is the one that counts."""
    votes = (
        about.filter(pl.col("name").is_in(["vote", "thumb"])).group_by("question").agg(pl.col("session", "at").last())
    )
    return _lasted(votes.join(phases, on=["question", "session"]), "decision_ms")


def _lasted(found: pl.DataFrame, name: str) -> pl.DataFrame:
    time = found.select("question", (pl.col("at") - pl.col("complete")).alias(name))
    return time.filter(pl.col(name).is_between(0, LONGEST_MS)).cast({name: pl.Int32})


def _followed_up(answers: pl.DataFrame) -> pl.DataFrame:
    """`question`, `followed_up`: whether there is a later question with another query in the conversation."""
    asked = answers.group_by("question", maintain_order=True).agg(
        pl.col("conversation", "query").first(), pl.col("registered_at").min()
    )

    def later(*group: str) -> pl.Expr:
        return pl.len().over(group) - pl.col("registered_at").rank("max").over(group)

    return asked.select("question", followed_up=later("conversation") > later("conversation", "query"))
