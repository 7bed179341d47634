"""What a ticket opens: one viewer's way from a listener to the picture that he was granted.

Implements: DB31DSJ/Z 001-2024 Table E.2
A ticket opens one connection, from the address it was given to, until it expires. The listeners know no
sessions: they hand in a ticket, get an admission, and say with it how the viewer is served and when he left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tongshi.clock import BEIJING, Clock
from tongshi.errors import Forbidden, Gone, InvalidRequest, NotFound, Unauthenticated, Unprocessable
from tongshi.resources.viewing.media_ports import Answering, Datagrams, Ingest, Spool
from tongshi.resources.viewing.model import SOUND_DELIVERIES, EndReason, Step
from tongshi.resources.viewing.running import RunningSessions
from tongshi.resources.viewing.sessions import Session

log = structlog.get_logger(__name__)

SOUND_CONTAINERS = frozenset({"flv", "fmp4"})


@dataclass(frozen=True, slots=True)
class Admission:
    """A viewer's request that may be served now."""

    session: Session
    stream_id: str

    @property
    def session_id(self) -> str:
        return self.session.session_id

    @property
    def file_name(self) -> str:
        """What a download is called: the device and the true span, Beijing time."""
        wish = self.session.wish
        suffix = wish.file_format.value
        if wish.window is None:
            return f"{wish.device_id}.{suffix}"
        start, end = (one.astimezone(BEIJING) for one in (wish.window.start, wish.window.end))
        return f"{wish.device_id}_{start:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}.{suffix}"


class Tickets:
    """Admits viewers to the sessions that were opened for them.

    Args:
        asking_s: how long the viewer of a lasting session may ask for nothing.
    """

    def __init__(self, running: RunningSessions, clock: Clock, asking_s: float) -> None:
        self._running = running
        self._clock = clock
        self._asking_s = asking_s

    def admit(
        self,
        stream_id: str,
        ticket: str,
        client_host: str,
        *,
        is_lasting: bool = False,
        container: str = "",
    ) -> Admission:
        """Take a ticket: the one connection it is good for may now be served.

        ``container`` is the one that will be asked of ``serve``: a session of sound alone is served in few. A
        lasting one is good for every request that its viewer makes from his address, from the first, which
        opens the session, until the session ends; it ends by itself when he asks no more.

        Raises:
            Unauthenticated: no or an unknown ticket. Forbidden: given to another address (40302).
            NotFound: a ticket of another stream (40404). Gone: used before, expired or ended (41002).
            Unprocessable: of a session of sound alone, which does not come this way (42203).
        """
        session = self._checked(stream_id, ticket, client_host, is_lasting)
        if session.wish.is_sound_alone and container not in SOUND_CONTAINERS:
            raise Unprocessable(
                "该会话只有声音，须以 FLV 或 fMP4 收听",
                code=42203,
                field="protocol",
                details={"supported": [one.value for one in SOUND_DELIVERIES]},
            )
        session.is_taken, session.is_lasting = True, is_lasting
        if is_lasting:
            self._stays(session)
        return Admission(session, stream_id)

    async def enter(
        self,
        stream_id: str,
        ticket: str,
        client_host: str,
        *,
        is_lasting: bool = False,
        container: str = "",
    ) -> Admission:
        """``admit``, for a listener that may also stand on a media node, where the platform is asked."""
        return self.admit(stream_id, ticket, client_host, is_lasting=is_lasting, container=container)

    def check(self, stream_id: str, ticket: str, client_host: str) -> None:
        """Look at a ticket for a picture without taking it: what ``admit`` would raise now."""
        if self._checked(stream_id, ticket, client_host, False).wish.is_sound_alone:
            raise NotFound("该会话只有声音", code=40404)

    async def inspect(self, stream_id: str, ticket: str, client_host: str) -> None:
        """``check``, for a listener that may also stand on a media node."""
        self.check(stream_id, ticket, client_host)

    def ingest_of(self, admission: Admission) -> Ingest:
        """The receiving end behind an admitted request."""
        lease = admission.session.lease
        assert lease is not None  # an admitted session is open
        assert lease.stream.ingest is not None  # and so is its stream
        return lease.stream.ingest

    async def is_over(self, admission: Admission) -> bool:
        """Whether the stream of a lasting session ended in order, and its viewer fetches what is left.

        Raises:
            Gone: the session itself ended since (41002).
        """
        return self.has_ended(admission)

    def has_ended(self, admission: Admission) -> bool:
        """``is_over``, for who need not ask a platform elsewhere."""
        if admission.session.end_reason is not None:
            raise Gone("播放凭据已使用或已过期", code=41002)
        return admission.session.stream_end is not None

    def add_bytes(self, admission: Admission, sent: int) -> None:
        """An admitted request of a lasting session was answered with so much."""
        admission.session.bytes_sent += sent

    def add_bytes_at_node(self, stream_id: str, ticket: str, sent: int) -> None:
        """A media node answered a request of a lasting session of this stream with so much."""
        session = self._running.log.by_ticket(ticket)
        if session is not None and session.is_lasting and session.stream_id == stream_id:
            session.bytes_sent += sent

    async def serve(
        self,
        admission: Admission,
        container: str,
        fd: int,
        head: bytes,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> None:
        """Hand an admitted viewer's sockets to the engine, whose they are then (``Ingest.attach``)."""
        session, ingest = admission.session, self.ingest_of(admission)
        self._running.mark(session, Step.OPENED)
        if session.wish.is_sound_alone:
            container = f"{container}-audio"
        try:
            number = await ingest.attach(
                container, fd, head, lambda reason: self._running.left(session, reason), dialogue, datagrams
            )
        except BaseException:
            self._running.end(session, EndReason.FAILED)
            raise
        await self._served(session, ingest, number)

    async def connect(self, admission: Admission, offer: str) -> str:
        """Serve an admitted viewer by WebRTC; the answer to his offer.

        A refused offer leaves the ticket good for another way.

        Raises:
            InvalidRequest, Unprocessable: the offer, see ``Answering``.
        """
        session, ingest = admission.session, self.ingest_of(admission)
        try:
            if not isinstance(ingest, Answering):
                raise Unprocessable("承载该路的媒体节点不提供 WebRTC", code=42203, field="protocol")
            number, answer = await ingest.answer(offer, lambda reason: self._running.left(session, reason))
        except (InvalidRequest, Unprocessable) as error:
            self.give_back(admission, error.message)
            raise
        except BaseException:
            self._running.end(session, EndReason.FAILED)
            raise
        self._running.mark(session, Step.OPENED, "WebRTC")
        await self._served(session, ingest, number)
        return answer

    def give_back(self, admission: Admission, words: str) -> None:
        """He could not be served so: the ticket is good for another way, as long as it would have been."""
        session = admission.session
        self._running.note(session, Step.OPENED, words, is_trouble=True)
        session.is_taken, session.engine_viewer = False, None
        if self._clock.at() > session.opens_until:
            self._running.end(session, EndReason.EXPIRED)

    def leave(self, stream_id: str, session_id: str, ticket: str, client_host: str) -> None:
        """The viewer says that he is gone, with the ticket he came by.

        Raises:
            NotFound: no running session of his (40404).
        """
        session = self._running.log.by_ticket(ticket)
        if (
            session is None
            or session.viewer.client_host != client_host
            or (session.stream_id, session.session_id) != (stream_id, session_id)
            or session.end_reason is not None
            or not session.is_taken
        ):
            raise NotFound("没有这个会话", code=40404)
        self._running.end(session, EndReason.VIEWER_LEFT)

    def serve_at_node(self, admission: Admission, number: int) -> Callable[[str, int], None]:
        """A media node serves an admitted viewer itself, by this number of its own.

        Returns:
            What the node calls when the viewer left: the reason and the bytes it got.
        """
        session = admission.session
        self._running.mark(session, Step.OPENED)
        session.engine_viewer = number

        def left(reason: str, sent: int) -> None:
            session.bytes_sent = max(session.bytes_sent, sent)
            self._running.left(session, reason)

        return left

    def download(self, admission: Admission) -> Spool:
        """The file of an admitted download. Raises NotFound: the session is none (40404)."""
        session = admission.session
        if session.spool is None:
            raise NotFound("没有这个下载", code=40404)
        self._running.mark(session, Step.OPENED)
        return session.spool

    def delivered(self, admission: Admission, sent: int, *, is_whole: bool) -> None:
        """A download was handed over, or whoever fetched it left before its end."""
        session = admission.session
        session.bytes_sent = sent
        self._running.end(session, EndReason.FINISHED if is_whole else EndReason.VIEWER_LEFT)

    def _checked(self, stream_id: str, ticket: str, client_host: str, is_lasting: bool) -> Session:
        session = self._running.log.by_ticket(ticket)
        if session is None:
            raise Unauthenticated("播放凭据无效")
        if session.viewer.client_host != client_host:
            log.warning("ticket_from_elsewhere", session_id=session.session_id, client=client_host)
            raise Forbidden("播放凭据不属于此地址", code=40302)
        is_again = is_lasting and session.is_lasting
        is_late = not is_again and (session.is_taken or self._clock.at() > session.opens_until)
        if session.end_reason is not None or is_late:
            raise Gone("播放凭据已使用或已过期", code=41002)
        if session.stream_id != stream_id:
            raise NotFound("视频流不存在", code=40404)
        return session

    async def _served(self, session: Session, ingest: Ingest, number: int) -> None:
        """The engine has the viewer; the session may have ended meanwhile."""
        if session.end_reason is None:
            session.engine_viewer = number
        else:
            await ingest.detach(number)

    def _stays(self, session: Session) -> None:
        """A lasting session was asked for something."""
        if Step.OPENED not in session.marks:
            self._running.mark(session, Step.OPENED)
        if session.leaving is not None:
            session.leaving.cancel()
        session.leaving = asyncio.get_running_loop().call_later(
            self._asking_s, self._running.left, session, "asks no more"
        )
