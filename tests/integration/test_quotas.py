"""Quotas of keys on both databases: never more than was given, by several processes, killed ones too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import ManualClock
from tongshi.errors import LimitExceeded, NotFound
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Relation
from tongshi.sharing import quota_store
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.sharing.quota_model import Limit, Measure, Period
from tongshi.sharing.quotas import CALLS_AT_ONCE, FRESH_S, Quotas
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives
from tongshi.web.operations import AnyOperation, Quota

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
KEY = f"key-{ABROAD}"
CALLER = f"api_key:{KEY}"
ADMIN = Subject(SubjectKind.USER, "1", "管理员")
DEVICES = "/api/v1/archive/devices"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def platform(database: Database, clock: ManualClock) -> RestPlatform:
    made = await RestPlatform.open(HOME, database, clock)
    await made.admit(ABROAD, Relation.LATERAL, "s" * 32, {Permission.ARCHIVE_READ, Permission.GRANT_ADMIN})
    return made


@pytest.fixture
async def second(database: Database) -> AsyncIterator[Database]:
    other = await Database.open(database.url, migrate=False)
    yield other
    await other.close()


def calls(most: int, name: str = "query", period: Period = Period.DAY) -> Limit:
    return Limit(Measure.CALLS, name, period, most)


def rows(most: int) -> Limit:
    return Limit(Measure.ROWS, "all", Period.DAY, most)


async def put(quotas: Quotas, clock: ManualClock, *limits: Limit) -> None:
    await quotas.put(ADMIN, KEY, limits, Context(clock.at()))


async def used(quotas: Quotas) -> list[int]:
    return [use.used for use in (await quotas.find(KEY))[1]]


async def spent(quotas: Quotas, most: int = 10_000) -> int:
    """How many calls are let through until one is refused."""
    for number in range(most):
        try:
            await quotas.take_call(CALLER, Quota.QUERY)
        except LimitExceeded:
            return number
    return most


async def test_two_processes_together_give_exactly_the_quota(
    platform: RestPlatform, second: Database, clock: ManualClock
) -> None:
    first, other = Quotas(platform.db, clock), Quotas(second, clock)
    await put(first, clock, calls(300))
    assert [await first.take_call(CALLER, Quota.QUERY), await other.take_call(CALLER, Quota.QUERY)] == [
        299,
        298 - 14,  # what the first holds is not the other's to promise
    ]
    given = await asyncio.gather(spent(first), spent(other))
    assert sum(given) + 2 == 300
    assert await used(first) == [300]


async def test_a_killed_process_gives_nothing_back_and_loses_no_more_than_its_handful(
    platform: RestPlatform, second: Database, clock: ManualClock
) -> None:
    killed, heir = Quotas(platform.db, clock), Quotas(second, clock)
    await put(killed, clock, calls(5_000))
    for _ in range(10):
        await killed.take_call(CALLER, Quota.QUERY)
    given = await spent(heir)
    assert 5_000 - 10 - CALLS_AT_ONCE <= given <= 5_000 - 10


async def test_a_process_that_ends_in_order_gives_its_handful_back(
    platform: RestPlatform, clock: ManualClock
) -> None:
    quotas = Quotas(platform.db, clock)
    await put(quotas, clock, calls(100_000), rows(100_000))
    await quotas.take_call(CALLER, Quota.QUERY)
    await quotas.take_rows(CALLER, 30)
    assert await used(quotas) == [1 + CALLS_AT_ONCE, 30 + 2_000]
    await quotas.stop()
    assert await used(quotas) == [1, 30]


async def test_a_call_within_its_quota_writes_once_in_a_hundred(
    platform: RestPlatform, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = Quotas(platform.db, clock)
    await put(quotas, clock, calls(1_000_000))
    seen = []
    real = quota_store.take

    def counted(*args: Any) -> tuple[int, int]:
        seen.append(1)
        return real(*args)

    monkeypatch.setattr(quota_store, "take", counted)
    for _ in range(CALLS_AT_ONCE * 2):
        await quotas.take_call(CALLER, Quota.QUERY)
    assert len(seen) == 2


async def test_each_class_has_its_own_quota_and_one_over_all_binds_too(
    platform: RestPlatform, clock: ManualClock
) -> None:
    quotas = Quotas(platform.db, clock)
    await put(quotas, clock, calls(2), calls(3, "all", Period.MONTH))
    left = [await quotas.take_call(CALLER, kind) for kind in (Quota.QUERY, Quota.VIDEO, Quota.QUERY)]
    assert left == [1, 1, 0]
    for kind, period in ((Quota.QUERY, "month"), (Quota.VIDEO, "month")):
        with pytest.raises(LimitExceeded) as refused:
            await quotas.take_call(CALLER, kind)
        assert (refused.value.code, refused.value.details["period"]) == (42902, period)
    # A refusal by one quota spends nothing of the other.
    assert await used(quotas) == [3, 2]


async def test_a_new_day_begins_at_midnight_in_beijing(platform: RestPlatform, clock: ManualClock) -> None:
    quotas = Quotas(platform.db, clock)
    await put(quotas, clock, calls(1))
    assert await quotas.take_call(CALLER, Quota.QUERY) == 0
    with pytest.raises(LimitExceeded) as refused:
        await quotas.take_call(CALLER, Quota.QUERY)
    assert refused.value.retry_after_s == 16 * 3600  # it is eight in the morning
    clock.advance(16 * 3600)
    assert await quotas.take_call(CALLER, Quota.QUERY) == 0


async def test_a_changed_quota_holds_in_every_process_soon(
    platform: RestPlatform, second: Database, clock: ManualClock
) -> None:
    ours, theirs = Quotas(platform.db, clock), Quotas(second, clock)
    assert await theirs.take_call(CALLER, Quota.QUERY) is None
    await put(ours, clock, calls(0))
    clock.advance(FRESH_S)
    for each in (ours, theirs):
        with pytest.raises(LimitExceeded):
            await each.take_call(CALLER, Quota.QUERY)
    await put(ours, clock, calls(500))
    assert await ours.take_call(CALLER, Quota.QUERY) == 499
    await put(ours, clock, calls(1))
    # It holds a handful of the 500, which are not the caller's any more.
    with pytest.raises(LimitExceeded):
        await ours.take_call(CALLER, Quota.QUERY)
    await put(ours, clock)
    assert await ours.take_call(CALLER, Quota.QUERY) is None


async def test_people_have_no_quota_and_a_key_that_is_not_there_can_be_given_none(
    platform: RestPlatform, clock: ManualClock
) -> None:
    quotas = Quotas(platform.db, clock)
    assert await quotas.take_call("user:1", Quota.QUERY) is None
    with pytest.raises(NotFound):
        await quotas.put(ADMIN, "nobody", [calls(1)], Context(clock.at()))


async def test_counters_of_days_long_past_are_forgotten(platform: RestPlatform, clock: ManualClock) -> None:
    quotas = Quotas(platform.db, clock)
    await put(quotas, clock, calls(9), calls(9, period=Period.MONTH))
    await quotas.take_call(CALLER, Quota.QUERY)
    later = clock.at() + timedelta(days=2)
    assert [await platform.db.write(quota_store.forget, later, 10) for _ in range(2)] == [1, 0]


async def test_over_rest_a_key_is_told_what_is_left_and_refused_with_the_time(
    platform: RestPlatform, clock: ManualClock
) -> None:
    sent = {"quotas": [{"measure": "calls", "quotaClass": "query", "period": "day", "limit": 2}]}
    answer = await call(platform, clock, "PUT", f"/api/v1/keys/{KEY}/quotas", sent)
    (quota,) = answer.json()["data"]["quotas"]
    assert (quota["used"], quota["remaining"]) == (0, 2)
    assert quota["resetsAt"] in ("2026-01-02T00:00:00+08:00", "2026-01-01T16:00:00Z")
    answers = [await call(platform, clock, "GET", DEVICES) for _ in range(3)]
    assert [one.headers.get("x-quota-remaining") for one in answers] == ["1", "0", None]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, 42902)
    assert 57_500 < int(refused.headers["retry-after"]) <= 57_600
    assert refused.headers["x-ratelimit-limit"] == "1200"
    assert "2026-01-02 00:00（北京时间）恢复" in refused.json()["msg"]
    listed = (await call(platform, clock, "GET", "/api/v1/keys")).json()["data"]
    assert [(one["keyId"], one["quotas"][0]["remaining"]) for one in listed["list"]] == [(KEY, 0)]
    assert "s" * 32 not in str(listed)
    records, _ = await platform.db.read(audit.page, 1, 50)
    entries = [record.entry for record in records]
    assert [e.reason for e in entries if e.outcome is Outcome.DENIED] == [refused.json()["msg"]]
    (changed,) = [e for e in entries if e.event is AuditTag.KEY_CHANGE and "quotas" in e.details]
    assert changed.details["quotas"] == {"calls/query/day": 2}


async def test_rows_are_counted_and_an_answer_that_is_too_long_is_not_given(
    platform: RestPlatform, clock: ManualClock
) -> None:
    await grant(platform, clock)
    await platform.db.write(devices.upsert_many, sample_archives(HOME, 8), HOME, clock.at())
    await put(Quotas(platform.db, clock), clock, rows(10))
    first = await call(platform, clock, "GET", f"{DEVICES}?pageSize=6")
    assert (first.headers["x-rows-remaining"], len(first.json()["data"]["list"])) == ("4", 6)
    refused = await call(platform, clock, "GET", f"{DEVICES}?pageSize=6")
    assert (refused.status_code, refused.json()["code"]) == (429, 42903)
    assert "list" not in refused.json()["data"]
    assert refused.json()["data"]["details"]["remaining"] == 4
    smaller = await call(platform, clock, "GET", f"{DEVICES}?pageSize=4")
    assert smaller.headers["x-rows-remaining"] == "0"
    # One device in full is one row; what nobody may see is refused as such, before rows are looked at.
    known, unknown = sample_archives(HOME, 1)[0].device_id, "31010400001310009999"
    assert (await call(platform, clock, "GET", f"{DEVICES}/{known}")).json()["code"] == 42903
    assert (await call(platform, clock, "GET", f"{DEVICES}/{unknown}")).json()["code"] == 40401
    records, _ = await platform.db.read(audit.page, 1, 50, subject_id=KEY)
    given = [record.entry.details["rows"] for record in records if "rows" in record.entry.details]
    assert given == [4, 6]  # the newest first; what was refused gave none


async def grant(platform: RestPlatform, clock: ManualClock) -> None:
    reading = frozenset({Permission.ARCHIVE_READ})
    given = Grant("", SubjectKind.API_KEY, KEY, reading, ScopeKind.ALL)
    await platform.grants.give(ADMIN, given, Context(clock.at()))


async def call(
    platform: RestPlatform, clock: ManualClock, method: str, target: str, body: object = None
) -> httpx2.Response:
    sent = b"" if body is None else msgspec.json.encode(body)
    path, _, raw_query = target.partition("?")
    headers = Signer(KEY, "s" * 32, HOME, clock).headers(method, path, raw_query, sent)
    clock.advance(1)
    async with platform.http() as client:
        kind = {"Content-Type": "application/json"}
        return await client.request(method, target, content=sent, headers={**headers, **kind})


# A refusal for too many rows comes after the operation ran: what is listed here changes nothing.
_READINGS_BY_POST = {
    "areaQueryDevices",
    "batchGetDevices",
    "deviceOnline",
    "deviceStatus",
    "fullDevices",
    "planDevices",
    "queryTaggedDevices",
    "regionDevices",
}


async def test_only_readings_answer_rows(platform: RestPlatform) -> None:
    listing = {
        operation.name
        for operation in platform.operations
        if operation.is_implemented and operation.method != "GET" and hasattr(_shape(operation), "rows")
    }
    assert listing == _READINGS_BY_POST


def _shape(operation: AnyOperation) -> object:
    return getattr(operation.response, "__origin__", operation.response)
