"""How the catalogues of peers stand, over REST: who sees what, and that incomplete is said."""

from __future__ import annotations

from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, LOWER, OTHER = "31010400002000000001", "31010600002000000001", "31010700002000000001"
MINE, THEIRS, UNSTORED = "31010400001310000001", "31010600001310000001", "31010400001319999999"
ALL = "/api/v1/signalling/catalogues"
ADMIN = Subject(SubjectKind.USER, "0", "test")


@pytest.fixture
async def desk(database: Database) -> Any:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    for owner in (HOME, LOWER):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    for key in ("all", "one", "none"):
        await platform.grants.put_key(key, key, "s" * 32, {*Permission})
        if key == "none":
            continue
        scope = (ScopeKind.ALL, frozenset[str]()) if key == "all" else (ScopeKind.DEVICE, frozenset({MINE}))
        grant = Grant("", SubjectKind.API_KEY, key, frozenset({Permission.ARCHIVE_READ}), *scope)
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    await platform.admit(LOWER, Relation.LOWER, "s" * 32)
    rows = platform.standings
    for peer in (MINE, THEIRS, UNSTORED, LOWER):
        rows.begun(peer)
        rows.asked(peer)
    rows.counted(LOWER, 100_000, 99_998, 2)
    rows.ended(LOWER, "incomplete", "brokenItems")
    rows.counted(MINE, 3, 3, 0)
    rows.ended(MINE, "complete", "")
    rows.failed(THEIRS, "silent")

    async def ask(who: str, method: str, target: str) -> tuple[int, Any]:
        clock.advance(1)
        path, _, query = target.partition("?")
        headers = Signer(who, "s" * 32, HOME, clock).headers(method, path, query, b"")
        async with platform.http() as client:
            answer = await client.request(method, target, headers=headers)
        return answer.status_code, answer.json()["data"]

    return ask


async def test_incomplete_is_shown_with_its_numbers_and_its_reason(desk: Any) -> None:
    status, row = await desk("all", "GET", f"{ALL}/{LOWER}")
    assert status == 200
    assert (row["state"], row["complete"]) == ("incomplete", False)
    assert (row["announced"], row["received"], row["broken"]) == (100_000, 99_998, 2)
    assert (row["reason"], row["reasonText"]) == ("brokenItems", "部分目录项无法解析")
    _, unasked = await desk("all", "GET", f"{ALL}/{UNSTORED}")
    assert (unasked["announced"], unasked["state"], unasked["asked"]) == (None, "asking", 1)


@pytest.mark.parametrize(
    ("who", "seen"),
    [("all", {MINE, THEIRS, UNSTORED, LOWER}), ("one", {MINE, LOWER}), ("none", {LOWER})],
)
async def test_a_list_and_its_count_hold_whose_archive_is_granted_and_platforms(
    desk: Any, who: str, seen: set[str]
) -> None:
    status, data = await desk(who, "GET", ALL)
    assert status == 200
    assert ({row["peerId"] for row in data["list"]}, data["total"]) == (seen, len(seen))
    for peer in (MINE, THEIRS, UNSTORED, OTHER):
        status, _ = await desk(who, "GET", f"{ALL}/{peer}")
        assert status == (200 if peer in seen else 404)


async def test_a_list_can_be_narrowed_to_a_state_and_is_paged(desk: Any) -> None:
    _, data = await desk("all", "GET", f"{ALL}?state=incomplete")
    assert [row["peerId"] for row in data["list"]] == [LOWER]
    _, data = await desk("all", "GET", f"{ALL}?pageSize=3&pageNo=2")
    assert (len(data["list"]), data["total"]) == (1, 4)
    status, _ = await desk("all", "GET", f"{ALL}?state=unheard")
    assert status == 400


@pytest.mark.parametrize("peer", [MINE, OTHER])
async def test_whoever_is_not_registered_cannot_be_asked_again(desk: Any, peer: str) -> None:
    status, _ = await desk("all", "POST", f"{ALL}/{peer}/refresh")
    assert status == 404
