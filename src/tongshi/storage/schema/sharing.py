"""People, sessions, keys, grants, and settings."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

user_account = Table(  # bounded by what an administrator enters
    "user_account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    text_("display_name"),
    text_("organisation"),
    text_("password_hash"),
    flag("is_enabled", True),
    integer("failures"),
    time("locked_until_at"),
    time("password_changed_at"),
    time("created_at", nullable=False),
    UniqueConstraint("name"),
)

role = Table(  # a handful
    "role",
    metadata,
    Column("name", Text, primary_key=True),
    text_("display_name"),
    text_("permissions"),  # joined by "/"
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
    text_("csrf_token"),
    text_("address"),
    time("created_at", nullable=False),
    time("last_used_at", nullable=False),
    time("expires_at", nullable=False),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

api_key = Table(  # bounded by what an administrator enters
    "api_key",
    metadata,
    code("id", primary_key=True),
    text_("name"),
    text_("secret"),
    text_("platform_id"),  # the neighbour it speaks for, or empty
    text_("permissions"),  # joined by "/"
    text_("addresses"),  # networks it may come from, joined by ","; empty for any
    flag("is_enabled", True),
    time("created_at", nullable=False),
    time("expires_at"),
)

api_nonce = Table(  # bounded by expiry: a nonce is kept 660 s
    "api_nonce",
    metadata,
    code("key_id"),
    Column("nonce", Text, nullable=False),
    time("expires_at", nullable=False),
    PrimaryKeyConstraint("key_id", "nonce"),
    Index(None, "expires_at"),
)

grant_record = Table(  # bounded by what an administrator enters
    "grant_record",
    metadata,
    code("number", primary_key=True),
    text_("subject_kind"),
    text_("subject_id"),
    text_("actions"),  # joined by "/"
    text_("scope_kind"),
    text_("scope_values"),  # joined by "/"
    time("valid_from_at"),
    time("valid_to_at"),
    text_("hours"),
    flag("is_sensitive", False),
    text_("reason"),
    text_("created_by"),
    time("created_at", nullable=False),
    time("revoked_at"),
    Index(None, "subject_kind", "subject_id"),
)

setting = Table(  # names are constants of the program
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    text_("value"),
)
