"""features.md is enough: features of each kind, computed from `trajectories` by its words alone, with pandas."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CARETS = [f"{modality}_char_{side}" for modality in ("mouse", "gaze") for side in ("left", "right")]


class Numbers:
    """The numbers of the definitions, read in features.md."""

    def __init__(self, folder: Path):
        text = " ".join((folder / "features.md").read_text(encoding="utf-8").split())

        def number(pattern: str) -> int:
            (found,) = {match.replace(",", "") for match in re.findall(pattern, text)}
            return int(found)

        self.longest_step = number(r"\*\*dt\*\* of a tick: [^;]*?at most ([\d,]+) ms")
        self.cell = number(r"\*\*cell\*\*: char divided by (\d+)")
        self.prior = number(r"n readings, divided by n \+ (\d+)")
        self.pause = number(r"_pauses_\{left,right,diff\}` \| count \| [^|]*\| dwell runs [^|]* of at least (\d+) ms")
        self.floor = number(r"_dwell_log_ratio` \| log \| any \| ln\(\(dwell left \+ (\d+) ms\)")
        unread = re.findall(r"`\{mouse,gaze\}_(\w+)_\{left,right,diff\}` \|(?:[^|]*\|){3} (0|null) \|", text)
        self.unread = {name: 0.0 if value == "0" else np.nan for name, value in unread}


def read(folder: Path, config: str) -> pd.DataFrame:
    files = sorted((folder / "data" / config).glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in files]).set_index("question_id")


def on_text(ticks: pd.DataFrame, modality: str, numbers: Numbers) -> pd.DataFrame:
    """The on-text ticks of a modality, with what the definitions say of each."""
    left, right = ticks[f"{modality}_char_left"], ticks[f"{modality}_char_right"]
    ticks = ticks.assign(
        side=pd.Series("none", ticks.index).mask(right >= 0, "right").mask(left >= 0, "left"),
        char=right.mask(left >= 0, left),
    )
    if modality == "gaze":
        moused = ticks["mouse_char_left"].ge(0) | ticks["mouse_char_right"].ge(0)
        rest = moused[::-1].groupby(ticks["question"][::-1]).cummax()[::-1]
        never = ~moused.groupby(ticks["question"]).transform("any")
        ticks = ticks.assign(side=ticks["side"].where(rest | never, "none"))
    other = (ticks["side"] != ticks["side"].shift()) | (ticks["question"] != ticks["question"].shift())
    ticks = ticks.assign(visit=other.cumsum())
    ticks = ticks[ticks["side"] != "none"]
    ticks = ticks.assign(length=ticks["length_left"].where(ticks["side"] == "left", ticks["length_right"]))
    last = (ticks["length"] - 1) // numbers.cell
    cell = ticks["char"] // numbers.cell
    of_question = ticks.groupby("question")
    reading, before = of_question["dt"].transform("sum"), of_question["dt"].cumsum() - ticks["dt"]
    changes = (ticks["side"] != ticks["side"].shift()) & (ticks["question"] == ticks["question"].shift())
    return ticks.assign(
        cell=cell.where(cell <= last, last),
        move=ticks.groupby("visit")["char"].diff(),
        stay=1 + changes.groupby(ticks["question"]).cumsum(),
        quarter=(1 + 4 * before // reading.where(reading > 0, 1)).clip(upper=4),
        furthest=ticks.groupby(["question", "side"])["char"].cummax(),
    )


def measures(ticks: pd.DataFrame, numbers: Numbers) -> dict[str, pd.Series]:
    """Of each answer that was read, by question and side."""
    answer = ["question", "side"]
    dt, length = ticks["dt"], ticks.groupby(answer)["length"].first()

    def dwell(part: pd.Series) -> pd.Series:
        return dt.where(part, 0).groupby([ticks[name] for name in answer]).sum()

    whole = dwell(dt >= 0)
    # A cell that is left and come back to in one visit makes another run.
    begins = (ticks["cell"] != ticks["cell"].shift()) | (ticks["visit"] != ticks["visit"].shift())
    runs = ticks.assign(run=begins.cumsum()).groupby([*answer, "run"])["dt"].sum()
    early = ticks["char"].where(ticks["quarter"] <= 2).groupby([ticks[name] for name in answer]).max()
    return {
        "dwell": whole,
        "visits": ticks.groupby(answer)["visit"].nunique(),
        "return_dwell": dwell(ticks["stay"] >= 3),
        "pauses": (runs >= numbers.pause).groupby(answer).sum(),
        "coverage": ticks.groupby(answer)["cell"].nunique() / np.ceil(length / numbers.cell),
        "progress_quarter_2": (early / length).fillna(0),
        "lookback_share": dwell(ticks["char"] < ticks["furthest"] - numbers.cell) / whole.where(whole > 0),
        "tail_share": dwell(ticks["char"] >= 2 * ticks["length"] / 3) / whole.where(whole > 0),
        "forward": ticks["move"].clip(lower=0).groupby([ticks[name] for name in answer]).sum(),
    }


def computed(trajectories: pd.DataFrame, numbers: Numbers) -> pd.DataFrame:
    """A row a question, a column a feature."""
    pairwise = trajectories["mode"] == "pairwise"
    ticks = trajectories[["length_left", "length_right", "t", *CARETS]].explode(["t", *CARETS])
    ticks = ticks.rename_axis("question").reset_index().astype(dict.fromkeys(("t", *CARETS), "int64"))
    ticks["dt"] = (-ticks.groupby("question")["t"].diff(-1)).clip(upper=numbers.longest_step).fillna(0)
    duration = ticks.groupby("question")["dt"].sum()
    found = {"length_query": trajectories["length_query"]}
    lengths = [np.log(trajectories[f"length_{side}"].clip(lower=1)) for side in ("left", "right")]
    found["length_log_ratio"] = lengths[0] - lengths[1]
    for modality in ("mouse", "gaze"):
        own = on_text(ticks, modality, numbers)
        for name, values in measures(own, numbers).items():
            answers = pd.MultiIndex.from_product([own["question"].unique(), ["left", "right"]])
            sides = values.reindex(answers, fill_value=numbers.unread[name]).unstack()
            both = sides.where(pairwise.reindex(sides.index), np.nan)
            found[f"{modality}_{name}_left"] = both["left"] if name == "return_dwell" else sides["left"]
            found[f"{modality}_{name}_right"] = both["right"]
            found[f"{modality}_{name}_diff"] = both["left"] - both["right"]
        dwells = [found[f"{modality}_dwell_{side}"] + numbers.floor for side in ("left", "right")]
        found[f"{modality}_dwell_log_ratio"] = np.log(dwells[0] / dwells[1])
        found[f"{modality}_switches"] = (own.groupby("question")["stay"].max() - 1).where(pairwise)
        found[f"{modality}_on_text"] = own.groupby("question")["dt"].sum() / duration.where(duration > 0)
    table = pd.DataFrame(found, trajectories.index)
    for name in ("mouse_dwell_log_ratio", "gaze_coverage_diff"):
        of_worker = table[name].groupby(trajectories["worker_id"])
        habit = of_worker.transform("sum") / (of_worker.transform("count") + numbers.prior)
        table[f"{name}_centered"] = table[name] - habit
    return table


@pytest.mark.parametrize("data", ["simulated", pytest.param("real", marks=pytest.mark.real)])
def test_features_can_be_computed_from_the_card_alone(data: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("dataset") if data == "simulated" else request.getfixturevalue("real_dataset")[0]
    trajectories = read(folder, "trajectories")
    found = computed(trajectories, Numbers(folder)).astype(float)
    said = read(folder, "features").loc[found.index]
    assert len(found.columns) >= 60
    for name in found.columns:
        assert said[name].notna().any()
        pd.testing.assert_series_equal(found[name], said[name], rtol=1e-9, atol=1e-9, obj=name)
