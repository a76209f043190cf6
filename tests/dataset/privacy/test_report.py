"""What the privacy report measures, measured another way."""

import csv
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.coarse import COARSE, STEPS, coarse
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.privacy import report
from ifllm_hub.dataset.privacy.attack import reidentify
from ifllm_hub.dataset.privacy.report import REPORT, write_privacy_report
from ifllm_hub.dataset.schema import CONFIGS
from ifllm_hub.sources.ifllm.archive import open_release
from tests.dataset.privacy.marked import (
    DEMOGRAPHICS,
    FREE_TEXT,
    Marked,
    saved,
)
from tests.dataset.privacy.test_attack import k_by_hand


def test_the_report_says_what_is_released(folder: Path, tier: str, marked: Marked) -> None:
    report, manifest = saved(folder, REPORT), saved(folder, "manifest.json")
    assert report["workers"] == manifest["questions"]["all"]["workers"]
    assert set(DEMOGRAPHICS) | set(FREE_TEXT) < set(report["not_included"])
    assert not {"user_id", "task_id", "consent"} & set(report["not_included"])
    assert report["window_fields_dropped"] == manifest["lines"]["rel"]["ticks"]
    assert report["free_text"] is None
    assert ("viewport size" in report["k_anonymity"]["quasi_identifiers"]) == (tier == "full")
    assert ("reidentification_by_recording" in report) == (tier == "full")
    assert ("reidentification" in report) == (tier != "coarse")
    attack = report["reidentification_coarse"]
    assert 0 <= attack["low"] <= attack["top1"] <= attack["high"] <= 1
    assert 0 < attack["majority"] < 1


def test_demographics_are_counted_over_the_join_that_anybody_can_make(folder: Path, marked: Marked) -> None:
    with (marked.release.root / "record_info_table.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["user_id"]: row for row in reversed(list(csv.DictReader(file)))}
    everybody = set(load_config(folder, "pairwise")["worker_id"]) | set(load_config(folder, "pointwise")["worker_id"])
    demographics = saved(folder, REPORT)["demographics"]
    assert demographics["workers"] == len(everybody & set(rows))
    for counted in demographics["each"]:
        known = [(worker, tuple(rows[worker][name] for name in counted["quasi_identifiers"])) for worker in everybody]
        assert (counted["k"], counted["workers_alone"], counted["workers_below_5"]) == k_by_hand(known)
    assert "one join away" in demographics["statement"]


def test_without_demographics_in_the_release_there_is_no_k_over_them(
    before: Path, marked: Marked, tmp_path: Path
) -> None:
    root = shutil.copytree(marked.release.root, tmp_path / "dataset")
    table = pl.read_csv(root / "record_info_table.csv", infer_schema=False)
    table.drop(DEMOGRAPHICS).write_csv(root / "record_info_table.csv")
    workers = load_config(before, "pairwise")["worker_id"].unique()
    assert report._demographics(marked.release, workers) is not None
    assert report._demographics(open_release(root), workers) is None
    again = shutil.copytree(before, tmp_path / "again")
    (again / REPORT).write_text(json.dumps(saved(again, REPORT) | {"demographics": None}))
    write_card(again)
    assert "has no demographics" in (again / "README.md").read_text(encoding="utf-8")


def test_the_coarse_tier_tells_two_rounded_numbers_of_a_pair(before: Path) -> None:
    features = load_config(before, "features").filter(mode="pairwise")
    rounded = coarse(features)
    assert {column.name for column in CONFIGS["coarse"]} == {"question_id", "worker_id", *COARSE}
    for name, step in STEPS.items():
        exact, kept = features[name].to_list(), rounded[name].to_list()
        assert [value is None for value in exact] == [value is None for value in kept]
        for value, multiple in zip(exact, kept, strict=True):
            if value is not None:
                assert (multiple / step).is_integer()
                assert abs(multiple - max(-2, min(2, value))) <= step / 2 + 1e-12
        assert 1 < rounded[name].n_unique() < features[name].n_unique()
    mirrored = coarse(features.with_columns(-pl.col(name) for name in STEPS))
    assert all((mirrored[name] == -rounded[name]).all() for name in STEPS)


def test_the_report_is_the_same_bytes_again(
    folder: Path, marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "reidentify", reidentify)
    again = shutil.copytree(folder, tmp_path / "again")
    write_privacy_report(again, marked.release, saved(again, "manifest.json"))
    assert (again / REPORT).read_bytes() == (folder / REPORT).read_bytes()


def test_k_of_the_report_in_plain_python(folder: Path) -> None:
    rows = [row for mode in ("pairwise", "pointwise") for row in load_config(folder, mode).iter_rows(named=True)]
    n = {worker: sum(row["worker_id"] == worker for row in rows) for worker in {row["worker_id"] for row in rows}}
    known = [
        (row["worker_id"], (row["asked_at"] and row["asked_at"].date(), row["task_id"], n[row["worker_id"]]))
        for row in rows
    ]
    report = saved(folder, REPORT)["k_anonymity"]
    if len(report["quasi_identifiers"]) == 3:
        assert (report["k"], report["workers_alone"], report["workers_below_5"]) == k_by_hand(known)
    for place, single in enumerate(report["each"][:3]):
        expected = k_by_hand([(worker, values[place]) for worker, values in known])
        assert (single["k"], single["workers_alone"], single["workers_below_5"]) == expected
