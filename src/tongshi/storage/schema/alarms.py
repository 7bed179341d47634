"""Alarms, where they went, and where they go."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
)

from tongshi.storage.schema.columns import code, integer, metadata, text_, time

alarm = Table(  # bounded by alarms.model.KEEP and MAX_ALARMS
    "alarm",
    metadata,
    code("id", primary_key=True),
    code("device_id"),
    text_("name"),
    code("civil_code"),  # of the device, or of who told, when the alarm came
    code("owner"),
    code("source_id"),
    text_("source_kind"),
    Column("priority", Integer),
    Column("method", Integer),
    Column("alarm_type", Integer),
    Column("event_type", Integer),
    text_("type_param"),
    text_("description"),
    Column("longitude", Float),
    Column("latitude", Float),
    text_("extra", "[]"),  # JSON
    text_("faults"),  # joined by "/"
    time("raised_at", nullable=False),  # by the teller's clock
    time("received_at", nullable=False),
    time("last_at", nullable=False),
    integer("repeats"),
    time("acknowledged_at"),
    text_("acknowledged_by"),
    text_("note"),
    Index(None, "received_at", "id"),
    Index(None, "device_id", "received_at"),
)

alarm_delivery = Table(  # at most alarms.model.MAX_TARGETS an alarm; goes with it
    "alarm_delivery",
    metadata,
    code("alarm_id"),
    code("target_id"),
    text_("state"),
    integer("tries"),
    time("at"),
    text_("error"),
    PrimaryKeyConstraint("alarm_id", "target_id"),
    Index(None, "state"),
)

alarm_route = Table(  # bounded by alarms.model.MAX_ROUTES
    "alarm_route",
    metadata,
    code("id", primary_key=True),
    code("target_id"),
    code("device_id"),
    code("civil_code"),
    text_("methods"),  # joined by "/", empty for all
    integer("lowest_priority", 4),
    text_("created_by"),
    time("created_at", nullable=False),
)
