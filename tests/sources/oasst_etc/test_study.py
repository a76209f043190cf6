"""A made-up folder gives the questions, ticks and account that it was made of."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.extract import extract_features
from ifllm_hub.features.ticks import MAX_STEP_MS, all_ticks
from ifllm_hub.importing import import_dataset
from ifllm_hub.sources.oasst_etc import ticks as fixation_ticks
from ifllm_hub.sources.oasst_etc.study import FACTS, open_oasst_etc
from tests.sources.oasst_etc.made import Fixation, Prompt, Reader, Trial, write

QUERY = "Why, in short, is the sky blue?"
FIRST = "Air scatters blue light more than red light; so the sky, seen from below, looks blue."
SECOND = 'It "just is"'


def reading(text: str, start: int = 0, step: int = 300, lasts: int = 250) -> list[Fixation]:
    """A fixation on each word, one after the other."""
    return [Fixation(start + step * word, lasts, word) for word in range(len(text.split()))]


def prompt(number: int = 7, **changes: object) -> Prompt:
    trials = [
        Trial(f"{number}.3", FIRST, reading(FIRST), started=100.0, rank=2, quality=2),
        Trial(f"{number}.1", SECOND, reading(SECOND), started=130.5, rank=0, quality=5),
    ]
    return Prompt(**{"number": number, "query": QUERY, "trials": trials, "choice": 2, **changes})  # type: ignore[arg-type]


def read(folder: Path, *readers: Reader):
    source = open_oasst_etc(write(folder, readers))
    return source.read(list(source.people))


def one(frame: pl.DataFrame) -> dict:
    (row,) = frame.iter_rows(named=True)
    return row


def looked_at(row: dict, side: str) -> list[tuple[int, int]]:
    """When gaze came to a character of one answer."""
    return [(t, char) for t, char in zip(row["t"], row[f"gaze_char_{side}"], strict=True) if char >= 0]


def middle(text: str, word: int) -> int:
    start, end = [match.span() for match in re.finditer(r"\S+", text)][word]
    return (start + end) // 2


# --- questions


def test_the_first_answer_is_left_and_everything_said_is_kept(tmp_path: Path) -> None:
    row = one(read(tmp_path, Reader(12, [prompt()], set=3)).questions)
    assert row["question_id"] > 0
    expected = {
        "worker_id": "oasstetc_12",
        "conversation_id": "oasstetc_12/7",
        "task_id": 7,
        "turn": 1,
        "mode": "pairwise",
        "query": QUERY,
        "response_left": FIRST,
        "response_right": SECOND,
        "rating_left": 2,
        "rating_right": 5,
        "preference": "right",
        "label_oasst_rank": "right",
        "better_than_previous": None,
        "decision_time_ms": 2500,
        "politeness_left": 4,
        "harmlessness_right": 5,
        "discarded_left": False,
        "calibrated_left": True,
        "mean_distance_right": 31.5,
        "fixations_removed_left": 2,
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(("choice", "preference"), [(1, "left"), ("2", "right"), ("2.0", "right"), ("None", None)])
def test_the_choice_is_the_order_shown(tmp_path: Path, choice: object, preference: str | None) -> None:
    recorded = read(tmp_path, Reader(1, [prompt(choice=choice)]))
    assert one(recorded.questions)["preference"] == preference
    status = {"left": "the worse rated answer", "right": "the better rated answer", None: "not made"}[preference]
    assert recorded.account[f"choices: {status}"] == 1


@pytest.mark.parametrize(("ranks", "better"), [((0, 3), "left"), ((4, 1), "right"), ((1, 1), None), ((0, ""), None)])
def test_a_lower_rank_is_better(tmp_path: Path, ranks: tuple, better: str | None) -> None:
    trials = [Trial(f"7.{n}", FIRST, reading(FIRST), rank=rank) for n, rank in enumerate(ranks)]
    assert one(read(tmp_path, Reader(1, [prompt(trials=trials)])).questions)["label_oasst_rank"] == better


@pytest.mark.parametrize(
    "text",
    [
        'It "just is", he said',
        '"Quoted" without a comma',
        '"All of it, quoted"',
        "Two\nlines",
        'Three, "of\nthem"\nin all;',
        "x = 1;",
        "if (a) { b; };;",
        "One, ;;; and another",
        "naïve “quotes” – 日本語",
        '"',
    ],
)
def test_texts_are_read_as_psychopy_wrote_them(tmp_path: Path, text: str) -> None:
    trials = [Trial("7.1", text, reading(text)), Trial("7.2", SECOND, reading(SECOND))]
    row = one(read(tmp_path, Reader(1, [prompt(trials=trials, query=text)])).questions)
    assert (row["query"], row["response_left"], row["response_right"]) == (text, text, SECOND)


texts = st.lists(
    st.sampled_from(["word", "a,", '"quoted"', "end;", "x;y", "\n", "é", '"', "'", "10%"]), min_size=1, max_size=12
).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(texts.filter(str.strip), texts.filter(str.strip))
def test_any_text_is_read_as_psychopy_wrote_it(tmp_path_factory, left: str, right: str) -> None:
    trials = [Trial("7.1", left, reading(left)), Trial("7.2", right, reading(right))]
    row = one(read(tmp_path_factory.mktemp("clone"), Reader(1, [prompt(trials=trials)])).questions)
    assert (row["response_left"], row["response_right"]) == (left, right)


def test_skipped_and_incomplete_prompts_are_counted(tmp_path: Path) -> None:
    skipped = [Trial("8.1", FIRST, started=None, recorded=False), Trial("8.2", SECOND, started=None, recorded=False)]
    prompts = [prompt(7), prompt(8, trials=skipped, choice="None"), prompt(9, trials=[Trial("9.1", FIRST)])]
    recorded = read(tmp_path, Reader(1, prompts))
    assert recorded.questions["task_id"].to_list() == [7]
    pairs = {name: n for name, n in recorded.account.items() if name.startswith("pairs: ")}
    assert pairs == {"pairs: kept": 1, "pairs: skipped by the reader": 1, "pairs: without a second answer": 1}


def test_readers_are_people_and_can_be_left_out(tmp_path: Path) -> None:
    readers = [Reader(4, [prompt(1), prompt(2)]), Reader(12, [prompt(1)]), Reader(4, [prompt(3)], set=2)]
    clone = write(tmp_path, readers)
    source = open_oasst_etc(clone)
    assert source.people == {"oasstetc_12": 1, "oasstetc_4": 3}
    assert source.workers == {"oasstetc_12", "oasstetc_4"}
    recorded = source.read(["oasstetc_4"])
    assert recorded.questions["task_id"].to_list() == [1, 2, 3]
    assert recorded.questions["question_id"].is_unique().all()
    assert recorded.questions["question_id"].equals(recorded.trajectories["question_id"])


@pytest.mark.parametrize("below", ["", "oasstect_data", "oasstect_data/raw_data"])
def test_any_of_the_folders_will_do(tmp_path: Path, below: str) -> None:
    write(tmp_path, [Reader(1, [prompt()], tracker_name="P1_S1_fixations.csv")], data="oasstect_data")
    assert open_oasst_etc(tmp_path / below).people == {"oasstetc_1": 1}


# --- ticks


def test_a_fixation_is_in_the_middle_of_its_word_when_it_was(tmp_path: Path) -> None:
    row = one(read(tmp_path, Reader(1, [prompt()])).trajectories)
    left = [(300 * word, middle(FIRST, word)) for word in range(len(FIRST.split()))]
    # The second answer was shown 30.5 s after the first.
    right = [(30_500 + 300 * word, middle(SECOND, word)) for word in range(len(SECOND.split()))]
    assert (looked_at(row, "left"), looked_at(row, "right")) == (left, right)
    assert row["t"] == sorted(row["t"])
    assert (row["gaze_x"][0], row["gaze_y"][0]) == pytest.approx((65.0, 52.2))
    assert (row["viewport_width"], row["viewport_height"], row["schema_version"]) == (1280, 1024, "f1")
    assert (row["length_left"], row["length_right"], row["length_query"]) == (len(FIRST), len(SECOND), len(QUERY))
    assert set(row["mouse_x"] + row["mouse_y"] + row["face_ok"]) == {None}
    assert set(row["mouse_char_left"] + row["mouse_char_right"]) == {-1}


def test_frames_have_the_types_of_the_dataset(tmp_path: Path) -> None:
    types = read(tmp_path, Reader(1, [prompt()])).trajectories.schema
    assert types["t"] == pl.List(pl.Int32)
    assert types["gaze_x"] == types["mouse_y"] == pl.List(pl.Float32)
    assert types["gaze_char_left"] == types["mouse_char_right"] == pl.List(pl.Int16)
    assert types["face_ok"] == pl.List(pl.Boolean)
    assert types["viewport_width"] == types["length_query"] == pl.Int32


spell = st.tuples(st.integers(0, 400), st.integers(1, 2_600), st.sampled_from([None, 0, 1, 2]))


@settings(max_examples=40, deadline=None)
@given(st.lists(spell, min_size=1, max_size=15), st.lists(spell, min_size=1, max_size=15), st.booleans())
def test_dwell_is_the_time_of_fixations_and_of_short_gaps(tmp_path_factory, left, right, in_tracker: bool) -> None:
    text = "one two three"
    trials, expected = [], []
    for number, (spells, started) in enumerate([(left, 10.0), (right, 500.0)]):
        at, fixations = 0, []
        for gap, lasts, word in spells:
            at += gap if fixations and in_tracker else 0
            fixations.append(Fixation(at, lasts, word))
            at += lasts
        following = [fixation.start for fixation in fixations[1:]] + [None]
        expected.append(
            sum(
                f.duration + (then - f.start - f.duration if then and then - f.start - f.duration < 80 else 0)
                for f, then in zip(fixations, following, strict=True)
                if f.word is not None
            )
        )
        trials.append(Trial(f"7.{number}", text, fixations, started=started, in_tracker=in_tracker))
    recorded = read(tmp_path_factory.mktemp("clone"), Reader(1, [prompt(trials=trials)]))
    features = one(extract_features(recorded.trajectories))
    looked = any(spell[2] is not None for spell in left + right)
    assert [features["gaze_dwell_left"], features["gaze_dwell_right"]] == (expected if looked else [None, None])
    clock = "of the tracker" if in_tracker else "durations, one after the other"
    assert recorded.account[f"clocks: {clock}"] == 2


def test_no_step_of_a_fixation_is_cut_off_by_the_features() -> None:
    assert fixation_ticks.LONGEST_MS <= MAX_STEP_MS
    fixations = pl.DataFrame(
        {"start": [0, 4_079], "end": [4_000, 5_000], "x": [1.0, 1.0], "y": [1.0, 1.0], "char": [5, 9]}
    )
    ticks = fixation_ticks.ticks_of(fixations)
    assert ticks["t"].to_list() == [0, 1_000, 2_000, 3_000, 4_000, 4_079, 5_000]
    assert ticks["char"].to_list() == [5] * 5 + [9, -1]


def test_ticks_come_from_the_tracker_only_if_all_are_there(tmp_path: Path) -> None:
    fixations = [Fixation(0, 200, 0), Fixation(900, 100, 1)]
    trials = [
        Trial("7.1", "one two", fixations, started=10.0),
        Trial("7.2", "one two", fixations, started=20.0, in_tracker=False),
    ]
    recorded = read(tmp_path, Reader(1, [prompt(trials=trials)]))
    row = one(recorded.trajectories)
    assert [t for t, _ in looked_at(row, "left")] == [0, 900]
    assert [t for t, _ in looked_at(row, "right")] == [10_000, 10_200]
    clocks = {name: n for name, n in recorded.account.items() if name.startswith("clocks: ")}
    assert clocks == {"clocks: of the tracker": 1, "clocks: durations, one after the other": 1}


def test_ids_that_the_tracker_used_twice_give_no_times(tmp_path: Path) -> None:
    reader = Reader(1, [prompt()])
    clone = write(tmp_path, [reader])
    tracker = reader.folder / reader.tracker_name
    (reader.folder / "Restarted_fixations.csv").write_bytes(tracker.read_bytes())
    account = open_oasst_etc(clone).read(["oasstetc_1"]).account
    assert account["clocks: durations, one after the other"] == 2


def test_answers_never_overlap(tmp_path: Path) -> None:
    trials = [
        Trial("7.1", "one two", [Fixation(0, 9_000, 0)], started=10.0),
        Trial("7.2", "one two", [Fixation(0, 500, 1)], started=11.0),
    ]
    row = one(read(tmp_path, Reader(1, [prompt(trials=trials)])).trajectories)
    assert row["t"] == sorted(row["t"])
    assert looked_at(row, "right") == [(9_000, middle("one two", 1))]


def test_a_discarded_trial_keeps_its_label_and_loses_its_ticks(tmp_path: Path) -> None:
    trials = [Trial("7.1", FIRST, reading(FIRST), discarded=True), Trial("7.2", SECOND, reading(SECOND), started=140.0)]
    recorded = read(tmp_path, Reader(1, [prompt(trials=trials)]))
    row = one(recorded.trajectories)
    assert looked_at(row, "left") == []
    assert looked_at(row, "right")[0][0] == 40_000
    assert one(recorded.questions)["preference"] == "right"
    assert one(recorded.questions)["discarded_left"] is True
    assert recorded.account["trials: discarded by the authors"] == recorded.account["trials: kept"] == 1


def test_pairs_without_any_recording_have_empty_lists(tmp_path: Path) -> None:
    trials = [Trial("7.1", FIRST, discarded=True), Trial("7.2", SECOND, recorded=False)]
    recorded = read(tmp_path, Reader(1, [prompt(8), prompt(7, trials=trials)]))
    row = recorded.trajectories.row(1, named=True)
    assert row["schema_version"] is None
    assert all(row[name] == [] for name, type_ in recorded.trajectories.schema.items() if isinstance(type_, pl.List))
    assert recorded.account["trials: without a recording"] == 1
    assert extract_features(recorded.trajectories)["gaze_dwell_left"].null_count() == 1


def test_everything_that_came_in_has_one_status(tmp_path: Path) -> None:
    screen = ["Air", "§§§", *FIRST.split()[1:]]
    fixations = [Fixation(0, 100, None), Fixation(100, 100, 0), Fixation(200, 100, 1), Fixation(300, 100, 2)]
    trials = [Trial("7.1", FIRST, fixations, screen=screen), Trial("7.2", SECOND, reading(SECOND), started=200)]
    account = read(tmp_path, Reader(1, [prompt(trials=trials)])).account
    assert account == {
        "pairs: kept": 1,
        "choices: of answers rated the same, or not rated": 1,
        "trials: kept": 2,
        "clocks: of the tracker": 2,
        "fixations: on a word": 2 + len(SECOND.split()),
        "fixations: on a word that is not in the answer": 1,
        "fixations: on no word": 1,
        "words: matched": len(FIRST.split()) + len(SECOND.split()),
        "words: not in the answer": 1,
    }


def test_features_of_several_readers_are_those_of_their_fixations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    readers, expected = [], {}
    for user in range(1, 6):
        prompts = []
        for number in range(1, 5):
            lasts = rng.integers(100, 900, (2, 2))
            trials = [
                Trial(
                    f"{number}.{n}",
                    "first second",
                    [Fixation(0, int(a), 0), Fixation(2_000, int(b), 1)],
                    started=50.0 * n,
                )
                for n, (a, b) in enumerate(lasts)
            ]
            prompts.append(prompt(number, trials=trials))
            expected[f"oasstetc_{user}/{number}"] = lasts.sum(1).tolist()
        readers.append(Reader(user, prompts))
    recorded = read(tmp_path, *readers)
    features = extract_features(recorded.trajectories).join(recorded.questions, on="question_id")
    found = {
        row["conversation_id"]: [row["gaze_dwell_left"], row["gaze_dwell_right"]]
        for row in features.iter_rows(named=True)
    }
    assert found == expected
    # Before the second answer appears, nothing lasts longer than its fixation.
    assert all_ticks(recorded.trajectories)["dt"].max() <= MAX_STEP_MS


def test_a_folder_becomes_a_dataset_with_both_labels(tmp_path: Path) -> None:
    readers = [Reader(user, [prompt(number, choice=1 + number % 2) for number in range(1, 5)]) for user in range(1, 9)]
    source = open_oasst_etc(write(tmp_path / "clone", readers))
    manifest = import_dataset(source, FACTS, tmp_path / "dataset")
    assert (manifest["people"], manifest["questions"]) == (8, {"pairwise": 32, "pointwise": 0})
    assert manifest["received"] == dict(sorted(source.read(list(source.people)).account.items()))
    pairs = load_config(tmp_path / "dataset", "pairwise").sort("worker_id", "task_id")
    assert pairs["preference"].to_list() == ["right", "left"] * 16
    ranks = pl.read_csv(tmp_path / "dataset" / "labels" / "oasst_rank.csv")
    assert dict(ranks.iter_rows()) == dict.fromkeys(pairs["question_id"], 0.0)
    card = (tmp_path / "dataset" / "README.md").read_text()
    assert FACTS["title"] in card
    assert "10.1145/3725840" in card


def test_what_the_card_says_names_its_source() -> None:
    assert (FACTS["name"], FACTS["license"]) == ("oasst-etc", "unknown")
    assert "inferred" in " ".join(FACTS["problems"])
