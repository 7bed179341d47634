"""Tags: the dictionary, and what devices bear."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

tag_group = Table(  # a handful
    "tag_group",
    metadata,
    code("code", primary_key=True),
    text_("name"),
    integer("sort"),  # 0 to 3, Tagsort of Table D.1
    integer("position"),
    Column("revision", BigInteger, nullable=False),
    time("updated_at", nullable=False),
)

tag_define = Table(  # a handful
    "tag_define",
    metadata,
    code("code", primary_key=True),
    code("group_code"),
    text_("name"),
    integer("sort"),
    integer("position"),
    flag("is_customised", False),
    flag("allows_empty", True),
    flag("is_multiple", True),
    Column("revision", BigInteger, nullable=False),
    time("updated_at", nullable=False),
)

tag_enum = Table(  # bounded by tags.model.MAX_ENUMS of a definition
    "tag_enum",
    metadata,
    code("code", primary_key=True),
    code("define_code"),
    text_("text"),
    text_("folded"),  # the text as it is compared
    flag("is_enabled", True),
    integer("position"),
    Column("revision", BigInteger, nullable=False),
    time("updated_at", nullable=False),
    UniqueConstraint("define_code", "folded"),
)

device_tag = Table(  # devices x tags.model.MAX_TAGS_OF_A_DEVICE
    "device_tag",
    metadata,
    code("device_id"),
    code("enum_code"),
    code("define_code"),
    text_("source"),
    text_("annotator"),
    time("annotated_at", nullable=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint("device_id", "enum_code"),
    Index(None, "enum_code", "device_id"),
    Index(None, "define_code", "device_id"),
)

device_tag_state = Table(  # one row a device that was ever tagged: the count of changes of its tags
    "device_tag_state",
    metadata,
    code("device_id", primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

tag_undo = Table(  # bounded by expiry
    "tag_undo",
    metadata,
    code("token", primary_key=True),
    text_("subject"),  # kind of subject ":" id
    time("expires_at", nullable=False),
    Index(None, "expires_at"),
)

tag_undo_device = Table(  # goes with its undo
    "tag_undo_device",
    metadata,
    code("token"),
    code("device_id"),
    text_("before"),  # JSON
    Column("revision_after", BigInteger, nullable=False),
    PrimaryKeyConstraint("token", "device_id"),
)
