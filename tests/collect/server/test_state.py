"""What the collector keeps, and tells of itself: files, logs, health and metrics."""

import resource
import sqlite3
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, text

from tests.collect.client import reading, registration
from tests.collect.conftest import Site


def test_deleted_text_is_gone_from_the_files(site: Site) -> None:
    secret = "a sentence nobody else wrote"
    token = site.register("ada", "q1", text=secret)
    site.send([token["token"]])
    files = [path for path in site.settings.folder.glob("collected.sqlite*") if "-shm" not in path.name]
    assert any(secret.encode() in path.read_bytes() for path in files)
    site.forget(token["person_token"])
    assert not any(secret.encode() in path.read_bytes() for path in files if path.exists())


def test_nothing_of_a_person_is_in_the_store_by_name(site: Site) -> None:
    site.send(site.pair("ada.lovelace", "q1"))
    content = b"".join(path.read_bytes() for path in site.settings.folder.glob("collected.sqlite*"))
    assert b"lovelace" not in content.replace(b"conversation-of-ada.lovelace", b"")  # an id that the integrator chose


def test_health_and_metrics(site: Site) -> None:
    site.send(site.pair("ada", "q1"), ticks=reading(1, 0))
    assert site.client.get("/ifllm/v1/health").json()["status"] == "ok"
    for key in ({}, {"Authorization": "Bearer wrong"}, {"X-Ifllm-Key": "wrong"}):
        assert site.client.get("/ifllm/metrics", headers=key).status_code == 401
    page = site.client.get("/ifllm/metrics", headers={"Authorization": f"Bearer {site.key}"}).text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    # Whoever has dashboards has these names in them.
    told = {
        "ifllm_accepted_batches_total": 1,
        "ifllm_duplicate_batches_total": 0,
        "ifllm_accepted_ticks_total": 12,
        "ifllm_withdrawals_total": 0,
        "ifllm_accept_seconds_count": 1,
    }
    assert {name: samples[name,] for name in told} == told
    assert samples["ifllm_requests_total", "/ifllm/v1/batches", "202"] == 1
    assert samples["ifllm_stored_rows", "batches"] == samples["ifllm_accept_seconds_bucket", "+Inf"] == 1
    bounds = [name[1] for name in samples if name[0] == "ifllm_accept_seconds_bucket"]
    assert bounds == ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf"]
    assert "ada" not in page


def test_health_is_that_of_the_writer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("GET", "HEAD"):
        assert site.client.request(method, "/ifllm/v1/health").status_code == 200
    monkeypatch.setattr("ifllm_hub.collect.server.collector._HEALTH_SECONDS", 0.05)
    with closing(sqlite3.connect(site.settings.folder / "collected.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # as another program may, or a backup
        refused = site.client.get("/ifllm/v1/health")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert site.client.head("/ifllm/v1/health").status_code == 503
        holder.rollback()
    monkeypatch.undo()
    assert site.client.get("/ifllm/v1/health").status_code == 200


def test_health_knows_of_a_full_disk(site: Site) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))  # no file of this process can grow
    try:
        assert site.client.get("/ifllm/v1/health").status_code == 503
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert site.client.get("/ifllm/v1/health").status_code == 200


def test_errors_tell_nothing_of_the_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ifllm_hub.collect.wire.parse", lambda *_: 1 / 0)
    response = site.send(["x"])
    assert response.status_code == 500
    assert response.json() == {"error": {"code": "failed", "message": "The server failed. Try again later."}}


def test_what_people_wrote_is_for_the_owner_alone(site: Site) -> None:
    site.send(site.pair("ada", "q1"))
    folder = site.settings.folder
    assert folder.stat().st_mode & 0o077 == 0
    names = {path.name for path in folder.iterdir() if path.stat().st_mode & 0o077 == 0}
    assert names == {path.name for path in folder.iterdir()}
    assert {"secrets.json", "collected.sqlite", "collected.sqlite-wal"} <= names


def test_logs_say_nothing_of_people(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where the store fails in the middle of writing."""
    with create_engine(site.settings.url).begin() as connection:
        failing = "BEFORE INSERT ON responses BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        connection.execute(text(f"CREATE TRIGGER failing {failing}"))
    body = registration("ada.lovelace", "q1", "left", "a sentence nobody else wrote")
    headers = {"X-Ifllm-Key": site.key}
    with caplog.at_level("DEBUG", logger="ifllm_hub"):
        assert site.client.post("/ifllm/v1/responses", json=body, headers=headers).status_code == 503
    assert "the store failed" in caplog.text
    for told in ("lovelace", "nobody else wrote", site.pseudonyms.person("ada.lovelace")):
        assert told not in caplog.text
