"""Known readers read as declared, and frames are what a dataset built of the files holds."""

from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.ifllm.study import read_study
from ifllm_hub.sources.simulation import readers
from ifllm_hub.sources.simulation.frames import simulate_frames
from ifllm_hub.sources.simulation.paths import reading_path
from ifllm_hub.sources.simulation.readers import KINDS, Habit, Kind, Reader, Turn
from ifllm_hub.sources.simulation.simulate import invite, simulate_release
from tests.sources.simulation.simulated import Simulation

KNOWN = {"reader_kind", "mouse_lag_ms", "log_pace_worker", "log_pace_conversation", "log_pace_question"}
TEXT = "x" * 900
SIZE = (8, 60, 3)  # workers, questions, seed


def reader(kind: Kind, log_pace: float = 0.0) -> Reader:
    return Reader(1366, 660, 80.0, False, 40.0, 1.0, 0.3, (0.0, 0.0), False, Habit(kind, 400.0, log_pace))


def paths(kind: Kind, texts: tuple[str, ...], n: int = 60, **turn) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    liking = (0.0,) * len(texts)
    return [reading_path(rng, reader(kind), Turn(texts, liking, None, seeds=(7, i), **turn)) for i in range(n)]


@cache
def frames(bullets: bool | None = None) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return simulate_frames(*SIZE, bullets=bullets)


# --- kinds


def test_the_linear_reader_goes_on_and_the_scanner_jumps() -> None:
    moves = {kind: [np.diff(char) for _, char in paths(kind, (TEXT,))] for kind in KINDS}
    backward, skipping = (
        {kind: np.mean([((move < low) | (move > high)).sum() for move in moves[kind]]) for kind in KINDS}
        for low, high in ((0, 10_000), (-10_000, 15))
    )
    assert backward["scanner"] > 2 * backward["linear"]
    assert skipping["scanner"] > 2 * skipping["linear"]


def seen(kind: Kind) -> float:
    """Mean share of the stretches of ten code points that were read."""
    return float(np.mean([len(np.unique(char // 10)) / (len(TEXT) / 10) for _, char in paths(kind, (TEXT,))]))


def test_the_scanner_leaves_text_out() -> None:
    assert 0.7 < seen("linear") < 0.9
    assert 0.3 < seen("scanner") < 0.6


def test_the_alternator_changes_between_answers_and_the_others_do_not() -> None:
    changes = {kind: [int((np.diff(side) != 0).sum()) for side, _ in paths(kind, (TEXT, TEXT))] for kind in KINDS}
    assert min(changes["alternator"]) >= 8
    assert all(set(changes[kind]) == {1} for kind in KINDS if kind != "alternator")


def test_the_alternator_reads_one_answer_as_the_linear_reader_does() -> None:
    for one, other in zip(paths("alternator", (TEXT,)), paths("linear", (TEXT,)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_skimmer_stops_early() -> None:
    assert seen("skimmer") < 0.6 * seen("linear")
    reached = {kind: np.mean([char.max() for _, char in paths(kind, (TEXT,))]) for kind in KINDS}
    assert reached["skimmer"] < 0.85 * reached["linear"]


# --- effects


def log_ticks(texts: tuple[str, ...], **turn) -> np.ndarray:
    """Log of the linear reader's ticks on the left answer."""
    return np.log([(side == 0).sum() for side, _ in paths("linear", texts, **turn)])


def test_time_grows_with_length_to_the_declared_power() -> None:
    slope = (log_ticks(("x" * 2400,)) - log_ticks(("x" * 600,))) / np.log(4)
    assert slope.mean() == pytest.approx(readers.LENGTH_EXPONENT, abs=0.01)


def test_a_second_answer_and_the_effects_shift_the_log_of_time() -> None:
    beside = np.log([len(s) / 2 for s, _ in paths("linear", (TEXT, TEXT), n=400)])
    alone = np.log([len(s) for s, _ in paths("linear", (TEXT,), n=400)])
    assert beside.mean() - alone.mean() == pytest.approx(-readers.PAIR_LOG_PACE, abs=0.02)
    shifted = log_ticks((TEXT,), log_pace=0.3) - log_ticks((TEXT,))
    np.testing.assert_allclose(shifted, -0.3, atol=0.01)


def test_bullets_are_read_faster_and_less_far() -> None:
    bullets = paths("linear", (TEXT,), bullet_points=True)
    prose = paths("linear", (TEXT,))
    reach = np.array([b.max() / a.max() for (_, b), (_, a) in zip(bullets, prose, strict=True)])
    time = np.array([len(b) / len(a) for (_, b), (_, a) in zip(bullets, prose, strict=True)])
    # Where the whole answer would have been reached and more, less than that may still be all of it.
    assert np.median(reach) == pytest.approx(readers.BULLETS_REACH, abs=0.01)
    np.testing.assert_allclose(np.log(time / reach), -readers.BULLETS_LOG_PACE, atol=0.03)


def test_what_is_liked_is_read_longer_and_further() -> None:
    rng = np.random.default_rng(0)
    turns = [Turn((TEXT, TEXT), (0.8, -0.8), None, seeds=(7, i)) for i in range(100)]
    for kind in KINDS:
        sides = [reading_path(rng, reader(kind), turn)[0] for turn in turns]
        assert np.mean([(side == 0).mean() for side in sides]) > 0.55, kind


def test_effects_have_the_declared_spread() -> None:
    people = invite(np.random.default_rng(0), 200, 4000, 1, known_readers=True)
    conversations = [conversation for worker in people for conversation in worker.conversations]
    habits = [worker.reader.habit for worker in people if worker.reader.habit]
    for effects, declared in (
        ([habit.log_pace for habit in habits], readers.WORKER_SD),
        ([c.log_pace for c in conversations], readers.CONVERSATION_SD),
        ([question.log_pace for c in conversations for question in c.questions], readers.QUESTION_SD),
    ):
        # Four standard errors of a mean and of a standard deviation.
        assert abs(np.mean(effects)) < 4 * declared / np.sqrt(len(effects))
        assert np.std(effects) == pytest.approx(declared, rel=4 / np.sqrt(2 * len(effects)))
    low, high = readers.MOUSE_LAG_MS
    assert all(low <= habit.mouse_lag_ms <= high for habit in habits)
    assert sorted(habit.kind for habit in habits) == sorted(KINDS * 50)


def test_the_mouse_is_where_the_eyes_were() -> None:
    """At ticks where the mouse has just moved, its distance to the gaze is smallest at the declared lag."""
    _, trajectories, truth = frames()
    lags = np.arange(0, 1001, 20)
    found, true = [], []
    for (_worker,), rows in trajectories.join(truth, on="question_id").group_by("worker_id", maintain_order=True):
        distance = np.zeros(len(lags))
        for row in rows.iter_rows(named=True):
            if len(row["t"]) < 50:
                continue
            t = np.array(row["t"], dtype=float)
            mouse = np.array([row["mouse_x"], row["mouse_y"]], dtype=float).T
            gaze = np.array([row["gaze_x"], row["gaze_y"]], dtype=float).T
            moved = np.append(False, (np.diff(mouse, axis=0) != 0).any(axis=1)) & ~np.isnan(mouse).any(axis=1)
            for i, lag in enumerate(lags):
                then = np.stack([np.interp(t[moved] - lag, t, gaze[:, axis]) for axis in (0, 1)], axis=1)
                distance[i] += np.minimum(np.abs(then - mouse[moved]).sum(axis=1), 300).sum()
        found.append(lags[distance.argmin()])
        true.append(rows["mouse_lag_ms"][0])
    np.testing.assert_allclose(found, true, atol=80)
    assert np.corrcoef(found, true)[0, 1] > 0.9


# --- the counterfactual


def test_the_counterfactual_shares_all_but_what_bullets_change() -> None:
    keys = ["conversation_id", "turn"]
    (asked, _, truth), (asked_with, _, with_), (asked_without, _, without) = (
        frames(bullets=bullets) for bullets in (None, True, False)
    )
    assert asked_with["bullet_points"].all()
    assert not asked_without["bullet_points"].any()
    same = [*keys, "mode", "query", "model_left", "model_right", "ai_error"]
    for other in (asked_with, asked_without):
        assert_frame_equal(asked.select(same).sort(keys), other.select(same).sort(keys))
    # As the coin fell, each question is that of one of the two.
    one = pl.concat([asked_with.filter("bullet_points"), asked_without]).select(*keys, "bullet_points", "response_left")
    kept = asked.join(one, on=[*keys, "bullet_points", "response_left"], how="semi")
    assert kept.height == asked.height
    place = ["worker_id", "task_id", "turn"]
    effects = [*place, *sorted(KNOWN)]
    assert_frame_equal(with_.select(effects).sort(place), without.select(effects).sort(place))
    assert_frame_equal(with_.select(effects).sort(place), truth.select(effects).sort(place))


def test_the_counterfactual_shows_the_effect_of_bullets() -> None:
    place = ["worker_id", "task_id", "turn"]
    rates = {}
    for bullets in (True, False):
        asked, _, truth = frames(bullets=bullets)
        rows = truth.join(asked.select("question_id", "response_left"), on="question_id").sort(place)
        rate = rows["reading_s_left"] / rows["response_left"].str.len_chars()
        rates[bullets] = np.log(rate.to_numpy())[~rows["ai_error"].to_numpy()]
    expected = -readers.BULLETS_LOG_PACE + np.log(readers.BULLETS_REACH)
    assert (rates[True] - rates[False]).mean() == pytest.approx(expected, abs=0.08)


# --- files and frames


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return Simulation(simulate_release(tmp_path_factory.mktemp("known") / "out", *SIZE, known_readers=True))


def test_frames_are_what_the_files_hold(known: Simulation) -> None:
    asked, trajectories, truth = frames()
    counted = ["broken_lines"]
    assert_frame_equal(truth.drop(counted), known.truth.drop(counted))
    study = read_study(open_release(known.root))
    assert_frame_equal(
        asked.drop("asked_at", "model_left"), study.questions.drop("asked_at", "model_left"), check_dtypes=True
    )
    built = study.read(list(study.people)).trajectories
    quirks = known.truth.group_by("worker_id", "task_id").agg(
        pl.any_horizontal("no_date", "split_nodes", pl.col("broken_lines") > 0).any().alias("quirk")
    )
    plain = quirks.filter(~pl.col("quirk")).select(pl.format("{}/{}", "worker_id", "task_id"))
    plain_ids = plain.to_series().to_list()
    assert len(plain_ids) > 10
    ours, theirs = (frame.filter(pl.col("conversation_id").is_in(plain_ids)) for frame in (trajectories, built))
    carets = [name for name in ours.columns if "_char_" in name]
    exact = [name for name in ours.columns if name not in carets]
    assert_frame_equal(ours.select(exact), theirs.select(exact))
    for name in carets:
        pair = pl.DataFrame({"ours": ours[name].explode(), "theirs": theirs[name].explode()})
        differ = pair.filter(pl.col("ours").ne_missing(pl.col("theirs")))
        # A window that holds nothing but a space, as at the end of a line, proves no place; the form may prove one.
        assert differ.height < 0.002 * pair.height, (name, differ.height, pair.height)


def test_the_truth_has_the_known_columns_only_where_readers_are_known(known: Simulation, small: Simulation) -> None:
    assert set(known.truth.columns) - set(small.truth.columns) == KNOWN
    assert [c for c in known.truth.columns if c not in KNOWN] == small.truth.columns
    assert set(known.truth["reader_kind"]) == set(KINDS)


def test_the_same_arguments_give_the_same_frames() -> None:
    for one, other in zip(simulate_frames(4, 30, 2), simulate_frames(4, 30, 2), strict=True):
        assert_frame_equal(one, other)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(IfllmError, match="simulate_frames: workers is 3; give 4 to 200"):
        simulate_frames(3, 60)


def test_no_frame_has_a_place_beyond_its_text() -> None:
    asked, trajectories, _ = frames()
    rows = trajectories.join(asked, on="question_id")
    for side in ("left", "right"):
        for modality in ("mouse", "gaze"):
            furthest = rows[f"{modality}_char_{side}"].list.max().fill_null(-1)
            assert (furthest <= rows[f"response_{side}"].str.len_chars().fill_null(-1)).all()
