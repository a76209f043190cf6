"""The store's tables, and the engine that reaches them: SQLite in a file, or PostgreSQL by URL."""

from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ifllm_hub.collect.store.schema import bring_up_to_date
from ifllm_hub.errors import IfllmError, first_line

# How long a transaction waits for another process, such as `ifllm collect delete` beside a server. A client that is
# then told the store is unavailable tries again; one that had to wait longer would be gone.
_BUSY_SECONDS = 5

# A changed column needs a new version under `migrations`; a test compares the two.
METADATA = MetaData()

# Times are UTC ms; persons are pseudonyms. A withdrawal leaves the row here and in `consents`, and nothing elsewhere.
PEOPLE = Table(
    "people",
    METADATA,
    Column("person", String(32), primary_key=True),
    Column("first_seen", BigInteger, nullable=False),
    Column("withdrawn_at", BigInteger),
    Column("renewed_at", BigInteger),
    # For the daily quota: how many bytes of readings were stored on which day (UTC, days since 1970).
    Column("stored_day", Integer, nullable=False, server_default="0"),
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
)
CONSENTS = Table(
    "consents",
    METADATA,
    Column("person", ForeignKey("people.person"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("agreed_at", BigInteger, primary_key=True),
    Column("withdrawn_at", BigInteger),
)
RESPONSES = Table(
    "responses",
    METADATA,
    Column("response_id", String(32), primary_key=True),
    Column("person", ForeignKey("people.person"), nullable=False, index=True),
    Column("question_id", String(128), nullable=False),
    Column("side", String(5), nullable=False),
    Column("text", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("conversation", String(128), nullable=False),
    Column("model", String(200), nullable=False),
    Column("bullet_points", Boolean, nullable=False),
    Column("registered_at", BigInteger, nullable=False, index=True),
    # How often it was registered again, as happens while a text streams.
    Column("revision", Integer, nullable=False, server_default="0"),
    # Of an experiment; both or neither.
    Column("arm", String(64)),
    Column("propensity", Double),
    Index("responses_of_question", "person", "question_id"),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("session", String(32), primary_key=True),
    Column("person", ForeignKey("people.person"), nullable=False, index=True),
)
# `sha256` is of the body as received; `body` is that without its tokens.
BATCHES = Table(
    "batches",
    METADATA,
    Column("session", ForeignKey("sessions.session"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("person", ForeignKey("people.person"), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("received_at", BigInteger, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
)
RATINGS = Table(
    "ratings",
    METADATA,
    Column("response_id", ForeignKey("responses.response_id"), primary_key=True),
    Column("person", ForeignKey("people.person"), nullable=False, index=True),
    Column("rating", Integer),
    Column("preference", String(5)),
    Column("better_than_previous", Boolean),
    Column("rated_at", BigInteger, nullable=False),
)
# What the study app asks beside ratings; never exported. `conversation` is empty for what is about the person.
NOTES = Table(
    "notes",
    METADATA,
    Column("person", ForeignKey("people.person"), primary_key=True),
    Column("conversation", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False, index=True),
)
# Folders that were exported from the store, and who must still be removed from them.
EXPORTS = Table("exports", METADATA, Column("folder", Text, primary_key=True), Column("written_at", BigInteger))
ERASURES = Table(
    "erasures",
    METADATA,
    Column("folder", Text, primary_key=True),
    Column("worker_id", String(64), primary_key=True),
    Column("asked_at", BigInteger, nullable=False),
)


def connect(url: str | URL) -> Engine:
    """The engine of a store; its tables are created if missing, and migrated if older.

    On SQLite, a commit returns once it is on disk (WAL, synchronous=FULL), deleted content is overwritten, and only the
    owner can read a new file; SQLite gives its log the same mode.

    Raises:
        IfllmError: the URL does not name a database, the database cannot be reached or written, or its tables have an
            unknown version.
    """
    try:
        # Errors are logged, and parameters hold what people wrote and read.
        engine = create_engine(url, hide_parameters=True)
        if engine.dialect.name == "sqlite":
            _make_private(engine.url)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        elif engine.dialect.name == "postgresql":
            event.listen(engine, "connect", _prepare_postgresql)
        bring_up_to_date(engine)
    except (ArgumentError, SQLAlchemyError, ImportError, OSError) as error:
        raise IfllmError(f"The store cannot be opened ({first_line(error)}). Check the database's URL.") from error
    return engine


def _make_private(url: URL) -> None:
    """Create a database's file, if there is none, so that nobody else can ever read it."""
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        Path(url.database).touch(mode=0o600)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions when it chooses
    for pragma in (
        f"busy_timeout={round(1_000 * _BUSY_SECONDS)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    connection.execute(f"SET lock_timeout = '{round(1_000 * _BUSY_SECONDS)}ms'")
    connection.commit()


def _begin_sqlite(connection: Any) -> None:
    # A writer that began as a reader could not wait for its turn: SQLite would fail it at once.
    begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
    if begin:
        connection.exec_driver_sql(begin)
