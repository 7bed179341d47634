"""Calls of the REST face: answers kept for who repeats one, quotas and what is used of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, PrimaryKeyConstraint, Table

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

key_quota = Table(  # bounded by the keys and sharing.quota_http's list
    "key_quota",
    metadata,
    code("key_id"),
    code("measure"),  # calls or rows
    code("quota_class"),  # wire name of a class of operations, or all
    code("period"),  # day or month
    Column("most", BigInteger, nullable=False),
    text_("set_by"),
    time("set_at", nullable=False),
    PrimaryKeyConstraint("key_id", "measure", "quota_class", "period"),
)

quota_use = Table(  # bounded by key_quota and sharing.quota_store.KEPT
    "quota_use",
    metadata,
    code("key_id"),
    code("measure"),
    code("quota_class"),
    code("period"),
    code("began"),  # 2026-11-27 or 2026-11, of Beijing
    Column("used", BigInteger, nullable=False),
    time("ends_at", nullable=False),
    PrimaryKeyConstraint("key_id", "measure", "quota_class", "period", "began"),
    Index(None, "ends_at"),
)
