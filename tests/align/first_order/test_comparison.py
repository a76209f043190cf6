"""Folds, controls and numbers of a comparison, on gradients whose meaning is known, and on the simulated study."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.api import Logit

from ifllm_hub.align.first_order.comparison import FirstOrder, at_chosen, hits, train_by_folds
from ifllm_hub.align.first_order.descent import LENGTHS
from ifllm_hub.align.first_order.gradients import Adapter
from ifllm_hub.align.first_order.page import read_labels_file, write_first_order
from ifllm_hub.align.first_order.sources import Compared, load_compared, text_labels
from ifllm_hub.align.first_order.summary import board
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.statistics import jackknife_mean
from tests.align.first_order.made import PAIRS, WORKERS, by_fold, made, made_result
from tests.conftest import few_trees


def test_what_a_policy_can_learn_is_learned_and_permuted_labels_are_at_chance() -> None:
    compared, kernel = made()
    trained = train_by_folds(kernel, compared, by_fold(compared), compared.permuted(200))
    right = hits(at_chosen(trained, compared.folds), compared.judge[:, None]).mean(axis=0)
    assert right[0] > 0.72
    own = hits(at_chosen(trained, compared.folds)[:, 1], compared.longer).mean()
    assert own > 0.9
    assert abs(right[2:].mean() - 0.5) < 3 * right[2:].std() / np.sqrt(200) + 0.01
    assert trained.learned[0] > 0.75


def test_how_long_to_train_is_chosen_without_the_judge() -> None:
    compared, kernel = made()
    other = dataclasses.replace(compared, judge=-compared.judge)
    one, two = (train_by_folds(kernel, which, by_fold(compared), compared.permuted(3)) for which in (compared, other))
    assert np.array_equal(one.chosen, two.chosen)
    assert np.array_equal(one.margins, two.margins)


def test_no_pair_of_a_fold_has_a_say_in_what_is_tested_on_it() -> None:
    """Neither in the margins nor in the length: other labels of fold 2, and its margins are the same."""
    compared, kernel = made()
    fold = compared.folds == 2
    changed = compared.stored.copy()
    changed[fold] *= -1
    shuffled = np.zeros((PAIRS, 0), np.int8)
    one, two = (
        train_by_folds(kernel, compared, dict.fromkeys(range(5), signs), shuffled)
        for signs in (compared.stored, changed)
    )
    assert np.array_equal(one.margins[:, fold], two.margins[:, fold])
    assert np.array_equal(one.chosen[2], two.chosen[2])
    assert not np.array_equal(one.margins[:, ~fold], two.margins[:, ~fold])


@pytest.mark.slow
def test_p_is_uniform_where_labels_say_nothing() -> None:
    """200 simulated studies whose labels are permutations themselves: the rank of each among 199 others."""
    found = []
    for seed in range(10):
        compared, kernel = made(seed)
        trained = train_by_folds(
            kernel, compared, dict.fromkeys(range(5), compared.stored[:, :0]), compared.permuted(400)
        )
        right = hits(at_chosen(trained, compared.folds), compared.judge[:, None]).mean(axis=0)
        generator = np.random.default_rng(seed)
        for at in range(20):
            others = generator.permutation(np.delete(right, at))[:199]
            ties = (others == right[at]).sum()
            found.append(((others > right[at]).sum() + generator.random() * (ties + 1)) / 200)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_numbers_by_hand() -> None:
    result = made_result()
    compared, trained, signs = result.compared, result.trained["adam"], result.signs
    found = board(result)
    assert (found["pairs"], found["workers"], found["folds"], found["permutations"]) == (PAIRS, WORKERS, 5, 200)
    margins = at_chosen(trained, compared.folds)
    right = (margins * compared.judge[:, None] > 0).astype(float)
    row, longer = found["tables"]["adam"]["rows"]
    assert row["accuracy"] == jackknife_mean(right[:, 0], compared.workers).estimate
    permuted = right[:, 2:].mean(axis=0)
    assert row["p"] == (1 + (permuted >= right[:, 0].mean()).sum()) / 201
    assert row["holm"] == pytest.approx(min(1, 4 * row["p"]))  # two sources in two geometries
    over = jackknife_mean(right[:, 0] - right[:, 2:].mean(axis=1), compared.workers)
    # Of permutations, what they differ by beyond the workers and the finite number of pairs.
    among = [jackknife_mean(right[:, 2 + at], compared.workers).standard_error ** 2 for at in range(200)]
    between = permuted.var(ddof=1) - np.mean(among)
    assert between > 0
    half = stats.t.isf(0.025, over.df) * np.sqrt(over.standard_error**2 + between)
    assert row["over_shuffled"] == pytest.approx({"mean": over.mean, "low": over.mean - half, "high": over.mean + half})
    assert row["over_longer"]["mean"] == pytest.approx((right[:, 0] - right[:, 1]).mean())
    near = np.abs(compared.length_ratio) < 0.3
    assert found["similar_pairs"] == near.sum()
    assert row["similar"]["mean"] == pytest.approx(right[near, 0].mean())
    assert longer["own"] == pytest.approx((margins[:, 1] * signs[:, 1] > 0).mean())
    assert row["agrees_with_longer"] == pytest.approx((margins[:, 0] * signs[:, 1] > 0).mean())
    assert row["by_length"] == pytest.approx([(of[:, 0] * compared.judge > 0).mean() for of in trained.margins])
    scaled = np.zeros(PAIRS)
    for fold in range(5):
        here = compared.folds == fold
        scaled[here] = margins[here, 0] / margins[here, 0].std()
    x = np.column_stack([scaled, compared.length_ratio])
    expected = Logit(compared.judge > 0, x).fit(disp=False).params[0]
    assert row["beside_length"]["mean"] == pytest.approx(expected, rel=0.05)  # a small penalty
    # What decides is beside length, and what does not is not.
    assert row["beside_length"]["low"] > 0 > longer["beside_length"]["low"]


def test_a_margin_of_zero_is_half_right() -> None:
    assert hits(np.array([1.0, -1, 0]), np.array([1, 1, 1])).tolist() == [1, 0, 0.5]


@pytest.fixture(scope="module")
def labels(labeled_study: Path) -> Compared:
    return load_compared(labeled_study)


def test_the_labels_of_a_dataset_as_signs(labeled_study: Path, labels: Compared) -> None:
    stored = pl.read_parquet(labeled_study / "data" / "preferences_forest" / "*.parquet")
    rows = labels.rows.join(stored.select("question_id", "chosen"), on="question_id", how="left", maintain_order="left")
    for sign, row in zip(labels.stored[:, labels.sources.index("forest")], rows.iter_rows(named=True), strict=True):
        side = {1: "response_left", -1: "response_right"}.get(sign)
        assert side is None if row["chosen"] is None else row["chosen"][0]["content"] == row[side]
    assert (labels.judge == np.where(labels.rows["preference"] == "left", 1, -1)).all()
    assert labels.sources[0] == "explicit"
    assert labels.sources[-1] == "longer"
    assert "shuffled" not in labels.sources
    text = labels.texts()[0]
    assert text["left"] == [{"role": "assistant", "content": labels.rows["response_left"][0]}]


def test_no_label_depends_on_the_fold_that_is_tested_on(labels: Compared) -> None:
    swapped = pl.when(pl.col("preference") == "left").then(pl.lit("right")).when(pl.col("preference") == "right")
    with few_trees():
        before = labels.labels(1)
        for fold, same in ((1, True), (2, False)):
            changed = pl.when(pl.col("fold_worker") == fold).then(swapped.then(pl.lit("left"))).otherwise("preference")
            every = Pairs(labels.every.rows.with_columns(preference=changed))
            after = dataclasses.replace(labels, every=every).labels(1)
            rest = labels.folds != 1
            assert np.array_equal(before[rest], after[rest]) is same


def test_permutations_have_the_workers_labels(labels: Compared) -> None:
    permuted = labels.permuted(50)
    assert (permuted.sum(axis=0) == labels.explicit.sum()).all()
    assert len(np.unique(permuted, axis=1).T) == 50


def test_positive_controls_by_hand() -> None:
    rows = pl.DataFrame(
        {"response_left": ["- one\n- two\n1. three", "a bb", "same"], "response_right": ["- one", "ccc dddd", "same"]}
    )
    found = text_labels(Compared(rows, [], np.zeros(3), np.zeros((3, 0)), Pairs(rows)))
    assert {name: signs.tolist() for name, signs in found.items()} == {
        "list_items": [1, 0, 0],
        "longer_words": [1, -1, 0],
    }


def test_a_page_from_the_command(labeled_study: Path, tmp_path: Path) -> None:
    settings = FirstOrder(str(labeled_study), tmp_path, Adapter("tiny", 1, 4, 768), permutations=20)
    shares: list[float] = []
    with few_trees():
        page = write_first_order(settings, shares.append)
    assert shares[-1] == pytest.approx(1)
    assert shares == sorted(shares)
    document = read_labels_file(tmp_path / "labels.json")
    pairs = document["board"]["pairs"]
    assert f"each of {pairs} pairs of {document['board']['workers']} workers is tested once" in " ".join(
        page.read_text().split()
    )
    assert page.read_text().count("| `forest_mouse`: ") == 2
    margins = pl.read_parquet(tmp_path / "margins.parquet")
    counts = margins.group_by("geometry", "source").len()
    assert counts["len"].unique().to_list() == [pairs]
    row = next(row for row in document["board"]["tables"]["plain"]["rows"] if row["name"] == "longer")
    mine = margins.filter(geometry="plain", source="longer")
    right = pl.when(pl.col("margin") == 0).then(0.5).otherwise((pl.col("margin") > 0) == (pl.col("better") == "left"))
    assert mine.select(right.mean()).item() == pytest.approx(row["accuracy"]["mean"])
    assert len(row["by_length"]) == len(LENGTHS)
    broken = json.loads((tmp_path / "labels.json").read_text())
    del broken["settings"]
    (tmp_path / "labels.json").write_text(json.dumps(broken))
    with pytest.raises(IfllmError, match="`settings` is missing or damaged"):
        read_labels_file(tmp_path / "labels.json")


@pytest.mark.slow
def test_a_second_run_writes_the_same(labeled_study: Path, tmp_path: Path) -> None:
    settings = FirstOrder(str(labeled_study), tmp_path, Adapter("tiny", 1, 4, 768), permutations=20)
    names = ("labels.md", "labels.svg", "margins.parquet")
    runs = []
    for _ in range(2):
        with few_trees():
            write_first_order(settings)
        runs.append([(tmp_path / name).read_bytes() for name in names])
    assert runs[0] == runs[1]


def test_another_judge_and_one_that_is_not_there(labeled_study: Path) -> None:
    compared = load_compared(labeled_study, "forest_mouse")
    assert compared.sources[:2] == ["forest_mouse", "explicit"]
    assert np.array_equal(compared.judge, compared.stored[:, 0])
    assert (compared.judge != 0).all()
    with pytest.raises(IfllmError, match="No label source 'truth'"):
        load_compared(labeled_study, "truth")
