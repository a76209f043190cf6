"""The paper's feature lists, under the paper's column names, and what each name means.

The lists are those of `feature_creator/important_features_paper.py` in the paper's repository. Its code never produces
three of the 50 names (`gaze_left_reviewing_active_ratio` was renamed there to `*_active_time_ratio`, and the lines for
the two `*_reviewing_offscreen_ratio` are commented out); this package computes them.
"""

import re
from dataclasses import dataclass

PAPER_PAIRWISE: tuple[str, ...] = (
    "mouse_max_idx_right",
    "gaze_left_reviewing_engaged_time_s",
    "gaze_max_idx_right",
    "response_A_gaze_overall_attention_ratio",
    "response_length_left",
    "user_query_length",
    "response_B_mouse_overall_attention_ratio",
    "gaze_total_entries_right",
    "response_length_right",
    "response_B_mouse_focused_engagement_ratio",
    "gaze_right_reviewing_engaged_time_s",
    "response_A_gaze_focused_engagement_ratio",
    "response_A_gaze_window_001",
    "gaze_max_idx_left",
    "gaze_onscreen_points_right",
    "response_A_mouse_overall_attention_ratio",
    "mouse_onscreen_points_right",
    "response_B_gaze_window_019",
    "response_A_mouse_focused_engagement_ratio",
    "mouse_max_idx_left",
    "mouse_comparison_reviewing_time_ratio",
    "mouse_total_entries_right",
    "response_B_gaze_overall_attention_ratio",
    "mouse_comparison_reviewing_time_diff",
    "mouse_total_entries_left",
    "gaze_left_reviewing_engaged_pct",
    "response_B_gaze_window_002",
    "mouse_comparison_which_side_read_further",
    "response_A_gaze_window_000",
    "gaze_onscreen_points_left",
    "cross_modality_right_reviewing_duration_ratio_gaze_mouse",
    "mouse_right_reviewing_onscreen_ratio",
    "cross_modality_left_reviewing_duration_ratio_gaze_mouse",
    "gaze_total_entries_left",
    "gaze_left_reviewing_active_ratio",
    "response_A_gaze_normalized_avg_char_position",
    "response_B_mouse_window_019",
    "mouse_right_reviewing_offscreen_ratio",
    "response_A_mouse_window_000",
    "camera_green",
    "mouse_max_idx_ratio_right",
    "gaze_right_reviewing_onscreen_ratio",
    "response_A_gaze_window_002",
    "gaze_right_reviewing_offscreen_ratio",
    "mouse_left_reviewing_onscreen_ratio",
    "response_A_mouse_normalized_avg_char_position",
    "mouse_comparison_reviewing_activity_ratio",
    "response_B_gaze_window_000",
    "gaze_left_reviewing_onscreen_ratio",
    "mouse_onscreen_points_left",
)

# For the ablations to one modality: the columns that belong to neither.
_ANY = ("response_length_left", "response_length_right", "user_query_length", "camera_green")


def _of(names: tuple[str, ...], modality: str, shared: tuple[str, ...]) -> tuple[str, ...]:
    other = "gaze" if modality == "mouse" else "mouse"
    return tuple(name for name in names if name in shared or (modality in name and other not in name))


PAPER_GAZE = _of(PAPER_PAIRWISE, "gaze", _ANY)
PAPER_MOUSE = _of(PAPER_PAIRWISE, "mouse", _ANY)

PAPER_COMPARE: tuple[str, ...] = (
    "response_length_left",
    "prev_response_A_gaze_window_002",
    "gaze_max_char_position_reached",
    "gaze_max_idx_left",
    "prev_response_A_mouse_window_002",
    "prev_response_A_gaze_normalized_avg_char_position",
    "prev_gaze_max_idx_ratio_left",
    "mouse_max_char_position_reached",
    "mouse_offscreen_time_reviewing_s",
    "prev_response_A_gaze_window_017",
    "prev_mouse_offscreen_time_composing_s",
    "prev_response_A_mouse_normalized_char_position_variance",
    "prev_response_A_mouse_window_000",
    "prev_gaze_composing_duration_s",
    "prev_mouse_composing_duration_s",
    "prev_cross_modality_reviewing_duration_ratio_gaze_mouse",
    "prev_mouse_reviewing_offscreen_ratio",
    "prev_mouse_composing_pct",
    "mouse_composing_active_ratio",
    "prev_mouse_lookback_time_s",
    "prev_response_A_gaze_normalized_char_position_variance",
    "prev_response_A_mouse_window_006",
    "prev_response_A_mouse_focused_engagement_ratio",
    "prev_response_A_gaze_window_000",
    "response_A_mouse_normalized_avg_char_position",
    "prev_gaze_reviewing_active_ratio",
    "prev_gaze_active_time_composing_s",
    "prev_gaze_composing_offscreen_ratio",
    "prev_response_A_gaze_window_003",
    "prev_response_A_mouse_window_001",
    "prev_cross_modality_composing_activity_ratio_gaze_mouse",
    "prev_mouse_reviewing_pct",
    "prev_gaze_offscreen_increase",
    "mouse_reviewing_composing_activity_ratio",
    "prev_mouse_active_time_composing_s",
    "prev_user_query_length",
    "mouse_lookback_time_s",
    "prev_response_A_gaze_window_018",
    "mouse_composing_reviewing_activity_diff",
    "prev_response_A_mouse_overall_attention_ratio",
    "gaze_reviewing_duration_s",
    "prev_response_A_gaze_window_001",
    "prev_mouse_reviewing_composing_activity_ratio",
    "prev_gaze_lookback_time_s",
    "mouse_reviewing_duration_s",
    "prev_gaze_composing_reviewing_activity_diff",
    "mouse_composing_lookback_ratio",
    "mouse_reviewing_pct",
    "prev_mouse_reviewing_duration_s",
    "prev_gaze_reviewing_composing_duration_ratio",
)
PAPER_COMPARE_GAZE = _of(PAPER_COMPARE, "gaze", ("response_length_left", "prev_user_query_length"))
PAPER_COMPARE_MOUSE = _of(PAPER_COMPARE, "mouse", ("response_length_left", "prev_user_query_length"))


@dataclass(frozen=True)
class PaperFeature:
    """One column of the paper.

    Attributes:
        name: the paper's column name.
        unit: char (code points), count, share, ratio (cut off at 100), percent, s, sign, share^2, or a difference.
        formula: how it is computed, in words; the code is in `features.py`.
        unread: its corrected value where the modality read only the other answer: a number, or None for null. The
            reference writes 0 (for `max_idx` -1) wherever there is no value.
    """

    name: str
    unit: str
    formula: str
    unread: float | None = None


# Pattern of the name without `prev_`, unit, formula, corrected value of an answer not read.
_MEANINGS: tuple[tuple[str, str, str, float | None], ...] = (
    (r"user_query_length", "char", "length of the query", None),
    (r"response_length_(left|right)", "char", "length of the answer", None),
    (r"camera_green", "count", "lines of the gaze files (one a tick and answer) in which the face was found", None),
    (r".*_total_entries_.*", "count", "ticks while the answer was on screen", None),
    (r".*_onscreen_points_.*", "count", "ticks on the answer's panel while it was on screen", 0.0),
    (r".*_max_idx_ratio_.*", "share", "largest char offset / length of the answer", None),
    (r".*_max_idx_.*", "char", "largest char offset while the answer was on screen", None),
    (r".*_focused_engagement_ratio", "share", "sum of min(pause, 1 s) between on-text ticks / their time span", None),
    (r".*_overall_attention_ratio", "share", "on-text ticks / ticks of the question", 0.0),
    (r".*_normalized_avg_char_position", "share", "mean char offset / length of the answer", None),
    (r".*_normalized_char_position_variance", "share^2", "sample variance of char offset / length of the answer", None),
    (r".*_window_\d+", "share", "the same mean in one of 20 equal spans of time between first and last", None),
    (r".*_reviewing_engaged_time_s", "s", "sum of min(pause, 1 s) between ticks on the panel while reviewing", 0.0),
    (r".*_reviewing_engaged_pct", "percent", "engaged time / time of reviewing and after", 0.0),
    (r"\w+_(left|right)_reviewing_active_ratio", "share", "engaged time / time of reviewing", 0.0),
    (r"\w+_(left|right)_reviewing_onscreen_ratio", "share", "ticks on the panel / ticks, while reviewing", 0.0),
    (r"\w+_(left|right)_reviewing_offscreen_ratio", "share", "1 - onscreen ratio", 1.0),
    (r".*_comparison_reviewing_time_ratio", "ratio", "engaged time left / (right + 1 ms)", None),
    (r".*_comparison_reviewing_time_diff", "s", "engaged time left - right", None),
    (r".*_comparison_reviewing_activity_ratio", "ratio", "active ratio left / (right + 0.001)", None),
    (r".*_comparison_which_side_read_further", "sign", "1 if the largest offset is on the left, -1 if right", None),
    (r"cross_modality_(left|right)_.*", "ratio", "engaged time by gaze / (by mouse + 1 ms)", None),
    (r"cross_modality_\w+_duration_.*", "ratio", "duration of the phase by gaze / (by mouse + 1 ms)", None),
    (r"cross_modality_\w+_activity_.*", "ratio", "active ratio of the phase by gaze / (by mouse + 0.001)", None),
    (r".*_max_char_position_reached", "char", "largest char offset while reviewing", None),
    (r".*_reviewing_composing_duration_ratio", "ratio", "time of reviewing / (of composing + 1 ms)", None),
    (r".*_reviewing_composing_activity_ratio", "ratio", "active ratio, reviewing / (composing + 0.001)", None),
    (r".*_composing_reviewing_activity_diff", "share", "active ratio, composing - reviewing", None),
    (r".*_offscreen_increase", "share", "offscreen ratio, composing - reviewing", None),
    (r".*_(reviewing|composing)_duration_s", "s", "from its first to its last tick", None),
    (r".*_(reviewing|composing)_pct", "percent", "of the time of both phases", None),
    (r".*_(reviewing|composing)_active_ratio", "share", "ticks on the panel / ticks of the phase", None),
    (r".*_(reviewing|composing)_offscreen_ratio", "share", "ticks off the panel / ticks of the phase", None),
    (r".*_composing_lookback_ratio", "share", "on-text ticks / ticks while composing", None),
    (r".*_active_time_(reviewing|composing)_s", "s", "time of the phase x active ratio", None),
    (r".*_offscreen_time_(reviewing|composing)_s", "s", "time of the phase x offscreen ratio", None),
    (r".*_lookback_time_s", "s", "time of composing x lookback ratio", None),
)


def describe(name: str) -> PaperFeature:
    """What a column is; `prev_` columns are those of the previous question in the same conversation.

    Raises:
        KeyError: the paper has no column of that name.
    """
    for pattern, unit, formula, unread in _MEANINGS:
        if re.fullmatch(pattern, name.removeprefix("prev_")):
            before = ", at the question before" if name.startswith("prev_") else ""
            return PaperFeature(name, unit, formula + before, unread)
    raise KeyError(name)
