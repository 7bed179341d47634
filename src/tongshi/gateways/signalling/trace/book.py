"""What the recorder keeps, as people read it: lists, timelines, captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from tongshi.clock import Clock
from tongshi.gateways.signalling.trace.outcome import Standing, standing
from tongshi.gateways.signalling.trace.recorder import Recorder
from tongshi.gateways.signalling.trace.redaction import redact
from tongshi.gateways.signalling.trace.ring import Note, Packet, Session
from tongshi.gateways.signalling.trace.words import first_line, meaning, parsed
from tongshi.protocols import pcap
from tongshi.protocols.gb28181.xml import decode_text
from tongshi.protocols.sip.message import Response
from tongshi.resources.traces.model import (
    TraceBounds,
    TraceDetail,
    TraceEvent,
    TraceFilter,
    TraceKey,
    TraceKind,
    TraceSummary,
)

STEPS: Final = {
    "requested": "请求画面",
    "authorised": "授权通过",
    "invited": "向设备发起呼叫",
    "connecting": "建立信令连接",
    "subscribing": "等待再次订阅",
    "answered": "设备应答",
    "firstPacket": "收到首个媒体包",
    "firstKeyFrame": "收到首个关键帧",
    "keyFrameAsked": "请求关键帧",
    "transcoding": "转码",
    "opened": "播放端接入",
    "ended": "结束",
}
_USUAL: Final = (401, 407, 487)
_TITLES: Final = {
    TraceKind.VIEWING: "画面调阅",
    TraceKind.CALL: "呼叫",
    TraceKind.SUBSCRIPTION: "订阅",
    TraceKind.QUERY: "查询",
    TraceKind.CONTROL: "控制",
    TraceKind.NOTIFICATION: "通知",
    TraceKind.REGISTRATION: "注册",
    TraceKind.HEARTBEAT: "心跳",
    TraceKind.OTHER: "其他",
}


class TraceBook:
    """Fulfils ``traces.service.TraceSource``.

    Args:
        own: our own address and SIP port.
        peer_of: by which peer a device is reached; a peer by itself, and so is whom nobody knows.
    """

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        own: Callable[[], pcap.End],
        peer_of: Callable[[str], str],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._own = own
        self._peer_of = peer_of

    def find(self, wanted: TraceFilter) -> list[TraceKey]:
        """Sessions that fit, the latest heard first; as many as the rings hold."""
        now, zero = self._clock.now(), self._zero()
        rings = self._recorder.rings
        sessions = [
            one for kind, ring in rings.items() if wanted.kind in (None, kind) for one in ring.sessions()
        ]
        sessions.sort(key=lambda one: (one.touched, one.number), reverse=True)
        return [self._key(one) for one in sessions if self._fits(one, wanted, now, zero)]

    def summaries(self, keys: Sequence[TraceKey]) -> list[TraceSummary]:
        """A page of them, told in full; what was forgotten meanwhile is left out."""
        now, zero = self._clock.now(), self._zero()
        found = (self._recorder.find(key.trace_id) for key in keys)
        return [self._summary(one, standing(one, now), zero) for one in found if one is not None]

    def timeline(self, trace_id: str) -> TraceDetail | None:
        """A session with all that hang on it, in order of time; None when it is not (or no longer) kept."""
        session = self._recorder.find(trace_id)
        if session is None:
            return None
        zero = self._zero()
        entries = sorted(
            (
                (e[0] if isinstance(e, tuple) else e.now, one, e)
                for one in self._recorder.family(session)
                for e in one.all()
            ),
            key=lambda found: found[0],
        )
        events: list[TraceEvent] = []
        seen: set[tuple[bool, bytes]] = set()
        before = entries[0][0] if entries else 0.0
        for now, one, entry in entries:
            at, gap_ms = zero + timedelta(seconds=now), round((now - before) * 1000, 1)
            before = now
            if isinstance(entry, Note):
                events.append(_step(entry, at, gap_ms, one))
                continue
            is_repeated = (entry[1], entry[3]) in seen
            seen.add((entry[1], entry[3]))
            events.append(self._message(entry, at, gap_ms, one, is_repeated=is_repeated))
        judged = standing(session, self._clock.now())
        return TraceDetail(self._summary(session, judged, zero), tuple(events))

    def capture(self, trace_id: str) -> list[tuple[str, pcap.Packet]] | None:
        """The messages of a timeline as packets without secrets, each with the device it concerns."""
        session = self._recorder.find(trace_id)
        if session is None:
            return None
        zero, own = self._zero(), self._own()
        found = []
        for one in self._recorder.family(session):
            for entry in one.all():
                if isinstance(entry, Note):
                    continue
                now, is_out, remote, data, size = entry
                there = pcap.End(remote.host, remote.port)
                source, destination = (own, there) if is_out else (there, own)
                at = zero + timedelta(seconds=now)
                # What went through TLS stands in the capture as plain TCP: the messages are what is wanted.
                transport: Literal["udp", "tcp"] = "tcp" if remote.is_reliable else "udp"
                packet = pcap.Packet(at, source, destination, transport, redact(data), size)
                found.append((one.device_id or one.peer_id, packet))
        found.sort(key=lambda pair: pair[1].at)
        return found

    def bounds(self) -> TraceBounds:
        """How much is kept."""
        rings = tuple(self._recorder.rings.values())
        oldest = [one.touched for ring in rings if (one := ring.oldest()) is not None]
        return TraceBounds(
            is_on=self._recorder.max_bytes > 0,
            used_bytes=sum(ring.used_bytes for ring in rings),
            max_bytes=self._recorder.max_bytes,
            sessions=sum(len(ring) for ring in rings),
            oldest_at=self._zero() + timedelta(seconds=min(oldest)) if oldest else None,
            dropped=sum(ring.dropped for ring in rings),
        )

    def _zero(self) -> datetime:
        """The wall clock at monotonic zero, as both stand now."""
        return self._clock.at() - timedelta(seconds=self._clock.now())

    def _key(self, one: Session) -> TraceKey:
        return TraceKey(self._recorder.name(one), one.device_id, self._peer(one))

    def _fits(self, one: Session, wanted: TraceFilter, now: float, zero: datetime) -> bool:
        """The cheap questions first."""
        if wanted.device_id not in ("", one.device_id, one.peer_id):
            return False
        if wanted.since is not None and zero + timedelta(seconds=one.touched) < wanted.since:
            return False
        if wanted.until is not None and zero + timedelta(seconds=one.now) > wanted.until:
            return False
        if wanted.peer_id and wanted.peer_id != self._peer(one):
            return False
        return wanted.state is None or standing(one, now).state is wanted.state

    def _peer(self, session: Session) -> str:
        if session.peer_id:
            return self._peer_of(session.peer_id)
        called = (one.peer_id for one in self._recorder.family(session) if one.peer_id)
        return self._peer_of(next(called, "")) if session.links else ""

    def _summary(self, one: Session, judged: Standing, zero: datetime) -> TraceSummary:
        entries = one.all()
        first = next((entry for entry in entries if isinstance(entry, tuple)), None)
        title = one.title or (meaning(parsed(first[3])) if first is not None else _TITLES[one.kind])
        return TraceSummary(
            trace_id=self._recorder.name(one),
            kind=one.kind,
            state=judged.state,
            device_id=one.device_id,
            peer_id=self._peer(one),
            begun_at=zero + timedelta(seconds=one.now),
            last_at=zero + timedelta(seconds=one.touched),
            title=title,
            outcome=judged.outcome,
            failed_step=STEPS.get(judged.failed_step, judged.failed_step),
            messages=sum(1 for entry in entries if isinstance(entry, tuple)),
            omitted=one.omitted,
        )

    def _message(
        self, entry: Packet, at: datetime, gap_ms: float, one: Session, *, is_repeated: bool
    ) -> TraceEvent:
        _, is_out, remote, raw, size = entry
        data = redact(raw)
        message = parsed(data)
        said = meaning(message)
        # A challenge and the answer to a CANCEL are the protocol's own way.
        is_refusal = isinstance(message, Response) and message.status >= 300 and message.status not in _USUAL
        return TraceEvent(
            at=at,
            gap_ms=gap_ms,
            direction="out" if is_out else "in",
            peer_id=self._peer_of(one.peer_id),
            remote=f"{remote.host}:{remote.port}",
            transport=remote.transport,
            first_line=first_line(data),
            meaning=f"重发：{said}" if is_repeated else said,
            device_id=one.device_id or one.peer_id,
            text=decode_text(data),
            size=size,
            is_cut=size > len(raw),
            is_repeated=is_repeated,
            is_trouble=is_refusal or message is None,
        )


def _step(note: Note, at: datetime, gap_ms: float, one: Session) -> TraceEvent:
    said = STEPS.get(note.step, note.step)
    if note.is_trouble:
        said = f"停在“{said}”：{note.text}"
    elif note.text:
        said = f"{said}（{note.text}）"
    return TraceEvent(
        at, gap_ms, "", "", "", "", note.step, said, device_id=one.device_id, is_trouble=note.is_trouble
    )
