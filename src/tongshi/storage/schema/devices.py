"""The device archive with what stands beside it: history, status, digest tree, search, issues, nodes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from tongshi.storage.schema.columns import CODE, code, metadata, text_, time

# GB/T 28181-2022 A.2.1.9 in the order of the table, without Status (device_status) and without Password
# (never kept). A test compares these with the codec's own table of fields.
ITEM_COLUMNS: tuple[tuple[str, type[Text] | type[BigInteger] | type[Float[float]]], ...] = (
    ("name", Text),
    ("manufacturer", Text),
    ("model", Text),
    ("civil_code", Text),
    ("block", Text),
    ("address", Text),
    ("parental", BigInteger),
    ("parent_ids", Text),
    ("register_way", BigInteger),
    ("security_level_code", Text),
    ("secrecy", BigInteger),
    ("ip_address", Text),
    ("port", BigInteger),
    ("longitude", Float),
    ("latitude", Float),
    ("business_group_id", Text),
    ("ptz_type", BigInteger),
    ("photoelectric_imaging_types", Text),
    ("capture_position_type", Text),
    ("room_type", BigInteger),
    ("supply_light_type", BigInteger),
    ("direction_type", BigInteger),
    ("resolutions", Text),
    ("stream_numbers", Text),
    ("download_speeds", Text),
    ("svc_space_support_mode", BigInteger),
    ("svc_time_support_mode", BigInteger),
    ("ssvc_ratios", Text),
    ("mobile_device_type", BigInteger),
    ("horizontal_field_angle", Float),
    ("vertical_field_angle", Float),
    ("max_view_distance", Float),
    ("grassroots_code", Text),
    ("point_type", BigInteger),
    ("point_common_name", Text),
    ("mac", Text),
    ("function_types", Text),
    ("encode_type", Text),
    ("install_time", Text),
    ("management_unit", Text),
    ("contact_info", Text),
    ("record_save_days", BigInteger),
    ("industrial_classification", Text),
)

# DB31DSJ/Z 001-2024 Table A.1 in its order. A flag that was never told is NULL, which is not "no".
EXT_COLUMNS: tuple[tuple[str, type[Text] | type[Boolean]], ...] = (
    ("is_controllable", Boolean),
    ("keyboard_number", Text),
    ("storage_device_ip", Text),
    ("storage_channel", Text),
    ("scene_photo_url", Text),
    ("has_positioning_module", Boolean),
    ("is_networked", Boolean),
    ("police_jurisdiction", Text),
    ("industries", Text),
)

# No position: one number at least is not told or not on the globe, or it is the 0, 0 of devices that know
# none. Queries repeat these words, so that the partial index serves them.
PLACELESS = (
    "longitude IS NULL OR latitude IS NULL OR longitude < -180 OR longitude > 180 "
    "OR latitude < -90 OR latitude > 90 OR (longitude = 0 AND latitude = 0)"
)

device_archive = Table(  # bounded by devices.store.MAX_DEVICES
    "device_archive",
    metadata,
    code("device_id", primary_key=True),
    *(Column(name, CODE if name == "civil_code" else kind) for name, kind in ITEM_COLUMNS),
    *(Column(name, kind) for name, kind in EXT_COLUMNS),
    code("owner_platform"),
    Column("revision", BigInteger, nullable=False),
    text_("source"),
    time("updated_at", nullable=False),
    time("missing_since"),
    code("shard"),  # first six digits of the civil code, the leaf of the digest tree
    Column("digest", LargeBinary, nullable=False),  # SM3 of the canonical row, 32 bytes
    Column("origins", Text),  # JSON: fields that came otherwise than the row; NULL for a row told as a whole
    Index(None, "owner_platform", "device_id"),
    # All that counts, groups and grids ask of an archive: a million is counted without a look at its row.
    Index(
        "ix_device_archive_covering",
        "civil_code",
        "device_id",
        "owner_platform",
        "missing_since",
        "is_networked",
        "ptz_type",
        "point_type",
        "longitude",
        "latitude",
    ),
    Index(
        "ix_device_archive_placeless",
        # First what every question says, so that SQLite prefers it to the index above.
        "missing_since",
        "civil_code",
        "device_id",
        "owner_platform",
        sqlite_where=text(PLACELESS),
        postgresql_where=text(PLACELESS),
    ),
)

device_history = Table(  # bounded by devices.history_store.MAX_VERSIONS a device, and KEPT
    "device_history",
    metadata,
    code("device_id"),
    Column("number", Integer, nullable=False),  # counts the rows of one device, from 1
    time("at", nullable=False),
    text_("kind"),  # update | missing | return | edit | undo
    Column("revision_before", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    text_("platform"),  # whose write it was
    text_("actor"),  # the person or key behind it
    text_("method"),
    text_("changes", "[]"),  # JSON: [field, before, after, origin of before or null]
    PrimaryKeyConstraint("device_id", "number"),
    Index(None, "at"),
)

device_status = Table(  # one row a device
    "device_status",
    metadata,
    code("device_id", primary_key=True),
    Column("is_online", Boolean, nullable=False),
    time("since_at", nullable=False),
    time("last_seen_at", nullable=False),
    text_("source"),
    text_("reason"),
    # Looked up by its key for every row of every list: one tree instead of two.
    sqlite_with_rowid=False,
)

device_shard = Table(  # owners x administrative divisions
    "device_shard",
    metadata,
    code("owner_platform"),
    code("shard"),
    Column("row_count", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # sum modulo 2**256 of the rows' digests
    PrimaryKeyConstraint("owner_platform", "shard"),
)

# What a map asks of an archive, and what it shows as JSON: copied beside its position by the follower of the
# change feed.
COPIED_COLUMNS: tuple[tuple[str, TypeEngine[Any]], ...] = (
    ("civil_code", CODE),
    ("owner_platform", CODE),
    ("ptz_type", Integer()),
    ("point_type", Integer()),
    ("industries", Text()),
    ("missing_since", BigInteger()),
    ("shown", Text()),
)

device_search = Table(  # one row a device
    "device_search",
    metadata,
    # Numbers in the text and place indexes; never given twice to one device.
    Column("number", Integer, primary_key=True, autoincrement=False),
    code("device_id"),
    text_("text"),  # lines of folded name, address and id
    text_("initials"),  # lines of first letters of the name's pinyin
    Column("longitude", Float),  # WGS 84; both are NULL without a position
    Column("latitude", Float),
    # What a map asks of an archive, so that a box reads one row a device and not three.
    *(Column(name, kind) for name, kind in COPIED_COLUMNS),
    UniqueConstraint("device_id"),
)

# The indexes themselves differ by engine and are made by migrations alone: FTS5 and R*Tree on SQLite, with
# tables of their own behind them; tsvector with GIN and, on device_search itself, GiST on PostgreSQL. There a
# hash of device_status stands beside its key: a list looks up the status of each row, by half the pages.
ENGINE_TABLES = ("device_terms", "device_box")
ENGINE_INDEXES = ("ix_device_search_place", "ix_device_status_device_id")

archive_issue = Table(  # devices x rules of devices.rules.check
    "archive_issue",
    metadata,
    code("device_id"),
    Column("rule", Text, nullable=False),
    PrimaryKeyConstraint("device_id", "rule"),
    Index(None, "rule", "device_id"),
)

device_teller = Table(  # devices x teller_store.MAX_TELLERS
    "device_teller",
    metadata,
    code("device_id"),
    code("teller"),
    text_("parent_ids"),  # joined by "/"
    Column("is_online", Boolean),
    time("updated_at", nullable=False),
    PrimaryKeyConstraint("device_id", "teller"),
)

catalogue_node = Table(  # bounded by trees.store.MAX_NODES
    "catalogue_node",
    metadata,
    code("owner_platform"),
    code("id"),
    text_("kind"),  # division | system | business_group | virtual_organisation
    text_("name"),
    text_("parent_ids"),  # joined by "/"
    text_("business_group_id"),
    text_("civil_code"),
    text_("manufacturer"),
    text_("model"),
    text_("address"),
    text_("source"),  # the peer that told
    time("updated_at", nullable=False),
    PrimaryKeyConstraint("owner_platform", "id"),
)
