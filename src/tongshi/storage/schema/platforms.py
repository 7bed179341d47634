"""Platforms, their accounts and registrations, and running calls."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from tongshi.storage.schema.columns import code, flag, integer, metadata, text_, time

platform = Table(  # bounded by what an administrator enters
    "platform",
    metadata,
    code("id", primary_key=True),
    text_("name"),
    text_("relation"),
    text_("sip_host"),
    integer("sip_port"),
    text_("sip_transport", "udp"),
    text_("realm"),
    text_("username"),
    text_("secret"),
    text_("rest_url"),
    text_("rest_key"),
    text_("rest_secret"),
    text_("profile", "{}"),
    flag("is_enabled", True),
    flag("is_online", False),
    time("registered_at"),
    time("last_seen_at"),
    time("expires_at"),
    text_("last_error"),
    time("updated_at", nullable=False),
)

sip_account = Table(  # bounded by what an administrator enters
    "sip_account",
    metadata,
    Column("scope", Text, nullable=False),  # device | domain
    code("code"),  # 20 digits, or the leading digits that a domain shares
    text_("username"),
    text_("secret"),
    flag("is_enabled", True),
    time("updated_at", nullable=False),
    PrimaryKeyConstraint("scope", "code"),
)

registration = Table(  # one row a peer that has an account
    "registration",
    metadata,
    code("id", primary_key=True),
    text_("host"),
    integer("port"),
    text_("transport", "udp"),
    text_("contact"),
    text_("call_id"),
    text_("user_agent"),
    text_("edition"),
    time("registered_at", nullable=False),
    time("expires_at", nullable=False),
    time("last_seen_at", nullable=False),
    Index(None, "expires_at"),
)

peer_profile = Table(  # one row a peer that was ever registered; goes with its account
    "peer_profile",
    metadata,
    code("peer_id", primary_key=True),
    text_("user_agent"),
    text_("manufacturer"),
    text_("model"),
    text_("firmware"),
    text_("said_edition"),  # X-GB-Ver as it was said
    text_("edition"),
    text_("charset"),
    text_("transport"),
    text_("seen", "{}"),  # JSON: quirk to its evidence
    text_("set_edition"),  # an administrator's word; "" leaves it to what was detected
    text_("set_charset"),
    text_("set_transport"),
    text_("set_quirks", "{}"),  # JSON: quirk to whether it holds
    text_("set_by"),
    text_("set_reason"),
    text_(
        "before"
    ),  # JSON: the administrator's words before the last change; "" when there is nothing to undo
    time("set_at"),
    time("updated_at", nullable=False),
)

sip_ban = Table(  # bounded by admission.bans.MAX_BANS, and a day after the end
    "sip_ban",
    metadata,
    code("subject", primary_key=True),
    text_("reason"),
    integer("level"),
    time("since_at", nullable=False),
    time("until_at", nullable=False),
)

peer_fingerprint = (
    Table(  # one row a peer that ever registered, at most admission.fingerprints.MAX_FINGERPRINTS
        "peer_fingerprint",
        metadata,
        code("code", primary_key=True),
        text_("traits", "{}"),
        text_("changed", "{}"),
        text_("standing", "known"),
        time("first_at", nullable=False),
        time("changed_at", nullable=False),
        Index(None, "standing", "changed_at"),
    )
)

catalogue_standing = Table(  # one row a peer that was asked; those silent for a season go at the next start
    "catalogue_standing",
    metadata,
    code("peer_id", primary_key=True),
    text_("state"),
    text_("reason"),
    integer("announced", -1),
    integer("received"),
    integer("broken"),
    integer("asked"),
    integer("doubled"),
    time("began_at", nullable=False),
    time("at", nullable=False),
    Index(None, "at"),
)

open_call = Table(  # one row a running call; those left by a crash live until the next start
    "open_call",
    metadata,
    code("call_id", primary_key=True),
    text_("direction"),  # down | up
    text_("from_id"),
    text_("to_id"),
    text_("host"),
    integer("port"),
    text_("transport", "udp"),
    text_("target"),
    text_("from_tag"),
    text_("to_tag"),
    Column("cseq", BigInteger, nullable=False, server_default="0"),
    time("opened_at", nullable=False),
)
