"""Files that are exported and imported."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
)

from tongshi.storage.schema.columns import code, metadata, text_, time

file_job = Table(  # bounded by files.model.MAX_JOBS and by expiry
    "file_job",
    metadata,
    code("id", primary_key=True),
    text_("kind"),  # export | import
    text_("state"),
    text_("owner"),  # kind of subject ":" id
    text_("format"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False, server_default="0"),
    time("created_at", nullable=False),
    time("started_at"),
    time("finished_at"),
    time("expires_at", nullable=False),
    text_("error"),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    text_("digest"),
    text_("grants"),  # joined by "/"
    text_("report"),
    text_("undo_token"),
    Index(None, "expires_at"),
    Index(None, "owner"),
)

file_undo = Table(  # goes with its job
    "file_undo",
    metadata,
    code("job_id"),
    code("device_id"),
    text_("before"),  # the archive as it was, empty for a device that was not there
    Column("after_digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job_id", "device_id"),
)
