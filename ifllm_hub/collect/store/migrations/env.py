"""What Alembic runs: on the connection, and in the transaction, of `ifllm_hub.collect.store.schema`."""

from alembic import context

from ifllm_hub.collect.store.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
