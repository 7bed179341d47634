"""Platforms, SIP accounts and registrations on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tongshi.audit import store as audit
from tongshi.clock import ManualClock
from tongshi.errors import NotFound
from tongshi.ids import PlatformId
from tongshi.resources.platforms import store
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.resources.registrations import store as registrations
from tongshi.resources.registrations.model import Registration, SipAccount
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOWER = Platform(
    PlatformId("31010400002000000001"),
    "徐汇区",
    Relation.LOWER,
    sip_host="127.0.0.1",
    sip_port=5061,
    secret="geheim",
    rest_secret="geheim2",
)
CAMERA = "31010400001320000001"


async def test_a_platform_comes_back_and_keeps_its_state_when_changed(database: Database) -> None:
    clock = ManualClock()
    platforms = Platforms(database, store, clock)
    await platforms.put(LOWER)
    assert await platforms.note_online(LOWER.id, clock.at() + timedelta(hours=1))
    assert not await platforms.note_online(LOWER.id)
    await platforms.put(replace(LOWER, name="徐汇"))
    known = await platforms.get(LOWER.id)
    assert known.platform == replace(LOWER, name="徐汇")
    assert (known.state.is_online, known.state.registered_at) == (True, clock.at())
    assert await platforms.note_offline(LOWER.id, "心跳超时\0")
    known = await platforms.get(LOWER.id)
    assert (known.state.is_online, known.state.last_error) == (False, "心跳超时")
    assert known.state.last_seen_at == clock.at()


async def test_configuring_the_same_platform_again_writes_nothing(database: Database) -> None:
    platforms = Platforms(database, store, ManualClock())
    for _ in range(3):
        await platforms.put(LOWER)
    assert (await database.read(audit.page, 1, 10))[1] == 1


async def test_platforms_are_listed_by_relation(database: Database) -> None:
    platforms = Platforms(database, store, ManualClock())
    upper = replace(LOWER, id=PlatformId("31000000002000000001"), relation=Relation.UPPER)
    await platforms.put(LOWER)
    await platforms.put(upper)
    assert [k.platform.id for k in await platforms.list_all()] == [upper.id, LOWER.id]
    assert [k.platform.id for k in await platforms.list_all(Relation.LOWER)] == [LOWER.id]
    assert await platforms.find("0") is None
    assert not await platforms.note_online("0")
    with pytest.raises(NotFound):
        await platforms.get("0")


def test_a_platforms_secrets_do_not_print() -> None:
    assert "geheim" not in repr(LOWER)


async def test_a_devices_own_account_comes_before_its_domains(database: Database) -> None:
    for account in (
        SipAccount("domain", "3101040000", secret="domain"),
        SipAccount("domain", "31010400001", secret="longer"),
        SipAccount("device", CAMERA, username="u", secret="own"),
        SipAccount("device", "31010400001320000002", secret="closed", is_enabled=False),
    ):
        await database.write(registrations.put_account, account, AT)
    found = {}
    for code in (CAMERA, "31010400001320000009", "31010400002000000001", "31010400001320000002", "99", ""):
        account_of = await database.read(registrations.find_account, code)
        found[code] = None if account_of is None else account_of.secret
    assert list(found.values()) == ["own", "longer", "domain", None, None, None]
    assert "own" not in repr(await database.read(registrations.find_account, CAMERA))


def registered(peer: str = CAMERA, expires_s: int = 3600) -> Registration:
    return Registration(
        peer,
        "192.0.2.7",
        5060,
        "udp",
        AT,
        AT + timedelta(seconds=expires_s),
        AT,
        contact=f"<sip:{peer}@192.0.2.7:5060>",
        call_id="c",
        user_agent="Camera/1.0",
        edition="2022",
    )


async def test_a_registration_is_kept_refreshed_touched_and_removed(database: Database) -> None:
    await database.write(registrations.put, registered())
    await database.write(registrations.put, replace(registered(), host="192.0.2.8"))
    seen = AT + timedelta(seconds=30)
    await database.write(registrations.touch, [(CAMERA, seen), ("unknown", seen)])
    expected = replace(registered(), host="192.0.2.8", last_seen_at=seen)
    assert await database.read(registrations.get, CAMERA) == expected
    assert await database.write(registrations.remove, CAMERA)
    assert not await database.write(registrations.remove, CAMERA)


async def test_only_registrations_that_have_not_expired_are_taken_up_again(database: Database) -> None:
    for number, expires_s in enumerate((10, 100, 1000)):
        await database.write(registrations.put, registered(str(number), expires_s))
    alive = await database.read(registrations.list_alive, AT + timedelta(seconds=50))
    assert [r.id for r in alive] == ["1", "2"]


async def test_header_bytes_that_are_no_text_do_not_stop_a_registration(database: Database) -> None:
    hostile = replace(registered(), user_agent="a\0\udcff" + "x" * 5_000)
    await database.write(registrations.put, hostile)
    found = await database.read(registrations.get, CAMERA)
    assert found is not None
    assert found.user_agent.startswith("a?x")
