"""Running the protocol: complete, the same however it is run, resumed where it stopped, and the command."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from joblib import parallel_config
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.protocol import full_leaderboard as full
from ifllm_hub.reward.protocol import leaderboard as module
from ifllm_hub.reward.protocol import text
from ifllm_hub.reward.protocol.candidates import FOREST, FULL, LONGER_ANSWER, TEXT_CONTRAST, Candidate, longer, majority
from ifllm_hub.reward.protocol.folds import LEAVE_ONE_OUT, PROTOCOLS, correct, out_of_fold
from ifllm_hub.reward.protocol.full_leaderboard import run_leaderboard
from ifllm_hub.reward.protocol.leaderboard import Job, leaderboard, run_jobs
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.reward.protocol.tables import leaderboard_markdown, leaderboard_page
from ifllm_hub.statistics import effective_workers
from tests.reward.made import half_and_half


@pytest.fixture(scope="module")
def boards(pairs: Pairs) -> list[dict[str, Any]]:
    """Leaderboards of two quick candidates by one process and by two, and the progress told on the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CANDIDATES", (Candidate("majority side", majority), LONGER_ANSWER))
        patch.setattr(module, "FOREST", LONGER_ANSWER)
        shares: list[float] = []
        one = leaderboard(pairs, seeds=1, n_jobs=1, advance=shares.append)
        return [one, leaderboard(pairs, seeds=1, n_jobs=2), {"shares": shares}]


def test_leaderboard_does_not_depend_on_the_number_of_processes(boards: list[dict[str, Any]]) -> None:
    assert boards[0] == boards[1]


def test_leaderboard_has_every_candidate_under_every_protocol(boards: list[dict[str, Any]], pairs: Pairs) -> None:
    board = boards[0]
    assert [(row["model"], row["protocol"]) for row in board["rows"]] == [
        (name, fold) for fold in PROTOCOLS for name in ("majority side", "longer answer")
    ]
    counts = {"pairs": len(pairs), "workers": 16, "seeds": 1, "left_preferred": pytest.approx(pairs.y.mean())}
    assert {key: board[key] for key in counts} == counts
    longer = board["rows"][-1]
    again = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", 1)
    assert longer["accuracy"]["mean"] == correct(again, pairs.y).mean()
    for row in board["rows"]:
        for measure, own in (("accuracy", "gain"), ("auc", "auc"), ("brier", "brier")):
            adjusted, difference = row["adjusted"][measure], row[f"{own}_over_longer_answer"]
            assert adjusted["low"] <= difference["low"] + 1e-12
            assert adjusted["high"] >= difference["high"] - 1e-12
            assert (adjusted["p"] < 0.05) == (adjusted["low"] > 0 or adjusted["high"] < 0)
    assert board["effective_workers"] == pytest.approx(effective_workers(pairs.groups("worker_id")))
    assert set(board["permuted_labels"]) == set(PROTOCOLS)
    shares = boards[2]["shares"]
    assert shares == sorted(shares)
    assert shares[-1] == 1


class Counting:
    """A model that counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        self.calls += 1
        return np.full(len(test), 0.25 + seed / 10)


def test_a_finished_result_is_used_again_for_the_same_data_code_and_seeds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = half_and_half(40)
    fit = Counting()

    def run(pairs: Pairs = pairs, seeds: int = 2, name: str = "counting", protocol: str = "worker") -> int:
        """Calls of the model that the run needed."""
        before = fit.calls
        (result,) = run_jobs([Job(protocol, seeds, Candidate(name, fit))], pairs, finished=tmp_path).values()
        assert result.tolist() == [[0.25 + seed / 10] * len(pairs) for seed in range(seeds)]
        return fit.calls - before

    assert run() == 10
    assert run() == 0
    assert run(seeds=3) == 15
    assert run(name="another") == 10
    assert run(protocol="question") == 10
    assert run(Pairs(pairs.rows.with_columns(length_log_ratio=pl.lit(0.5)))) == 10
    assert run(Pairs(pairs.rows.with_columns(pl.Series(TEXT_CONTRAST, range(40))))) == 0, "it reads no text"
    assert run() == 0
    monkeypatch.setattr(module, "_CODE", ("../model/estimator.py",))
    assert run() == 10


def test_a_model_that_reads_text_is_run_again_for_another_encoder(tmp_path: Path) -> None:
    fit = Counting()
    job = Job("worker", 1, Candidate("text", fit, needs_text=True))
    for value, calls in ((1, 5), (1, 5), (2, 10)):
        pairs = Pairs(half_and_half(40).rows.with_columns(pl.lit(value).alias(TEXT_CONTRAST)))
        run_jobs([job], pairs, finished=tmp_path)
        assert fit.calls == calls


def test_an_interrupted_run_keeps_what_was_finished(tmp_path: Path) -> None:
    pairs, fit = half_and_half(40), Counting()

    def killed(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        raise KeyboardInterrupt

    jobs = [Job("worker", 1, Candidate("first", fit)), Job("worker", 1, Candidate("second", killed))]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, pairs, finished=tmp_path)
    run_jobs([jobs[0], Job("worker", 1, Candidate("second", fit))], pairs, finished=tmp_path)
    assert fit.calls == 10
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    job = Job("worker", 1, Candidate("counting", Counting()))
    run_jobs([job], half_and_half(40), finished=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IfllmError, match=rf"{file}: damaged .* Delete it and run again"):
        run_jobs([job], half_and_half(40), finished=tmp_path)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """All models of the full leaderboard, all but one of them no more than the majority; no text encoder."""
    with pytest.MonkeyPatch.context() as patch, parallel_config("sequential"):
        patch.setattr(full, "FULL", tuple(one if one == LONGER_ANSWER else replace(one, fit=majority) for one in FULL))
        patch.setattr(full, "FOREST", replace(FOREST, fit=majority))
        patch.setattr(text, "find_text_model", lambda: None)
        yield


@pytest.fixture(scope="module")
def ran(quick: None, study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command wrote, and what it printed."""
    out = tmp_path_factory.mktemp("leaderboard") / "new" / "out"
    done = CliRunner().invoke(app, ["leaderboard", str(study), "--out", str(out), "--seeds", "2"])
    assert done.exit_code == 0, done.output
    return out, done.output


def test_the_command_writes_tables_and_figures(ran: tuple[Path, str], pairs: Pairs) -> None:
    out, printed = ran
    board = json.loads((out / "leaderboard.json").read_text())
    page = (out / "leaderboard.md").read_text()
    assert page == leaderboard_page(board)
    assert f"leaderboard: {out / 'leaderboard.md'}" in printed
    models = [candidate.name for candidate in FULL if not candidate.needs_text]
    for protocol, seeds in (*((name, 2) for name in PROTOCOLS), (LEAVE_ONE_OUT, 2)):
        rows = [row for row in board["rows"] if row["protocol"] == protocol]
        assert [row["model"] for row in rows] == models
        assert leaderboard_markdown(board, protocol) in page
        again = out_of_fold(pairs, LONGER_ANSWER.fit, protocol, seeds)
        assert rows[models.index(LONGER_ANSWER.name)]["brier"] == pytest.approx(((again - pairs.y) ** 2).mean())
    for file in ("leaderboard.png", "coverage.png"):
        assert f"]({file})" in page
        assert (out / file).read_bytes().startswith(b"\x89PNG")
    assert set(board["permuted_labels"]) == set(board["block_permuted_labels"]) == set(PROTOCOLS)
    gain = next(r for r in board["rows"] if (r["model"], r["protocol"]) == (FOREST.name, "worker"))
    half = gain["gain_over_longer_answer"]["high"] - gain["gain_over_longer_answer"]["mean"]
    assert half < board["detectable_gain"] < 2 * half
    assert f"{board['workers']} workers tell as much as {board['effective_workers']:.1f} with equally many" in page
    assert f"gain of accuracy below {board['detectable_gain']:.3f} is" in page
    assert "**Simulated or modified data, not the study's.**" in page
    assert "`ifllm leaderboard DATASET --out FOLDER --seeds 2`" in page
    assert board["longer_rule"] == correct(longer(pairs), pairs.y).mean()


def test_it_says_what_was_left_out(ran: tuple[Path, str]) -> None:
    out, printed = ran
    assert json.loads((out / "leaderboard.json").read_text())["left_out"] == ["text embedding + length"]
    assert "left out, because there is no text encoder (--text-model): text embedding + length" in printed
    assert "no text encoder was available: text embedding + length." in (out / "leaderboard.md").read_text()


def test_a_second_run_computes_nothing_and_writes_the_same(
    ran: tuple[Path, str], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = ran
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    monkeypatch.setattr(Job, "run", None)
    shares: list[float] = []
    run_leaderboard(study, out, seeds=2, advance=shares.append)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_parts_are_scored_on_their_own_pairs(pairs: Pairs) -> None:
    contrast = np.nan_to_num(pairs.X(("length_log_ratio", "mouse_dwell_log_ratio")))
    length, dwell = (1 / (1 + np.exp(-column))[None] for column in contrast.T)
    rows = full.parts(dict.fromkeys(full._LOOKED_AT, dwell) | {LONGER_ANSWER.name: length}, pairs)
    sizes = {(row["by"], row["part"].split(",")[0]): row["pairs"] for row in rows}
    lengths = (pairs.rows["length_left"] + pairs.rows["length_right"]).to_numpy()
    thirds = [sizes["total length", part] for part in ("short", "medium", "long")]
    assert sum(thirds) == len(pairs)
    assert max(thirds) - min(thirds) <= 3
    gap = (pairs.rows["rating_left"].cast(int) - pairs.rows["rating_right"]).abs().to_numpy()
    assert sizes["rating gap", "tie"] == (gap == 0).sum()
    assert sizes["rating gap", "1"] == (gap == 1).sum()
    assert sizes["rating gap", "decided (1 or more)"] == (gap > 0).sum()
    long = lengths >= np.sort(lengths)[-sizes["total length", "long"]]
    (row,) = (row for row in rows if row["part"] == "long" and row["model"] == FOREST.name)
    assert row["accuracy"]["mean"] == pytest.approx(correct(dwell, pairs.y)[0, long].mean())
    gain = (correct(dwell, pairs.y) - correct(length, pairs.y))[0, long].mean()
    assert row["gain_over_longer_answer"]["mean"] == pytest.approx(gain)


def test_a_part_of_a_handful_of_pairs_is_not_scored(pairs: Pairs) -> None:
    few = Pairs(
        pairs.rows.with_columns(rating_left=pl.lit(3), rating_right=pl.Series([5] * 19 + [3] * (len(pairs) - 19)))
    )
    rows = full.parts(dict.fromkeys(full._LOOKED_AT, np.full((1, len(few)), 0.6)), few)
    assert {row["part"] for row in rows if row["by"] == "rating gap"} == {"tie"}


def test_a_folder_that_cannot_be_made_is_one_clear_error(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IfllmError, match="cannot be written"):
        run_leaderboard(study, tmp_path / "file" / "out", seeds=1)
