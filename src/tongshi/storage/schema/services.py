"""The service directory, and what is kept of the platform's own parts."""

from __future__ import annotations

from sqlalchemy import (
    Table,
)

from tongshi.storage.schema.columns import code, flag, metadata, text_, time

published_service = Table(  # bounded by resources.services.model.MAX_LISTINGS
    "published_service",
    metadata,
    code("code", primary_key=True),
    text_("name"),
    text_("summary"),
    text_("owner"),
    text_("version"),
    text_("contract"),
    text_("address"),
    text_("permission"),
    text_("how_to_apply"),
    text_("contact"),
    flag("is_withdrawn", False),
    text_("reason"),
    text_("updated_by"),
    time("updated_at", nullable=False),
)

media_node_drain = Table(  # at most one row a media node of the configuration
    "media_node_drain",
    metadata,
    code("name", primary_key=True),
    time("since_at", nullable=False),
)
