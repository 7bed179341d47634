"""Pictures that were taken on demand, and how upgrades ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def _code(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _integer(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=str(default), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "snapshot_order",
        *(_code(name) for name in ("id", "device_id")),
        _text("name"),
        *(_code(name) for name in ("civil_code", "owner")),
        *(_text(name) for name in ("origin", "subject_kind", "subject_id", "subject_name", "purpose")),
        *(_integer(name, 1) for name in ("count", "interval_s")),
        _code("secret_digest"),
        *(_time(name) for name in ("ordered_at", "deadline_at")),
        *(_time(name, nullable=True) for name in ("finished_at", "told_at")),
        *(_text(name) for name in ("told", "state", "reason")),
        _integer("removed"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_order")),
    )
    for columns in (("ordered_at", "id"), ("device_id", "ordered_at"), ("state", "deadline_at")):
        op.create_index(op.f(f"ix_snapshot_order_{'_'.join(columns)}"), "snapshot_order", list(columns))
    op.create_index(op.f("ix_snapshot_order_secret_digest"), "snapshot_order", ["secret_digest"])
    op.create_table(
        "snapshot_picture",
        *(_code(name) for name in ("id", "order_id", "device_id")),
        _integer("number"),
        _text("file_name"),
        *(_integer(name) for name in ("size_bytes", "width", "height")),
        *(_text(name) for name in ("sha256", "sender", "issues")),
        sa.Column("is_told", sa.Boolean(), server_default=sa.false(), nullable=False),
        _time("taken_at", nullable=True),
        _time("received_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_picture")),
        sa.UniqueConstraint("order_id", "number", name=op.f("uq_snapshot_picture_order_id_number")),
    )
    op.create_index(op.f("ix_snapshot_picture_received_at_id"), "snapshot_picture", ["received_at", "id"])
    op.create_table(
        "upgrade_order",
        *(_code(name) for name in ("id", "device_id")),
        _text("name"),
        *(_code(name) for name in ("civil_code", "owner")),
        *(_text(name) for name in ("subject_kind", "subject_id", "subject_name", "firmware", "manufacturer")),
        _time("ordered_at"),
        _time("ended_at", nullable=True),
        sa.Column("has_succeeded", sa.Boolean(), nullable=True),
        *(_text(name) for name in ("running", "reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upgrade_order")),
    )
    for columns in (("ordered_at", "id"), ("device_id", "ordered_at")):
        op.create_index(op.f(f"ix_upgrade_order_{'_'.join(columns)}"), "upgrade_order", list(columns))


def downgrade() -> None:
    for table in ("upgrade_order", "snapshot_picture", "snapshot_order"):
        op.drop_table(table)
