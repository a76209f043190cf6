"""Made-up trials, in a folder of the format of OASST-ETC: texts and numbers are ours."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# The columns of PsychoPy's wide text that matter, some that do not, and the two that it writes twice.
COLUMNS = (
    *("n_prompt", "prompt_file", "prompt_text", "related_prompt", "n_resp", "resp_text", "rank", "Trial.thisN"),
    *("key_resp_5.rt", "slider_skip.response", "prompt_text", "resp_text", "key_resp_2.started", "key_resp_2.rt"),
    *("quality.response", "quality.rt", "rude_polite.response", "ViolentHarmless.response"),
    *("ranking_better.response", "ranking_better.rt", "participant", "date", "psychopyVersion"),
)
DATE = "2031-05-06_10h20.30.400"
QUALITY = ("", "trial", "discarted", "calibrate", "mean_distance", "mean_distance_cal", "fix_removed")
FIXATIONS = ("", "ID", "x", "y", "duration", "pupil_r", "pupil_l", "word", "word_number", "distance")
WORDS = ("", "number", "text", "x1", "y1", "x2", "y2", "line", "fixations", "fix_duration")
TRACKER = ("MEDIA_ID", "TIME(2031/05/06 10:20:01.5)", "FPOGX", "FPOGY", "FPOGS", "FPOGD", "FPOGID", "KB", "USER", "")


@dataclass(frozen=True)
class Fixation:
    """On a word of the screen, by its number, or on none; times in ms, from the answer's first fixation."""

    start: int
    duration: int
    word: int | None


@dataclass(frozen=True)
class Trial:
    """One answer; `screen` are the words as they were read off it."""

    id: str
    text: str
    fixations: Sequence[Fixation] = ()
    screen: Sequence[str] | None = None
    started: float | None = 100.0
    rank: float | str = 0
    quality: int | str = 3
    discarded: bool = False
    recorded: bool = True
    in_tracker: bool = True

    @property
    def words(self) -> Sequence[str]:
        return self.text.split() if self.screen is None else self.screen


@dataclass(frozen=True)
class Prompt:
    """A prompt with its answers in the order shown; `choice` is 1, 2 or "None"."""

    number: int
    query: str
    trials: Sequence[Trial]
    choice: int | str = 1
    decided_in: float = 2.5


@dataclass
class Reader:
    user: int
    prompts: list[Prompt]
    set: int = 1
    tracker_name: str = "User 0_fixations.csv"
    folder: Path = field(default=Path(), init=False)


def write(clone: Path, readers: Sequence[Reader], data: str = "oasstetc_data") -> Path:
    """Write a clone; each reader's `folder` is set to that of the session."""
    for reader in readers:
        reader.folder = clone / data / "raw_data" / f"participant_{reader.user}_{reader.set}" / "session_1"
        (reader.folder / "vertices").mkdir(parents=True)
        _answers(reader)
        _tables(reader)
    return clone


def answers_file(reader: Reader) -> Path:
    return reader.folder / f"{reader.set}_TEST_eye_tracker_{DATE}001_FINAL.csv"


def _answers(reader: Reader) -> None:
    rows: list[dict[str, object]] = [{"key_resp_5.rt": 12.5}, {"key_resp_5.rt": 3.25}]  # the instructions
    for prompt in reader.prompts:
        about = {"n_prompt": prompt.number, "prompt_text": prompt.query, "prompt_file": "C:\\prompts\\made_up.xlsx"}
        for trial in prompt.trials:
            said = "None" if trial.started is None else trial.quality
            rows.append(
                {
                    **about,
                    "n_resp": trial.id,
                    "resp_text": trial.text,
                    "rank": trial.rank,
                    "key_resp_2.started": "" if trial.started is None else trial.started,
                    "quality.response": said,
                    "rude_polite.response": "None" if trial.started is None else 4,
                    "ViolentHarmless.response": "None" if trial.started is None else 5,
                }
            )
        choice = {"ranking_better.response": prompt.choice, "ranking_better.rt": prompt.decided_in}
        rows.append({**about, "resp_text": 0.888, **choice})
    lines = [";;;".join((*COLUMNS, ""))]
    for row in rows:
        full = {**row, "participant": reader.set, "date": DATE, "psychopyVersion": "2023.1.0"}
        lines.append("".join(_psychopy(str(full.get(column, ""))) for column in COLUMNS))
    answers_file(reader).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _psychopy(value: str) -> str:
    """As PsychoPy writes a field: between quotes if it has a comma or a line break, its own quotes as they are."""
    return f'"{value}";;;' if "," in value or "\n" in value else f"{value};;;"


def _tables(reader: Reader) -> None:
    quality, tracker = [], []
    id_, clock = 0, 50_000
    for number, trial in enumerate(trial for prompt in reader.prompts for trial in prompt.trials):
        quality.append((number, trial.id, trial.discarded, True, 31.5, 22.25, 2))
        if not trial.recorded:
            continue
        clock += 20_000  # the ratings
        fixations = []
        for fixation in trial.fixations:
            id_ += 1
            seconds = f"{fixation.duration / 1000:.5f}"
            place = (64.0 + id_ % 900, 51.2 + id_ % 700)
            on = ("", "", "") if fixation.word is None else (trial.words[fixation.word], float(fixation.word), 1.5)
            fixations.append((id_ - 1, id_, *place, seconds, 14.1, 14.2, *on))
            if trial.in_tracker:
                start = f"{(clock + fixation.start) / 1000:.5f}"
                # A key that was pressed is written as it is, even a comma.
                tracker.append((0, start, place[0] / 1280, place[1] / 1024, start, seconds, id_, ",", "848.1", ""))
        clock += max((fixation.start + fixation.duration for fixation in trial.fixations), default=0)
        words = [(n, n, text, 10, 20, 30, 40, 1, "[]", 0.0) for n, text in enumerate(trial.words)]
        write_table(reader.folder / "vertices" / f"fixations_assigned_{trial.id}.csv", FIXATIONS, fixations)
        write_table(reader.folder / "vertices" / f"word_cor_image_fixations_{trial.id}.csv", WORDS, words)
    write_table(reader.folder / "info.csv", QUALITY, quality)
    lines = [",".join(map(str, row)) for row in (TRACKER, *tracker)]
    (reader.folder / reader.tracker_name).write_text("\n".join(lines) + "\n")


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], separator: str = ";") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator, lineterminator="\n").writerows([header, *rows])
