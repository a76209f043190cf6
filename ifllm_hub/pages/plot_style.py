"""One look for all figures: palette, matplotlib settings, and a figure as a self-contained, reproducible image."""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ifllm_hub.files import write_atomically

INK = "#1f2328"
MUTED = "#59636e"
RULE = "#d1d9e0"

# Okabe-Ito and Tol colors, distinguishable with the common color vision deficiencies and in grayscale.
MOUSE, GAZE = "#0072b2", "#d55e00"
LEFT, RIGHT = "#2a9d8f", "#882255"
TRAIN, TEST = "#332288", "#ddaa33"
SERIES = ("#332288", "#d55e00", "#2a9d8f", "#882255", "#88ccee", "#999933")

# Inches. A panel fills a phone's width at a legible size; a wide figure scrolls there in its own box.
PANEL = (4.0, 2.9)
WIDE = (7.4, 5.0)

# Dots per inch of a PNG.
_DPI = 150

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    # Names from data may contain a dollar sign; no figure has a formula.
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    # Simplification would remove dots, which are drawn as lines of no length.
    "path.simplify": False,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "ifllm_hub",
}

_PATH = re.compile(r' d="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")


@dataclass(frozen=True)
class Picture:
    """A figure for the page.

    Attributes:
        source: data URI of an SVG.
        alt: what it shows, for readers who cannot see it.
        caption: the sentence below it.
        wide: it needs more than a phone's width.
    """

    source: str
    alt: str
    caption: str
    wide: bool

    @property
    def svg(self) -> bytes:
        """The image itself."""
        return base64.b64decode(self.source.partition(",")[2])


@contextmanager
def styled(size: tuple[float, float] = PANEL) -> Iterator[tuple[Figure, Axes]]:
    """A figure of `size` inches with one pair of axes, in this report's style; matplotlib's own settings stay."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """A legend under the axes, where it cannot cover data."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.6, columnspacing=1.4)


def write_png(file: Path, figure: Figure) -> None:
    """Write a figure inside `styled`: the same figure gives the same bytes.

    Raises:
        IfllmError: the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    write_atomically(file, buffer.getvalue())


def write_svg(file: Path, figure: Figure) -> None:
    """Write a figure inside `styled` as `write_png` does, with all digits of the coordinates."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    write_atomically(file, buffer.getvalue())


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """Render inside `styled`: the same figure gives the same bytes, with no date in it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    # Hundredths of a point are more than a screen shows, and a third of the bytes.
    svg = _PATH.sub(lambda path: _DIGITS.sub(r"\1", path.group()), buffer.getvalue())
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return Picture(source, alt, caption, wide=figure.get_figwidth() > PANEL[0])
