"""What the exchange remembers of each neighbour."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from tongshi.storage.schema.columns import code, integer, metadata, text_, time

exchange_peer = Table(  # one row a neighbour and direction
    "exchange_peer",
    metadata,
    code("platform_id"),
    Column("direction", Text, nullable=False),  # out | in
    Column("position", BigInteger, nullable=False, server_default="0"),
    text_("cursor"),  # where a full exchange stands
    text_("state"),
    text_("digest_state", "unknown"),  # equal | different | unknown
    Column("lag", BigInteger, nullable=False, server_default="0"),
    integer("failures"),
    text_("last_error"),
    time("last_success_at"),
    time("next_try_at"),
    time("updated_at", nullable=False),
    PrimaryKeyConstraint("platform_id", "direction"),
)

exchange_snapshot = Table(  # bounded by expiry
    "exchange_snapshot",
    metadata,
    code("id", primary_key=True),
    text_("peer"),
    text_("direction"),  # out: we made it, in: we are receiving it
    text_("owner"),
    text_("state"),
    Column("position", BigInteger, nullable=False, server_default="0"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("digest", LargeBinary),
    text_("last_key"),
    time("created_at", nullable=False),
    time("expires_at", nullable=False),
    Index(None, "expires_at"),
)

exchange_snapshot_part = Table(  # goes with its snapshot
    "exchange_snapshot_part",
    metadata,
    code("snapshot_id"),
    Column("number", Integer, nullable=False),
    text_("first_key"),
    text_("last_key"),
    integer("row_count"),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("snapshot_id", "number"),
)
