"""Calls that are open, so that a restart can end those of the process before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXTS = ("direction", "from_id", "to_id", "host", "target", "from_tag", "to_tag")


def upgrade() -> None:
    op.create_table(
        "open_call",
        sa.Column("call_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in _TEXTS),
        sa.Column("port", sa.Integer(), server_default="0", nullable=False),
        sa.Column("transport", sa.Text(), server_default="udp", nullable=False),
        sa.Column("cseq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_open_call")),
    )
