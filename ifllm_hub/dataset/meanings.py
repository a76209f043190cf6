"""What columns mean in datasets that are not built from the study's release, where that differs from the schema."""

import pyarrow as pa

from ifllm_hub.dataset.schema import CALIBRATION, UTC_MS, Column, ticks

_KEYED = "a keyed hash of 63 bits, of which JavaScript and float64 lose the last digits"
# What columns mean in a collector's export, where that differs from the study.
COLLECTED = {
    column.name: column
    for column in (
        Column("question_id", pa.int64(), "", f"key that joins all configs: {_KEYED}", 1),
        Column("worker_id", pa.string(), "", "pseudonym of the person who asked and rated: a keyed hash"),
        Column("task_id", pa.int64(), "", f"the conversation: {_KEYED}", 1),
        Column("bullet_points", pa.bool_(), "", "the app says that it asked the LLM for bullet points"),
        Column("asked_at", UTC_MS, "UTC, to 1 s", "when the answer was registered, rounded down"),
        Column("ai_error", pa.bool_(), "", "always false"),
        Column("excluded_worker", pa.bool_(), "", "always false"),
        Column("schema_version", pa.string(), "", "the collector's recording format", values=("c1",)),
        Column("viewport_width", pa.int32(), "CSS px", "largest width of the browser's window; null if not sent", 1),
        Column("viewport_height", pa.int32(), "CSS px", "largest height of the browser's window; null if not sent", 1),
        ticks("t", pa.int32(), "ms", "time since the answer began to stream or, without a stream, came into view", 0),
        ticks("mouse_x", pa.float32(), "CSS px", "cursor in the viewport, right; null off the answers"),
        ticks("mouse_y", pa.float32(), "CSS px", "cursor in the viewport, down; null off the answers"),
        ticks("face_ok", pa.bool_(), "", "face inside the tracker's box; null where no gaze was recorded"),
        Column(
            "flip_prob",
            pa.float64(),
            "probability",
            "P(label is wrong): the epsilon of rDPO; at most 0.45, and 0 for `explicit` and `thumbs`",
            0,
            0.45,
        ),
        Column(
            CALIBRATION[0],
            pa.float32(),
            "percent",
            "of the gaze tracker, when the page was last calibrated (docs/camera-study.md); null without a camera",
            0,
            100,
        ),
        Column(CALIBRATION[1], pa.float32(), "CSS px", "median error of the gaze tracker, at the same time", 0),
        ticks(
            "viewport_t",
            pa.int32(),
            "ms",
            "when the parts on the screen changed, as `t`, and at least once a second",
            0,
        ),
    )
}
# The same in somebody else's recordings; what differs from one source to the other is on the card.
IMPORTED = {
    column.name: column
    for column in (
        Column("question_id", pa.int64(), "", "key that joins all configs: a hash of the source's own ids", 1),
        Column("worker_id", pa.string(), "", "who read and rated: a pseudonym made from the source's id"),
        Column("task_id", pa.int64(), "", "the conversation: a hash of the source's own id", 1),
        Column("bullet_points", pa.bool_(), "", "always false"),
        Column("asked_at", UTC_MS, "UTC, to 1 s", "the source's time of the answer; null where it has none"),
        Column("ai_error", pa.bool_(), "", "always false"),
        Column("excluded_worker", pa.bool_(), "", "always false"),
        Column(
            "schema_version",
            pa.string(),
            "",
            "how ticks were sampled: `f1`, made from fixations (a tick at the start of each, at least one a second, "
            "and one off the text at its end unless the next begins within 80 ms, so that dwell is their duration)",
            values=("f1",),
        ),
        Column("viewport_width", pa.int32(), "CSS px", "width of the screen as the source gives it", 1),
        Column("viewport_height", pa.int32(), "CSS px", "height of the screen as the source gives it", 1),
        ticks("t", pa.int32(), "ms", "time since reading of the question's first answer began", 0),
        ticks("face_ok", pa.bool_(), "", "always null"),
    )
}
