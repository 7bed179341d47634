"""What this platform records itself: rules, segments, gaps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    code = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "recording_rule",
        sa.Column("id", code, nullable=False),
        sa.Column("device_id", code, nullable=False),
        sa.Column("civil_code", code, nullable=False),
        sa.Column("stream_type", sa.Integer(), server_default="0", nullable=False),
        sa.Column("hours", sa.Text(), server_default="", nullable=False),
        sa.Column("retention_days", sa.Integer(), server_default="30", nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording_rule")),
    )
    op.create_table(
        "recording_segment",
        sa.Column("id", code, nullable=False),
        sa.Column("rule_id", code, nullable=False),
        sa.Column("device_id", code, nullable=False),
        sa.Column("stream_type", sa.Integer(), server_default="0", nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("video", sa.Text(), server_default="", nullable=False),
        sa.Column("audio", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("storage", sa.Text(), server_default="", nullable=False),
        sa.Column("key_frames", sa.LargeBinary(), nullable=False),
        sa.Column("is_held", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("held_for", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording_segment")),
    )
    for columns in (["device_id", "start_at"], ["state"], ["rule_id", "start_at"], ["expires_at"]):
        op.create_index(op.f(f"ix_recording_segment_{'_'.join(columns)}"), "recording_segment", columns)
    op.create_table(
        "recording_gap",
        sa.Column("id", code, nullable=False),
        sa.Column("device_id", code, nullable=False),
        sa.Column("stream_type", sa.Integer(), server_default="0", nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording_gap")),
    )
    for columns in (["device_id", "start_at"], ["start_at"]):
        op.create_index(op.f(f"ix_recording_gap_{'_'.join(columns)}"), "recording_gap", columns)


def downgrade() -> None:
    op.drop_table("recording_gap")
    op.drop_table("recording_segment")
    op.drop_table("recording_rule")
