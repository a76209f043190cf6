"""The same arguments simulate the same bytes; what cannot be simulated is refused, and nothing half-made stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.simulation import simulate
from ifllm_hub.sources.simulation.simulate import simulate_release
from tests.sources.simulation.simulated import Simulation, digests


def test_the_same_seed_gives_the_same_bytes_in_another_process(small: Simulation, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from ifllm_hub.sources.simulation.simulate import simulate_release; "
    code += "simulate_release(Path(sys.argv[1]), 8, 80, seed=3)"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")], check=True, env={**os.environ, "PYTHONHASHSEED": "17"}
    )
    assert digests(tmp_path / "again") == digests(small.root)


def test_another_seed_gives_other_data(small: Simulation, tmp_path: Path) -> None:
    other = Simulation(simulate_release(tmp_path / "other", 4, 30, seed=4))
    assert {row["user_id"] for row in other.log}.isdisjoint(row["user_id"] for row in small.log)
    texts = [{r["llm_response_1"] for r in s.log if not r["llm_response_1"].startswith("AI")} for s in (other, small)]
    assert texts[0].isdisjoint(texts[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_smallest_simulation_has_every_quirk(tmp_path: Path, seed: int) -> None:
    sim = Simulation(simulate_release(tmp_path / "tiny", 4, 30, seed))
    flags = ("clock_error", "no_date", "unlabeled", "ai_error", "cr_lf", "model_cr_lf", "emoji", "split_nodes")
    assert all(sim.truth[flag].any() for flag in (*flags, "late_batch"))
    assert not sim.truth["has_behavior"].all()
    assert sim.truth["broken_lines"].sum() > 0
    assert sim.truth["schema_version"].unique().sort().to_list() == [1, 2, 3]
    assert set(sim.truth["mode"]) == {"pairwise", "pointwise"}


def test_an_empty_folder_may_exist(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "empty"
    assert simulate_release(out, 4, 30) == out
    assert sorted(path.name for path in out.iterdir()) == ["dataset", "ground_truth.parquet"]


def test_an_interrupted_simulation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "write_recording", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate_release(tmp_path / "out", 4, 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("workers", "questions", "seed", "message"),
    [
        pytest.param(3, 60, 0, r"workers is 3; give 4 to 200", id="few-workers"),
        pytest.param(201, 4000, 0, r"workers is 201; give 4 to 200", id="many-workers"),
        pytest.param(4, 29, 0, r"questions is 29; give 30 to 160 for 4 workers", id="few-questions"),
        pytest.param(10, 39, 0, r"questions is 39; give 40 to 400 for 10 workers", id="few-questions-a-worker"),
        pytest.param(4, 161, 0, r"questions is 161; give 30 to 160", id="many-questions"),
        pytest.param(4, 30, -1, r"seed is -1; give 0 or more", id="seed"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, workers: int, questions: int, seed: int, message: str
) -> None:
    with pytest.raises(IfllmError, match=message):
        simulate_release(tmp_path / "out", workers, questions, seed)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for taken in ("full", "file"):
        with pytest.raises(IfllmError, match=rf"{taken}: exists and was not made by this command"):
            simulate_release(tmp_path / taken)
    with pytest.raises(IfllmError, match="cannot be written"):
        simulate_release(tmp_path / "file" / "below")
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "keep"
