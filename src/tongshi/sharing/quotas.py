"""Quotas kept: each process takes a handful from the counter in the database and spends it from memory.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
What a process takes is used from that moment on. So no more than the quota is ever given, by however many
processes, and one that is killed loses its handful instead of giving it back. The price is at the other end:
a caller may be refused while others of the platform's processes still hold a handful each, at most
``CALLS_AT_ONCE`` calls or ``ROWS_AT_ONCE`` rows and never more than a twentieth of what was left, which is
nothing towards the end. A process that ends in order gives its handful back.

A call within its quota looks into memory; one in a hundred writes. Limits are read again after ``FRESH_S``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import NotFound, TongshiError
from tongshi.sharing import quota_store, store
from tongshi.sharing.model import Context, Subject, SubjectKind
from tongshi.sharing.quota_model import (
    EVERY_CLASS,
    Limit,
    Measure,
    Period,
    Use,
    began,
    check,
    exceeded,
)
from tongshi.storage.engine import Database
from tongshi.web.operations import Quota

log = structlog.get_logger(__name__)

CALLS_AT_ONCE = 100
ROWS_AT_ONCE = 2_000
# A change by an administrator is kept by every process after so long.
FRESH_S = 10.0
# A counter found empty is not asked again sooner.
EMPTY_S = 2.0
MAX_CALLERS = 10_000
_PREFIX = f"{SubjectKind.API_KEY.value}:"
_Counter = tuple[Measure, str, Period]


@dataclass(slots=True)
class _Handful:
    """What this process holds of one counter."""

    began: str
    held: int = 0
    used: int = 0
    # When it was found to have too little, for how much, under which quota: a smaller request may still fit.
    empty: tuple[float, int, int] | None = None


@dataclass(slots=True)
class _Account:
    """One key in this process."""

    limits: tuple[Limit, ...] = ()
    read_now: float | None = None
    hands: dict[_Counter, _Handful] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Quotas:
    """``web.ports.Quotas`` for keys; people and roles have none."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def take_call(self, caller: str, quota: Quota) -> int | None:
        """See ``web.ports.Quotas``."""
        return await self._take(caller, Measure.CALLS, (EVERY_CLASS, quota.wire_name), 1, CALLS_AT_ONCE)

    async def take_rows(self, caller: str, rows: int) -> int | None:
        """See ``web.ports.Quotas``."""
        return await self._take(caller, Measure.ROWS, (EVERY_CLASS,), rows, ROWS_AT_ONCE)

    async def stop(self) -> None:
        """Give back what was taken and not spent."""
        accounts, self._accounts = self._accounts, OrderedDict()
        for key_id, account in accounts.items():
            for counter, hand in account.hands.items():
                if hand.held:
                    try:
                        await self._db.write(quota_store.give_back, key_id, counter, hand.began, hand.held)
                    except TongshiError as error:
                        log.warning("quota_not_given_back", key_id=key_id, error=error.message)

    async def keys(
        self, page_no: int, page_size: int
    ) -> tuple[list[tuple[store.ApiKey, tuple[Use, ...]]], int]:
        """One page of keys with how their quotas stand, and how many keys there are."""
        return await self._db.read(_keys, page_no, page_size, self._clock.at())

    async def put(self, by: Subject, key_id: str, limits: Iterable[Limit], context: Context) -> None:
        """Replace the quotas of a key. Raises NotFound, InvalidRequest."""
        wanted = tuple(limits)
        check(wanted)
        await self._db.write(_put, by, key_id, wanted, context)
        if key_id in self._accounts:
            self._accounts[key_id].read_now = None

    async def find(self, key_id: str) -> tuple[store.ApiKey, tuple[Use, ...]]:
        """A key with how its quotas stand. Raises NotFound."""
        return await self._db.read(_find, key_id, self._clock.at())

    async def _take(
        self, caller: str, measure: Measure, classes: tuple[str, ...], wanted: int, beyond: int
    ) -> int | None:
        if not caller.startswith(_PREFIX):
            return None
        key_id = caller.removeprefix(_PREFIX)
        account = self._account(key_id)
        if account.read_now is not None and not account.limits and self._is_fresh(account):
            return None
        async with account.lock:
            if not self._is_fresh(account):
                account.limits = await self._db.read(quota_store.limits_of, key_id)
                account.read_now = self._clock.now()
            bound = [
                limit for limit in account.limits if limit.measure is measure and limit.quota_class in classes
            ]
            at = self._clock.at()
            # All of them first, so that a refusal by one spends nothing of another.
            hands = [await self._hold(key_id, account, limit, wanted, beyond, at) for limit in bound]
            for hand in hands:
                hand.held -= wanted
            return min(
                (
                    max(0, limit.most - hand.used + hand.held)
                    for limit, hand in zip(bound, hands, strict=True)
                ),
                default=None,
            )

    async def _hold(
        self, key_id: str, account: _Account, limit: Limit, wanted: int, beyond: int, at: datetime
    ) -> _Handful:
        """This process's handful with at least ``wanted`` in it. Raises LimitExceeded."""
        today = began(limit.period, at)
        hand = account.hands.get(limit.counter)
        if hand is None or hand.began != today:
            hand = account.hands[limit.counter] = _Handful(today)
        now = self._clock.now()
        is_lowered = hand.used > limit.most
        if hand.held >= wanted and not is_lowered:
            return hand
        if not _is_known_empty(hand, limit, wanted, now):
            need = wanted - (0 if is_lowered else hand.held)
            taken, hand.used = await self._db.write(quota_store.take, key_id, limit, need, beyond, at)
            if taken:
                hand.held += taken
                hand.empty = None
                return hand
            hand.empty = (now, wanted, limit.most)
        left = 0 if is_lowered else max(0, limit.most - hand.used) + hand.held
        raise exceeded(limit, left, wanted, at)

    def _account(self, key_id: str) -> _Account:
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account()
            if len(self._accounts) > MAX_CALLERS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(key_id)
        return account

    def _is_fresh(self, account: _Account) -> bool:
        return account.read_now is not None and self._clock.now() - account.read_now < FRESH_S


def _is_known_empty(hand: _Handful, limit: Limit, wanted: int, now: float) -> bool:
    if hand.empty is None:
        return False
    asked_now, asked, most = hand.empty
    return now - asked_now < EMPTY_S and wanted >= asked and limit.most == most


def _keys(
    conn: Connection, page_no: int, page_size: int, at: datetime
) -> tuple[list[tuple[store.ApiKey, tuple[Use, ...]]], int]:
    keys, total = quota_store.list_keys(conn, page_no, page_size)
    limits = quota_store.limits_of_many(conn, [key.id for key in keys])
    uses = quota_store.uses_of(conn, limits, at)
    return [(key, uses.get(key.id, ())) for key in keys], total


def _find(conn: Connection, key_id: str, at: datetime) -> tuple[store.ApiKey, tuple[Use, ...]]:
    key = store.find_key(conn, key_id)
    if key is None:
        raise NotFound("没有这个密钥")
    limits = quota_store.limits_of_many(conn, [key_id])
    return key, quota_store.uses_of(conn, limits, at).get(key_id, ())


def _put(conn: Connection, by: Subject, key_id: str, limits: tuple[Limit, ...], context: Context) -> None:
    if store.find_key(conn, key_id) is None:
        raise NotFound("没有这个密钥")
    before = quota_store.limits_of(conn, key_id)
    quota_store.put_limits(conn, key_id, limits, by.name, context.at)
    audit.append(
        conn,
        audit.AuditEntry(
            context.at,
            AuditTag.KEY_CHANGE,
            Outcome.DONE,
            subject_kind=by.kind.value,
            subject_id=by.id,
            subject_name=by.name,
            object_kind="api_key",
            object_id=key_id,
            address=context.address,
            request_id=context.request_id,
            details={"quotasBefore": _told(before), "quotas": _told(limits)},
        ),
    )


def _told(limits: tuple[Limit, ...]) -> dict[str, int]:
    return {f"{limit.measure}/{limit.quota_class}/{limit.period}": limit.most for limit in limits}
