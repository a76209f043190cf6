"""The store's schema from version to version, as Alembic runs it. A released version never changes."""
