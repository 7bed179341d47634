"""How well pictures arrive now: the figures of running streams, for those who may read the devices' status.

Implements: DB31DSJ/Z 001-2024 Table E.2
Only what runs is told. The indicators of Table C.1 are judged over devices and time, which nothing here
keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from tongshi.clock import Clock
from tongshi.resources.viewing.model import Codec, Coding, Quality, Step, StreamKey
from tongshi.resources.viewing.streams import SharedStream
from tongshi.sharing.model import Scope

Visible = Callable[[Sequence[str], Scope], Awaitable[Collection[str]]]
"""Of these devices, those that lie within a scope; the database decides."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One stream now. ``quality`` is None before its picture, or when its node does not tell."""

    key: StreamKey
    stream_id: str
    step: Step
    holders: int
    age_s: float
    codec: Codec | None
    quality: Quality | None
    coding: Coding | None = None  # of one that is coded anew


class QualityMonitor:
    """Samples of the streams that run, within a caller's scope."""

    def __init__(self, streams: Callable[[], Sequence[SharedStream]], visible: Visible, clock: Clock) -> None:
        self._streams = streams
        self._visible = visible
        self._clock = clock

    async def samples(
        self, scope: Scope, device_ids: Sequence[str] = (), civil_codes: Sequence[str] = ()
    ) -> list[Sample]:
        """All that the scope holds, by device and stream; empty wishes ask for every one."""
        wanted = frozenset(device_ids)
        streams = [s for s in self._streams() if not wanted or s.key.device_id in wanted]
        ids = sorted({str(s.key.device_id) for s in streams})
        seen = set(await self._visible(ids, scope)) if ids else set()
        if civil_codes and seen:
            within = Scope(civil_codes=frozenset(civil_codes))
            seen &= set(await self._visible(sorted(seen), within))
        now = self._clock.now()
        samples = [_sample(s, now) for s in streams if s.key.device_id in seen]
        return sorted(samples, key=lambda one: (one.key.device_id, one.stream_id))


def _sample(stream: SharedStream, now: float) -> Sample:
    age_s = round(now - stream.reached[Step.REQUESTED], 3)
    return Sample(
        stream.key,
        stream.stream_id,
        stream.step,
        len(stream.holders),
        age_s,
        stream.codec,
        stream.quality,
        stream.coding,
    )
