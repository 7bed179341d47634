"""Every table, once, for both engines.

Columns carry the model's English names; the standards' names live in wire.py.

Times (``*_at``, ``*_since``) are BIGINT milliseconds since 1970-01-01 UTC (``times.py``). Lists of codes are
text joined by "/", as GB/T 28181 writes them. JSON is text. Each table that grows names what bounds it.
"""

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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.types import TypeEngine

# Names that do not depend on the engine, so that a migration can name a constraint on both.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Codes are compared byte by byte on both engines: keyset order and prefix ranges must not depend on a locale.
_Code = Text().with_variant(Text(collation="C"), "postgresql")


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _code(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, _Code, primary_key=primary_key, nullable=False)


def _integer(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=str(default))


def _flag(name: str, default: bool) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=true() if default else false())


def _time(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


# --- Platforms and registration -------------------------------------------------------------------

platform = Table(  # bounded by what an administrator enters
    "platform",
    metadata,
    _code("id", primary_key=True),
    _text("name"),
    _text("relation"),
    _text("sip_host"),
    _integer("sip_port"),
    _text("sip_transport", "udp"),
    _text("realm"),
    _text("username"),
    _text("secret"),
    _text("rest_url"),
    _text("rest_key"),
    _text("rest_secret"),
    _text("profile", "{}"),
    _flag("is_enabled", True),
    _flag("is_online", False),
    _time("registered_at"),
    _time("last_seen_at"),
    _time("expires_at"),
    _text("last_error"),
    _time("updated_at", nullable=False),
)

sip_account = Table(  # bounded by what an administrator enters
    "sip_account",
    metadata,
    Column("scope", Text, nullable=False),  # device | domain
    _code("code"),  # 20 digits, or the leading digits that a domain shares
    _text("username"),
    _text("secret"),
    _flag("is_enabled", True),
    _time("updated_at", nullable=False),
    PrimaryKeyConstraint("scope", "code"),
)

registration = Table(  # one row a peer that has an account
    "registration",
    metadata,
    _code("id", primary_key=True),
    _text("host"),
    _integer("port"),
    _text("transport", "udp"),
    _text("contact"),
    _text("call_id"),
    _text("user_agent"),
    _text("edition"),
    _time("registered_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("last_seen_at", nullable=False),
    Index(None, "expires_at"),
)

peer_profile = Table(  # one row a peer that was ever registered; goes with its account
    "peer_profile",
    metadata,
    _code("peer_id", primary_key=True),
    _text("user_agent"),
    _text("manufacturer"),
    _text("model"),
    _text("firmware"),
    _text("said_edition"),  # X-GB-Ver as it was said
    _text("edition"),
    _text("charset"),
    _text("transport"),
    _text("seen", "{}"),  # JSON: quirk to its evidence
    _text("set_edition"),  # an administrator's word; "" leaves it to what was detected
    _text("set_charset"),
    _text("set_transport"),
    _text("set_quirks", "{}"),  # JSON: quirk to whether it holds
    _text("set_by"),
    _text("set_reason"),
    _text(
        "before"
    ),  # JSON: the administrator's words before the last change; "" when there is nothing to undo
    _time("set_at"),
    _time("updated_at", nullable=False),
)

sip_ban = Table(  # bounded by admission.bans.MAX_BANS, and a day after the end
    "sip_ban",
    metadata,
    _code("subject", primary_key=True),
    _text("reason"),
    _integer("level"),
    _time("since_at", nullable=False),
    _time("until_at", nullable=False),
)

peer_fingerprint = (
    Table(  # one row a peer that ever registered, at most admission.fingerprints.MAX_FINGERPRINTS
        "peer_fingerprint",
        metadata,
        _code("code", primary_key=True),
        _text("traits", "{}"),
        _text("changed", "{}"),
        _text("standing", "known"),
        _time("first_at", nullable=False),
        _time("changed_at", nullable=False),
        Index(None, "standing", "changed_at"),
    )
)

open_call = Table(  # one row a running call; those left by a crash live until the next start
    "open_call",
    metadata,
    _code("call_id", primary_key=True),
    _text("direction"),  # down | up
    _text("from_id"),
    _text("to_id"),
    _text("host"),
    _integer("port"),
    _text("transport", "udp"),
    _text("target"),
    _text("from_tag"),
    _text("to_tag"),
    Column("cseq", BigInteger, nullable=False, server_default="0"),
    _time("opened_at", nullable=False),
)

# --- Devices --------------------------------------------------------------------------------------

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
    _code("device_id", primary_key=True),
    *(Column(name, _Code if name == "civil_code" else kind) for name, kind in ITEM_COLUMNS),
    *(Column(name, kind) for name, kind in EXT_COLUMNS),
    _code("owner_platform"),
    Column("revision", BigInteger, nullable=False),
    _text("source"),
    _time("updated_at", nullable=False),
    _time("missing_since"),
    _code("shard"),  # first six digits of the civil code, the leaf of the digest tree
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
    _code("device_id"),
    Column("number", Integer, nullable=False),  # counts the rows of one device, from 1
    _time("at", nullable=False),
    _text("kind"),  # update | missing | return | edit | undo
    Column("revision_before", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    _text("platform"),  # whose write it was
    _text("actor"),  # the person or key behind it
    _text("method"),
    _text("changes", "[]"),  # JSON: [field, before, after, origin of before or null]
    PrimaryKeyConstraint("device_id", "number"),
    Index(None, "at"),
)

device_status = Table(  # one row a device
    "device_status",
    metadata,
    _code("device_id", primary_key=True),
    Column("is_online", Boolean, nullable=False),
    _time("since_at", nullable=False),
    _time("last_seen_at", nullable=False),
    _text("source"),
    _text("reason"),
    # Looked up by its key for every row of every list: one tree instead of two.
    sqlite_with_rowid=False,
)

device_shard = Table(  # owners x administrative divisions
    "device_shard",
    metadata,
    _code("owner_platform"),
    _code("shard"),
    Column("row_count", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # sum modulo 2**256 of the rows' digests
    PrimaryKeyConstraint("owner_platform", "shard"),
)

# What a map shows and asks of an archive, copied beside its position by the follower of the change feed.
COPIED_COLUMNS: tuple[tuple[str, TypeEngine[Any]], ...] = (
    ("name", Text()),
    ("civil_code", _Code),
    ("owner_platform", _Code),
    ("revision", BigInteger()),
    ("ptz_type", Integer()),
    ("point_type", Integer()),
    ("is_controllable", Boolean()),
    ("is_networked", Boolean()),
    ("industries", Text()),
    ("missing_since", BigInteger()),
)

device_search = Table(  # one row a device
    "device_search",
    metadata,
    # Numbers in the text and place indexes; never given twice to one device.
    Column("number", Integer, primary_key=True, autoincrement=False),
    _code("device_id"),
    _text("text"),  # lines of folded name, address and id
    _text("initials"),  # lines of first letters of the name's pinyin
    Column("longitude", Float),  # WGS 84; both are NULL without a position
    Column("latitude", Float),
    # What a map asks of an archive, so that a box reads one row a device and not three.
    *(Column(name, kind) for name, kind in COPIED_COLUMNS),
    UniqueConstraint("device_id"),
)

# The indexes themselves differ by engine and are made by migrations alone: FTS5 and R*Tree on SQLite, with
# tables of their own behind them; tsvector with GIN and, on device_search itself, GiST on PostgreSQL.
ENGINE_TABLES = ("device_terms", "device_box")
ENGINE_INDEXES = ("ix_device_search_place",)

archive_issue = Table(  # devices x rules of devices.rules.check
    "archive_issue",
    metadata,
    _code("device_id"),
    Column("rule", Text, nullable=False),
    PrimaryKeyConstraint("device_id", "rule"),
    Index(None, "rule", "device_id"),
)

catalogue_node = Table(  # bounded by trees.store.MAX_NODES
    "catalogue_node",
    metadata,
    _code("owner_platform"),
    _code("id"),
    _text("kind"),  # division | system | business_group | virtual_organisation
    _text("name"),
    _text("parent_ids"),  # joined by "/"
    _text("business_group_id"),
    _text("civil_code"),
    _text("manufacturer"),
    _text("model"),
    _text("address"),
    _text("source"),  # the peer that told
    _time("updated_at", nullable=False),
    PrimaryKeyConstraint("owner_platform", "id"),
)

# --- People, keys, grants -------------------------------------------------------------------------

user_account = Table(  # bounded by what an administrator enters
    "user_account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    _text("display_name"),
    _text("organisation"),
    _text("password_hash"),
    _flag("is_enabled", True),
    _integer("failures"),
    _time("locked_until_at"),
    _time("password_changed_at"),
    _time("created_at", nullable=False),
    UniqueConstraint("name"),
)

role = Table(  # a handful
    "role",
    metadata,
    Column("name", Text, primary_key=True),
    _text("display_name"),
    _text("permissions"),  # joined by "/"
)

user_role = Table(
    "user_role",
    metadata,
    Column("user_id", Integer, nullable=False),
    Column("role", Text, nullable=False),
    PrimaryKeyConstraint("user_id", "role"),
)

session = Table(  # bounded by expiry and sharing.sessions.MAX_SESSIONS_OF_A_USER
    "session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("user_id", Integer, nullable=False),
    _text("csrf_token"),
    _text("address"),
    _time("created_at", nullable=False),
    _time("last_used_at", nullable=False),
    _time("expires_at", nullable=False),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

api_key = Table(  # bounded by what an administrator enters
    "api_key",
    metadata,
    _code("id", primary_key=True),
    _text("name"),
    _text("secret"),
    _text("platform_id"),  # the neighbour it speaks for, or empty
    _text("permissions"),  # joined by "/"
    _text("addresses"),  # networks it may come from, joined by ","; empty for any
    _flag("is_enabled", True),
    _time("created_at", nullable=False),
    _time("expires_at"),
)

api_nonce = Table(  # bounded by expiry: a nonce is kept 660 s
    "api_nonce",
    metadata,
    _code("key_id"),
    Column("nonce", Text, nullable=False),
    _time("expires_at", nullable=False),
    PrimaryKeyConstraint("key_id", "nonce"),
    Index(None, "expires_at"),
)

grant_record = Table(  # bounded by what an administrator enters
    "grant_record",
    metadata,
    _code("number", primary_key=True),
    _text("subject_kind"),
    _text("subject_id"),
    _text("actions"),  # joined by "/"
    _text("scope_kind"),
    _text("scope_values"),  # joined by "/"
    _time("valid_from_at"),
    _time("valid_to_at"),
    _text("hours"),
    _flag("is_sensitive", False),
    _text("reason"),
    _text("created_by"),
    _time("created_at", nullable=False),
    _time("revoked_at"),
    Index(None, "subject_kind", "subject_id"),
)

setting = Table(  # names are constants of the program
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    _text("value"),
)

# --- Change feed and audit ------------------------------------------------------------------------

change = Table(  # compacted after changes.KEEP
    "change",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _text("kind"),
    _text("key"),
    _text("op"),
    _text("origin"),
    Column("revision", BigInteger, nullable=False),
    _time("at", nullable=False),
)

audit = Table(  # purged after audit.store.RETENTION, never before
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _time("at", nullable=False),
    _text("event"),
    _text("outcome"),
    _text("subject_kind"),
    _text("subject_id"),
    _text("subject_name"),
    _text("object_kind"),
    _text("object_id"),
    _text("address"),
    _text("request_id"),
    _text("grant_number"),
    _text("reason"),
    _text("details", "{}"),
    Column("hash", LargeBinary, nullable=False),
    Index(None, "at"),
    Index(None, "object_id", "seq"),
    Index(None, "subject_id", "seq"),
)

audit_head = Table(  # one row: where the chain begins after the last purge, and where it ends
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("first_hash", LargeBinary, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
)

# --- Exchange -------------------------------------------------------------------------------------

exchange_peer = Table(  # one row a neighbour and direction
    "exchange_peer",
    metadata,
    _code("platform_id"),
    Column("direction", Text, nullable=False),  # out | in
    Column("position", BigInteger, nullable=False, server_default="0"),
    _text("cursor"),  # where a full exchange stands
    _text("state"),
    _text("digest_state", "unknown"),  # equal | different | unknown
    Column("lag", BigInteger, nullable=False, server_default="0"),
    _integer("failures"),
    _text("last_error"),
    _time("last_success_at"),
    _time("next_try_at"),
    _time("updated_at", nullable=False),
    PrimaryKeyConstraint("platform_id", "direction"),
)

exchange_snapshot = Table(  # bounded by expiry
    "exchange_snapshot",
    metadata,
    _code("id", primary_key=True),
    _text("peer"),
    _text("direction"),  # out: we made it, in: we are receiving it
    _text("owner"),
    _text("state"),
    Column("position", BigInteger, nullable=False, server_default="0"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("digest", LargeBinary),
    _text("last_key"),
    _time("created_at", nullable=False),
    _time("expires_at", nullable=False),
    Index(None, "expires_at"),
)

exchange_snapshot_part = Table(  # goes with its snapshot
    "exchange_snapshot_part",
    metadata,
    _code("snapshot_id"),
    Column("number", Integer, nullable=False),
    _text("first_key"),
    _text("last_key"),
    _integer("row_count"),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("snapshot_id", "number"),
)

# --- Service directory ----------------------------------------------------------------------------

published_service = Table(  # bounded by resources.services.model.MAX_LISTINGS
    "published_service",
    metadata,
    _code("code", primary_key=True),
    _text("name"),
    _text("summary"),
    _text("owner"),
    _text("version"),
    _text("contract"),
    _text("address"),
    _text("permission"),
    _text("how_to_apply"),
    _text("contact"),
    _flag("is_withdrawn", False),
    _text("reason"),
    _text("updated_by"),
    _time("updated_at", nullable=False),
)


# --- Files ----------------------------------------------------------------------------------------

file_job = Table(  # bounded by files.model.MAX_JOBS and by expiry
    "file_job",
    metadata,
    _code("id", primary_key=True),
    _text("kind"),  # export | import
    _text("state"),
    _text("owner"),  # kind of subject ":" id
    _text("format"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("started_at"),
    _time("finished_at"),
    _time("expires_at", nullable=False),
    _text("error"),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    _text("digest"),
    _text("grants"),  # joined by "/"
    _text("report"),
    _text("undo_token"),
    Index(None, "expires_at"),
    Index(None, "owner"),
)

file_undo = Table(  # goes with its job
    "file_undo",
    metadata,
    _code("job_id"),
    _code("device_id"),
    _text("before"),  # the archive as it was, empty for a device that was not there
    Column("after_digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job_id", "device_id"),
)

# --- Plans ----------------------------------------------------------------------------------------

plan_catalogue = Table(  # bounded by plans.model.MAX_CATALOGUES
    "plan_catalogue",
    metadata,
    _code("id", primary_key=True),
    _code("parent_id"),  # empty for the first level
    _text("name"),
    _text("path"),  # names from the first level to this one, joined by "/"
    Column("standard_row", Integer),  # 1 to 81 of Table B.1
    _code("civil_code"),  # of a division below rows 79 to 81
    _flag("is_protected", False),
    _text("visibility", "private"),
    _text("owner"),  # kind of subject ":" id; empty for the standard's own
    _text("organisation"),
    _integer("position"),
    Column("revision", BigInteger, nullable=False),
    _time("updated_at", nullable=False),
    UniqueConstraint("parent_id", "owner", "name"),
)

plan = Table(  # bounded by plans.model.MAX_PLANS; a deleted one goes after plans.model.KEEP_DELETED
    "plan",
    metadata,
    _code("code", primary_key=True),
    _code("catalogue_id"),
    _text("name"),
    _text("description"),
    _text("folded"),  # name and description as they are searched
    _text("status"),
    _text("owner"),  # kind of subject ":" id
    _text("owner_name"),
    _text("organisation"),
    _integer("device_count"),
    Column("revision", BigInteger, nullable=False),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
    _time("deleted_at"),
    _text("deleted_by"),
    _text("undo_token"),
    Index(None, "catalogue_id"),
    Index(None, "owner"),
    Index(None, "deleted_at"),
)

plan_device = Table(  # at most plans.model.MAX_DEVICES a plan
    "plan_device",
    metadata,
    _code("plan_code"),
    _code("device_id"),
    Column("position", Integer, nullable=False),
    PrimaryKeyConstraint("plan_code", "device_id"),
    Index(None, "device_id"),
)

# --- Tags -----------------------------------------------------------------------------------------

tag_group = Table(  # a handful
    "tag_group",
    metadata,
    _code("code", primary_key=True),
    _text("name"),
    _integer("sort"),  # 0 to 3, Tagsort of Table D.1
    _integer("position"),
    Column("revision", BigInteger, nullable=False),
    _time("updated_at", nullable=False),
)

tag_define = Table(  # a handful
    "tag_define",
    metadata,
    _code("code", primary_key=True),
    _code("group_code"),
    _text("name"),
    _integer("sort"),
    _integer("position"),
    _flag("is_customised", False),
    _flag("allows_empty", True),
    _flag("is_multiple", True),
    Column("revision", BigInteger, nullable=False),
    _time("updated_at", nullable=False),
)

tag_enum = Table(  # bounded by tags.model.MAX_ENUMS of a definition
    "tag_enum",
    metadata,
    _code("code", primary_key=True),
    _code("define_code"),
    _text("text"),
    _text("folded"),  # the text as it is compared
    _flag("is_enabled", True),
    _integer("position"),
    Column("revision", BigInteger, nullable=False),
    _time("updated_at", nullable=False),
    UniqueConstraint("define_code", "folded"),
)

device_tag = Table(  # devices x tags.model.MAX_TAGS_OF_A_DEVICE
    "device_tag",
    metadata,
    _code("device_id"),
    _code("enum_code"),
    _code("define_code"),
    _text("source"),
    _text("annotator"),
    _time("annotated_at", nullable=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint("device_id", "enum_code"),
    Index(None, "enum_code", "device_id"),
    Index(None, "define_code", "device_id"),
)

device_tag_state = Table(  # one row a device that was ever tagged: the count of changes of its tags
    "device_tag_state",
    metadata,
    _code("device_id", primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

tag_undo = Table(  # bounded by expiry
    "tag_undo",
    metadata,
    _code("token", primary_key=True),
    _text("subject"),  # kind of subject ":" id
    _time("expires_at", nullable=False),
    Index(None, "expires_at"),
)

tag_undo_device = Table(  # goes with its undo
    "tag_undo_device",
    metadata,
    _code("token"),
    _code("device_id"),
    _text("before"),  # JSON
    Column("revision_after", BigInteger, nullable=False),
    PrimaryKeyConstraint("token", "device_id"),
)

# --- Alarms ---------------------------------------------------------------------------------------

alarm = Table(  # bounded by alarms.model.KEEP and MAX_ALARMS
    "alarm",
    metadata,
    _code("id", primary_key=True),
    _code("device_id"),
    _text("name"),
    _code("civil_code"),  # of the device, or of who told, when the alarm came
    _code("owner"),
    _code("source_id"),
    _text("source_kind"),
    Column("priority", Integer),
    Column("method", Integer),
    Column("alarm_type", Integer),
    Column("event_type", Integer),
    _text("type_param"),
    _text("description"),
    Column("longitude", Float),
    Column("latitude", Float),
    _text("extra", "[]"),  # JSON
    _text("faults"),  # joined by "/"
    _time("raised_at", nullable=False),  # by the teller's clock
    _time("received_at", nullable=False),
    _time("last_at", nullable=False),
    _integer("repeats"),
    _time("acknowledged_at"),
    _text("acknowledged_by"),
    _text("note"),
    Index(None, "received_at", "id"),
    Index(None, "device_id", "received_at"),
)

alarm_delivery = Table(  # at most alarms.model.MAX_TARGETS an alarm; goes with it
    "alarm_delivery",
    metadata,
    _code("alarm_id"),
    _code("target_id"),
    _text("state"),
    _integer("tries"),
    _time("at"),
    _text("error"),
    PrimaryKeyConstraint("alarm_id", "target_id"),
    Index(None, "state"),
)

alarm_route = Table(  # bounded by alarms.model.MAX_ROUTES
    "alarm_route",
    metadata,
    _code("id", primary_key=True),
    _code("target_id"),
    _code("device_id"),
    _code("civil_code"),
    _text("methods"),  # joined by "/", empty for all
    _integer("lowest_priority", 4),
    _text("created_by"),
    _time("created_at", nullable=False),
)

# --- Control of devices ---------------------------------------------------------------------------

ptz_lock = Table(  # at most one row a device
    "ptz_lock",
    metadata,
    _code("device_id", primary_key=True),
    _code("lock_id"),
    _text("level"),  # manual | reserved
    _integer("priority"),
    _text("subject_kind"),
    _text("subject_id"),
    _text("subject_name"),
    _text("platform_id"),
    _text("reason"),
    _time("since_at", nullable=False),
    _time("expires_at", nullable=False),
    UniqueConstraint("lock_id"),
    Index(None, "subject_kind", "subject_id"),
)

ptz_lock_end = Table(  # kept for a day, swept at each end
    "ptz_lock_end",
    metadata,
    _code("lock_id", primary_key=True),
    _code("device_id"),
    _text("subject_kind"),
    _text("subject_id"),
    _text("ended_by"),  # released | preempted | forced | signedOut
    _text("by_name"),
    _time("ended_at", nullable=False),
    Index(None, "ended_at"),
    Index(None, "subject_kind", "subject_id"),
)

control_filter = Table(  # one row a neighbour
    "control_filter",
    metadata,
    _code("platform_id", primary_key=True),
    _text("rules", "[]"),  # JSON, bounded by control.filters.MAX_RULES
    _flag("is_dry_run", False),
    _time("updated_at", nullable=False),
    _text("updated_by"),
)
