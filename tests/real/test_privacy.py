"""The tiers of the authors' release: sizes, who is in them, and how well the people in them can be told apart."""

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import read_manifest
from ifllm_hub.dataset.privacy.report import REPORT, write_privacy_report
from ifllm_hub.dataset.scan import scan_dataset
from ifllm_hub.sources.ifllm.archive import Release

pytestmark = [pytest.mark.real, pytest.mark.slow]

MB = 1_000_000
HEAVIEST = "worker_baa3f9fa"


@pytest.fixture(scope="module")
def full(real_dataset: tuple[Path, float]) -> Path:
    return real_dataset[0]


@pytest.fixture(scope="module")
def public(real_release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the worker who asked most."""
    out = tmp_path_factory.mktemp("real") / "public"
    build_dataset(real_release, out, tier="public", withdrawn=[HEAVIEST])
    return out


def report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / REPORT).read_text()))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def words_of(folder: Path) -> str:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    values = [pl.read_parquet(path).write_ndjson() for path in paths if path.suffix == ".parquet"]
    return "\n".join([*(path.read_bytes().decode("latin-1") for path in paths), *values])


def test_tiers_are_small(full: Path, public: Path) -> None:
    assert size(full) <= 45 * MB
    assert size(public) <= 8 * MB


def test_the_heaviest_worker_leaves_a_tombstone_only(full: Path, public: Path) -> None:
    assert HEAVIEST in words_of(full)
    assert HEAVIEST not in words_of(public)
    manifest = json.loads((public / "manifest.json").read_text())
    theirs = load_config(full, "features").filter(worker_id=HEAVIEST).height
    assert theirs > 300
    assert manifest["withdrawn"] == {"listed": 1, "workers": 1, "questions": theirs}
    assert manifest["questions"]["all"]["workers"] == 86
    assert manifest["questions"]["all"]["questions"] == manifest["tables"]["rows"] == 1_691 - theirs
    read = {file["file"].rpartition("/")[0] for file in manifest["files"]}
    assert len(read) + sum(manifest["conversations_not_read"].values()) == 462


def test_no_profile_of_a_worker_is_in_a_file(real_release: Release, full: Path) -> None:
    """Ages, races and genders are everyday words; a place with a comma, as people write their town, is not."""
    with (real_release.root / "record_info_table.csv").open(encoding="utf-8", newline="") as file:
        places = {row["location"] for row in csv.DictReader(file) if "," in row["location"]}
    texts = ("query", "response", "response_left", "response_right", "prompt", "chosen", "rejected", "content")
    words = "\n".join(
        pl.read_parquet(path).drop(texts, strict=False).drop("^messages.*$").write_ndjson()
        for path in full.glob("data/*/*.parquet")
    )
    words += "".join(path.read_text() for path in full.glob("*.*"))
    assert len(places) > 5
    assert sum(place in words for place in places) == 0  # a number, so that a failure prints no profile


def test_what_the_report_says_of_the_release(full: Path, real_release: Release, tmp_path: Path) -> None:
    found = report(full)
    assert (found["tier"], found["workers"], found["withdrawn"]) == ("full", 87, 0)
    assert found["k_anonymity"]["k"] == 1
    by_day = found["k_anonymity"]["each"][0]
    assert by_day["quasi_identifiers"] == ["day of asked_at"]
    assert 0.2 < by_day["workers_below_5"] < 0.3
    attack, recording = found["reidentification"], found["reidentification_by_recording"]
    assert (attack["workers"], attack["conversations"]) == (47, 423)
    assert 0.5 < attack["top1"] < 0.65
    assert 0.17 < attack["majority"] < 0.18
    assert recording["top1"] > attack["top1"]
    again, manifest = shutil.copytree(full, tmp_path / "again"), read_manifest(full)
    started = time.process_time()
    write_privacy_report(again, real_release, manifest)
    assert time.process_time() - started <= 30
    assert (again / REPORT).read_bytes() == (full / REPORT).read_bytes()


@pytest.mark.slow
def test_nobody_typed_personal_data_in_a_form_that_can_be_searched_for(public: Path, tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer", reason="needs the extra `privacy`")
    found = scan_dataset(public, tmp_path / "found.csv")
    assert found.filter(column="query").is_empty()
    # Answers hold addresses of the web, error messages with a placeholder for mail, and spans of years.
    assert set(found["entity"]) <= {"URL", "EMAIL_ADDRESS", "PHONE_NUMBER", "SELF_DISCLOSURE"}
