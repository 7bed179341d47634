"""Writes what the configuration says into the record: this platform, neighbours, keys, grants, SIP accounts.

Each entry is written only when it differs, and audited when it is. A neighbour that left the configuration is
disabled, not deleted: its records and its history stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.config.sections import AccountSection, Config, NeighbourSection, reveal
from tongshi.ids import PlatformId
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.resources.registrations import store as registrations
from tongshi.resources.registrations.model import SipAccount
from tongshi.sharing import store as sharing
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

_CONFIGURATION = Subject(SubjectKind.USER, "configuration", "配置文件")
_NEIGHBOUR_MAY = frozenset({Permission.EXCHANGE_PUSH, Permission.EXCHANGE_PULL, Permission.ARCHIVE_READ})
# Pictures are shared live and recorded (DB31DSJ/Z 001-2024 6.2.2 e).
_SHARED_ACTIONS = frozenset(
    {
        Permission.ARCHIVE_READ,
        Permission.VIDEO_LIVE,
        Permission.PTZ_CONTROL,
        Permission.BROADCAST,
        Permission.ALARM_READ,
        Permission.STATUS_READ,
        Permission.VIDEO_PLAYBACK,
        Permission.VIDEO_DOWNLOAD,
    }
)


async def seed(config: Config, db: Database, platforms: Platforms, grants: Grants, clock: Clock) -> None:
    """Bring the record in step with the configuration. Raises InvalidRequest when a secret cannot be read."""
    own = config.platform
    await platforms.put(Platform(PlatformId(own.id), own.name, Relation.SELF))
    for neighbour in config.neighbours:
        await _neighbour(neighbour, platforms, grants)
        await _share(neighbour, db, grants, clock)
    await _disable_absent(config, platforms)
    accounts = [_account(section) for section in config.accounts]
    await db.write(_put_accounts, accounts, clock.at())


async def _neighbour(section: NeighbourSection, platforms: Platforms, grants: Grants) -> None:
    rest_secret = reveal(section.rest_secret)
    await platforms.put(
        Platform(
            PlatformId(section.id),
            section.name,
            Relation(section.relation),
            sip_host=section.sip_host,
            sip_port=section.sip_port,
            sip_transport=section.sip_transport,
            username=section.sip_username,
            secret=reveal(section.sip_secret),
            rest_url=section.rest_url,
            rest_key=section.rest_key,
            rest_secret=rest_secret,
        )
    )
    if section.rest_key:
        await grants.put_key(section.rest_key, section.name, rest_secret, _NEIGHBOUR_MAY, section.id)


async def _share(section: NeighbourSection, db: Database, grants: Grants, clock: Clock) -> None:
    """One grant a neighbour, replaced when what is shared changes."""
    context = Context(clock.at())
    held = [
        grant
        for grant in await db.read(sharing.grants_of, Subject(SubjectKind.PLATFORM, section.id))
        if grant.number.startswith("CFG-")
    ]
    wanted = _grant(section)
    same = [grant for grant in held if wanted is not None and _is_same(grant, wanted)]
    for grant in held:
        if grant not in same[:1]:
            await grants.revoke(_CONFIGURATION, grant.number, context)
    if wanted is not None and not same:
        await grants.give(_CONFIGURATION, _numbered(wanted, context), context)


def _grant(section: NeighbourSection) -> Grant | None:
    if not section.share:
        return None
    is_all = "*" in section.share
    return Grant(
        number="",
        subject_kind=SubjectKind.PLATFORM,
        subject_id=section.id,
        actions=_SHARED_ACTIONS,
        scope_kind=ScopeKind.ALL if is_all else ScopeKind.CIVIL_CODE,
        scope_values=frozenset() if is_all else frozenset(section.share),
        reason="配置文件 neighbours.share",
    )


def _is_same(held: Grant, wanted: Grant) -> bool:
    return (held.actions, held.scope_kind, held.scope_values) == (
        wanted.actions,
        wanted.scope_kind,
        wanted.scope_values,
    )


def _numbered(grant: Grant, context: Context) -> Grant:
    return replace(grant, number=f"CFG-{grant.subject_id}-{int(context.at.timestamp() * 1000)}")


async def _disable_absent(config: Config, platforms: Platforms) -> None:
    named = {config.platform.id, *(neighbour.id for neighbour in config.neighbours)}
    for known in await platforms.list_all():
        if known.platform.id not in named and known.platform.is_enabled:
            await platforms.put(replace(known.platform, is_enabled=False))


def _account(section: AccountSection) -> SipAccount:
    return SipAccount(
        scope="device" if len(section.prefix) == 20 else "domain",
        code=section.prefix,
        username=section.username,
        secret=reveal(section.secret),
    )


def _put_accounts(conn: Connection, accounts: Sequence[SipAccount], at: datetime) -> None:
    """A secret that left the configuration stops to work."""
    for account in accounts:
        registrations.put_account(conn, account, at)
    registrations.close_others(conn, accounts, at)
