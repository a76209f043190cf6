"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("person", sa.String(32), primary_key=True),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger),
        sa.Column("renewed_at", sa.BigInteger),
    )
    op.create_table(
        "consents",
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("agreed_at", sa.BigInteger, primary_key=True),
        sa.Column("withdrawn_at", sa.BigInteger),
    )
    op.create_table(
        "responses",
        sa.Column("response_id", sa.String(32), primary_key=True),
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), nullable=False, index=True),
        sa.Column("question_id", sa.String(128), nullable=False),
        sa.Column("side", sa.String(5), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("conversation", sa.String(128), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("bullet_points", sa.Boolean, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False, index=True),
        sa.Index("responses_of_question", "person", "question_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("session", sa.String(32), primary_key=True),
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), nullable=False, index=True),
    )
    op.create_table(
        "batches",
        sa.Column("session", sa.String(32), sa.ForeignKey("sessions.session"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), nullable=False, index=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ratings",
        sa.Column("response_id", sa.String(32), sa.ForeignKey("responses.response_id"), primary_key=True),
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), nullable=False, index=True),
        sa.Column("rating", sa.Integer),
        sa.Column("preference", sa.String(5)),
        sa.Column("better_than_previous", sa.Boolean),
        sa.Column("rated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("person", sa.String(32), sa.ForeignKey("people.person"), primary_key=True),
        sa.Column("conversation", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("noted_at", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table("exports", sa.Column("folder", sa.Text, primary_key=True), sa.Column("written_at", sa.BigInteger))
    op.create_table(
        "erasures",
        sa.Column("folder", sa.Text, primary_key=True),
        sa.Column("worker_id", sa.String(64), primary_key=True),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
    )
