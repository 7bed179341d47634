"""Watching a camera: decide, open, hand out one address for one viewer, and end it for every reason there is.

Implements: DB31DSJ/Z 001-2024 Table E.2
Implements: GB/T 28181-2022 9.2
The access decision is taken and recorded before any port is opened. A ticket opens one connection, from the
address it was given to, until it expires. Every failure stays in the session's timeline with its number, its
words and the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from tongshi.clock import Clock
from tongshi.errors import (
    Gone,
    LimitExceeded,
    NotFound,
    TongshiError,
    Unprocessable,
)
from tongshi.resources.viewing.media_ports import Ingest, MediaEngine, Spool, Spools, Transcoder
from tongshi.resources.viewing.model import (
    Closing,
    Codec,
    Delivery,
    EndReason,
    Limits,
    Opening,
    SessionView,
    Step,
    StreamKey,
    Timeouts,
    Transport,
)
from tongshi.resources.viewing.ports import Centre, Guard, NoTimeline, Signalling, Timeline, Viewer
from tongshi.resources.viewing.running import RunningSessions
from tongshi.resources.viewing.sessions import Session, SessionLog, Wish
from tongshi.resources.viewing.streams import Lease, Lost, SharedStream, StreamPool
from tongshi.resources.viewing.tickets import Tickets
from tongshi.resources.viewing.transcoding import cannot_transcode
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

_NO_SESSION = "没有这个会话"
_KINDS = {
    Permission.VIDEO_LIVE: "调阅实时画面",
    Permission.VIDEO_PLAYBACK: "回放录像",
    Permission.VIDEO_DOWNLOAD: "下载录像",
}


class Viewing:
    """Sessions of viewers and relays on shared streams; ``tickets`` is what the listeners serve them by.

    Args:
        base_url: how viewers reach the media listener, without a final slash; read at each use, because its
        port
            may be chosen by the system at start.
        rtsp_url: how RTSP clients reach us, likewise; without it RTSP is not offered here.
        has_rtsp_nodes: a media node has a port for them, so that it depends on who carries the stream.
        spools: where downloads are kept until they were fetched; without it they are refused.
    """

    def __init__(
        self,
        *,
        signalling: Signalling,
        engine: MediaEngine,
        guard: Guard,
        clock: Clock,
        base_url: Callable[[], str],
        rtsp_url: Callable[[], str] | None = None,
        has_rtsp_nodes: bool = False,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        spools: Spools | None = None,
        timeline: Timeline | None = None,
        transcoder: Transcoder | None = None,
        centre: Centre | None = None,
    ) -> None:
        self._transcoder = transcoder
        self._timeline = timeline or NoTimeline()
        self._guard = guard
        self._spools = spools
        self._clock = clock
        self._base_url = base_url
        self._rtsp_url = rtsp_url
        self._has_rtsp_nodes = has_rtsp_nodes
        self._timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._pool = StreamPool(
            signalling, engine, clock, self._timeouts, self._limits, self._timeline, transcoder, centre
        )
        self._sessions = SessionLog(self._limits.max_sessions, self._limits.kept_sessions)
        self._running = RunningSessions(self._sessions, self._pool, clock, self._timeline)
        self.tickets = Tickets(self._running, clock, self._timeouts.asking_s)
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def streams(self) -> StreamPool:
        return self._pool

    @property
    def may_transcode(self) -> bool:
        """Whether streams can be coded anew here."""
        return self._transcoder is not None

    def now(self) -> float:
        """Monotonic seconds, the scale of every mark."""
        return self._clock.now()

    async def start(self) -> None:
        """Begin to look for media that stopped."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def stop_all(self) -> None:
        """End every session and stream, and wait until nothing is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self.end_where(lambda _: True, EndReason.SHUTDOWN)
        await self._pool.stop()
        await self._running.settle()

    async def watch(
        self, viewer: Viewer, wish: Wish, prepare: Callable[[], Awaitable[None]] | None = None
    ) -> Opening:
        """Open a device's picture for one viewer: live, or of a recording when the wish names a window.

        Args:
            prepare: what must be known before the device is called, run once the viewer is admitted.

        Returns:
            The session and one URL for each delivery asked for; all carry the same ticket, one may be opened.

        Raises:
            Unprocessable: none of the deliveries is offered (42203, details ``supported``).
            NotFound, Forbidden: the access decision. LimitExceeded: no room (42904).
            PeerTimeout, PeerFailed, Unavailable: see ``Signalling`` and ``StreamPool``.
        """
        wish = self._offered(wish)
        if self._sessions.is_full:
            raise LimitExceeded("观看会话已满", code=42904, retry_after_s=10)
        session = Session(viewer, wish, self._clock.now(), self._clock.at())
        session.trace_id = self._timeline.begin(
            wish.device_id, f"{viewer.subject.name} {_KINDS[session.key.permission]}"
        )
        self._running.note(session, Step.REQUESTED)
        try:
            await self._admit(session)
        except TongshiError as error:
            self._running.note(session, Step.AUTHORISED, error.message, is_trouble=True)
            raise
        self._sessions.add(session)
        source: Lease | None = None
        try:
            if prepare is not None:
                await prepare()
            if wish.download_speed is not None:
                session.spool = self._spool(session)
            on_ingest = None if session.spool is None else session.spool.begin
            source = await self._source(session)
            key = session.key
            if source is not None and wish.transcoding is not None:
                key = replace(key, transcoding=wish.transcoding.needed_for(source.stream.codec or Codec()))
                if key.transcoding is not None and self._pool.get(key) is None:
                    self._transcoder_for(wish).check(source.stream.codec or Codec(), key.transcoding)
            lease = session.lease = self._pool.take(key, wish.transport, on_ingest)
            if source is not None and source.stream is lease.stream:
                lease.reused = source.reused  # nothing is coded: it is shared only with who came before us
            if lease.reused:
                self._running.note(session, Step.INVITED, "画面已在播放或打开中，共用同一路")
                self._timeline.link(session.trace_id, lease.stream.trace_id)
            await self._pool.ready(lease, lambda reason, error: self._running.lost(session, reason, error))
            if session.spool is not None:  # what the file cannot hold is told in the answer
                await self._pool.learn_codec(lease.stream, lambda codec: bool(codec.audio))
                await session.spool.give_sound(
                    (lease.stream.codec or Codec()).audio,
                    self._transcoder,
                    lambda words: self._running.note(session, Step.OPENED, words, is_trouble=True),
                )
        except TongshiError as error:
            self._running.fail(session, error)
            raise _told(error, session) from error
        except BaseException:
            self._running.end(session, EndReason.CLOSED)
            raise
        finally:
            if source is not None:
                self._pool.release(source)
        return self._opened(session)

    async def _source(self, session: Session) -> Lease | None:
        """The stream as the device sends it, for who may need it coded otherwise: its codec tells."""
        wish = session.wish
        if wish.transcoding is None:
            return None
        self._transcoder_for(wish)
        lease = self._pool.take(session.key, wish.transport)
        await self._pool.ready(lease, lambda reason, error: None)
        coding = wish.transcoding
        try:
            await self._pool.learn_codec(lease.stream, lambda codec: not coding.must_know_sound_of(codec))
        except BaseException:
            self._pool.release(lease)
            raise
        return lease

    def _transcoder_for(self, wish: Wish) -> Transcoder:
        if self._transcoder is None:
            assert wish.transcoding is not None  # else nobody asks
            raise cannot_transcode("本平台不能转码", wish.transcoding)
        return self._transcoder

    async def still(self, viewer: Viewer, key: StreamKey, purpose: str) -> bytes:
        """The picture that a live stream shows now, as JPEG; a stream that was not open is opened for it.

        Raises:
            As ``watch``; Unprocessable: it cannot be decoded here (42203).
        """
        await self._guard.admit(viewer, key.permission, key.device_id, purpose)
        transcoder = self._transcoder
        if transcoder is None:
            raise Unprocessable("本平台不能截图", code=42203, details={"supported": []})
        lease = self._pool.take(key, Transport.AUTO)
        await self._pool.ready(lease, lambda reason, error: None)
        try:
            stream = lease.stream
            assert stream.ingest is not None  # it is ready
            gop = await stream.ingest.group_of_pictures()
            return await transcoder.still(gop, (stream.codec or Codec()).video)
        finally:
            self._pool.release(lease)

    async def stop(self, viewer: Viewer, session_id: str, *, may_close_any: bool = False) -> Closing:
        """Close a session; the stream goes on for others. A second close answers ``closed`` False.

        Raises:
            NotFound: no such session, or another person's (40404).
        """
        session = self._own(viewer, session_id, may_close_any)
        if session.end_reason is not None:
            return self._closing(session, closed=False)
        await self._running.take_figures(session)
        self._running.end(session, EndReason.CLOSED)
        return self._closing(session, closed=True)

    async def stop_stream(self, viewer: Viewer, stream_id: str) -> Closing:
        """Close the viewer's own sessions on a stream; the newest answers."""
        own = [s for s in self._sessions.live() if s.stream_id == stream_id and s.viewer.key == viewer.key]
        if not own:
            raise NotFound(_NO_SESSION, code=40404)
        return [await self.stop(viewer, session.session_id) for session in own][-1]

    def session(self, viewer: Viewer, session_id: str, *, may_see_any: bool = False) -> SessionView:
        """The timeline of a session, live or ended."""
        session = self._own(viewer, session_id, may_see_any)
        return session.view(self._clock.now())

    def stream_of(self, viewer: Viewer, session_id: str) -> SharedStream:
        """The running stream of the viewer's own session.

        Raises:
            NotFound: no such session, or another person's (40404). Gone: it is over (41002).
        """
        session = self._own(viewer, session_id, False)
        if session.end_reason is not None or session.stream_end is not None or session.lease is None:
            raise Gone("会话已结束", code=41002)
        return session.lease.stream

    def recent(self, viewer: Viewer, limit: int = 50, *, may_see_any: bool = False) -> list[SessionView]:
        """The latest sessions, newest first: the viewer's own, or everybody's."""
        now = self._clock.now()
        sessions = self._sessions.recent(self._limits.kept_sessions + self._limits.max_sessions)
        return [s.view(now) for s in sessions if may_see_any or s.viewer.key == viewer.key][:limit]

    def _spool(self, session: Session) -> Spool:
        if self._spools is None:
            raise Unprocessable("本平台没有录像下载的存放位置", field="mode", details={"supported": ["play"]})
        return self._spools.make(session.session_id, session.wish.file_format)

    async def hold(self, viewer: Viewer, key: StreamKey, transport: Transport, on_lost: Lost) -> Lease:
        """Hold a stream for a relay to another platform; returns once the device answered.

        Raises:
            As ``watch``.
        """
        await self._guard.admit(viewer, key.permission, key.device_id, "cascade")
        lease = self._pool.take(key, transport)
        await self._pool.ready(lease, on_lost, until=Step.ANSWERED)
        return lease

    async def keep(self, key: StreamKey, on_lost: Lost) -> Lease:
        """Hold a live stream for the platform's own recorder, whose rule was decided and recorded before.

        Raises:
            As ``watch``, without the access decision.
        """
        lease = self._pool.take(key, Transport.AUTO, _here)
        await self._pool.ready(lease, on_lost)
        return lease

    def release(self, lease: Lease) -> None:
        """Give a hold back."""
        self._pool.release(lease)

    def peer_lost(self, peer_id: str) -> None:
        """A registered device or lower platform is gone: every stream that came by it ends now."""
        self._pool.end_where(
            lambda s: s.route is not None and s.route.peer_id == peer_id, EndReason.DEVICE_OFFLINE
        )

    def end_where(self, matches: Callable[[Session], bool], reason: EndReason) -> int:
        """End every live session that matches (revoked grants, signed-out people); how many."""
        return self._running.end_where(matches, reason)

    async def _admit(self, session: Session) -> None:
        """Decide before anything is opened. Raises NotFound, Forbidden."""
        wish = session.wish
        session.grant = await self._guard.admit(
            session.viewer, session.key.permission, wish.device_id, wish.purpose
        )
        self._running.mark(session, Step.AUTHORISED)

    def _own(self, viewer: Viewer, session_id: str, may_any: bool) -> Session:
        session = self._sessions.get(session_id)
        if session is None or not (may_any or session.viewer.key == viewer.key):
            raise NotFound(_NO_SESSION, code=40404)
        return session

    def _opened(self, session: Session) -> Opening:
        wish = session.wish
        loop = asyncio.get_running_loop()
        session.timers.append(loop.call_later(wish.expire_s, self._expire_unopened, session))
        if wish.max_session_s is not None:
            session.timers.append(
                loop.call_later(wish.max_session_s, self._running.end, session, EndReason.EXPIRED)
            )
        if session.spool is not None:
            name = f"{session.stream_id}.{wish.file_format.value}"
            url = f"{self._base_url()}/download/{name}?ticket={session.ticket}"
            return Opening(session.view(self._clock.now()), ((wish.file_format.delivery, url),))
        return Opening(session.view(self._clock.now()), self._urls(session))

    def _urls(self, session: Session) -> tuple[tuple[Delivery, str], ...]:
        """An address for each delivery asked for that the stream's node serves; none at all is a failure."""
        urls, refused = [], None
        for delivery in session.wish.deliveries:
            try:
                urls.append((delivery, self._url(session, delivery)))
            except Unprocessable as error:
                refused = error
        if not urls and refused is not None:
            self._running.fail(session, refused)
            raise _told(refused, session) from refused
        return tuple(urls)

    def _url(self, session: Session, delivery: Delivery) -> str:
        """Where the viewer fetches the picture: at the node that carries it, else here."""
        ingest = session.lease.stream.ingest if session.lease is not None else None
        is_sound_alone = session.wish.is_sound_alone
        at_node = (
            None
            if ingest is None
            else ingest.viewer_url(delivery, session.ticket, is_sound_alone=is_sound_alone)
        )
        if at_node is not None:
            return at_node
        base_url = self._rtsp_url if delivery is Delivery.RTSP else self._base_url
        if base_url is None:
            raise _no_rtsp()
        return delivery.url(base_url(), session.stream_id, session.ticket)

    def _offered(self, wish: Wish) -> Wish:
        """The wish without what is not offered here."""
        if self._rtsp_url is not None or self._has_rtsp_nodes or Delivery.RTSP not in wish.deliveries:
            return wish
        deliveries = tuple(d for d in wish.deliveries if d is not Delivery.RTSP)
        if not deliveries:
            raise _no_rtsp()
        return replace(wish, deliveries=deliveries)

    def _closing(self, session: Session, *, closed: bool) -> Closing:
        remaining = sum(1 for s in self._sessions.live() if s.stream_id and s.stream_id == session.stream_id)
        duration_s = round(session.duration_s(self._clock.now()), 3)
        is_download = session.wish.download_speed is not None
        return Closing(closed, remaining, duration_s, session.bytes_sent, is_download)

    def _expire_unopened(self, session: Session) -> None:
        if not session.is_taken:
            self._running.end(session, EndReason.EXPIRED)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._timeouts.sweep_s)
            try:
                await self._pool.sweep()
                await self._end_revoked()
            except Exception:
                log.exception("viewing_sweep_failed")

    async def _end_revoked(self) -> None:
        """Cut what runs on a grant that is no longer in force."""
        for grant in {session.grant for session in self._sessions.live() if session.grant}:
            if not await self._guard.is_valid(grant):
                self.end_where(lambda session, gone=grant: session.grant == gone, EndReason.REVOKED)  # type: ignore[misc]


def _no_rtsp() -> Unprocessable:
    supported = [one.value for one in Delivery if one is not Delivery.RTSP]
    return Unprocessable(
        "本平台没有开放 RTSP", code=42203, field="protocol", details={"supported": supported}
    )


async def _here(ingest: Ingest) -> None:
    """Asking for the receiving end has it opened on this node, whose engine the recorder reads from."""


def _told(error: TongshiError, session: Session) -> TongshiError:
    """The error for this caller: a stream's failure is shared by all who waited, the session is theirs."""
    step = session.failure.step.value if session.failure is not None else ""
    details = {**error.details, "sessionId": session.session_id, "step": step, "traceId": session.trace_id}
    return type(error)(
        error.message,
        code=error.code,
        field=error.field,
        retry_after_s=error.retry_after_s,
        details=details,
    )
