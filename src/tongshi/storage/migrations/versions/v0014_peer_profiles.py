"""Profiles of signalling peers, and the right to see what is said with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TEXTS = (
    "user_agent",
    "manufacturer",
    "model",
    "firmware",
    "said_edition",
    "edition",
    "charset",
    "transport",
    "set_edition",
    "set_charset",
    "set_transport",
    "set_by",
    "set_reason",
)


def upgrade() -> None:
    op.create_table(
        "peer_profile",
        sa.Column("peer_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in _TEXTS),
        sa.Column("seen", sa.Text(), server_default="{}", nullable=False),
        sa.Column("set_quirks", sa.Text(), server_default="{}", nullable=False),
        sa.Column("before", sa.Text(), server_default="", nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer_id", name=op.f("pk_peer_profile")),
    )
    # The administrators' own grant carries every action on devices; two are new.
    grant = sa.table("grant_record", sa.column("number", sa.Text()), sa.column("actions", sa.Text()))
    op.execute(
        grant.update()
        .where(grant.c.number == "G-ADMIN")
        .values(actions=grant.c.actions + "/signalling:read/signalling:capture")
    )


def downgrade() -> None:
    op.drop_table("peer_profile")
