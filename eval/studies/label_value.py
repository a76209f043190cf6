"""What a reading is worth beside explicit feedback: a table, a figure, and what to read off them.

python -m eval.studies.label_value runs/real/dataset --out docs/results/label_value.md

The dataset is labeled (`ifllm label`). The figure is written beside the page.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from ifllm_hub.dataset.label_worth import LabelWorth, label_worth, worth_table
from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.pages.plot_style import MOUSE, MUTED, SERIES, WIDE, styled, write_png
from ifllm_hub.preferences.labels import external_rows, out_of_fold_probabilities
from ifllm_hub.reward.protocol.candidates import forest
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, MOUSE_FEATURES, load_pairs
from ifllm_hub.statistics import Estimate, effective_workers

# A product without webcams has these; `ifllm label` writes no such source.
MOUSE_AND_LENGTH = "forest_mouse_length"
# The share of readers who say which answer is better.
EXPLICIT = (0.01, 0.03)
READINGS = (1_000, 1_000_000)
LEAST = 10
FORMULA = (
    "By flip probability: the sum of (1 - 2 `flip_prob`)² over a source's labels, which is what they are worth to a "
    "trainer that weighs pairs by it (`flip_weighting: inverse_variance`); in the last column to one that weighs all "
    "alike (`none`). Measured: by how often they are the worker's own. Labels of both splits, each by a "
    "model that saw no pair of the worker. The intervals are 95 %, by jackknife over workers."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a folder made by `ifllm build` and labeled by `ifllm label`")
    parser.add_argument("--out", type=Path, default=Path("runs/label_value.md"))
    options = parser.parse_args()
    worths = {worth.label_source: worth for worth in label_worth(labels(options.dataset))}
    picture = options.out.with_suffix(".png")
    write_atomically(options.out, "\n".join(page(worths, picture.name)) + "\n")
    draw(worths, picture)


def labels(dataset: str) -> pl.DataFrame:
    """The rows of all label sources, and of a forest on mouse and length."""
    pairs = load_pairs(dataset)
    told = out_of_fold_probabilities(pairs, fit=forest(LENGTH_FEATURES + MOUSE_FEATURES))
    stored = [load_config(dataset, preferences_config(source)) for source in label_sources(dataset)]
    return pl.concat([*stored, external_rows(pairs, told, MOUSE_AND_LENGTH)])


def page(worths: dict[str, LabelWorth], picture: str) -> Iterator[str]:
    workers = worths["forest"].workers
    yield "# What a reading is worth\n"
    yield "Written by `python -m eval.studies.label_value DATASET --out FILE`; do not edit.\n"
    yield paragraph(
        f"{len(workers)} pairs of answers that {len(np.unique(workers))} workers were seen reading (as many as "
        f"{effective_workers(workers):.1f} workers of equal size), {worths['explicit'].labels} of them rated. The unit "
        "is one label that a worker gave. The labels of models use all of a worker's readings, later ones too."
    )
    yield markdown_table(
        ("label source", ">labels", "worth by flip probability", "measured", ">if all pairs weigh alike"),
        worth_table(worths.values()),
    )
    yield "\n" + paragraph(FORMULA)
    yield paragraph(
        "In 100 readings, as measured, and how much more than the length of the answers, which costs no reading:"
    )
    sources = [name for name in worths if name not in ("explicit", "shuffled")]
    yield markdown_table(
        ("label source", "explicit labels in 100 readings", "more than `longer`"),
        ((name, hundred(worths[name].per_reading()), beyond(worths, name)) for name in sources),
    )
    yield f"\n![Worth in explicit labels against the number of readings, on log axes]({picture})\n"
    yield paragraph(reading_of(worths))


def reading_of(worths: dict[str, LabelWorth]) -> str:
    """What a product team takes from it."""
    reading, longer = worths["forest"], worths["longer"]
    more = reading.beyond(longer).estimate
    said = (reading.said["mean"] - longer.said["mean"]) / len(reading.workers)
    low, high = (100 * share for share in EXPLICIT)
    return (
        f"If {low:.0f} to {high:.0f} % of readers say which of two answers is better, 100 readings bring {low:.0f} to "
        f"{high:.0f} explicit labels. The forest labels all 100, and that is worth {hundred(reading.per_reading())}. "
        "But most of it is the length of the answers, which is known without any reader, and from which a policy "
        f"learns to write longer answers. What reading adds to the length is {hundred(more, '+')} ({100 * said:+.1f} "
        f"by the flip probabilities): as much as explicit feedback by {100 * more['mean']:.0f} % of readers, and the "
        f"interval {'lies above' if more['low'] > 0 else 'reaches'} zero. It is one of several rows; another row whose "
        "interval lies above zero is no finding by itself. So reading may double what a product learns from explicit "
        "feedback, and it may add next to nothing; it does not replace asking. To have this, the trainer must weigh "
        "pairs by their flip probabilities: weighed alike, the forest's labels are worth "
        f"{reading.unweighted:.0f} instead of {reading.said['mean']:.0f}. And it was measured on few workers, who were "
        "told to follow the text with the mouse, on two answers side by side; expect less from people who read for "
        "themselves. Worth is information on which answer a reader prefers, at the first step of training. It says "
        "nothing of how good a policy gets, and takes those who answer for the same people as those who only read."
    )


def draw(worths: dict[str, LabelWorth], file: Path) -> None:
    """A panel a source, and one of what the forest adds to the length, each beside explicit feedback."""
    shown: dict[str, Estimate | None] = {
        name: worths[name].per_reading() for name in ("forest", "forest_mouse", "longer")
    }
    shown["forest beyond longer"] = worths["forest"].beyond(worths["longer"]).estimate
    with styled(WIDE) as (figure, axes):
        axes.remove()
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for panel, (name, each), color in zip(
            panels.flat, shown.items(), (SERIES[0], MOUSE, *SERIES[1:3]), strict=True
        ):
            assert each is not None
            band(panel, EXPLICIT, MUTED, "explicit, by 1-3 % of readers")
            band(panel, (each["low"], each["high"]), color, f"{name}, of all readings")
            panel.plot(READINGS, [each["mean"] * n for n in READINGS], color=color)
            panel.set(title=name, xscale="log", yscale="log", xlim=READINGS, ylim=(LEAST, READINGS[1]))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter(EngFormatter(sep=""))
            panel.legend(loc="upper left", fontsize=7.5)
        figure.supxlabel("readings of two answers", fontsize=9)
        figure.supylabel("worth in explicit labels", fontsize=9)
        write_png(file, figure)


def band(panel: Axes, rates: tuple[float, float], color: str, label: str) -> None:
    low, high = ([max(rate * n, LEAST / 100) for n in READINGS] for rate in rates)
    panel.fill_between(READINGS, low, high, color=color, alpha=0.25, linewidth=0, label=label)


def beyond(worths: dict[str, LabelWorth], name: str) -> str:
    return "" if name == "longer" else hundred(worths[name].beyond(worths["longer"]).estimate, "+")


def hundred(each: Estimate | None, sign: str = "") -> str:
    if each is None:
        return ""
    mean, low, high = (f"{100 * each[end]:{sign}z.1f}" for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def paragraph(text: str) -> str:
    return fill(text, 120) + "\n"


if __name__ == "__main__":
    main()
