"""Accuracy by label source, in one world or several side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ifllm_hub.align.first_order.summary import FirstOrderBoard
from ifllm_hub.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ifllm_hub.pages.plot_style import Picture

_LOOKS = {"adam": ("o", "#332288", "Adam's geometry"), "plain": ("D", "#d55e00", "plain gradient")}
_OFFSETS = {"adam": -0.12, "plain": 0.12}
# Inches.
_WIDTH, _LEAST, _ROW, _MARGIN = 3.7, 5.2, 0.34, 1.5


def worlds_picture(boards: Mapping[str, FirstOrderBoard]) -> "Picture":
    """A panel a world, the same bytes for the same numbers.

    Args:
        boards: title of a panel -> its comparison.
    """
    from ifllm_hub.pages.plot_style import picture, styled

    names = list(dict.fromkeys(row["name"] for found in boards.values() for row in found["tables"]["adam"]["rows"]))
    with styled((max(_LEAST, _WIDTH * len(boards)), _MARGIN + _ROW * (len(names) + 1))) as (figure, first):
        first.remove()
        panels = figure.subplots(1, len(boards), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, found) in zip(panels, boards.items(), strict=True):
            _draw(axes, found, names)
            axes.set_title(title)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=1.6)
        return picture(figure, "Accuracy of policies by the labels they were trained on, with 95 % intervals")


def _draw(axes: "Axes", found: FirstOrderBoard, names: list[str]) -> None:
    from ifllm_hub.pages.plot_style import MUTED

    itself = found["longer_answer"]["mean"]
    axes.axvline(100 * itself, color=MUTED, linewidth=1, linestyle="--", label="the longer answer itself")
    axes.axvline(50, color=MUTED, linewidth=0.8)
    for geometry, table in found["tables"].items():
        marker, color, label = _LOOKS[geometry]
        rows = [(names.index(row["name"]) + _OFFSETS[geometry], row["accuracy"]) for row in table["rows"]]
        chance = table["shuffled"]
        spread: Estimate = {"mean": chance["mean"], "low": chance["low"], "high": chance["high"]}
        rows.append((len(names) + _OFFSETS[geometry], spread))
        axes.errorbar(
            [100 * value["mean"] for _, value in rows],
            [place for place, _ in rows],
            xerr=[
                [100 * (value["mean"] - value["low"]) for _, value in rows],
                [100 * (value["high"] - value["mean"]) for _, value in rows],
            ],
            fmt=marker,
            color=color,
            markersize=4.5,
            elinewidth=1.2,
            label=label,
        )
    axes.set_yticks(range(len(names) + 1), [*names, "shuffled"])
    axes.set_ylim(len(names) + 0.5, -0.5)
    axes.set_xlabel("accuracy on unseen workers, %")
