"""Plans and their catalogues."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

plan_catalogue = Table(  # bounded by plans.model.MAX_CATALOGUES
    "plan_catalogue",
    metadata,
    code("id", primary_key=True),
    code("parent_id"),  # empty for the first level
    text_("name"),
    text_("path"),  # names from the first level to this one, joined by "/"
    Column("standard_row", Integer),  # 1 to 81 of Table B.1
    code("civil_code"),  # of a division below rows 79 to 81
    flag("is_protected", False),
    text_("visibility", "private"),
    text_("owner"),  # kind of subject ":" id; empty for the standard's own
    text_("organisation"),
    integer("position"),
    Column("revision", BigInteger, nullable=False),
    time("updated_at", nullable=False),
    UniqueConstraint("parent_id", "owner", "name"),
)

plan = Table(  # bounded by plans.model.MAX_PLANS; a deleted one goes after plans.model.KEEP_DELETED
    "plan",
    metadata,
    code("code", primary_key=True),
    code("catalogue_id"),
    text_("name"),
    text_("description"),
    text_("folded"),  # name and description as they are searched
    text_("status"),
    text_("owner"),  # kind of subject ":" id
    text_("owner_name"),
    text_("organisation"),
    integer("device_count"),
    Column("revision", BigInteger, nullable=False),
    time("created_at", nullable=False),
    time("updated_at", nullable=False),
    time("deleted_at"),
    text_("deleted_by"),
    text_("undo_token"),
    Index(None, "catalogue_id"),
    Index(None, "owner"),
    Index(None, "deleted_at"),
)

plan_device = Table(  # at most plans.model.MAX_DEVICES a plan
    "plan_device",
    metadata,
    code("plan_code"),
    code("device_id"),
    Column("position", Integer, nullable=False),
    PrimaryKeyConstraint("plan_code", "device_id"),
    Index(None, "device_id"),
)
