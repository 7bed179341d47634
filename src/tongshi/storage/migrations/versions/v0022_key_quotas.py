"""Quotas of keys, and what is used of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_COUNTER = ("key_id", "measure", "quota_class", "period")


def _codes(*names: str) -> list[sa.Column[str]]:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return [sa.Column(name, kind, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "key_quota",
        *_codes(*_COUNTER),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.Text(), server_default="", nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_COUNTER, name=op.f("pk_key_quota")),
    )
    op.create_table(
        "quota_use",
        *_codes(*_COUNTER, "began"),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_COUNTER, "began", name=op.f("pk_quota_use")),
    )
    op.create_index(op.f("ix_quota_use_ends_at"), "quota_use", ["ends_at"])


def downgrade() -> None:
    op.drop_table("quota_use")
    op.drop_table("key_quota")
