"""How the catalogue of each peer stood when it last ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_NUMBERS = (("announced", "-1"), ("received", "0"), ("broken", "0"), ("asked", "0"), ("doubled", "0"))


def upgrade() -> None:
    op.create_table(
        "catalogue_standing",
        sa.Column("peer_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in ("state", "reason")),
        *(sa.Column(name, sa.Integer(), server_default=start, nullable=False) for name, start in _NUMBERS),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer_id", name=op.f("pk_catalogue_standing")),
    )
    op.create_index(op.f("ix_catalogue_standing_at"), "catalogue_standing", ["at"])


def downgrade() -> None:
    op.drop_table("catalogue_standing")
