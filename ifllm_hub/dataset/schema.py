"""The one place that declares every config's columns: type, unit and meaning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from ifllm_hub.features.catalogue import CATALOGUE

if TYPE_CHECKING:
    from datasets import Features

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
MESSAGES = pa.list_(MESSAGE)
UTC_MS = pa.timestamp("ms", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column of a config; `unit` is empty for ids, texts and flags."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


def _ticks(name: str, type_: pa.DataType, unit: str, meaning: str) -> Column:
    return Column(name, pa.list_(type_), unit, meaning)


_IDS = (
    Column("question_id", pa.int64(), "", "key that joins all configs (query_ID of the release)"),
    Column("worker_id", pa.string(), "", "pseudonym of who rated"),
)
_CONVERSATION = (
    Column("conversation_id", pa.string(), "", "worker_id/task_id"),
    Column("task_id", pa.int64(), "", "task; even is pointwise, odd pairwise"),
    Column("turn", pa.int32(), "", "1 for the first question of the conversation"),
)
_FLAGS = (
    Column(
        "bullet_points", pa.bool_(), "", "' respond using bullet points' was appended to the query sent to the LLMs"
    ),
    Column(
        "asked_at", UTC_MS, "ms", "when the answers appeared, UTC, floor to 1 s; null where the release has no date"
    ),
    Column("has_mouse", pa.bool_(), "", "at least one mouse tick on an answer's text"),
    Column("has_gaze", pa.bool_(), "", "at least one gaze tick on an answer's text"),
    Column("ai_error", pa.bool_(), "", "an answer is an error message of the study's server"),
    Column("excluded_worker", pa.bool_(), "", "on the authors' list of 24 workers left out of their analyses"),
    Column("fold_question", pa.int8(), "", "0-4, questions at random"),
    Column("fold_conversation", pa.int8(), "", "0-4, no conversation in two folds"),
    Column("fold_worker", pa.int8(), "", "0-4, no worker in two folds; fold 4 is the test split"),
)

PAIRWISE = (
    *_IDS,
    *_CONVERSATION,
    Column("messages_left", MESSAGES, "", "what the left LLM had seen: earlier turns of its side, then this query"),
    Column("messages_right", MESSAGES, "", "the same for the right LLM"),
    Column("query", pa.string(), "", "the worker's query, as typed"),
    Column("response_left", pa.string(), "", "plain text shown on the left"),
    Column("response_right", pa.string(), "", "plain text shown on the right"),
    Column("model_left", pa.string(), "", "LLM that wrote the left answer"),
    Column("model_right", pa.string(), "", "LLM that wrote the right answer"),
    Column("rating_left", pa.int8(), "1-5", "satisfaction with the left answer (Likert); null if not rated"),
    Column("rating_right", pa.int8(), "1-5", "satisfaction with the right answer; null if not rated"),
    Column("preference", pa.string(), "", "left or right; null if not rated"),
    *_FLAGS,
)
POINTWISE = (
    *_IDS,
    *_CONVERSATION,
    Column("messages", MESSAGES, "", "what the LLM had seen: earlier turns, then this query"),
    Column("query", pa.string(), "", "the worker's query, as typed"),
    Column("response", pa.string(), "", "plain text shown"),
    Column("model", pa.string(), "", "LLM that wrote the answer"),
    Column("rating", pa.int8(), "1-5", "satisfaction with the answer (Likert); null if not rated"),
    Column("better_than_previous", pa.bool_(), "", "better than the previous turn's answer; null on turn 1 or unrated"),
    *_FLAGS,
)
TRAJECTORIES = (
    *_IDS,
    Column("mode", pa.string(), "", "pairwise or pointwise (pointwise has the left side only)"),
    Column("schema_version", pa.string(), "", "v1, v2 or v3: the study site's recording format"),
    Column("length_left", pa.int32(), "code points", "length of the left answer"),
    Column("length_right", pa.int32(), "code points", "length of the right answer; null in pointwise"),
    Column("length_query", pa.int32(), "code points", "length of the query"),
    Column("viewport_width", pa.int32(), "CSS px", "estimate: largest mouse x of the conversation + 1 (a lower bound)"),
    Column(
        "viewport_height", pa.int32(), "CSS px", "estimate: largest mouse y of the conversation + 1 (a lower bound)"
    ),
    _ticks("t", pa.int32(), "ms", "time since the answer appeared (which is known to 1 s)"),
    _ticks(
        "mouse_x",
        pa.float32(),
        "CSS px",
        "cursor in the viewport, right; null before its first move. Off the text "
        "it reveals the rating click: never train on it",
    ),
    _ticks("mouse_y", pa.float32(), "CSS px", "cursor in the viewport, down"),
    _ticks("gaze_x", pa.float32(), "CSS px", "webcam gaze estimate in the viewport, right; unbounded, noisy"),
    _ticks("gaze_y", pa.float32(), "CSS px", "webcam gaze estimate in the viewport, down"),
    _ticks(
        "mouse_char_left", pa.int16(), "code points", "offset into the left answer under the cursor; -1 off its text"
    ),
    _ticks("mouse_char_right", pa.int16(), "code points", "offset into the right answer; -1 off its text"),
    _ticks("gaze_char_left", pa.int16(), "code points", "offset into the left answer under the gaze; -1 off its text"),
    _ticks("gaze_char_right", pa.int16(), "code points", "offset into the right answer; -1 off its text"),
    _ticks("face_ok", pa.bool_(), "", "face inside the tracker's box; null in v1, which did not record it"),
)
FEATURES = (
    *_IDS,
    Column("mode", pa.string(), "", "pairwise or pointwise"),
    *(
        Column(feature.name, pa.float64(), feature.unit, f"{feature.modality}: {feature.formula}")
        for feature in CATALOGUE
    ),
)
PREFERENCES = (
    *_IDS,
    Column("label_source", pa.string(), "", "what decided which answer is chosen; filter on it before training"),
    Column("prompt", MESSAGES, "", "conversational prompt"),
    Column("chosen", MESSAGES, "", "the preferred answer"),
    Column("rejected", MESSAGES, "", "the other answer"),
    Column("flip_prob", pa.float64(), "probability", "P(label is wrong), in [0, 0.5): the epsilon of rDPO"),
    Column("rating_chosen", pa.int8(), "1-5", "the worker's own rating of the chosen answer; null if not rated"),
    Column("rating_rejected", pa.int8(), "1-5", "the worker's own rating of the rejected answer"),
)

CONFIGS: dict[str, tuple[Column, ...]] = {
    "pairwise": PAIRWISE,
    "pointwise": POINTWISE,
    "trajectories": TRAJECTORIES,
    "features": FEATURES,
    "preferences": PREFERENCES,
}
DEFAULT_CONFIG = "pairwise"
SPLITS = ("train", "test")


def features(config: str) -> "Features":
    """The `datasets.Features` of a config."""
    from datasets import Features

    return Features.from_arrow_schema(pa.schema([(column.name, column.type) for column in CONFIGS[config]]))


def arrow_schema(config: str) -> pa.Schema:
    """The Arrow schema of a config, with the metadata by which `datasets` restores its features."""
    return features(config).arrow_schema
