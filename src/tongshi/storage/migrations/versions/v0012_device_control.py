"""Rights to command and configure devices, locks of heads, and what neighbours may command."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEW_ACTIONS = "/ptz:reserve/ptz:release-any/device:command/device:config/device:maintain"


_CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def upgrade() -> None:
    op.create_table(
        "ptz_lock",
        sa.Column("device_id", _CODE, nullable=False),
        sa.Column("lock_id", _CODE, nullable=False),
        _text("level"),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        *(_text(name) for name in ("subject_kind", "subject_id", "subject_name", "platform_id", "reason")),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_ptz_lock")),
        sa.UniqueConstraint("lock_id", name=op.f("uq_ptz_lock_lock_id")),
    )
    op.create_index(op.f("ix_ptz_lock_subject_kind_subject_id"), "ptz_lock", ["subject_kind", "subject_id"])
    op.create_table(
        "ptz_lock_end",
        sa.Column("lock_id", _CODE, nullable=False),
        sa.Column("device_id", _CODE, nullable=False),
        *(_text(name) for name in ("subject_kind", "subject_id", "ended_by", "by_name")),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lock_id", name=op.f("pk_ptz_lock_end")),
    )
    op.create_index(op.f("ix_ptz_lock_end_ended_at"), "ptz_lock_end", ["ended_at"])
    op.create_index(
        op.f("ix_ptz_lock_end_subject_kind_subject_id"), "ptz_lock_end", ["subject_kind", "subject_id"]
    )
    op.create_table(
        "control_filter",
        sa.Column("platform_id", _CODE, nullable=False),
        _text("rules", "[]"),
        sa.Column("is_dry_run", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        _text("updated_by"),
        sa.PrimaryKeyConstraint("platform_id", name=op.f("pk_control_filter")),
    )
    # The administrators' own grant carries every action on devices; five are new.
    grant = sa.table("grant_record", sa.column("number", sa.Text()), sa.column("actions", sa.Text()))
    op.execute(
        grant.update().where(grant.c.number == "G-ADMIN").values(actions=grant.c.actions + _NEW_ACTIONS)
    )
