"""Writes what the REST face did and refused into the audit chain.

Implements: DB31DSJ/Z 001-2024 7.3
A use is recorded unless its service did so in the transaction of its change. A refusal is recorded always,
but the same refusal of the same caller at most once in ten seconds: a flood must not fill the chain.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from tongshi.audit import store
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.storage.engine import Database
from tongshi.web.ports import Attempt

SAME_REFUSAL_S = 10.0
MAX_REFUSALS_KEPT = 10_000
# Read again and again by an open console, of no resource in particular.
_QUIET = frozenset(
    {AuditTag.SESSION_QUERY, AuditTag.PLATFORM_QUERY, AuditTag.SERVICE_QUERY, AuditTag.ADMISSION_QUERY}
    | {AuditTag.MEDIA_NODE_QUERY}
)


class _Caller(Protocol):
    """What the audit names of a subject (``sharing.model.Subject``)."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class AuditRecorder:
    """``web.ports.Recorder``. ``observe`` is called with every attempt, for the metrics."""

    def __init__(
        self, db: Database, clock: Clock, observe: Callable[[Attempt], None] = lambda attempt: None
    ) -> None:
        self._db = db
        self._clock = clock
        self._observe = observe
        self._refusals: OrderedDict[tuple[str, str, int], float] = OrderedDict()

    async def record(self, attempt: Attempt) -> None:
        """See ``web.ports.Recorder``."""
        self._observe(attempt)
        tag = attempt.operation.audit
        if not isinstance(tag, AuditTag):
            return
        is_refusal = attempt.status >= 400
        if is_refusal and self._is_repeated(attempt):
            return
        # What is answered from memory ran no service that could have recorded it.
        is_told = attempt.operation.is_audited_within and not attempt.is_replayed
        if not is_refusal and (is_told or tag in _QUIET):
            return
        await self._db.write(store.append, _entry(attempt, tag))

    def _is_repeated(self, attempt: Attempt) -> bool:
        who = attempt.identity.key if attempt.identity else attempt.head.client_host
        key = (who, attempt.operation.name, attempt.code)
        now = self._clock.now()
        last = self._refusals.get(key)
        if last is not None and now - last < SAME_REFUSAL_S:
            return True
        self._refusals[key] = now
        self._refusals.move_to_end(key)
        if len(self._refusals) > MAX_REFUSALS_KEPT:
            self._refusals.popitem(last=False)
        return False


def _entry(attempt: Attempt, tag: AuditTag) -> store.AuditEntry:
    caller: _Caller | None = attempt.identity.caller if attempt.identity else None  # type: ignore[assignment]
    outcome = Outcome.DONE
    if attempt.status >= 500:
        outcome = Outcome.FAILED
    elif attempt.status >= 400:
        outcome = Outcome.DENIED
    details: dict[str, object] = {"operation": attempt.operation.name, "status": attempt.status}
    if attempt.code:
        details["code"] = attempt.code
    if attempt.rows:
        details["rows"] = attempt.rows
    if attempt.is_replayed:
        details["isReplayed"] = True
    on_behalf = attempt.head.headers.get("x-tongshi-onbehalf", "")
    if on_behalf:
        details["onBehalf"] = on_behalf[:256]
    return store.AuditEntry(
        at=attempt.head.at,
        event=tag,
        outcome=outcome,
        subject_kind=caller.kind if caller else "",
        subject_id=caller.id if caller else "",
        subject_name=caller.name if caller else "",
        address=attempt.head.client_host,
        request_id=attempt.head.request_id,
        reason=attempt.message,
        details=details,
    )
