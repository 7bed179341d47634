"""Where fields came from, and what records were before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXTS = ("kind", "platform", "actor", "method")


def upgrade() -> None:
    # Nullable and without a default: neither engine rewrites a table of a million rows.
    op.add_column("device_archive", sa.Column("origins", sa.Text()))
    op.create_table(
        "device_history",
        sa.Column("device_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("revision_before", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in _TEXTS),
        sa.Column("changes", sa.Text(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("device_id", "number", name=op.f("pk_device_history")),
    )
    op.create_index(op.f("ix_device_history_at"), "device_history", ["at"])
    # The administrators' own grant carries every action on devices; two are new.
    grant = sa.table("grant_record", sa.column("number", sa.Text()), sa.column("actions", sa.Text()))
    op.execute(
        grant.update()
        .where(grant.c.number == "G-ADMIN")
        .values(actions=grant.c.actions + "/archive:edit/archive:history")
    )
