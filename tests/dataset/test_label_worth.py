"""What labels are worth: by hand, by a count of ten lines, and where the truth is known."""

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ifllm_hub.dataset.label_worth import LabelWorth, label_worth, worth_table
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.writers import replace_configs, replace_preferences
from ifllm_hub.preferences.labels import SOURCES, write_preferences
from ifllm_hub.preferences.value import worth_by_source


def labels(source: str, flips: np.ndarray, first: np.ndarray, workers: np.ndarray, start: int = 0) -> pl.DataFrame:
    """Rows of a label source that chooses the first answer of each pair, or the second."""
    texts = [[{"role": "assistant", "content": "first" if one else "second"}] for one in first]
    return pl.DataFrame(
        {
            "label_source": source,
            "question_id": np.arange(start, start + len(flips)),
            "worker_id": [f"w{worker}" for worker in workers],
            "chosen": texts,
            "flip_prob": flips.astype(float),
        }
    )


def of(*rows: pl.DataFrame) -> dict[str, LabelWorth]:
    return {worth.label_source: worth for worth in label_worth(pl.concat(rows))}


def test_worth_by_hand() -> None:
    workers = np.array([0, 0, 1, 2])
    rows = [labels("explicit", np.zeros(3), np.array([1, 1, 0]), workers[:3])]
    rows.append(labels("ours", np.array([0.1, 0.25, 0.45, 0.4]), np.array([1, 0, 0, 1]), workers))
    ours = of(*rows)["ours"]
    w = [0.8, 0.5, 0.1, 0.2]
    assert ours.labels == 4
    assert ours.said["mean"] == pytest.approx(sum(x**2 for x in w))
    assert ours.unweighted == pytest.approx(16 / sum(x**-2 for x in w))
    slope = (0.8 - 0.5 + 0.1) / (0.64 + 0.25 + 0.01)
    assert ours.measured is not None
    assert ours.measured["mean"] == pytest.approx(slope**2 * 0.94)
    assert of(*rows)["explicit"].measured == {"mean": 3, "low": 3, "high": 3}


def test_labels_that_point_the_wrong_way_are_worth_less_than_nothing() -> None:
    workers = np.repeat(np.arange(10), 5)
    own, ours = (
        labels("explicit", np.zeros(50), workers % 2, workers),
        labels("o", np.full(50, 0.2), workers > 9, workers),
    )
    wrong = of(own, labels("o", np.full(50, 0.2), 1 - workers % 2, workers))["o"]
    assert wrong.measured is not None
    assert wrong.measured["high"] < 0 < wrong.said["low"]
    assert of(ours)["o"].measured is None
    assert worth_table([of(ours)["o"]]) == [("o", "50", "18 [18, 18]", "", "18")]


def test_one_worker_alone_has_no_interval() -> None:
    rows = (
        labels("explicit", np.zeros(5), np.ones(5), np.zeros(5)),
        labels("o", np.full(5, 0.1), np.ones(5), np.zeros(5)),
    )
    assert worth_table(label_worth(pl.concat(rows))) == [
        ("explicit", "5", "5", "", ""),
        ("o", "5", "3.2", "5.0", "3.2"),
    ]


def simulated(rng: np.random.Generator, spread: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labels as right as they say, on average over workers of unequal diligence; a fifth of the pairs is not rated."""
    workers = np.repeat(np.arange(40), rng.geometric(0.08, 40))
    flips = rng.uniform(0.15, 0.45, len(workers))
    w = (1 - 2 * flips) * (1 + spread * rng.choice([-1, 1], 40))[workers]
    own = rng.random(len(workers)) < 0.5
    label = np.where(rng.random(len(workers)) < (1 + w) / 2, own, ~own)
    rated = rng.random(len(workers)) < 0.8
    explicit = labels("explicit", np.zeros(len(workers)), own, workers).filter(pl.Series(rated))
    return explicit, labels("ours", flips, label, workers)


def test_what_is_measured_is_what_is_said_where_labels_are_as_right_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside, ratios = [], []
    for _ in range(150):
        ours = of(*simulated(rng, spread=0.5))["ours"]
        assert ours.measured is not None
        said = ours.said["mean"]
        ratios.append(ours.measured["mean"] / said)
        inside.append(ours.measured["low"] <= said <= ours.measured["high"])
    assert np.mean(ratios) == pytest.approx(1.05, abs=0.1)  # the square of chance is in it
    assert stats.binomtest(sum(inside), 150, 0.95).pvalue > 0.01, np.mean(inside)


def test_worth_beyond_another_source_is_the_difference_pair_by_pair() -> None:
    explicit, ours = simulated(np.random.default_rng(2), 0.3)
    twin = ours.with_columns(label_source=pl.lit("twin"))
    blurred = ours.with_columns(label_source=pl.lit("blurred"), flip_prob=0.25 + pl.col("flip_prob") * 0.4)
    worths = of(explicit, ours, twin, blurred)
    same = worths["ours"].beyond(worths["twin"])
    assert same.mean == 0
    assert same.standard_error == 0
    more = worths["ours"].beyond(worths["blurred"])
    parts = [worths[name].per_reading() for name in ("ours", "blurred")]
    assert more.mean == pytest.approx(parts[0]["mean"] - parts[1]["mean"])
    assert more.standard_error < 0.5 * (parts[0]["high"] - parts[0]["low"]) / 2


def ten_lines(folder: Path, source: str) -> tuple[float, float]:
    """Said and measured worth of a source, from the files."""
    tables = {name: pl.read_parquet(folder / f"data/preferences_{name}/*.parquet") for name in ("explicit", source)}
    own = {row["question_id"]: row["chosen"][0]["content"] for row in tables["explicit"].to_dicts()}
    said, sums = 0.0, defaultdict(float)
    for row in tables[source].to_dicts():
        w = 1 - 2 * row["flip_prob"]
        said += w * w
        if row["question_id"] in own:
            sums["right"] += w if row["chosen"][0]["content"] == own[row["question_id"]] else -w
            sums["squares"] += w * w
    return said, sums["right"] * abs(sums["right"]) / sums["squares"] ** 2 * said


def test_worth_of_a_dataset_is_that_of_ten_lines(labeled_study: Path) -> None:
    worths = worth_by_source(labeled_study)
    assert set(worths) == set(SOURCES)
    for source, worth in worths.items():
        assert worth.measured is not None
        assert (worth.said["mean"], worth.measured["mean"]) == pytest.approx(ten_lines(labeled_study, source))


@pytest.mark.real
@pytest.mark.slow
def test_worth_on_the_real_release(real_dataset: tuple[Path, float], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(real_dataset[0], tmp_path / "dataset"))
    write_preferences(folder)
    worths = worth_by_source(folder)
    for source in SOURCES:
        worth = worths[source]
        assert worth.measured is not None
        assert (worth.said["mean"], worth.measured["mean"]) == pytest.approx(ten_lines(folder, source))
    # docs/results/label_value.md
    assert worths["forest"].said["mean"] == pytest.approx(82.4, abs=0.5)


def test_the_card_has_what_its_labels_are_worth(labeled_dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(labeled_dataset, tmp_path / "dataset"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for cells in worth_table(worth_by_source(folder).values()):
        assert f"| `{cells[0]}` | {' | '.join(cells[1:])} |\n" in card
    longer = load_config(folder, "preferences_longer")
    replace_preferences(folder, longer)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "there are none here" in card
    assert f"| `longer` | {longer.height} | " in card
    replace_configs(folder, {}, ["preferences_longer"])
    assert "are worth" not in (folder / "README.md").read_text(encoding="utf-8")
