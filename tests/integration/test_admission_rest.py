"""Bans, strangers and fingerprints over REST: who may see and end them, and that it is recorded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tongshi.audit import store as audit_store
from tongshi.audit.tags import AuditTag
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.protocols.sip.message import Remote
from tongshi.resources.admission import store
from tongshi.resources.admission.model import BanReason, Fingerprint, Standing
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform

HOME, DEVICE = "31010400002000000001", "31010400001320000001"
BASE = "/api/v1/signalling"
PATHS = (f"{BASE}/bans", f"{BASE}/strangers", f"{BASE}/fingerprints")


class Callers:
    """One platform and keys of different rights."""

    def __init__(self, platform: RestPlatform, clock: ManualClock) -> None:
        self.platform, self.clock = platform, clock

    async def call(self, who: str, method: str, path: str, body: Any = None) -> Any:
        self.clock.advance(1)
        raw = b"" if body is None else msgspec.json.encode(body)
        path, _, query = path.partition("?")
        headers = Signer(who, who[0] * 32, HOME, self.clock).headers(method, path, query, raw)
        headers["Content-Type"] = "application/json"
        async with self.platform.http() as client:
            url = f"{path}?{query}" if query else path
            return await client.request(method, url, content=raw, headers=headers)

    async def data(self, path: str) -> Any:
        answer = await self.call("admin", "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def events(self, tag: AuditTag) -> list[audit_store.AuditRecord]:
        rows, _ = await self.platform.db.read(lambda conn: audit_store.page(conn, 1, 10, event=tag))
        return list(rows)


@pytest.fixture
async def callers(database: Database) -> Callers:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    rights = {"admin": frozenset(Permission), "viewer": ROLES["viewer"][1], "operator": ROLES["operator"][1]}
    for name, permissions in rights.items():
        await platform.grants.put_key(name, name, name[0] * 32, permissions)
    return Callers(platform, clock)


async def test_only_who_administers_the_platform_sees_and_ends_them(callers: Callers) -> None:
    async with callers.platform.http() as client:
        for path in PATHS:
            assert (await client.get(path)).status_code == 401
    for who in ("viewer", "operator"):
        for path in PATHS:
            assert (await callers.call(who, "GET", path)).status_code == 403
        lifted = await callers.call(who, "POST", f"{BASE}/bans/lift", {"subject": "192.0.2.7"})
        assert lifted.status_code == 403
        confirmed = await callers.call(who, "POST", f"{BASE}/fingerprints/{DEVICE}/confirm")
        assert confirmed.status_code == 403


async def test_a_ban_is_listed_recorded_lifted_and_gone(callers: Callers) -> None:
    admission = callers.platform.admission
    admission.ban_table.ban("192.0.2.7", BanReason.FLOOD, callers.clock.at())
    admission.ban_table.ban(f"{DEVICE}@192.0.2.8", BanReason.DIGEST, callers.clock.at())
    await admission._flush()
    listed = await callers.data(f"{BASE}/bans?pageSize=1")
    assert (listed["total"], len(listed["list"])) == (2, 1)
    assert listed["list"][0]["subject"] == f"{DEVICE}@192.0.2.8"
    assert listed["list"][0]["reason"] == "digest"
    body = {"subject": "192.0.2.7"}
    assert (await callers.call("admin", "POST", f"{BASE}/bans/lift", body)).status_code == 200
    assert (await callers.data(f"{BASE}/bans"))["total"] == 1
    assert (await callers.call("admin", "POST", f"{BASE}/bans/lift", body)).status_code == 404
    kept = await callers.platform.db.read(store.list_bans, callers.clock.at())
    assert [ban.subject for ban in kept] == [f"{DEVICE}@192.0.2.8"]
    assert {event.entry.object_id for event in await callers.events(AuditTag.PEER_BAN)} == {
        "192.0.2.7",
        f"{DEVICE}@192.0.2.8",
    }
    lifted = await callers.events(AuditTag.PEER_BAN_LIFT)
    assert [
        (event.entry.object_id, event.entry.subject_name) for event in lifted if not event.entry.reason
    ] == [("192.0.2.7", "admin")]


async def test_strangers_are_listed_the_latest_first(callers: Callers) -> None:
    assert await callers.data(f"{BASE}/strangers") == {"list": [], "total": 0, "pageNo": 1, "pageSize": 50}
    table = callers.platform.admission.stranger_table
    table.note("MESSAGE", Remote("192.0.2.7", 5060, "udp"), DEVICE)
    table.note("INVITE", Remote("192.0.2.8", 5060, "udp"), "")
    table.drop(Remote("192.0.2.7", 5060, "udp"))
    rows = (await callers.data(f"{BASE}/strangers"))["list"]
    assert [(row["address"], row["refused"], row["dropped"], row["code"]) for row in rows] == [
        ("192.0.2.7", 1, 1, DEVICE),
        ("192.0.2.8", 1, 0, ""),
    ]


async def test_a_changed_fingerprint_is_found_confirmed_and_recorded(callers: Callers) -> None:
    at = callers.clock.at()
    changed = Fingerprint(
        DEVICE, {"manufacturer": "甲", "model": "M"}, at, at, {"manufacturer": "乙"}, Standing.CHANGED
    )
    known = Fingerprint(f"{DEVICE[:19]}2", {"manufacturer": "甲"}, at, at)
    await callers.platform.db.write(store.put_fingerprints, [changed, known])
    assert (await callers.data(f"{BASE}/fingerprints"))["total"] == 2
    found = await callers.data(f"{BASE}/fingerprints?standing=changed")
    assert [(row["deviceId"], row["changed"]) for row in found["list"]] == [(DEVICE, {"manufacturer": "乙"})]
    path = f"{BASE}/fingerprints/{DEVICE}/confirm"
    confirmed = await callers.call("admin", "POST", path)
    assert confirmed.status_code == 200
    assert confirmed.json()["data"]["traits"] == {"manufacturer": "乙", "model": "M"}
    assert (await callers.call("admin", "POST", path)).status_code == 404
    assert (await callers.data(f"{BASE}/fingerprints?standing=changed"))["total"] == 0
    events = [event.entry for event in await callers.events(AuditTag.FINGERPRINT_CONFIRM)]
    assert [entry.details for entry in events if entry.object_id] == [{"manufacturer": ["甲", "乙"]}]
