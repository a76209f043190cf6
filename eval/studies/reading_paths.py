"""A small sequence model for `reward_ideas.py`: random convolutions of where on the text somebody was, over time."""

import numpy as np
import polars as pl

from ifllm_hub.features.ticks import all_ticks, on_text
from ifllm_hub.terms import MODALITIES, SIDES

# Time on text in this many equal parts, and random convolutions of it.
BINS, KERNELS, TAPS, DILATIONS = 32, 150, 7, (1, 2, 3, 4)
CONVOLVED = tuple(f"kernel_{number}_{kind}" for number in range(KERNELS) for kind in ("share", "peak"))


def reading_paths(questions: pl.Series, trajectories: pl.DataFrame) -> np.ndarray:
    """(n, 8, BINS) float64: for mouse and gaze, left and right, the share of each part of the time on text spent on
    that answer, and the same times how far down the answer. Nothing off the text takes part."""
    ticks, lengths = all_ticks(trajectories), trajectories.select("question_id", "length_left", "length_right")
    row = pl.DataFrame({"question_id": questions}).with_row_index("row")
    paths = np.zeros((len(questions), 2, 2, 2, BINS))
    for number, modality in enumerate(MODALITIES):
        begins, total = (e.over("question_id") for e in (pl.col("dt").cum_sum() - pl.col("dt"), pl.col("dt").sum()))
        seen = (
            on_text(ticks, lengths, modality)
            .with_columns(bin=(BINS * begins // total.clip(1)).clip(0, BINS - 1), share=BINS * pl.col("dt") / total)
            .join(row, on="question_id", maintain_order="left")
            .filter(pl.col("dt") > 0)
        )
        side = (seen["side"] == SIDES[1]).cast(pl.Int64)
        place = [seen["row"].to_numpy(), number, side.to_numpy()]
        depth = seen["share"] * seen["char"] / seen["length"].clip(1)
        for kind, value in enumerate((seen["share"], depth)):
            np.add.at(paths, (*place, kind, seen["bin"].to_numpy()), value.to_numpy())
    return paths.reshape(len(questions), 8, BINS)


def convolutions(paths: np.ndarray) -> np.ndarray:
    """(n, 2 KERNELS) share of positive values and largest value of random convolutions (ROCKET, Dempster et al. 2020).

    Each is less the same of the mirror image, so that all change sign when the answers are swapped.
    """
    rng = np.random.default_rng(0)
    mirrored = paths.reshape(len(paths), 2, 2, 2, BINS)[:, :, ::-1].reshape(paths.shape)
    columns = []
    for _ in range(KERNELS):
        weights = rng.normal(size=(8, TAPS)) * (rng.random((8, 1)) < 0.4)
        dilation, threshold = int(rng.choice(DILATIONS)), rng.normal()
        there, back = (convolve(one, weights, dilation) for one in (paths, mirrored))
        columns += [
            (there > threshold).mean(axis=1) - (back > threshold).mean(axis=1),
            there.max(axis=1) - back.max(axis=1),
        ]
    return np.column_stack(columns)


def convolve(paths: np.ndarray, weights: np.ndarray, dilation: int) -> np.ndarray:
    """(n, BINS) sum over channels and taps, zeros beyond both ends."""
    edge = dilation * (TAPS // 2)
    padded = np.pad(paths, ((0, 0), (0, 0), (edge, edge)))
    windows = [padded[:, :, tap * dilation : tap * dilation + BINS] for tap in range(TAPS)]
    return np.einsum("tncb,ct->nb", np.stack(windows), weights)
