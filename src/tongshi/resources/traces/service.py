"""Timelines for a caller: those of devices within the caller's scope, and nothing of others.

A session concerns a device, or a peer when it is about no device. Who may see everything sees all sessions,
strangers' attempts among them; anybody else those whose device (or peer) is in the archive and in the scope.
Unknown and not permitted look the same (40401).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.protocols import pcap
from tongshi.resources.traces.model import (
    TraceBounds,
    TraceDetail,
    TraceFilter,
    TraceKey,
    TraceSummary,
)
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.storage.engine import Database

_GONE = "没有这条时间线，或已超出保留范围"


class TraceSource(Protocol):
    """What signalling keeps; nothing here looks at who asks."""

    def find(self, wanted: TraceFilter, /) -> list[TraceKey]: ...

    def summaries(self, keys: Sequence[TraceKey], /) -> list[TraceSummary]: ...

    def timeline(self, trace_id: str, /) -> TraceDetail | None: ...

    def capture(self, trace_id: str, /) -> list[tuple[str, pcap.Packet]] | None: ...

    def bounds(self) -> TraceBounds: ...


class Devices(Protocol):
    """The archive: which of these devices lie in a scope."""

    async def get_many(self, device_ids: Sequence[str], scope: Scope, /) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file."""

    content: bytes
    packets: int


class Traces:
    """Timelines of signalling sessions."""

    def __init__(self, source: TraceSource, devices: Devices, db: Database) -> None:
        self._source = source
        self._devices = devices
        self._db = db

    async def page(
        self, scope: Scope, wanted: TraceFilter, page_no: int, page_size: int
    ) -> tuple[list[TraceSummary], int]:
        """One page of what the caller may see, the latest first, and how many that is in all."""
        found = self._source.find(wanted)
        visible = await self._visible(scope, {key.concerns for key in found})
        keys = [key for key in found if visible is None or key.concerns in visible]
        start = (page_no - 1) * page_size
        return self._source.summaries(keys[start : start + page_size]), len(keys)

    async def timeline(self, scope: Scope, trace_id: str) -> TraceDetail:
        """A timeline, without the events of devices that the caller may not see. Raises NotFound."""
        detail = self._source.timeline(trace_id)
        if detail is None:
            raise NotFound(_GONE)
        concerns = detail.summary.device_id or detail.summary.peer_id
        visible = await self._visible(scope, {concerns, *(event.device_id for event in detail.events)})
        if visible is None:
            return detail
        if concerns not in visible:
            raise NotFound(_GONE)
        return replace(detail, events=tuple(e for e in detail.events if e.device_id in visible))

    async def capture(self, by: Subject, scope: Scope, trace_id: str, context: Context) -> Capture:
        """The same as a file, recorded in the audit before it is given out. Raises NotFound."""
        detail = await self.timeline(scope, trace_id)
        found = self._source.capture(trace_id) or []
        visible = await self._visible(scope, {device_id for device_id, _ in found})
        packets = [packet for device_id, packet in found if visible is None or device_id in visible]
        seen = detail.summary.device_id or detail.summary.peer_id
        details = {"traceId": trace_id, "packets": len(packets)}
        entry = deed(by, context, AuditTag.SIGNALLING_CAPTURE, "device", seen, details)
        await self._db.write(audit.append, entry)
        return Capture(pcap.render(packets), len(packets))

    def bounds(self) -> TraceBounds:
        """How much is kept, and since when."""
        return self._source.bounds()

    async def _visible(self, scope: Scope, ids: Collection[str]) -> Collection[str] | None:
        """Those within the scope; None for all."""
        if scope.is_everything:
            return None
        return await self._devices.get_many(sorted(ids - {""} if isinstance(ids, set) else ids), scope)
