"""The arm of an experiment in which an answer was given, and its probability."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("responses", sa.Column("arm", sa.String(64)))
    op.add_column("responses", sa.Column("propensity", sa.Double))
