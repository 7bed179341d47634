"""One viewer's session: its ticket, its timeline and its two clocks (time to open, time to watch)."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tongshi.ids import DeviceId
from tongshi.resources.viewing.media_ports import Spool
from tongshi.resources.viewing.model import (
    Codec,
    Coding,
    Delivery,
    Download,
    EndReason,
    Failure,
    FileFormat,
    History,
    Mark,
    Quality,
    SessionView,
    Step,
    StreamKey,
    StreamType,
    Transcoding,
    Transport,
)
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.streams import Lease

_STREAM_STEPS = (Step.INVITED, Step.ANSWERED, Step.FIRST_PACKET, Step.FIRST_KEY_FRAME)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks to watch; ``deliveries`` is ordered by preference, ``expire_s`` is the time to
    open."""

    device_id: DeviceId
    stream_type: StreamType = StreamType.MAIN
    deliveries: tuple[Delivery, ...] = (Delivery.HTTP_FLV,)
    transport: Transport = Transport.AUTO
    expire_s: int = 300
    max_session_s: int | None = None
    purpose: str = ""
    window: Window | None = None  # of a recording; None watches live
    download_speed: int | None = None
    transcoding: Transcoding | None = None  # wanted when the stream is coded otherwise
    location: RecordLocation = RecordLocation.AUTO
    file_format: FileFormat = FileFormat.MP4  # of a download
    is_sound_alone: bool = False  # the picture stays where it is


class Session:
    """One viewer of one stream, from the request to the end."""

    def __init__(self, viewer: Viewer, wish: Wish, now: float, at: datetime) -> None:
        self.session_id = secrets.token_hex(16)
        self.ticket = secrets.token_urlsafe(24)
        self.viewer = viewer
        self.wish = wish
        self.requested_now = now
        self.requested_at = at
        self.opens_until = at + timedelta(seconds=wish.expire_s)
        self.marks: dict[Step, float] = {Step.REQUESTED: now}
        self.grant = ""
        self.trace_id = ""
        self.lease: Lease | None = None
        self.codec: Codec | None = None
        self.quality: Quality | None = None
        self.coding: Coding | None = None
        self.transcoded_from: Codec | None = None
        self.failure: Failure | None = None
        self.end_reason: EndReason | None = None
        self.is_taken = False  # the ticket was used
        self.is_lasting = False  # and may be used again, for many requests of one viewer
        self.leaving: asyncio.TimerHandle | None = None  # ends a lasting one that asks no more
        self.stream_end: EndReason | None = None  # its stream ended in order; what is left may be fetched
        self.engine_viewer: int | None = None
        self.bytes_sent = 0
        self.spool: Spool | None = None  # of a download
        self.lost_packets = 0
        self.timers: list[asyncio.TimerHandle] = []

    @property
    def key(self) -> StreamKey:
        wish = self.wish
        if wish.window is None:
            return StreamKey(wish.device_id, wish.stream_type)
        history = History(wish.window, self.session_id, wish.download_speed, wish.location)
        return StreamKey(wish.device_id, wish.stream_type, history)

    def learn(self) -> None:
        """Note the stream's steps and codec; steps before this request were another session's."""
        if self.lease is None or self.end_reason is not None:
            return
        stream = self.lease.stream
        self.codec = stream.codec
        self.quality = stream.quality
        self.coding = stream.coding
        self.transcoded_from = None if stream.transcoded is None else stream.transcoded.source
        for step in _STREAM_STEPS:
            if stream.reached.get(step, 0.0) >= self.requested_now:
                self.marks[step] = stream.reached[step]

    @property
    def stream_id(self) -> str:
        return "" if self.lease is None else self.lease.stream.stream_id

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        if self.leaving is not None:
            self.leaving.cancel()

    def duration_s(self, now: float) -> float:
        """From the first byte served to the end; 0 when it was never opened."""
        opened = self.marks.get(Step.OPENED)
        return 0.0 if opened is None else self.marks.get(Step.ENDED, now) - opened

    def view(self, now: float) -> SessionView:
        """What may be told of it."""
        self.learn()
        codec, source = self._codecs()
        marks = tuple(
            Mark(step, round((t - self.requested_now) * 1000, 1))
            for step in Step
            if (t := self.marks.get(step)) is not None
        )
        return SessionView(
            session_id=self.session_id,
            stream_id=self.stream_id,
            trace_id=self.trace_id,
            device_id=self.wish.device_id,
            stream_type=self.wish.stream_type,
            subject=self.viewer.subject.name,
            client_host=self.viewer.client_host,
            purpose=self.wish.purpose,
            requested_at=self.requested_at,
            opens_until=self.opens_until,
            reused=self.lease is not None and self.lease.reused,
            marks=marks,
            codec=codec,
            failure=self.failure,
            end_reason=self.end_reason,
            bytes_sent=self.bytes_sent,
            duration_s=round(self.duration_s(now), 3),
            history=self.key.history,
            download=self._download(),
            quality=self.quality,
            transcoded_from=source,
            coding=self.coding,
        )

    def _download(self) -> Download | None:
        spool = self.spool
        if spool is None:
            return None
        is_over = spool.done.is_set()
        state = "receiving" if not is_over else "complete" if spool.is_complete else "failed"
        sound = "" if self.codec is None else self.codec.audio
        is_held = bool(spool.sound.coded_from) or sound in self.wish.file_format.delivery.sounds
        left_out = "" if is_held else sound
        return Download(state, spool.size, round(spool.media_s, 3), self.lost_packets, left_out, spool.sound)

    def _codecs(self) -> tuple[Codec | None, Codec | None]:
        """What the viewer gets, and what it is made of when that is something else."""
        if self.codec is None or self.spool is None or not self.spool.sound.coded_from:
            return self.codec, self.transcoded_from
        sound = self.spool.sound
        source = replace(self.codec, audio=sound.coded_from)
        return replace(self.codec, audio="aac", audio_rate_hz=sound.rate_hz), source


class SessionLog:
    """Sessions by number: all that live, and the last ended ones up to a bound."""

    def __init__(self, max_live: int, max_ended: int) -> None:
        self._max_live = max_live
        self._max_ended = max_ended
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._by_ticket: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._live)

    @property
    def is_full(self) -> bool:
        return len(self._live) >= self._max_live

    def add(self, session: Session) -> None:
        self._live[session.session_id] = session
        self._by_ticket[session.ticket] = session

    def by_ticket(self, ticket: str) -> Session | None:
        """Live and ended ones: a used ticket is told apart from one that never was."""
        return self._by_ticket.get(ticket)

    def get(self, session_id: str) -> Session | None:
        return self._live.get(session_id) or self._ended.get(session_id)

    def live(self) -> tuple[Session, ...]:
        return tuple(self._live.values())

    def recent(self, limit: int) -> list[Session]:
        """Newest first, live ones before ended ones."""
        live = sorted(self._live.values(), key=lambda s: -s.requested_now)
        return (live + list(reversed(self._ended.values())))[:limit]

    def retire(self, session: Session) -> None:
        """Move to the ended ones; the oldest of these is forgotten past the bound."""
        if self._live.pop(session.session_id, None) is None:
            return
        self._ended[session.session_id] = session
        while len(self._ended) > self._max_ended:
            _, gone = self._ended.popitem(last=False)
            self._by_ticket.pop(gone.ticket, None)
