"""The change feed and the audit."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
)

from tongshi.storage.schema.columns import metadata, text_, time

change = Table(  # compacted after changes.KEEP
    "change",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    text_("kind"),
    text_("key"),
    text_("op"),
    text_("origin"),
    Column("revision", BigInteger, nullable=False),
    time("at", nullable=False),
)

audit = Table(  # purged after audit.store.RETENTION, never before
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    time("at", nullable=False),
    text_("event"),
    text_("outcome"),
    text_("subject_kind"),
    text_("subject_id"),
    text_("subject_name"),
    text_("object_kind"),
    text_("object_id"),
    text_("address"),
    text_("request_id"),
    text_("grant_number"),
    text_("reason"),
    text_("details", "{}"),
    Column("hash", LargeBinary, nullable=False),
    Index(None, "at"),
    Index(None, "object_id", "seq"),
    Index(None, "subject_id", "seq"),
)

audit_head = Table(  # one row: where the chain begins after the last purge, and where it ends
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("first_hash", LargeBinary, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
)
