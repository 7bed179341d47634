"""Answers kept for callers that repeat a call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_answer",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("caller", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("asked", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in ("status", "code")),
        sa.Column("headers", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_answer")),
    )
    op.create_index(op.f("ix_kept_answer_caller_started_at"), "kept_answer", ["caller", "started_at"])
    op.create_index(op.f("ix_kept_answer_expires_at"), "kept_answer", ["expires_at"])


def downgrade() -> None:
    op.drop_table("kept_answer")
