"""The reference's reading of a release: against a slow one in plain Python, and each quirk of it, on and off."""

import csv
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from eval.reproduction.lists import PAPER_COMPARE, PAPER_PAIRWISE
from eval.reproduction.reference import Corrections, reference_features
from ifllm_hub.sources.ifllm.archive import PAIRWISE_FILES, Release, open_release

LOG = ["query_ID", "user_id", "task_id", "user_query", "llm_response_1", "llm_response_2", "llm_name_1", "llm_name_2"]
LOG += ["likert_1", "likert_2", "preference", "adjustment", "query_timestamp"]
FIRST, SECOND, RIGHT = "One answer about foxes and hounds.", "Another answer, of cats and dogs.", "The right answer."
NOON, ONE_O_CLOCK = 1_760_961_600_000, 1_760_965_200_000  # 2025-10-20


# --- against plain Python, on a simulated release -------------------------------------------------------------------


def number(field: str) -> float | None:
    """What a field of a line that csv broke may be: anything."""
    try:
        return float(field)
    except ValueError:
        return None


def near(text: str, window: str, index: int) -> bool:
    text = text.replace("\r", " ").replace("\n", " ")
    return window in text[max(0, index - 15) : min(len(text), index + 15)]


def slow_counts(release: Release) -> dict[int, dict[str, float]]:
    """The counts of the second matcher and the attention ratios of the first (docs/format.md 7.1 to 7.4)."""
    with (release.root / "query_logs_table.csv").open(encoding="utf-8") as file:
        log = [row for row in csv.DictReader(file) if not row["query_timestamp"].startswith("0000")]
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for task in release.tasks:
        own = [row for row in log if (row["user_id"], row["task_id"]) == (task.worker_id, str(task.task_id))]
        own.sort(key=lambda row: row["query_timestamp"])
        for name in (name for name in task.files if name.startswith("rel_")):
            right = name.endswith(("_two.csv", "_right.csv"))
            modality, side = ("mouse" if "mouse" in name else "gaze"), ("right" if right else "left")
            texts = {int(row["query_ID"]): row["llm_response_2" if right else "llm_response_1"] for row in own}
            with (task.path / name).open(encoding="utf-8") as file:
                lines = [
                    line
                    for line in csv.reader(file)
                    if len(line) in (6, 7) and None not in map(number, (line[0], line[1], line[4], line[-1]))
                ]
            ticks: list[tuple[float, bool, int, bool, int | None, int]] = []
            last, entered = -2, {}
            for line in lines:
                off = float(line[0]) == -1 and float(line[1]) == -1
                index, window, t = (
                    int(-1 if number(line[3]) is None else float(line[3])),
                    line[2].strip(),
                    float(line[4]),
                )
                matches = [q for q, text in texts.items() if text and window and near(text, window, index)]
                if not off and matches:
                    entered[matches[0]] = min(t, entered.get(matches[0], t))
                given = last if off else 0 if not window else (matches or [0])[0]
                last = given if not off and given > 0 else last
                ticks.append((t, off, index, len(line) == 6 or line[5] == "1", given, 0))
            prefix = f"response_{'B' if right else 'A'}_{modality}_overall_attention_ratio"
            for question in texts:
                mine = [tick for tick in ticks if tick[4] == question]
                read = [tick for tick in mine if not tick[1] and tick[2] != -1]
                found[question][prefix] = len(read) / len(mine) if mine else 0.0
                shown = [
                    tick
                    for tick in ticks
                    if question == max((t, q) for q, t in [(0, -1.0), *entered.items()] if t <= tick[0])[1]
                ]
                found[question][f"{modality}_total_entries_{side}"] = len(shown)
                found[question][f"{modality}_onscreen_points_{side}"] = sum(not tick[1] for tick in shown)
                found[question][f"{modality}_max_idx_{side}"] = max([tick[2] for tick in shown], default=-1)
                if modality == "gaze":
                    green = sum(tick[3] for tick in shown)
                    found[question]["camera_green"] = found[question].get("camera_green", 0) + green
    return found


def test_it_counts_what_plain_python_counts(release: Release) -> None:
    table = reference_features(release)
    expected = slow_counts(release)
    assert table.height > 40
    for row in table.iter_rows(named=True):
        for name, value in expected[row["question_id"]].items():
            assert row[name] == pytest.approx(value, abs=1e-12), (row["question_id"], name)
    attention = table["response_A_mouse_overall_attention_ratio"]
    assert attention.n_unique() > 20


def test_every_column_of_the_lists_is_there_and_nothing_is_missing(release: Release) -> None:
    table = reference_features(release)
    pairs, singles = (table.filter(mode=mode) for mode in ("pairwise", "pointwise"))
    assert pairs.select(PAPER_PAIRWISE).null_count().sum_horizontal().item() == 0
    assert singles.select({name.removeprefix("prev_") for name in PAPER_COMPARE}).null_count().sum_horizontal()[0] == 0


def test_phases_are_the_same_for_all_pairs_of_a_conversation(release: Release) -> None:
    """Bug B4 of docs/format.md, and its correction."""
    phases = [name for name in PAPER_PAIRWISE if "reviewing" in name or "which_side" in name]
    assert len(phases) == 16
    as_is = reference_features(release).filter(mode="pairwise")
    assert (
        as_is.group_by("conversation_id")
        .agg(pl.col(phases).n_unique() == 1)
        .select(pl.all_horizontal(phases).all())[0, 0]
    )
    corrected = reference_features(release, Corrections(per_question_phases=True)).filter(mode="pairwise")
    assert corrected.select(phases).unique().height > as_is.select(phases).unique().height


# --- each switch, on a conversation written by hand -----------------------------------------------------------------


class Conversation:
    """Two pairs, asked at noon and at one; the left panel is read by the mouse, everything else is off its panel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers = {1: (FIRST, RIGHT), 2: (SECOND, RIGHT)}
        self.lines: list[tuple[str, float, int]] = []

    def tick(self, place: str, epoch: int, timer: float | None = None) -> None:
        """`place` is what stands before the page timer: x, y, window and index."""
        self.lines.append((place, float(epoch - NOON) if timer is None else timer, epoch))

    def read(self, at: int, text: str, epoch: int, timer: float | None = None) -> None:
        self.tick(f'5,5,"{text[max(0, at - 10) : at + 10].strip()}",{at}', epoch, timer)

    def features(self, **switches: bool) -> dict[int, dict[str, float | None]]:
        task = self.folder / "user_behavior" / "ann" / "11"
        task.mkdir(parents=True, exist_ok=True)
        for name in PAIRWISE_FILES:
            rel = name.startswith("rel_")
            places = ["-1,-1,," if name != "rel_mouse_left.csv" else place for place, _, _ in self.lines]
            rows = [
                f"{place},{timer},1,{epoch}\n" if rel else f"1,1,{timer},{epoch}\n"
                for place, (_, timer, epoch) in zip(places, self.lines, strict=True)
            ]
            (task / name).write_text("".join(rows), encoding="utf-8")
        dates = {1: "2025-10-20 12:00:00", 2: "2025-10-20 13:00:00"}
        log = [
            [str(q), "ann", "11", "why?", *self.answers[q], "a", "b", "4", "4", "1.0", "0", dates[q]]
            for q in self.answers
        ]
        tables = {
            "query_logs_table.csv": [LOG, *log],
            "task_table.csv": [["user_id", "task_id", "finished"], ["ann", "11", "2025-10-20 14:00:00"]],
            "record_info_table.csv": [["user_id", "consent"], ["ann", "1"]],
        }
        for name, rows in tables.items():
            with (self.folder / name).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        found = reference_features(open_release(self.folder), Corrections(**switches))
        return {row["question_id"]: row for row in found.to_dicts()}


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    return Conversation(tmp_path)


ATTENTION, ENTRIES = "response_A_mouse_overall_attention_ratio", "mouse_total_entries_left"


def test_lost_rows(conversation: Conversation) -> None:
    """A quote that ends a window seems escaped by the one that closes it: the field runs on into the next line."""
    conversation.answers[1] = (f'{FIRST} They said "us".', RIGHT)
    conversation.read(10, FIRST, NOON + 1_000)
    conversation.tick('5,5,"us"",48', NOON + 1_100)
    conversation.read(12, FIRST, NOON + 1_200)
    conversation.read(14, FIRST, NOON + 1_300)
    as_is, corrected = conversation.features()[1], conversation.features(lost_rows=True)[1]
    assert (as_is[ENTRIES], corrected[ENTRIES]) == (3, 4)
    assert (as_is["mouse_max_idx_left"], corrected["mouse_max_idx_left"]) == (14, 48)


def test_clock(conversation: Conversation) -> None:
    """The page is loaded again: its timer starts anew, while the epoch goes on."""
    for number in range(4):
        conversation.read(10 + number, FIRST, NOON + 1_000 + 100 * number, timer=1_000.0 + 100 * (number % 2))
    name = "response_A_mouse_focused_engagement_ratio"
    windows = [f"response_A_mouse_window_{i:03d}" for i in (0, 1, 2)]
    as_is, corrected = conversation.features()[1], conversation.features(clock=True)[1]
    assert as_is[name] == corrected[name] == 1.0
    assert as_is[windows[0]] == pytest.approx((10 + 12) / 2 / len(FIRST))  # two ticks at the same time
    assert corrected[windows[0]] == pytest.approx(10 / len(FIRST))


def test_texts(conversation: Conversation) -> None:
    """A CR LF that the export put in moves the rest of the answer by one character."""
    conversation.answers[1] = (FIRST[:20] + "\r\n" + FIRST[20:], RIGHT)
    conversation.read(22, FIRST, NOON + 1_000)
    assert conversation.features()[1][ATTENTION] == 0
    corrected = conversation.features(texts=True)[1]
    assert corrected[ATTENTION] == 1
    assert corrected["response_length_left"] == len(FIRST)


def test_empty_window(conversation: Conversation) -> None:
    conversation.read(10, FIRST, NOON + 1_000)
    conversation.tick("5,5,,", NOON + 1_100)
    conversation.tick("-1,-1,,", NOON + 1_200)
    assert conversation.features()[1][ATTENTION] == pytest.approx(1 / 2)
    assert conversation.features(empty_window=True)[1][ATTENTION] == pytest.approx(1 / 3)


def test_attribution(conversation: Conversation) -> None:
    """The same text in both turns goes to the first in the reference, and so does what follows off the panel."""
    conversation.answers[2] = (FIRST, RIGHT)
    conversation.read(10, FIRST, NOON + 1_000)
    conversation.read(12, FIRST, ONE_O_CLOCK + 1_000)
    conversation.tick("-1,-1,,", ONE_O_CLOCK + 2_000)
    as_is, corrected = conversation.features(), conversation.features(attribution=True)
    assert [as_is[q][ATTENTION] for q in (1, 2)] == [pytest.approx(2 / 3), 0]
    assert [corrected[q][ATTENTION] for q in (1, 2)] == [1, 1 / 2]
    assert [corrected[q][ENTRIES] for q in (1, 2)] == [1, 2]


def test_attribution_takes_no_caret_that_its_window_does_not_confirm(conversation: Conversation) -> None:
    conversation.read(10, FIRST, NOON + 1_000)
    conversation.tick('5,5,"Rate both answers",900', NOON + 1_100)
    assert conversation.features()[1]["mouse_max_idx_left"] == 900
    assert conversation.features(attribution=True)[1]["mouse_max_idx_left"] == 10


def test_per_question_phases(conversation: Conversation) -> None:
    for number in range(3):
        conversation.read(10 + number, FIRST, NOON + 1_000 + 100 * number)
        conversation.read(10 + number, SECOND, ONE_O_CLOCK + 1_000 + 200 * number)
    conversation.lines.sort(key=lambda line: line[1])
    name = "mouse_left_reviewing_engaged_time_s"
    as_is, corrected = conversation.features(), conversation.features(per_question_phases=True)
    assert [as_is[q][name] for q in (1, 2)] == pytest.approx([0.2 + 1 + 0.2] * 2)  # a pause of an hour counts 1 s
    assert [corrected[q][name] for q in (1, 2)] == pytest.approx([0.1, 0.2])


def test_ties(conversation: Conversation) -> None:
    conversation.read(0, FIRST, NOON + 1_000)
    conversation.read(10, FIRST, NOON + 1_100)
    name = "mouse_comparison_which_side_read_further"
    assert conversation.features()[1][name] == -1
    assert conversation.features(ties=True)[1][name] == 0


def test_missing(conversation: Conversation) -> None:
    conversation.read(10, FIRST, NOON + 1_000)
    conversation.read(11, FIRST, NOON + 1_500)
    names = ("response_B_mouse_window_019", "gaze_left_reviewing_engaged_time_s", "mouse_max_idx_right")
    as_is, corrected = conversation.features()[1], conversation.features(missing=True)[1]
    assert [as_is[name] for name in names] == [0, 0, -1]
    assert [corrected[name] for name in names] == [None] * 3
    assert (as_is["response_length_right"], corrected["response_length_right"]) == (-1, len(RIGHT))


def test_without_any_quirk_in_the_data_only_definitions_differ(conversation: Conversation) -> None:
    """Clean lines, read one answer after the other on the panel: parsing, clock and texts change nothing."""
    for question, (text, start) in enumerate(((FIRST, NOON), (SECOND, ONE_O_CLOCK)), start=1):
        for number in range(5):
            conversation.read(5 + 2 * number + question, text, start + 500 + 80 * number)
    as_is = pl.DataFrame(list(conversation.features().values()))
    data_only = {"lost_rows": True, "clock": True, "texts": True, "empty_window": True}
    same = pl.DataFrame(list(conversation.features(**data_only).values()))
    assert_frame_equal(as_is, same, rel_tol=1e-9)


def test_all_switches_are_tested() -> None:
    names = {field.name for field in fields(Corrections)}
    assert names == {name.removeprefix("test_") for name in globals()} & names
    assert replace(Corrections(), ties=True) != Corrections()
