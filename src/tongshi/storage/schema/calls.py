"""Calls of the REST face: answers kept for who repeats one."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table

from tongshi.storage.schema.columns import code, integer, metadata, text_, time

kept_answer = Table(  # bounded by expiry and sharing.answer_store.MAX_OF_A_CALLER
    "kept_answer",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    code("caller"),
    Column("asked", LargeBinary, nullable=False),
    integer("status"),  # 0 while the call runs
    integer("code"),
    text_("headers"),  # JSON
    Column("body", LargeBinary),
    integer("rows"),
    time("started_at", nullable=False),
    time("expires_at", nullable=False),
    Index(None, "caller", "started_at"),
    Index(None, "expires_at"),
)
