"""The version of a store's schema, and the migration to the newest one."""

import logging
import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from ifllm_hub.errors import IfllmError

_log = logging.getLogger(__name__)
# Named apart, since an app may keep its own tables, and its own versions, in the same database.
VERSION_TABLE = "ifllm_version"
# Stores without a recorded version are recognized by a column of `people` that the revision added.
_TOLD_BY = (("0002", "stored_day"), ("0001", "renewed_at"))
# Any number that nothing else in the database uses as a lock.
_LOCK = 0x1F11_0001
_ALONE = threading.Lock()  # Alembic has one context per process


def bring_up_to_date(engine: Engine) -> None:
    """Create the tables in an empty database, or migrate an older store with its data, in one transaction.

    Raises:
        IfllmError: the store has a version that this package does not know. Nothing in it is changed.
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
        found = _version(connection, script)  # again: if two start at once, the other may have done it
        if found == newest:
            return
        config.attributes["connection"] = connection
        if found is not None:
            _log.warning("migrating the store from version %s to %s", found, newest)
            command.stamp(config, found)
        command.upgrade(config, "head")


def _version(connection: Connection, script: ScriptDirectory) -> str | None:
    """The revision of a store; None if there are no tables yet."""
    found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if found is None:
        tables = inspect(connection)
        if not tables.has_table("people"):
            return None
        columns = {column["name"] for column in tables.get_columns("people")}
        found = next((revision for revision, column in _TOLD_BY if column in columns), "without a name")
    if found not in {revision.revision for revision in script.walk_revisions()}:
        raise IfllmError(
            f"The store's tables are of version {found}, and this ifllm_hub knows versions up to "
            f"{script.get_current_head()}. Nothing was changed. Install the ifllm_hub that wrote them, or name another "
            "--folder or --database."
        )
    return found
