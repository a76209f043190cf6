"""The files of a cloned OASST-ETC folder: where they are, and their columns, checked before anything is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ifllm_hub.errors import IfllmError, first_line

URL = "https://github.com/Telefonica-Scientific-Research/oasstetc"
# How the published repository and its older commits spell the folder.
_DATA = ("oasstetc_data", "oasstect_data")
_READER = re.compile(r"participant_([0-9]{1,6})_([0-9]{1,6})")
# A trial is one answer of a prompt, as "848.3". It becomes part of a file's name.
TRIAL = re.compile(r"[0-9]{1,9}\.[0-9]{1,4}", re.ASCII)
# Twenty times the largest file of the published folder.
_MOST_BYTES = 40_000_000

FIXATIONS = {
    "ID": pl.Int64,
    "x": pl.Float64,
    "y": pl.Float64,
    "duration": pl.Float64,
    "word_number": pl.Float64,
}
WORDS = {"number": pl.Int64, "text": pl.String}
TRACKER = {"FPOGS": pl.Float64, "FPOGD": pl.Float64, "FPOGID": pl.Int64}
QUALITY = {
    "trial": pl.String,
    "discarted": pl.String,
    "calibrate": pl.String,
    "mean_distance": pl.Float64,
    "fix_removed": pl.Float64,
}


@dataclass(frozen=True)
class Session:
    """The files of one reader and one set of prompts.

    Attributes:
        user: the reader, as in the folder's name.
        prompts: the set of prompts, as in the folder's name.
        folder: `participant_<user>_<prompts>/session_1`.
        answers: what PsychoPy wrote of the session.
        tracker: the tracker's fixations; more than one file if it was started anew.
    """

    user: str
    prompts: str
    folder: Path
    answers: Path
    tracker: tuple[Path, ...]

    def quality(self) -> pl.DataFrame:
        """What the authors say of each trial: the columns of `QUALITY`."""
        return read_table(self.folder / "info.csv", ";", QUALITY)

    def fixations(self, trial: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """The fixations on a trial and the words on its screen, or None if neither is there.

        Raises:
            IfllmError: one of the two files is missing, or damaged.
        """
        fixations = self.folder / "vertices" / f"fixations_assigned_{trial}.csv"
        words = self.folder / "vertices" / f"word_cor_image_fixations_{trial}.csv"
        if not fixations.is_file() and not words.is_file():
            return None
        return read_table(fixations, ";", FIXATIONS), read_table(words, ";", WORDS)

    def starts(self) -> pl.DataFrame:
        """When each fixation began: `FPOGID`, `FPOGS` (s), `FPOGD` (s, duration), without ids that occur twice."""
        every = pl.concat(read_table(path, ",", TRACKER) for path in self.tracker)
        return every.filter(pl.col("FPOGID").is_unique())


def find_sessions(folder: Path) -> list[Session]:
    """The sessions in a clone of the repository, in its data folder or in `raw_data`, by reader and set of prompts.

    Raises:
        IfllmError: there are none, or files of one are missing.
    """
    if not folder.is_dir():
        raise IfllmError(f"{folder}: no such folder. Clone the data first: {_clone()}")
    raw = _raw_data(folder)
    named = [match for path in raw.iterdir() if (match := _READER.fullmatch(path.name)) and path.is_dir()]
    named.sort(key=lambda match: (int(match[1]), int(match[2])))
    return [_session(raw / match.group(), *match.groups()) for match in named]


def read_table(path: Path, separator: str, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Some columns of a CSV file, as their types; an empty field is null.

    Raises:
        IfllmError: the file is missing, its header is another one, or a field has another type.
    """
    content = read_bytes(path)
    # The tracker quotes nothing, and writes a key that was pressed as it is, behind the columns that are read here.
    tracker = separator == ","
    try:
        table = pl.read_csv(
            content,
            separator=separator,
            quote_char=None if tracker else '"',
            truncate_ragged_lines=tracker,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        raise IfllmError(
            f"{path}: is not a CSV file with {separator!r} ({first_line(error)}). {complete_it()}"
        ) from error
    check_header(path, table.columns, columns, separator)
    typed = []
    for name, type_ in columns.items():
        try:
            typed.append(table[name].cast(type_))
        except pl.exceptions.PolarsError as error:
            raise IfllmError(
                f"{path}: column {name!r} has values other than {type_.__name__} ({first_line(error)}). {complete_it()}"
            ) from error
    return pl.DataFrame(typed)


def check_header(path: Path, found: list[str], needed: Mapping[str, object], separator: str) -> None:
    """Refuse a header that lacks a column.

    Raises:
        IfllmError: it does.
    """
    if missing := [name for name in needed if name not in found]:
        shown = ", ".join(ascii(name)[1:-1] for name in found[:12])
        raise IfllmError(
            f"{path}: no column {', '.join(missing)} (separator {separator!r} expected; the header begins with "
            f"{shown[:200]}). {complete_it()}"
        )


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        IfllmError: it is missing, or larger than any of the study's.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise IfllmError(f"{path}: larger than any file of OASST-ETC ({_MOST_BYTES:,} bytes). {complete_it()}")
        return path.read_bytes()
    except OSError as error:
        raise IfllmError(f"{path}: cannot be read ({error.strerror}). {complete_it()}") from error


def _raw_data(folder: Path) -> Path:
    candidates = [folder, folder / "raw_data", *(folder / name / "raw_data" for name in _DATA)]
    for raw in candidates:
        if raw.is_dir() and any(path.is_dir() and _READER.fullmatch(path.name) for path in raw.iterdir()):
            return raw
    raise IfllmError(f"{folder}: no folders participant_<reader>_<set> in it or in its raw_data. {complete_it()}")


def _session(reader: Path, user: str, prompts: str) -> Session:
    folder = reader / "session_1"
    if not (folder / "vertices").is_dir():
        raise IfllmError(f"{folder / 'vertices'}: no such folder. {complete_it()}")
    answers = sorted(folder.glob("*_TEST_eye_tracker_*.csv"))
    final = [path for path in answers if path.stem.endswith("_FINAL")]
    chosen = final or answers
    if len(chosen) != 1:
        raise IfllmError(
            f"{folder}: {len(chosen)} files *_TEST_eye_tracker_*_FINAL.csv with the reader's answers, 1 expected. "
            f"{complete_it()}"
        )
    tracker = tuple(sorted(folder.glob("*_fixations.csv")))
    if not tracker:
        raise IfllmError(f"{folder}: no file *_fixations.csv of the tracker (`User 0_fixations.csv`). {complete_it()}")
    if not (folder / "info.csv").is_file():
        raise IfllmError(f"{folder / 'info.csv'}: missing. {complete_it()}")
    return Session(user, prompts, folder, chosen[0], tracker)


def _clone() -> str:
    return f"git clone --filter=blob:none --sparse {URL}, then, inside it, {_SPARSE}"


def complete_it() -> str:
    """What to do about a file that is missing or damaged."""
    return (
        f"Complete the clone: {_SPARSE} (older commits: {_DATA[1]}/raw_data), or clone the data again; without the "
        "reader's folder, the others can be read."
    )


_SPARSE = f"`git sparse-checkout set {_DATA[0]}/raw_data`"
