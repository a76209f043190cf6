"""The one place that declares every config's columns: type, unit, range and meaning."""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ifllm_hub.dataset import coarse
from ifllm_hub.dataset.layout import parquet_names
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalog import CATALOG, Feature
from ifllm_hub.features.centering import LESS_HABIT
from ifllm_hub.terms import MODES, SIDES

if TYPE_CHECKING:
    from datasets import Features

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
MESSAGES = pa.list_(MESSAGE)
UTC_MS = pa.timestamp("ms", tz="UTC")
# What the study's site appended to some queries before it sent them to the LLMs.
BULLETS = " respond using bullet points"


@dataclass(frozen=True)
class Column:
    """One column of a config.

    Attributes:
        name: column name.
        type: Arrow type.
        unit: of each value; empty for ids, texts and flags.
        meaning: what it says, and when it is null.
        low: smallest possible value, inclusive (for a list, of its entries); None: unbounded.
        high: largest possible value, likewise.
        values: the only possible values of a string.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()

    @property
    def entry(self) -> pa.DataType:
        """The type of one value; for a list, that of its entries."""
        return self.type.value_type if pa.types.is_list(self.type) else self.type

    @property
    def range(self) -> str:
        """The possible values, for the card; empty for ids, texts, dates and flags."""
        if self.values:
            return ", ".join(f"`{value}`" for value in self.values)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"≥ {self.low:g}"
        return "any" if pa.types.is_integer(self.entry) or pa.types.is_floating(self.entry) else ""

    @property
    def type_name(self) -> str:
        """The type as `datasets` names it: `int8`, `list[float32]`, `list[{role: string, content: string}]`."""
        return type_name(self.type)


def type_name(type_: pa.DataType) -> str:
    """A type as `datasets` names it."""
    if pa.types.is_list(type_):
        return f"list[{type_name(type_.value_type)}]"
    if pa.types.is_struct(type_):
        return "{" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in type_) + "}"
    return {pa.float32(): "float32", pa.float64(): "float64"}.get(type_, str(type_))


def ticks(name: str, type_: pa.DataType, unit: str, meaning: str, low: float | None = None) -> Column:
    return Column(name, pa.list_(type_), unit, meaning, low)


def _likert(name: str, meaning: str) -> Column:
    return Column(name, pa.int8(), "points", f"{meaning} (Likert, 5 is best); null if not rated", 1, 5)


def _fold(name: str, meaning: str) -> Column:
    return Column(name, pa.int8(), "", meaning, 0, 4)


def _length(name: str, meaning: str) -> Column:
    return Column(name, pa.int32(), "code points", meaning, 0)


def _viewport(name: str, axis: str) -> Column:
    meaning = f"estimate, a lower bound: largest mouse {axis} of the conversation + 1; null where there is none"
    return Column(name, pa.int32(), "CSS px", meaning, 1)


def _place(name: str, of: str) -> Column:
    meaning = f"cursor in the viewport, {of}; null where not recorded. Off the text it can reveal the rating click"
    return ticks(name, pa.float32(), "CSS px", f"{meaning}: never train on it")


def _in_view(name: str, type_: pa.DataType, unit: str, meaning: str, low: float | None = None) -> list[Column]:
    return [ticks(f"viewport_{name}_{side}", type_, unit, meaning.format(side=side), low) for side in SIDES]


def _caret(modality: str, side: str) -> Column:
    where = {"mouse": "cursor", "gaze": "gaze"}[modality]
    meaning = f"caret in the {side} answer at the {where}, as in `mouse_char_left`; -1 off its text"
    if (modality, side) == ("mouse", "left"):
        meaning = (
            "caret in the left answer at the cursor: the number of code points before it, 0 to the answer's length, "
            "both included (`response[char]` may be past the end); -1 off its text"
        )
    return ticks(f"{modality}_char_{side}", pa.int16(), "code points", meaning, -1)


# Of `trajectories`: how well the gaze tracker was calibrated.
CALIBRATION = ("gaze_accuracy", "gaze_error")
_IDS = (
    Column("question_id", pa.int64(), "", "key that joins all configs (`query_ID` of the release)", 1),
    Column("worker_id", pa.string(), "", "who asked and rated: a pseudonym (`user_id` of the release)"),
)
_CONVERSATION = (
    Column("conversation_id", pa.string(), "", "worker_id/task_id"),
    Column("task_id", pa.int64(), "", "the study's task; even is pointwise and odd pairwise, with few exceptions", 1),
    Column("turn", pa.int32(), "", "1 for the first question of the conversation", 1),
)
_FLAGS = (
    Column("bullet_points", pa.bool_(), "", f"'{BULLETS}' was appended to the query sent to the LLMs"),
    Column(
        "asked_at",
        UTC_MS,
        "UTC, to 1 s",
        "when the answers appeared, rounded down; null where the release has no date",
    ),
    Column("has_mouse", pa.bool_(), "", "at least one mouse tick on an answer's text"),
    Column("has_gaze", pa.bool_(), "", "at least one gaze tick on an answer's text before the mouse left it for good"),
    Column("ai_error", pa.bool_(), "", "an answer is an error message of the study's server"),
    Column("excluded_worker", pa.bool_(), "", "on the authors' list of workers left out of their analyses"),
    _fold("fold_question", "no question in two folds"),
    _fold("fold_conversation", "no conversation in two folds"),
    _fold("fold_worker", "no worker in two folds; fold 4 is the test split"),
)
_MODE = Column("mode", pa.string(), "", "two answers, or one (then on the left side)", values=MODES)

_AS_TYPED = "what the LLM saw, except for the text that `bullet_points` says was appended"

PAIRWISE = (
    *_IDS,
    *_CONVERSATION,
    Column("messages_left", MESSAGES, "", f"earlier turns of the left side, then this query: {_AS_TYPED}"),
    Column("messages_right", MESSAGES, "", "the same for the right LLM"),
    Column("query", pa.string(), "", "the worker's query, as typed"),
    Column("response_left", pa.string(), "", "plain text shown on the left"),
    Column("response_right", pa.string(), "", "plain text shown on the right"),
    Column("model_left", pa.string(), "", "LLM that wrote the left answer"),
    Column("model_right", pa.string(), "", "LLM that wrote the right answer"),
    _likert("rating_left", "satisfaction with the left answer"),
    _likert("rating_right", "satisfaction with the right answer"),
    Column("preference", pa.string(), "", "the better answer, no ties; null if not rated", values=SIDES),
    *_FLAGS,
)
POINTWISE = (
    *_IDS,
    *_CONVERSATION,
    Column("messages", MESSAGES, "", f"earlier turns, then this query: {_AS_TYPED}"),
    Column("query", pa.string(), "", "the worker's query, as typed"),
    Column("response", pa.string(), "", "plain text shown"),
    Column("model", pa.string(), "", "LLM that wrote the answer"),
    _likert("rating", "satisfaction with the answer"),
    Column(
        "better_than_previous",
        pa.bool_(),
        "",
        "better than the previous turn's answer; null on turn 1, and where it was not asked or not answered",
    ),
    *_FLAGS,
)
TRAJECTORIES = (
    *_IDS,
    _MODE,
    Column(
        "schema_version",
        pa.string(),
        "",
        "the study site's recording format",
        values=("v1", "v2", "v3"),
    ),
    _length("length_left", "length of the left answer"),
    _length("length_right", "length of the right answer; null in pointwise"),
    _length("length_query", "length of the query"),
    _viewport("viewport_width", "x"),
    _viewport("viewport_height", "y"),
    ticks("t", pa.int32(), "ms", "time since the answer appeared (which is known to 1 s)", 0),
    _place("mouse_x", "right"),
    _place("mouse_y", "down"),
    ticks("gaze_x", pa.float32(), "CSS px", "gaze estimate in the viewport, right; unbounded, noisy, null where none"),
    ticks("gaze_y", pa.float32(), "CSS px", "gaze estimate in the viewport, down; unbounded, noisy, null where none"),
    _caret("mouse", "left"),
    _caret("mouse", "right"),
    _caret("gaze", "left"),
    _caret("gaze", "right"),
    ticks("face_ok", pa.bool_(), "", "face inside the tracker's box; null where not recorded, as in all of v1"),
    Column(
        CALIBRATION[0],
        pa.float32(),
        "percent",
        "of the gaze tracker when it was calibrated; null if not recorded",
        0,
        100,
    ),
    Column(
        CALIBRATION[1], pa.float32(), "CSS px", "median error of the gaze tracker when it was calibrated; likewise", 0
    ),
    ticks(
        "viewport_t",
        pa.int32(),
        "ms",
        "when the parts on the screen changed, as `t`; empty where not recorded, as in the study",
        0,
    ),
    *_in_view(
        "first", pa.int16(), "code points", "first character of the {side} answer on the screen; -1 if none was", -1
    ),
    *_in_view(
        "last", pa.int16(), "code points", "last character of the {side} answer on the screen; -1 if none was", -1
    ),
    *_in_view("share", pa.float32(), "share", "share of the {side} answer's box on the screen", 0),
    *_in_view("top", pa.float32(), "CSS px", "top of that part in the viewport; null if there was none"),
    *_in_view("bottom", pa.float32(), "CSS px", "bottom of that part in the viewport; null if there was none"),
)


def _feature(feature: Feature) -> Column:
    meaning = f"{feature.modality}: {feature.formula}"
    if feature.name.endswith("_diff"):
        stem = feature.name.removesuffix("_diff")
        meaning += f", `{stem}_left` - `{stem}_right`"
    return Column(feature.name, pa.float64(), feature.unit, meaning, feature.low, feature.high)


FEATURES = (*_IDS, _MODE, *map(_feature, (*CATALOG, *LESS_HABIT)))


def _coarse(column: Column) -> Column:
    if column.name not in coarse.STEPS:
        return column
    meaning = f"{column.meaning}; to the nearest multiple of {coarse.STEPS[column.name]:g}; null where not defined"
    return replace(column, meaning=meaning, low=-coarse.LARGEST, high=coarse.LARGEST)


COARSE = (*_IDS, *(_coarse(column) for column in FEATURES if column.name in coarse.COARSE))
PREFERENCES = (
    *_IDS,
    Column("label_source", pa.string(), "", "what decided which answer is chosen: the same in all rows of a config"),
    Column(
        "prompt",
        MESSAGES,
        "",
        "conversational prompt: the query alone, as typed. The LLM saw the earlier turns too (see `history`), and "
        "`instruction`",
    ),
    Column("history", pa.string(), "", "how much of the earlier turns `prompt` shows", values=("none",)),
    Column(
        "instruction",
        pa.string(),
        "",
        "appended to the query sent to the LLMs; null where nothing was",
        values=(BULLETS,),
    ),
    Column("chosen", MESSAGES, "", "the preferred answer"),
    Column("rejected", MESSAGES, "", "the other answer"),
    Column(
        "flip_prob",
        pa.float64(),
        "probability",
        "P(label is wrong): the epsilon of rDPO; at most 0.45, and 0 for `explicit` and `shuffled`",
        0,
        0.45,
    ),
    _likert("rating_chosen", "the worker's own rating of the chosen answer"),
    _likert("rating_rejected", "the worker's own rating of the rejected answer"),
)
_SENT = "null where the page sent nothing of the question"
_COMPLETE = "from when the last answer was complete (or, without a stream, came into view)"


def _signals_of(side: str) -> tuple[Column, Column]:
    last = "; the last one counts, and null is none" if side == "left" else ""
    return (
        Column(f"thumb_{side}", pa.int8(), "", f"thumb on the {side} answer: 1 up, -1 down{last}", -1, 1),
        _length(f"copied_{side}", f"how much of the {side} answer was copied, in all; {_SENT}"),
    )


# Of a collector's exports only; sources and uses are in docs/signals.md.
SIGNALS = (
    *_IDS,
    _MODE,
    *_signals_of("left"),
    *_signals_of("right"),
    Column("regenerated", pa.bool_(), "", f"the reader asked for another answer; {_SENT}"),
    Column("followed_up", pa.bool_(), "", "the conversation has a later question with another query"),
    Column("first_key_ms", pa.int32(), "ms", f"{_COMPLETE} to the first key of the reader's next message", 0),
    Column("decision_ms", pa.int32(), "ms", f"{_COMPLETE} to the last vote: a thumb, a rating or a preference", 0),
    Column("arm", pa.string(), "", "arm of an experiment that the reader was in; null where there was none"),
    Column(
        "propensity", pa.float64(), "probability", "with which the reader was in that arm; null without an arm", 0, 1
    ),
)
# Of a folder beside a dataset, which `ifllm score` writes; no dataset has this config.
SCORES = (
    *_IDS,
    _MODE,
    Column(
        "probability_left",
        pa.float64(),
        "probability",
        "P(left answer preferred) by a reward model; null where nobody was seen reading, and with one answer",
        0,
        1,
    ),
)

CONFIGS: dict[str, tuple[Column, ...]] = {
    "pairwise": PAIRWISE,
    "pointwise": POINTWISE,
    "trajectories": TRAJECTORIES,
    "features": FEATURES,
    "coarse": COARSE,
    "signals": SIGNALS,
}
# What a row is, by config.
ROWS = {
    "pairwise": "a question with two answers",
    "pointwise": "a question with one answer",
    "trajectories": "a question's ticks, as lists",
    "features": "a question's features of on-text reading",
    "coarse": "two rounded features of how a question's two answers were read, and their lengths' ratio",
    "signals": "what a question's reader did beside reading (thumbs, copies, how long it took), and in which arm",
}
# By label source, who or what labeled the pairs; their config is `PREFIX` and the source's name.
LABEL_SOURCES = {
    "explicit": "the worker",
    "thumbs": "the worker's thumbs",
    "forest": "a model of mouse, gaze and length that saw no pair of the worker",
    "forest_mouse": "a model of the mouse that saw no pair of the worker",
    "forest_gaze": "a model of the gaze that saw no pair of the worker",
    "longer": "length: the longer answer",
    "shuffled": "chance: the workers' own labels, permuted within a split",
    "shipped_forest": "the reward model of the package, trained on the study",
}
PREFIX = "preferences_"
_LABELED_ELSEWHERE = "a preference pair, labeled elsewhere"
DEFAULT_CONFIG = "pairwise"
SPLITS = ("train", "test")


def preferences_config(label_source: str) -> str:
    """The config of a label source's preference pairs.

    Raises:
        IfllmError: the name is not a lower-case identifier.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", label_source):
        raise IfllmError(
            f"A label source cannot be named {label_source!r}. Choose lower-case letters, digits and underscores."
        )
    return PREFIX + label_source


def label_source_of(config: str) -> str | None:
    """The label source of a config's preference pairs; None for other configs."""
    match = re.fullmatch(rf"{PREFIX}([a-z][a-z0-9_]*)", config)
    return match[1] if match else None


def columns(config: str) -> tuple[Column, ...]:
    """The columns of a config.

    Raises:
        IfllmError: there is no such config.
    """
    if label_source_of(config) is not None:
        return PREFERENCES
    if config == "scores":
        return SCORES
    if config not in CONFIGS:
        known = ", ".join((*CONFIGS, f"{PREFIX}<label source>"))
        raise IfllmError(f"There is no config '{config}'. Choose one of: {known}.")
    return CONFIGS[config]


def row_is(config: str) -> str:
    """What a row of a config is."""
    source = label_source_of(config)
    if source is None:
        return ROWS[config]
    return f"a preference pair, labeled by {LABEL_SOURCES[source]}" if source in LABEL_SOURCES else _LABELED_ELSEWHERE


def present_configs(folder: Path) -> list[str]:
    """The configs that a dataset folder has: those that are built, then one per label source."""
    labeled = {path.name for path in (folder / "data").glob(f"{PREFIX}*") if label_source_of(path.name)}
    known = [name for source in LABEL_SOURCES if (name := PREFIX + source) in labeled]
    names = (*CONFIGS, *known, *sorted(labeled.difference(known)))
    return [name for name in names if any(parquet_names(folder, name, split) for split in SPLITS)]


def features(config: str) -> "Features":
    """The `datasets.Features` of a config."""
    from datasets import Features

    return Features.from_arrow_schema(pa.schema([(column.name, column.type) for column in columns(config)]))


@cache
def arrow_schema(config: str) -> pa.Schema:
    """The Arrow schema of a config, with the metadata by which `datasets` restores its features."""
    return features(config).arrow_schema
