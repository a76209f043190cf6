"""Where in an answer mouse and gaze were, over time."""

import polars as pl

from ifllm_hub.pages.plot_style import GAZE, MOUSE, Picture, picture, styled
from ifllm_hub.terms import MODALITIES

_COLORS = {"mouse": MOUSE, "gaze": GAZE}


def trajectory_picture(reading: dict[str, pl.DataFrame], side: str, length: int, seconds: float) -> Picture:
    """Position in one answer (share of its code points, 0 at the top) against time (s since the answer appeared).

    Args:
        reading: rows of `on_text` for one question and side, by modality.
        length: of the answer, code points.
        seconds: end of the time axis.
    """
    with styled() as (figure, axes):
        for modality in reversed(MODALITIES):  # mouse drawn above gaze
            if modality not in reading:
                continue
            rows = reading[modality].sort("t")
            times, places = _with_gaps(rows, length, join=modality == "mouse")
            # A repeated point with round caps is a dot, so one path holds many.
            axes.plot(
                times,
                places,
                color=_COLORS[modality],
                linewidth=1.6 if modality == "mouse" else 2.4,
                alpha=1.0 if modality == "mouse" else 0.55,
                solid_capstyle="round",
                solid_joinstyle="round",
                label=modality,
            )
        axes.set(
            title=f"{side} answer",
            xlabel="time since the answer appeared (s)",
            ylabel="position (share of the answer)",
            xlim=(0, max(seconds, 1.0) * 1.02),
            ylim=(1.03, -0.03),
        )
        # Above the axes, where no line can pass under it.
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.4)
        return picture(figure, _alt(reading, side))


def _with_gaps(rows: pl.DataFrame, length: int, join: bool) -> tuple[list[float], list[float]]:
    """Seconds and shares, broken between visits (`join`) or after every tick."""
    times: list[float] = []
    places: list[float] = []
    before: int | None = None
    gap = float("nan")
    for t, char, visit in rows.select("t", "char", "visit").iter_rows():
        second, place = t / 1_000, char / max(length, 1)
        if not join or visit != before:
            times += [gap, second]
            places += [gap, place]
        times.append(second)
        places.append(place)
        before = visit
    return times, places


def _alt(reading: dict[str, pl.DataFrame], side: str) -> str:
    parts = [f"{modality} {rows['dt'].sum() / 1_000:.1f} s" for modality, rows in reading.items()]
    return f"Position in the {side} answer against time; on its text: {', '.join(parts)}."
