"""The store as a source: who is in it, and that it does not matter how it is partitioned."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.collect.export import dataset as export
from ifllm_hub.collect.export.dataset import TooFewPeople
from ifllm_hub.collect.export.stored import StoredReadings, stored_readings
from ifllm_hub.dataset.build import write_parts
from ifllm_hub.errors import IfllmError
from tests.collect.conftest import Site
from tests.collect.export.test_export import collect


def talk(site: Site) -> None:
    """Three people, the middle one in three conversations, and one who agreed and said nothing."""
    collect(site, people=3)
    for number in range(2):
        token = site.register("p1", f"later{number}", conversation=f"another{number}")["token"]
        site.post("ratings", {"token": token, "rating": 3})
    site.register("quiet", "q0", consent="2026-11-29")


def test_who_and_what_is_in_it(site: Site, tmp_path: Path) -> None:
    talk(site)
    site.forget(site.register("p2", "q0")["person_token"])
    with stored_readings(site.store, site.pseudonyms) as source:
        workers = {name: site.pseudonyms.worker(site.pseudonyms.person(name)) for name in ("p0", "p1", "quiet")}
        assert source.workers == set(workers.values())
        assert source.people == {workers["p0"]: 1, workers["p1"]: 3, workers["quiet"]: 1}
        together = source.read(list(source.people))
        assert set(together.questions["worker_id"]) == {workers["p0"], workers["p1"]}
        for name in ("p0", "p1"):
            alone = source.read([workers[name]])
            assert together.questions.filter(worker_id=workers[name]).equals(alone.questions)
            assert together.trajectories.filter(worker_id=workers[name]).equals(alone.trajectories)
        assert source.read([workers["quiet"]]).questions.is_empty()
    with pytest.raises(TooFewPeople, match="of 2 people"):
        export.export_dataset(site.store, tmp_path / "few", site.pseudonyms, 3)
    assert not (tmp_path / "few").exists()


def test_people_stay_together_and_parts_leave_no_trace(site: Site, tmp_path: Path) -> None:
    talk(site)
    written = {}
    with stored_readings(site.store, site.pseudonyms) as source:
        for size, number in ((1, 4), (4, 2), (100, 1)):
            parts = list(write_parts(source, tmp_path / str(size), chunk=size))
            assert len(parts) == number
            people = [set(part.questions["worker_id"]) for part in parts]
            assert sum(map(len, people)) == 3 == len(set().union(*people))
            assert sum(part.account.statuses.total() for part in parts) == 600
            files = sorted((tmp_path / str(size)).rglob("*.parquet"))
            written[size] = [path.read_bytes() for path in files]
            assert len(files) == 8
    assert written[1] == written[4] == written[100]


def test_who_does_not_consent_stops_the_export(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(site, people=2)
    gone = site.pseudonyms.worker(site.pseudonyms.person("p1"))

    @contextmanager
    def leaky(*arguments: object) -> Iterator[StoredReadings]:
        with stored_readings(*arguments) as source:  # type: ignore[arg-type]
            yield replace(source, workers=source.workers - {gone})

    monkeypatch.setattr(export, "stored_readings", leaky)
    with pytest.raises(IfllmError, match="would name 1 workers who did not consent"):
        export.export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    assert not (tmp_path / "out").exists()


def test_a_built_dataset_in_its_place_is_not_touched(dataset: Path) -> None:
    worker = pl.read_parquet(next(dataset.glob("data/pairwise/*.parquet")))["worker_id"][0]
    with pytest.raises(IfllmError, match="is a built dataset, not an export"):
        export.leave_out(dataset, [worker])


def test_an_export_needs_no_live_score() -> None:
    code = "import sys, ifllm_hub.collect.export.dataset; print([n for n in sys.modules if n.endswith('live.score')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
