"""How much was stored for a person in a day, and how often an answer was registered again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("people", sa.Column("stored_day", sa.Integer, nullable=False, server_default="0"))
    op.add_column("people", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
