"""Which version the schema of a store has, and the way to the newest one."""

import logging
import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from ifllm_hub.errors import IfllmError

_log = logging.getLogger(__name__)
# Of our own name: the database may be one that an app keeps its own tables, and its own versions, in.
VERSION_TABLE = "ifllm_version"
# Stores that name no version yet are told by a column of `people` that the revision brought.
_TOLD_BY = (("0002", "stored_day"), ("0001", "renewed_at"))
# Any number that nothing else in the database locks by.
_LOCK = 0x1F11_0001
_ALONE = threading.Lock()  # Alembic's context is one a process


def bring_up_to_date(engine: Engine) -> None:
    """Make the tables of an empty database, or migrate an older store's with its data, in one transaction.

    Raises:
        IfllmError: the store is of a version that this package does not know. Nothing in it is touched.
    """
    config = Config()
    config.set_main_option("script_location", "ifllm_hub.collect.store:migrations")
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    with engine.connect().execution_options(begin="BEGIN") as connection:
        if _version(connection, script) == newest:
            return
    with _ALONE, engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # SQLite's transaction is the only one that writes, already
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # a migration may take its time
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        found = _version(connection, script)  # anew: of two that start at once, one has done it
        if found == newest:
            return
        config.attributes["connection"] = connection
        if found is not None:
            _log.warning("the store is migrated from version %s to %s", found, newest)
            command.stamp(config, found)
        command.upgrade(config, "head")


def _version(connection: Connection, script: ScriptDirectory) -> str | None:
    """The revision of a store; None where there are no tables yet."""
    found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if found is None:
        tables = inspect(connection)
        if not tables.has_table("people"):
            return None
        columns = {column["name"] for column in tables.get_columns("people")}
        found = next((revision for revision, column in _TOLD_BY if column in columns), "without a name")
    if found not in {revision.revision for revision in script.walk_revisions()}:
        raise IfllmError(
            f"The store's tables are of version {found}, and this ifllm_hub knows those up to "
            f"{script.get_current_head()}. Nothing was changed. Install the ifllm_hub that wrote them, or name another "
            "--folder or --database."
        )
    return found
