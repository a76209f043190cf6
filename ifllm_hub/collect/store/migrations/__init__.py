"""The store's schema from version to version, as Alembic runs it. A version that was released never changes."""
