"""Preference rows: the right polarity, labels by models that never saw the worker, honest flip probabilities."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from datasets import get_dataset_config_names, load_dataset
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.dataset.writers import replace_preferences
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalog import CATALOG, EVEN, ODD
from ifllm_hub.preferences.labels import (
    MAX_FLIP_PROB,
    MODELS,
    SOURCES,
    agreement,
    agreements,
    out_of_fold_probabilities,
    preference_rows,
    write_preferences,
)
from ifllm_hub.preferences.splits import held_out_by
from ifllm_hub.reward.protocol.pairs import FEATURES, GAZE_FEATURES, MOUSE_FEATURES, Pairs, labeled, with_behavior
from ifllm_hub.statistics import mean_interval
from tests.conftest import few_trees

CONFIGS = [f"preferences_{source}" for source in SOURCES]
OTHER = {"left": "right", "right": "left"}


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    with few_trees():
        yield


@pytest.fixture(scope="module")
def probabilities(all_pairs: Pairs) -> pl.DataFrame:
    return out_of_fold_probabilities(all_pairs)


@pytest.fixture(scope="module")
def rows(labeled_study: Path) -> pl.DataFrame:
    files = [(config, split) for config in CONFIGS for split in ("train", "test")]
    return pl.concat(
        pl.read_parquet(parquet_path(labeled_study, config, split)).with_columns(split=pl.lit(split))
        for config, split in files
    )


def text(column: str) -> pl.Expr:
    return pl.col(column).list.first().struct.field("content")


def flipped(pairs: Pairs, where: pl.Expr) -> Pairs:
    """The same pairs with some preferences turned around."""
    turned = pl.when(where).then(pl.col("preference").replace(OTHER)).otherwise("preference")
    return Pairs(pairs.rows.with_columns(preference=turned))


def by_models(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("label_source").is_in(list(MODELS))).sort("label_source", "question_id")


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


def test_every_pair_with_behavior_is_labeled_once(rows: pl.DataFrame, all_pairs: Pairs) -> None:
    usable = with_behavior(all_pairs).rows.filter(pl.col("response_left") != pl.col("response_right"))
    rated = usable.filter(pl.col("preference").is_not_null())
    assert rated.height < usable.height
    mouse, gaze = (pl.any_horizontal(pl.col(names).fill_null(0) != 0) for names in (MOUSE_FEATURES, GAZE_FEATURES))
    expected = {
        "explicit": rated,
        "forest": usable,
        "forest_mouse": usable.filter(mouse),
        "forest_gaze": usable.filter(gaze),
        "longer": usable.filter(pl.col("length_log_ratio") != 0),
        "shuffled": rated,
    }
    labeled_ones = {source: sorted(rows.filter(pl.col("label_source") == source)["question_id"]) for source in SOURCES}
    assert labeled_ones == {source: sorted(table["question_id"]) for source, table in expected.items()}


def test_equal_answers_and_undecided_pairs_get_no_label(all_pairs: Pairs) -> None:
    undecided, equal = with_behavior(all_pairs).rows["question_id"][:2]
    nothing = {name: pl.when(pl.col("question_id") == undecided).then(None).otherwise(name) for name in FEATURES}
    same = pl.when(pl.col("question_id") == equal).then("response_left").otherwise("response_right")
    edited = Pairs(all_pairs.rows.with_columns(**nothing, response_right=same))
    changed = preference_rows(edited, sources=("explicit", "forest", "longer", "shuffled"))
    sources = {
        question: changed.filter(pl.col("question_id") == question)["label_source"].to_list()
        for question in (undecided, equal)
    }
    assert sources == {undecided: ["explicit", "shuffled"], equal: []}
    assert (changed["chosen"] != changed["rejected"]).all()


@pytest.mark.parametrize("group", ["worker", "conversation", "question"])
def test_no_model_sees_a_test_pair_or_the_worker_it_labels(all_pairs: Pairs, group: str) -> None:
    calls: list[tuple[Pairs, Pairs]] = []

    def spy(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        calls.append((train, test))
        return np.full(len(test), 0.4)

    out_of_fold_probabilities(held_out_by(all_pairs, group), fit=spy)
    assert len(calls) == 5
    for train, test in calls:
        assert not set(train.rows["worker_id"]) & set(test.rows["worker_id"])
        assert 4 not in set(train.rows[f"fold_{group}"])
        assert train.rows["preference"].null_count() == 0
        assert not train.rows["excluded_worker"].any()
    assert {fold for train, _ in calls for fold in train.rows[f"fold_{group}"]} == {0, 1, 2, 3}
    tested = sorted(question for _, test in calls for question in test.rows["question_id"])
    assert tested == sorted(with_behavior(all_pairs).rows["question_id"])


def test_splits_by_worker_are_the_stored_ones(all_pairs: Pairs) -> None:
    assert held_out_by(all_pairs, "worker").rows.equals(all_pairs.rows)


def test_a_workers_own_preferences_do_not_reach_their_labels(all_pairs: Pairs, rows: pl.DataFrame) -> None:
    train = labeled(all_pairs).filter(pl.col("split") == "train").rows
    worker = train["worker_id"].value_counts(sort=True)["worker_id"][0]
    theirs = pl.col("worker_id") == worker
    before, after = by_models(rows), by_models(preference_rows(flipped(all_pairs, theirs), sources=tuple(MODELS)))
    assert after.filter(theirs).equals(before.filter(theirs))
    assert set(before.filter(theirs)["label_source"]) == set(MODELS)
    for source in MODELS:
        others = (pl.col("label_source") == source) & ~theirs
        assert not after.filter(others).equals(before.filter(others))


def test_test_workers_do_not_reach_any_models_label(all_pairs: Pairs, rows: pl.DataFrame) -> None:
    after = preference_rows(flipped(all_pairs, pl.col("split") == "test"), sources=tuple(MODELS))
    assert by_models(after).equals(by_models(rows))


@pytest.mark.parametrize(
    ("source", "unread"),
    [("forest_mouse", ("length_log_ratio", *GAZE_FEATURES)), ("forest_gaze", ("length_log_ratio", *MOUSE_FEATURES))],
)
def test_a_forest_of_one_modality_reads_nothing_else(
    all_pairs: Pairs, rows: pl.DataFrame, source: str, unread: tuple[str, ...]
) -> None:
    blind = Pairs(all_pairs.rows.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in unread))
    expected = rows.filter(pl.col("label_source") == source)
    seen = preference_rows(blind, sources=(source,))
    assert seen.sort("question_id").equals(expected.sort("question_id"))


def test_longer_by_a_line_fitted_here(rows: pl.DataFrame, all_pairs: Pairs) -> None:
    known = labeled(all_pairs).filter(pl.col("split") == "train").rows
    table = {row["question_id"]: row for row in all_pairs.rows.iter_rows(named=True)}
    longer = rows.filter(pl.col("label_source") == "longer")
    slopes = {}
    for fold in range(5):
        train = known.filter(pl.col("fold_worker") != fold)
        x = train["length_log_ratio"].to_numpy()
        signed = np.where(train["preference"] == "left", x, -x) / np.sqrt((x**2).mean())
        loss = minimize_scalar(lambda w, signed=signed: np.logaddexp(0, -w * signed).sum() + w * w / 2)
        slopes[fold] = loss.x / np.sqrt((x**2).mean())
    for row in longer.iter_rows(named=True):
        source = table[row["question_id"]]
        assert len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"])
        p = expit(slopes[source["fold_worker"]] * abs(source["length_log_ratio"]))
        assert row["flip_prob"] == pytest.approx(min(1 - p, MAX_FLIP_PROB), abs=1e-4)


def test_longer_stays_longer_where_the_shorter_is_preferred(all_pairs: Pairs) -> None:
    shorter = pl.when(pl.col("length_log_ratio") > 0).then(pl.lit("right")).otherwise(pl.lit("left"))
    rated = pl.when(pl.col("preference").is_not_null()).then(shorter)
    rows = preference_rows(Pairs(all_pairs.rows.with_columns(preference=rated)), sources=("longer",))
    assert rows.height > 50
    assert (rows.select(text("chosen").str.len_chars() > text("rejected").str.len_chars())).to_series().all()
    assert (rows["flip_prob"] == MAX_FLIP_PROB).all()


def test_shuffled_labels_have_the_same_sides_and_no_meaning(rows: pl.DataFrame, all_pairs: Pairs) -> None:
    left = all_pairs.rows.select("question_id", "response_left")
    sides = rows.join(left, on="question_id").with_columns(left=text("chosen") == pl.col("response_left"))
    explicit, shuffled = (
        sides.filter(pl.col("label_source") == source).sort("question_id") for source in ("explicit", "shuffled")
    )
    assert explicit["question_id"].equals(shuffled["question_id"])
    assert (shuffled["flip_prob"] == 0).all()
    for split in ("train", "test"):
        own, permuted = (table.filter(pl.col("split") == split)["left"] for table in (explicit, shuffled))
        assert own.sum() == permuted.sum()
        share = own.mean()
        by_chance = share**2 + (1 - share) ** 2
        assert abs((own == permuted).mean() - by_chance) < 3 * np.sqrt(by_chance * (1 - by_chance) / len(own))


def test_swapping_the_sides_changes_no_label(all_pairs: Pairs, rows: pl.DataFrame) -> None:
    swapped = preference_rows(mirrored(all_pairs)).sort("label_source", "question_id")
    straight = rows.sort("label_source", "question_id")
    assert swapped.drop("flip_prob").equals(straight.drop("flip_prob"))
    assert np.allclose(swapped["flip_prob"], straight["flip_prob"], atol=1e-6)


def mirrored(pairs: Pairs) -> Pairs:
    """The study with left and right exchanged everywhere."""
    rows = pairs.rows
    sides = [name for name in rows.columns if name.endswith("_left") and f"{name[:-5]}_right" in rows.columns]
    exchanged = {name: pl.col(f"{name[:-5]}_right") for name in sides}
    exchanged |= {f"{name[:-5]}_right": pl.col(name) for name in sides}
    odd = {name: -pl.col(name) for name in (*(feature.name for feature in CATALOG if feature.swap == ODD), *FEATURES)}
    covered = {*exchanged, *odd, *(feature.name for feature in CATALOG if feature.swap == EVEN)}
    assert {feature.name for feature in CATALOG} <= covered
    return Pairs(rows.with_columns(**exchanged, **odd, preference=pl.col("preference").replace(OTHER)))


def test_agreement_against_a_loop(rows: pl.DataFrame) -> None:
    chosen = {(row["label_source"], row["question_id"]): row["chosen"] for row in rows.iter_rows(named=True)}
    counted = {(row["label_source"], row["split"]): row for row in agreements(rows).iter_rows(named=True)}
    assert len(counted) == 2 * len(SOURCES)
    for (source, split), count in counted.items():
        theirs = rows.filter((pl.col("label_source") == source) & (pl.col("split") == split))
        same = [
            chosen["explicit", question] == chosen[source, question]
            for question in theirs["question_id"]
            if ("explicit", question) in chosen
        ]
        assert (count["rated"], count["agreeing"]) == (len(same), sum(same))
        assert count["pairs"] == theirs.height
        assert count["flip_prob"] == pytest.approx(np.mean(theirs["flip_prob"].to_list()))
        assert agreement(rows, source)[split] == pytest.approx(np.mean(same))
        workers = theirs.filter(pl.col("question_id").is_in(rows.filter(label_source="explicit")["question_id"]))
        expected = mean_interval(np.array(same, float), workers["worker_id"].to_numpy())
        assert (count["low"], count["high"]) == pytest.approx((expected["low"], expected["high"]))
    assert agreement(rows)["train"] > 0.55
    assert agreement(rows, "explicit") == {"train": 1, "test": 1}


def test_pairs_that_nobody_rated_have_no_agreement(rows: pl.DataFrame) -> None:
    (count,) = agreements(rows.filter(label_source="longer", split="test")).to_dicts()
    assert (count["rated"], count["agreeing"]) == (0, 0)
    assert np.isnan([count["low"], count["high"]]).all()


def test_a_written_config_has_one_source_and_loads_with_datasets(
    labeled_study: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    assert {name for name in get_dataset_config_names(str(labeled_study)) if name.startswith("pref")} == set(CONFIGS)
    for source in SOURCES:
        loaded = load_dataset(str(labeled_study), f"preferences_{source}", cache_dir=str(tmp_path))
        assert set(loaded["train"]["label_source"]) == set(loaded["test"]["label_source"]) == {source}
        for split in ("train", "test"):
            theirs = rows.filter(label_source=source, split=split).drop("split")
            assert loaded[split].to_list() == theirs.to_dicts()
        workers = [set(loaded[split]["worker_id"]) for split in ("train", "test")]
        assert not workers[0] & workers[1]


def test_writing_again_replaces_the_rows(labeled_dataset: Path, tmp_path: Path) -> None:
    before = stored(labeled_dataset)
    folder = Path(shutil.copytree(labeled_dataset, tmp_path / "dataset"))
    again = write_preferences(folder)
    assert again.select(before.columns).sort("split", "label_source", "question_id").equals(before)
    assert stored(folder).equals(before)


def stored(folder: Path) -> pl.DataFrame:
    """The rows of all label sources, in a fixed order."""
    rows = pl.concat(load_config(folder, name) for name in present_configs(folder) if name.startswith("preferences"))
    return rows.sort("split", "label_source", "question_id")


def test_a_source_that_vanishes_goes(labeled_dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(labeled_dataset, tmp_path / "dataset"))
    replace_preferences(folder, load_config(folder, "preferences_longer"))
    assert [name for name in present_configs(folder) if name.startswith("preferences")] == ["preferences_longer"]
    assert sorted(path.name for path in folder.glob("data/preferences*")) == ["preferences_longer"]
    named = [c["config_name"] for c in yaml.safe_load((folder / "README.md").read_text().split("---")[1])["configs"]]
    assert [name for name in named if name.startswith("preferences")] == ["preferences_longer"]


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


def test_workers_whom_no_model_can_label(all_pairs: Pairs) -> None:
    """Where folds are hashes, all workers may be in one; and what the others say may be one-sided."""
    together = Pairs(all_pairs.rows.with_columns(fold_worker=pl.lit(2)))
    with pytest.raises(IfllmError, match=r"the workers of fold 2 .* the others of the train split have 0 rated pairs"):
        preference_rows(together, sources=("longer",))
    others = pl.when(pl.col("fold_worker") == 1).then("preference").otherwise(pl.lit("left"))
    one_sided = Pairs(all_pairs.rows.with_columns(preference=others))
    with pytest.raises(IfllmError, match=r"the workers of fold 1 .* both preferences are needed"):
        preference_rows(one_sided, sources=("longer",))


def test_excluded_workers_teach_and_are_labeled_only_when_asked(all_pairs: Pairs) -> None:
    some = all_pairs.rows["worker_id"][0]
    marked = Pairs(all_pairs.rows.with_columns(excluded_worker=pl.col("worker_id") == some))
    assert some not in set(labeled(marked).rows["worker_id"])
    assert some in set(labeled(marked, all_workers=True).rows["worker_id"])
    sources = ("explicit", "longer")
    assert some not in set(preference_rows(marked, sources=sources)["worker_id"])
    assert some in set(preference_rows(marked, all_workers=True, sources=sources)["worker_id"])


def test_error_messages_and_unread_pairs_teach_nothing(all_pairs: Pairs) -> None:
    first, second = labeled(all_pairs).rows["question_id"][:2]
    question = pl.col("question_id")
    changed = Pairs(
        all_pairs.rows.with_columns(
            ai_error=question == first,
            has_mouse=pl.col("has_mouse") & (question != second),
            has_gaze=pl.col("has_gaze") & (question != second),
        )
    )
    before, after = set(labeled(all_pairs).rows["question_id"]), set(labeled(changed).rows["question_id"])
    assert before - after == {first, second}
