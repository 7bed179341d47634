"""Tag groups, definitions, values, and the tags of devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _code(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _flag(name: str, default: bool) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.true() if default else sa.false(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "tag_group",
        _code("code"),
        _text("name"),
        _integer("sort"),
        _integer("position"),
        _big("revision"),
        _big("updated_at"),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_tag_group")),
    )
    op.create_table(
        "tag_define",
        _code("code"),
        _code("group_code"),
        _text("name"),
        _integer("sort"),
        _integer("position"),
        _flag("is_customised", False),
        _flag("allows_empty", True),
        _flag("is_multiple", True),
        _big("revision"),
        _big("updated_at"),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_tag_define")),
    )
    op.create_table(
        "tag_enum",
        _code("code"),
        _code("define_code"),
        _text("text"),
        _text("folded"),
        _flag("is_enabled", True),
        _integer("position"),
        _big("revision"),
        _big("updated_at"),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_tag_enum")),
        sa.UniqueConstraint("define_code", "folded", name=op.f("uq_tag_enum_define_code_folded")),
    )
    _devices()


def _devices() -> None:
    op.create_table(
        "device_tag",
        *(_code(name) for name in ("device_id", "enum_code", "define_code")),
        _text("source"),
        _text("annotator"),
        _big("annotated_at"),
        _big("revision"),
        sa.PrimaryKeyConstraint("device_id", "enum_code", name=op.f("pk_device_tag")),
    )
    for column in ("enum_code", "define_code"):
        op.create_index(op.f(f"ix_device_tag_{column}_device_id"), "device_tag", [column, "device_id"])
    op.create_table(
        "device_tag_state",
        _code("device_id"),
        _big("revision"),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_tag_state")),
    )
    op.create_table(
        "tag_undo",
        _code("token"),
        _text("subject"),
        _big("expires_at"),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_tag_undo")),
    )
    op.create_index(op.f("ix_tag_undo_expires_at"), "tag_undo", ["expires_at"])
    op.create_table(
        "tag_undo_device",
        _code("token"),
        _code("device_id"),
        _text("before"),
        _big("revision_after"),
        sa.PrimaryKeyConstraint("token", "device_id", name=op.f("pk_tag_undo_device")),
    )
