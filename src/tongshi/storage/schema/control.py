"""Control of devices."""

from __future__ import annotations

from sqlalchemy import (
    Index,
    Table,
    UniqueConstraint,
)

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

ptz_lock = Table(  # at most one row a device
    "ptz_lock",
    metadata,
    code("device_id", primary_key=True),
    code("lock_id"),
    text_("level"),  # manual | reserved
    integer("priority"),
    text_("subject_kind"),
    text_("subject_id"),
    text_("subject_name"),
    text_("platform_id"),
    text_("reason"),
    time("since_at", nullable=False),
    time("expires_at", nullable=False),
    UniqueConstraint("lock_id"),
    Index(None, "subject_kind", "subject_id"),
)

ptz_lock_end = Table(  # kept for a day, swept at each end
    "ptz_lock_end",
    metadata,
    code("lock_id", primary_key=True),
    code("device_id"),
    text_("subject_kind"),
    text_("subject_id"),
    text_("ended_by"),  # released | preempted | forced | signedOut
    text_("by_name"),
    time("ended_at", nullable=False),
    Index(None, "ended_at"),
    Index(None, "subject_kind", "subject_id"),
)

control_filter = Table(  # one row a neighbour
    "control_filter",
    metadata,
    code("platform_id", primary_key=True),
    text_("rules", "[]"),  # JSON, bounded by control.filters.MAX_RULES
    flag("is_dry_run", False),
    time("updated_at", nullable=False),
    text_("updated_by"),
)
