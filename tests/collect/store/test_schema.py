"""The store outlives its first version: what was collected by an older package is there for a newer one."""

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from ifllm_hub.collect.store.schema import VERSION_TABLE
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import METADATA, PEOPLE, RESPONSES
from ifllm_hub.errors import IfllmError
from tests.collect.store.test_store import answer, batch

# As the tables were made before they named a version.
FIRST = """
CREATE TABLE people (
    person VARCHAR(32) NOT NULL, first_seen BIGINT NOT NULL, withdrawn_at BIGINT, renewed_at BIGINT,
    PRIMARY KEY (person)
);
CREATE TABLE consents (
    person VARCHAR(32) NOT NULL, version VARCHAR(64) NOT NULL, agreed_at BIGINT NOT NULL, withdrawn_at BIGINT,
    PRIMARY KEY (person, version, agreed_at), FOREIGN KEY(person) REFERENCES people (person)
);
CREATE TABLE responses (
    response_id VARCHAR(32) NOT NULL, person VARCHAR(32) NOT NULL, question_id VARCHAR(128) NOT NULL,
    side VARCHAR(5) NOT NULL, text TEXT NOT NULL, query TEXT NOT NULL, conversation VARCHAR(128) NOT NULL,
    model VARCHAR(200) NOT NULL, bullet_points BOOLEAN NOT NULL, registered_at BIGINT NOT NULL,
    PRIMARY KEY (response_id), FOREIGN KEY(person) REFERENCES people (person)
);
CREATE INDEX ix_responses_person ON responses (person);
CREATE INDEX ix_responses_registered_at ON responses (registered_at);
CREATE INDEX responses_of_question ON responses (person, question_id);
CREATE TABLE sessions (
    session VARCHAR(32) NOT NULL, person VARCHAR(32) NOT NULL, PRIMARY KEY (session),
    FOREIGN KEY(person) REFERENCES people (person)
);
CREATE INDEX ix_sessions_person ON sessions (person);
CREATE TABLE batches (
    session VARCHAR(32) NOT NULL, sequence INTEGER NOT NULL, person VARCHAR(32) NOT NULL, sha256 VARCHAR(64) NOT NULL,
    received_at BIGINT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, sequence),
    FOREIGN KEY(session) REFERENCES sessions (session), FOREIGN KEY(person) REFERENCES people (person)
);
CREATE INDEX ix_batches_person ON batches (person);
CREATE INDEX ix_batches_received_at ON batches (received_at);
CREATE TABLE ratings (
    response_id VARCHAR(32) NOT NULL, person VARCHAR(32) NOT NULL, rating INTEGER, preference VARCHAR(5),
    better_than_previous BOOLEAN, rated_at BIGINT NOT NULL, PRIMARY KEY (response_id),
    FOREIGN KEY(response_id) REFERENCES responses (response_id), FOREIGN KEY(person) REFERENCES people (person)
);
CREATE INDEX ix_ratings_person ON ratings (person);
CREATE TABLE notes (
    person VARCHAR(32) NOT NULL, conversation VARCHAR(128) NOT NULL, name VARCHAR(64) NOT NULL, value TEXT NOT NULL,
    noted_at BIGINT NOT NULL, PRIMARY KEY (person, conversation, name), FOREIGN KEY(person) REFERENCES people (person)
);
CREATE INDEX ix_notes_noted_at ON notes (noted_at);
CREATE TABLE exports (folder TEXT NOT NULL, written_at BIGINT, PRIMARY KEY (folder));
CREATE TABLE erasures (
    folder TEXT NOT NULL, worker_id VARCHAR(64) NOT NULL, asked_at BIGINT NOT NULL, PRIMARY KEY (folder, worker_id)
);
INSERT INTO people VALUES ('ada', 100, NULL, NULL), ('eve', 100, 150, NULL);
INSERT INTO consents VALUES ('ada', '2026-11-29', 100, NULL);
INSERT INTO responses VALUES ('ada1', 'ada', 'q1', 'left', 'an answer', 'a query', 'c1', 'llm', FALSE, 100);
INSERT INTO sessions VALUES ('s', 'ada');
INSERT INTO batches VALUES ('s', 0, 'ada', 'HASH', 110, 'body');
INSERT INTO ratings VALUES ('ada1', 'ada', 4, NULL, NULL, 120);
INSERT INTO notes VALUES ('ada', '', 'age', '30', 130);
INSERT INTO exports VALUES ('/out', 140);
INSERT INTO erasures VALUES ('/out', 'reader_eve', 150)
""".replace("HASH", "0" * 64)
# As they were made next, before an answer had an arm.
SECOND = (
    FIRST
    + """;
ALTER TABLE people ADD COLUMN stored_day INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE people ADD COLUMN stored_bytes BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE responses ADD COLUMN revision INTEGER DEFAULT 0 NOT NULL
"""
)


def run(url: str, statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements.split(";\n"):
            connection.execute(text(statement.replace("BLOB", "BYTEA") if "postgresql" in url else statement))
    engine.dispose()


@pytest.mark.parametrize("before", [FIRST, SECOND], ids=["first", "second"])
def test_an_older_store_comes_along_with_its_data(database: str, before: str) -> None:
    run(database, before)
    for _ in range(2):  # the second time, it is of the newest version
        store = Store(database)
        assert store.counts() == {
            "people": 2,
            "responses": 1,
            "sessions": 1,
            "batches": 1,
            "ratings": 1,
            "erasures": 1,
        }
        assert store.withdrawn() == ["eve"]
        with store.reading() as connection:
            people = connection.execute(PEOPLE.select().order_by(PEOPLE.c.person)).all()
            assert [tuple(row) for row in people] == [("ada", 100, None, None, 0, 0), ("eve", 100, 150, None, 0, 0)]
            known = connection.execute(RESPONSES.select()).one()._mapping
            assert (known["revision"], known["arm"], known["propensity"]) == (0, None, None)
        store.close()
    store = Store(database)
    assert store.accept(batch("ada", "s", 0), 200).result() is True  # known
    assert store.accept(batch("ada", "s", 1), 200).result() is False
    store.register(answer("ada"), None, 200).result()
    assert store.withdraw("ada", "reader_ada", 300).result() == 2
    store.close()


@pytest.mark.parametrize("before", ["SELECT 1", FIRST, SECOND], ids=["new", "first", "second"])
def test_the_versions_lead_to_the_tables_that_the_store_uses(database: str, before: str) -> None:
    run(database, before)
    store = Store(database)
    with store.reading() as connection:
        chosen = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=chosen), METADATA) == []
    store.close()


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (f"UPDATE {VERSION_TABLE} SET version_num = '9999'", "9999"),
        (f"DROP TABLE {VERSION_TABLE};\nALTER TABLE people RENAME TO p;\nCREATE TABLE people (n INTEGER)", "without"),
    ],
)
def test_an_unknown_version_is_refused_untouched(tmp_path: Path, change: str, version: str) -> None:
    file = tmp_path / "collected.sqlite"
    url = f"sqlite:///{file}"
    Store(url).close()
    run(url, change)
    before = file.read_bytes()
    with pytest.raises(IfllmError, match=f"of version {version}.*Nothing was changed. Install the ifllm_hub that"):
        Store(url)
    assert file.read_bytes() == before


def test_of_several_that_start_at_once_one_migrates(database: str) -> None:
    run(database, FIRST)
    failed: list[BaseException] = []

    def start() -> None:
        try:
            Store(database).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store = Store(database)
    assert store.counts()["batches"] == 1
    store.close()


def test_an_older_store_that_is_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that needs no migration is read beside whoever writes."""
    monkeypatch.setattr("ifllm_hub.collect.store.tables._BUSY_SECONDS", 0)
    url = f"sqlite:///{tmp_path / 'collected.sqlite'}"
    run(url, FIRST)
    engine = create_engine(url)
    holder = engine.raw_connection()
    holder.cursor().execute("PRAGMA journal_mode=WAL")
    holder.cursor().execute("BEGIN IMMEDIATE")
    with pytest.raises(IfllmError, match="locked"):
        Store(url)
    holder.rollback()
    Store(url).close()
    holder.cursor().execute("BEGIN IMMEDIATE")
    store = Store(url)
    assert store.counts()["batches"] == 1
    holder.rollback()
    holder.close()
    engine.dispose()
    store.close()
