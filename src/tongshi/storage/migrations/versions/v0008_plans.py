"""Plans and their catalogues."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _code(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False)


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def upgrade() -> None:
    op.create_table(
        "plan_catalogue",
        _code("id"),
        _code("parent_id"),
        _text("name"),
        _text("path"),
        sa.Column("standard_row", sa.Integer()),
        _code("civil_code"),
        sa.Column("is_protected", sa.Boolean(), server_default=sa.false(), nullable=False),
        _text("visibility", "private"),
        _text("owner"),
        _text("organisation"),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_catalogue")),
        sa.UniqueConstraint(
            "parent_id", "owner", "name", name=op.f("uq_plan_catalogue_parent_id_owner_name")
        ),
    )
    op.create_table(
        "plan",
        _code("code"),
        _code("catalogue_id"),
        *(_text(name) for name in ("name", "description", "folded", "status")),
        *(_text(name) for name in ("owner", "owner_name", "organisation")),
        sa.Column("device_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger()),
        _text("deleted_by"),
        _text("undo_token"),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_plan")),
    )
    for column in ("catalogue_id", "owner", "deleted_at"):
        op.create_index(op.f(f"ix_plan_{column}"), "plan", [column])
    op.create_table(
        "plan_device",
        _code("plan_code"),
        _code("device_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("plan_code", "device_id", name=op.f("pk_plan_device")),
    )
    op.create_index(op.f("ix_plan_device_device_id"), "plan_device", ["device_id"])
