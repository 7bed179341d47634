"""What this platform records itself: rules, segments of recording, and stretches that are missing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

recording_rule = Table(  # bounded by recordings.model.MAX_RULES
    "recording_rule",
    metadata,
    code("id", primary_key=True),
    code("device_id"),  # one device, or
    code("civil_code"),  # every device of an administrative division
    integer("stream_type"),
    text_("hours"),  # HH:MM-HH:MM Beijing time; empty is all day
    integer("retention_days", 30),
    Column("quota_bytes", BigInteger, nullable=False, server_default="0"),  # 0 is none
    flag("is_enabled", True),
    time("updated_at", nullable=False),
    text_("updated_by"),
)

recording_segment = Table(  # bounded by retention, quota and recordings.model.MAX_SEGMENTS
    "recording_segment",
    metadata,
    code("id", primary_key=True),  # also the name of its file
    code("rule_id"),
    code("device_id"),
    integer("stream_type"),
    time("start_at", nullable=False),
    time("end_at", nullable=False),
    time("expires_at", nullable=False),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    text_("video"),  # codec names
    text_("audio"),
    text_("digest"),  # hexadecimal SM3 of the file, once it is whole
    text_("state"),  # writing | whole | repaired | deleting
    text_("storage"),  # local | s3
    Column("key_frames", LargeBinary, nullable=False),  # recordings.model.KeyFrame, packed
    flag("is_held", False),
    text_("held_for"),
    Index(None, "device_id", "start_at"),
    Index(None, "state"),
    Index(None, "rule_id", "start_at"),
    Index(None, "expires_at"),
)

recording_gap = Table(  # goes with the segments around it
    "recording_gap",
    metadata,
    code("id", primary_key=True),
    code("device_id"),
    integer("stream_type"),
    time("start_at", nullable=False),
    time("end_at"),  # null: not recording now
    text_("reason"),
    text_("detail"),
    Index(None, "device_id", "start_at"),
    Index(None, "start_at"),
)
