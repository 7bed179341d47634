"""Nodes of catalogues, and the issues of archives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    code = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "archive_issue",
        sa.Column("device_id", code, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "rule", name=op.f("pk_archive_issue")),
    )
    with op.batch_alter_table("archive_issue", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_archive_issue_rule_device_id"), ["rule", "device_id"], unique=False
        )
    op.create_table(
        "catalogue_node",
        sa.Column("owner_platform", code, nullable=False),
        sa.Column("id", code, nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("parent_ids", sa.Text(), server_default="", nullable=False),
        sa.Column("business_group_id", sa.Text(), server_default="", nullable=False),
        sa.Column("civil_code", sa.Text(), server_default="", nullable=False),
        sa.Column("manufacturer", sa.Text(), server_default="", nullable=False),
        sa.Column("model", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_platform", "id", name=op.f("pk_catalogue_node")),
    )
