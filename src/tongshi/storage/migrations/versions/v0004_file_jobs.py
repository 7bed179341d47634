"""Jobs of file sharing, and what an import replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def upgrade() -> None:
    op.create_table(
        "file_job",
        sa.Column("id", _CODE, nullable=False),
        _text("kind"),
        _text("state"),
        _text("owner"),
        _text("format"),
        _number("row_count"),
        _number("total"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        _text("error"),
        _number("size_bytes"),
        _text("digest"),
        _text("grants"),
        _text("report"),
        _text("undo_token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_job")),
    )
    op.create_index(op.f("ix_file_job_expires_at"), "file_job", ["expires_at"])
    op.create_index(op.f("ix_file_job_owner"), "file_job", ["owner"])
    op.create_table(
        "file_undo",
        sa.Column("job_id", _CODE, nullable=False),
        sa.Column("device_id", _CODE, nullable=False),
        _text("before"),
        sa.Column("after_digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "device_id", name=op.f("pk_file_undo")),
    )
