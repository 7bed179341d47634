"""Pictures that were taken on demand, and how upgrades ended."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Table, UniqueConstraint

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

snapshot_order = Table(  # kept as long as its pictures; bounded by snapshots.model.MAX_ORDERS
    "snapshot_order",
    metadata,
    code("id", primary_key=True),  # the SessionID that the device repeats
    code("device_id"),
    text_("name"),
    code("civil_code"),
    code("owner"),
    text_("origin"),  # device | stream
    text_("subject_kind"),
    text_("subject_id"),
    text_("subject_name"),
    text_("purpose"),
    integer("count", 1),
    integer("interval_s", 1),
    code("secret_digest"),  # of the upload path; empty when nothing is uploaded
    time("ordered_at", nullable=False),
    time("deadline_at", nullable=False),
    time("finished_at"),
    time("told_at"),
    text_("told"),  # file names that the device said it uploaded, joined by "/"
    text_("state"),  # waiting | complete | partial | failed
    text_("reason"),
    integer("removed"),  # pictures that retention or the quota took
    Index(None, "ordered_at", "id"),
    Index(None, "device_id", "ordered_at"),
    Index(None, "state", "deadline_at"),
    Index(None, "secret_digest"),
)

snapshot_picture = Table(  # at most ten an order
    "snapshot_picture",
    metadata,
    code("id", primary_key=True),
    code("order_id"),
    code("device_id"),
    integer("number"),
    text_("file_name"),
    integer("size_bytes"),
    integer("width"),
    integer("height"),
    text_("sha256"),
    text_("sender"),
    text_("issues"),
    flag("is_told", False),
    time("taken_at"),
    time("received_at", nullable=False),
    UniqueConstraint("order_id", "number"),
    Index(None, "received_at", "id"),
)

upgrade_order = Table(  # bounded by control.upgrades.MAX_UPGRADES
    "upgrade_order",
    metadata,
    code("id", primary_key=True),  # the SessionID that the device repeats
    code("device_id"),
    text_("name"),
    code("civil_code"),
    code("owner"),
    text_("subject_kind"),
    text_("subject_id"),
    text_("subject_name"),
    text_("firmware"),
    text_("manufacturer"),
    time("ordered_at", nullable=False),
    time("ended_at"),
    Column("has_succeeded", Boolean),  # null until the device has said
    text_("running"),  # the firmware that the device says it runs now
    text_("reason"),
    Index(None, "ordered_at", "id"),
    Index(None, "device_id", "ordered_at"),
)
