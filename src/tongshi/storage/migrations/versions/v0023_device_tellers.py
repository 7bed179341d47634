"""What each of several lower platforms says of one device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    code = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "device_teller",
        sa.Column("device_id", code, nullable=False),
        sa.Column("teller", code, nullable=False),
        sa.Column("parent_ids", sa.Text(), server_default="", nullable=False),
        sa.Column("is_online", sa.Boolean(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "teller", name=op.f("pk_device_teller")),
    )


def downgrade() -> None:
    op.drop_table("device_teller")
