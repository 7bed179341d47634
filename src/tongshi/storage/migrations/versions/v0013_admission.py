"""Admission of signalling peers: bans, and what devices say of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    code = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "sip_ban",
        sa.Column("subject", code, nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("level", sa.Integer(), server_default="0", nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_sip_ban")),
    )
    op.create_table(
        "peer_fingerprint",
        sa.Column("code", code, nullable=False),
        sa.Column("traits", sa.Text(), server_default="{}", nullable=False),
        sa.Column("changed", sa.Text(), server_default="{}", nullable=False),
        sa.Column("standing", sa.Text(), server_default="known", nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_peer_fingerprint")),
    )
    op.create_index(
        op.f("ix_peer_fingerprint_standing_changed_at"), "peer_fingerprint", ["standing", "changed_at"]
    )


def downgrade() -> None:
    op.drop_table("peer_fingerprint")
    op.drop_table("sip_ban")
