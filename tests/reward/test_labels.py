"""Preference rows: the right polarity, labels by models that never saw the worker, honest flip probabilities."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from datasets import load_dataset

from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalogue import CATALOGUE, EVEN, ODD
from ifllm_hub.reward import labels
from ifllm_hub.reward.labels import (
    MAX_FLIP_PROB,
    agreement,
    out_of_fold_probabilities,
    preference_rows,
    write_preferences,
)
from ifllm_hub.reward.model import ImplicitFeedbackRewardModel
from ifllm_hub.reward.pairs import FEATURES, Pairs, labelled, with_behaviour

OTHER = {"left": "right", "right": "left"}


@pytest.fixture(scope="module")
def probabilities(all_pairs: Pairs) -> pl.DataFrame:
    return out_of_fold_probabilities(all_pairs)


@pytest.fixture(scope="module")
def rows(labelled_dataset: Path) -> pl.DataFrame:
    files = sorted(labelled_dataset.glob("data/preferences/*.parquet"))
    return pl.concat([pl.read_parquet(file).with_columns(split=pl.lit(file.name.split("-")[0])) for file in files])


def text(column: str) -> pl.Expr:
    return pl.col(column).list.first().struct.field("content")


def flipped(pairs: Pairs, where: pl.Expr) -> Pairs:
    """The same pairs with some preferences turned around."""
    turned = pl.when(where).then(pl.col("preference").replace(OTHER)).otherwise("preference")
    return Pairs(pairs.rows.with_columns(preference=turned))


def of(probabilities: pl.DataFrame, pairs: Pairs, where: pl.Expr) -> dict[int, float]:
    chosen = pairs.filter(where).rows.select("question_id").join(probabilities, on="question_id")
    assert chosen.height > 0
    return dict(chosen.iter_rows())


def test_chosen_has_the_higher_rating(rows: pl.DataFrame) -> None:
    untied = rows.filter(
        (pl.col("label_source") == "explicit") & (pl.col("rating_chosen") != pl.col("rating_rejected"))
    )
    assert untied.height > 50
    assert (untied["rating_chosen"] > untied["rating_rejected"]).mean() > 0.9


def test_explicit_rows_follow_the_pairwise_table(rows: pl.DataFrame, all_pairs: Pairs) -> None:
    table = {row["question_id"]: row for row in all_pairs.rows.iter_rows(named=True)}
    explicit = rows.filter(pl.col("label_source") == "explicit")
    for row in explicit.iter_rows(named=True):
        source = table[row["question_id"]]
        side = source["preference"]
        assert row["prompt"] == [{"role": "user", "content": source["query"]}]
        assert row["chosen"] == [{"role": "assistant", "content": source[f"response_{side}"]}]
        assert row["rejected"] == [{"role": "assistant", "content": source[f"response_{OTHER[side]}"]}]
        assert row["rating_chosen"] == source[f"rating_{side}"]
        assert row["rating_rejected"] == source[f"rating_{OTHER[side]}"]
        assert (row["worker_id"], row["split"]) == (source["worker_id"], source["split"])
        assert row["flip_prob"] == 0


def test_forest_rows_follow_the_probability(rows: pl.DataFrame, all_pairs: Pairs, probabilities: pl.DataFrame) -> None:
    forest = rows.filter(pl.col("label_source") == "forest").join(probabilities, on="question_id")
    forest = forest.join(all_pairs.rows.select("question_id", "response_left", "response_right"), on="question_id")
    left_chosen = forest.select((text("chosen") == pl.col("response_left")).alias("left")).to_series()
    assert 0.2 < left_chosen.mean() < 0.8
    assert (left_chosen == (forest["probability"] > 0.5)).all()
    expected = [min(p, 1 - p, MAX_FLIP_PROB) for p in forest["probability"]]
    assert forest["flip_prob"].to_list() == pytest.approx(expected)
    assert forest["flip_prob"].is_between(0, 0.45).all()
    assert (forest["flip_prob"] < 0.45).any()
    assert (forest["flip_prob"] == 0.45).any()


def test_every_pair_with_behaviour_is_labelled_once(rows: pl.DataFrame, all_pairs: Pairs) -> None:
    usable = with_behaviour(all_pairs).rows.filter(pl.col("response_left") != pl.col("response_right"))
    by_source = {source: rows.filter(pl.col("label_source") == source) for source in ("explicit", "forest")}
    assert sorted(by_source["forest"]["question_id"]) == sorted(usable["question_id"])
    rated = usable.filter(pl.col("preference").is_not_null())
    assert sorted(by_source["explicit"]["question_id"]) == sorted(rated["question_id"])
    assert rated.height < usable.height


def test_equal_answers_and_undecided_pairs_get_no_label(all_pairs: Pairs) -> None:
    undecided, equal = with_behaviour(all_pairs).rows["question_id"][:2]
    nothing = {name: pl.when(pl.col("question_id") == undecided).then(None).otherwise(name) for name in FEATURES}
    same = pl.when(pl.col("question_id") == equal).then("response_left").otherwise("response_right")
    changed = preference_rows(Pairs(all_pairs.rows.with_columns(**nothing, response_right=same)))
    sources = {
        question: changed.filter(pl.col("question_id") == question)["label_source"].to_list()
        for question in (undecided, equal)
    }
    assert sources == {undecided: ["explicit"], equal: []}
    assert (changed["chosen"] != changed["rejected"]).all()


def test_no_forest_sees_the_worker_it_labels(all_pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spy in the place of the forest: the pair's number travels as its length ratio."""
    row_of = dict(enumerate(all_pairs.rows.iter_rows(named=True)))
    numbered = Pairs(all_pairs.rows.with_columns(length_log_ratio=pl.int_range(pl.len()).cast(pl.Float64)))
    calls: list[tuple[list[Any], list[Any]]] = []

    class Spy(ImplicitFeedbackRewardModel):
        def fit(self, X: np.ndarray, y: np.ndarray, groups: Any = None) -> Any:
            self.trained = [row_of[int(number)] for number in X[:, 0]]
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            calls.append((self.trained, [row_of[int(number)] for number in X[:, 0]]))
            return np.full((len(X), 2), 0.4)

    monkeypatch.setattr(labels, "ImplicitFeedbackRewardModel", Spy)
    out_of_fold_probabilities(numbered)
    assert len(calls) == 5
    for trained, tested in calls:
        assert not {row["worker_id"] for row in trained} & {row["worker_id"] for row in tested}
        assert {row["split"] for row in trained} == {"train"}
        assert all(row["preference"] and not row["excluded_worker"] for row in trained)
    tested_ids = sorted(row["question_id"] for _, tested in calls for row in tested)
    assert tested_ids == sorted(with_behaviour(all_pairs).rows["question_id"])


def test_a_workers_own_preferences_do_not_reach_their_labels(all_pairs: Pairs, probabilities: pl.DataFrame) -> None:
    train = labelled(all_pairs).filter(pl.col("split") == "train").rows
    worker = train["worker_id"].value_counts(sort=True)["worker_id"][0]
    theirs = pl.col("worker_id") == worker
    after = out_of_fold_probabilities(flipped(all_pairs, theirs))
    assert of(after, all_pairs, theirs) == of(probabilities, all_pairs, theirs)
    assert of(after, all_pairs, ~theirs) != of(probabilities, all_pairs, ~theirs)


def test_test_workers_do_not_reach_any_label(all_pairs: Pairs, probabilities: pl.DataFrame) -> None:
    after = out_of_fold_probabilities(flipped(all_pairs, pl.col("split") == "test"))
    assert after.equals(probabilities)


def test_swapping_the_sides_changes_no_label(all_pairs: Pairs) -> None:
    swapped = preference_rows(mirrored(all_pairs)).sort("label_source", "question_id")
    straight = preference_rows(all_pairs).sort("label_source", "question_id")
    assert swapped.drop("flip_prob").equals(straight.drop("flip_prob"))
    assert np.allclose(swapped["flip_prob"], straight["flip_prob"], atol=1e-6)


def mirrored(pairs: Pairs) -> Pairs:
    """The study with left and right exchanged everywhere."""
    rows = pairs.rows
    sides = [name for name in rows.columns if name.endswith("_left") and f"{name[:-5]}_right" in rows.columns]
    exchanged = {name: pl.col(f"{name[:-5]}_right") for name in sides}
    exchanged |= {f"{name[:-5]}_right": pl.col(name) for name in sides}
    odd = {feature.name: -pl.col(feature.name) for feature in CATALOGUE if feature.swap == ODD}
    covered = {*exchanged, *odd, *(feature.name for feature in CATALOGUE if feature.swap == EVEN)}
    assert {feature.name for feature in CATALOGUE} <= covered
    return Pairs(rows.with_columns(**exchanged, **odd, preference=pl.col("preference").replace(OTHER)))


def test_agreement_against_a_loop(rows: pl.DataFrame) -> None:
    chosen = {(row["label_source"], row["question_id"]): row for row in rows.iter_rows(named=True)}
    same: dict[str, list[bool]] = {"train": [], "test": []}
    for (source, question), row in chosen.items():
        if source == "explicit" and ("forest", question) in chosen:
            same[row["split"]].append(row["chosen"] == chosen["forest", question]["chosen"])
    assert agreement(rows) == {split: pytest.approx(np.mean(hits)) for split, hits in same.items()}
    assert agreement(rows)["train"] > 0.55


def test_the_written_config_loads_with_datasets(labelled_dataset: Path, rows: pl.DataFrame, tmp_path: Path) -> None:
    loaded = load_dataset(str(labelled_dataset), "preferences", cache_dir=str(tmp_path))
    assert {split: len(loaded[split]) for split in ("train", "test")} == dict(rows.group_by("split").len().iter_rows())
    assert loaded["train"].to_list() == rows.filter(pl.col("split") == "train").drop("split").to_dicts()
    workers = [set(loaded[split]["worker_id"]) for split in ("train", "test")]
    assert not workers[0] & workers[1]


def test_writing_again_replaces_the_rows(labelled_dataset: Path, rows: pl.DataFrame) -> None:
    again = write_preferences(labelled_dataset)
    assert (
        again.select(rows.columns)
        .sort("split", "label_source", "question_id")
        .equals(rows.sort("split", "label_source", "question_id"))
    )


def test_a_dataset_with_too_few_rated_pairs(all_pairs: Pairs) -> None:
    unrated = Pairs(all_pairs.rows.with_columns(preference=pl.lit(None, dtype=pl.String)))
    with pytest.raises(IfllmError, match=r"has 0 rated pairs .* at least 20 pairs, two workers and both kinds"):
        preference_rows(unrated)
    one_worker = Pairs(all_pairs.rows.with_columns(worker_id=pl.lit("worker_1")))
    with pytest.raises(IfllmError, match=r"of 1 worker\(s\)"):
        preference_rows(one_worker)
    one_sided = Pairs(all_pairs.rows.with_columns(preference=pl.lit("left")))
    with pytest.raises(IfllmError, match=r"1 kind\(s\) of preference"):
        preference_rows(one_sided)


def test_excluded_workers_teach_and_are_labelled_only_when_asked(all_pairs: Pairs) -> None:
    some = all_pairs.rows["worker_id"][0]
    marked = Pairs(all_pairs.rows.with_columns(excluded_worker=pl.col("worker_id") == some))
    assert some not in set(labelled(marked).rows["worker_id"])
    assert some in set(labelled(marked, all_workers=True).rows["worker_id"])
    assert some not in set(preference_rows(marked)["worker_id"])
    assert some in set(preference_rows(marked, all_workers=True)["worker_id"])


def test_error_messages_and_unread_pairs_teach_nothing(all_pairs: Pairs) -> None:
    first, second = labelled(all_pairs).rows["question_id"][:2]
    question = pl.col("question_id")
    changed = Pairs(
        all_pairs.rows.with_columns(
            ai_error=question == first,
            has_mouse=pl.col("has_mouse") & (question != second),
            has_gaze=pl.col("has_gaze") & (question != second),
        )
    )
    before, after = set(labelled(all_pairs).rows["question_id"]), set(labelled(changed).rows["question_id"])
    assert before - after == {first, second}


@pytest.mark.real
def test_polarity_on_the_real_release(real_dataset: tuple[Path, float], tmp_path: Path) -> None:
    shutil.copytree(real_dataset[0], tmp_path / "dataset")
    rows = write_preferences(tmp_path / "dataset")
    untied = rows.filter(
        (pl.col("label_source") == "explicit") & (pl.col("rating_chosen") != pl.col("rating_rejected"))
    )
    assert untied.height > 400
    assert (untied["rating_chosen"] > untied["rating_rejected"]).mean() > 0.9
    assert all(0.55 < share < 0.75 for share in agreement(rows).values())
