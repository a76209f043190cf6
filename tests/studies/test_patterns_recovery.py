"""The study of recovery at a tiny size: what it counts is what its studies found, and it counts right."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval.studies import patterns_recovery, patterns_tables, patterns_ticks
from eval.studies.patterns_tables import Found, table_truths
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.patterns.variation import length
from ifllm_hub.sources.simulation.frames import simulate_frames


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `page.md` and, under `kept`, what it is of."""
    folder = tmp_path_factory.mktemp("recovery")
    with pytest.MonkeyPatch.context() as patch:
        _tiny(patch)
        _write(folder, "page.md")
    return folder


def _tiny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(patterns_tables, "CONVERSATIONS", (6, 4, 3, 3, 2, 2, 2, 1))
    patch.setattr(patterns_tables, "_DRAWS", 99)
    patch.setattr(patterns_tables, "_LARGE", 10_000)
    patch.setattr(patterns_ticks, "COUNTERFACTUALS", 1)
    patch.setattr(length, "POINTS", 5)
    for name, value in (("WORKERS", 6), ("QUESTIONS", 40), ("GROUPED", 0)):
        patch.setattr(patterns_recovery, name, value)


def _write(folder: Path, name: str) -> None:
    patterns_recovery.main(["--tables", "2", "--ticks", "2", "--kept", f"{folder}/kept", "--out", f"{folder}/{name}"])


def _never(*arguments: object) -> None:
    raise AssertionError("a study that is kept was made again")


def _cells(page: Path) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    # What is looked at again has a second row.
    return {line[0]: line[1:] for line in reversed(lines) if len(line) == 8 and " of " in line[5]}


def test_every_truth_is_looked_for(written: Path) -> None:
    cells = _cells(written / "page.md")
    with pytest.MonkeyPatch.context() as patch:
        _tiny(patch)
        missing = set(table_truths()) - set(cells)
    assert not missing
    assert {"lag of the mouse", "lag of the mouse, as declared", "bullet points, reached, mouse"} <= set(cells)


def test_coverage_is_counted_over_the_kept_studies(written: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _tiny(patch)
        truths = table_truths()
    studies = [json.loads(path.read_text()) for path in sorted((written / "kept" / "tables").glob("*.json"))]
    assert len(studies) == 2
    for name, cells in _cells(written / "page.md").items():
        if name in truths:
            ends = [study[name][1:3] for study in studies if None not in study[name][1:3]]
            held = sum(low <= truths[name] <= high for low, high in ends)
            assert cells[4] == f"{held} of {len(ends)}"


def test_a_second_run_writes_the_same_of_what_was_kept(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tiny(monkeypatch)
    for module, name in ((patterns_ticks, "tick_study"), (patterns_recovery, "table_study")):
        monkeypatch.setattr(module, name, _never)
    _write(written, "again.md")
    assert (written / "again.md").read_bytes() == (written / "page.md").read_bytes()


def test_a_study_is_drawn_the_same_each_time_and_others_differ() -> None:
    first, again, other = (patterns_tables._study(np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_intervals_are_counted() -> None:
    truths = {"a": 1.0, "b": 0.0}
    # Of "a", 7 of 9 intervals hold 1; the tenth study has none. "c" has no truth.
    ends = [(0.5, 1.5)] * 7 + [(1.1, 2.0), (-1.0, 0.9), (math.nan, math.nan)]
    found = [
        {"a": Found(1.0 + k % 2, *pair), "b": Found(0.1 * k, -1.0, 1.0), "c": Found(0, 0, 0)}
        for k, pair in enumerate(ends)
    ]
    a, b = patterns_recovery.rows(found, [truths] * len(found))
    assert (a.name, a.held, a.n, a.recovered) == ("a", 7, 9, False)
    assert a.width == pytest.approx((7 * 1.0 + 0.9 + 1.9) / 9)
    assert (b.held, b.n, b.recovered) == (10, 10, True)
    assert "not recovered" in patterns_recovery.cells(a)[-1]
    assert [line.split(".")[0] for line in patterns_recovery.failures([a, b])] == ["Not recovered: a"]


def test_false_alarms_are_counted() -> None:
    p = [0.01, 0.04, 0.06, 0.5] * 5
    found = [{"x, none": Found(0.0, -1.0, 1.0, one), "x": Found(0.0, -1.0, 1.0, one)} for one in p]
    [(name, hits, _, verdict)] = patterns_recovery.alarms(found)
    assert (name, hits, verdict) == ("x, none", "10 of 20", "too many")


def test_groups_that_are_the_kinds_agree_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = simulate_frames(6, 40, 0)[2]
    kinds = truth.select("worker_id", "reader_kind").unique(maintain_order=True).rows()
    parts = [
        SimpleNamespace(by_worker=[(worker, float(own == kind)) for worker, own in kinds])
        for kind in sorted({kind for _, kind in kinds})
    ]

    def found(readings: Readings, modality: str) -> SimpleNamespace | None:
        return SimpleNamespace(clear=None, parts=parts) if modality == "mouse" else None

    monkeypatch.setattr(patterns_ticks, "groups", found)
    assert patterns_ticks.kinds_found(6, 40, 0) == {"mouse": {"clear": 0, "agreement": 1.0}}
