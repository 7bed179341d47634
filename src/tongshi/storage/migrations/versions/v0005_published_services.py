"""The service directory: what administrators say of a service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXTS = (
    "name",
    "summary",
    "owner",
    "version",
    "contract",
    "address",
    "permission",
    "how_to_apply",
    "contact",
    "reason",
    "updated_by",
)


def upgrade() -> None:
    op.create_table(
        "published_service",
        sa.Column("code", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in _TEXTS),
        sa.Column("is_withdrawn", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_published_service")),
    )
