"""The sessions that run: what is noted of them, and the one way on which every one of them ends.

Implements: DB31DSJ/Z 001-2024 Table E.2
A session ends once, whoever ends it; its stream is given back, its figures are kept, its download is thrown
away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.viewing.model import REASON_TEXT, EndReason, Failure, Step
from tongshi.resources.viewing.ports import Timeline
from tongshi.resources.viewing.sessions import Session, SessionLog
from tongshi.resources.viewing.streams import StreamPool, trouble_words

log = structlog.get_logger(__name__)

# Ends that are no trouble: who plays by asking again and again is told of them, and has what came before.
IN_ORDER = frozenset({EndReason.FINISHED, EndReason.DEVICE_ENDED})
MAX_AFTER_END_S = 60.0


class RunningSessions:
    """Shared by who opens sessions (``Viewing``) and who serves them (``Tickets``)."""

    def __init__(self, sessions: SessionLog, pool: StreamPool, clock: Clock, timeline: Timeline) -> None:
        self.log = sessions
        self._pool = pool
        self._clock = clock
        self._timeline = timeline
        self._tasks: set[asyncio.Task[object]] = set()

    def note(self, session: Session, step: Step, text: str = "", *, is_trouble: bool = False) -> None:
        """Into the session's timeline."""
        self._timeline.note(session.trace_id, step, text, is_trouble=is_trouble)

    def mark(self, session: Session, step: Step, text: str = "") -> None:
        """A step was reached now."""
        session.marks[step] = self._clock.now()
        self.note(session, step, text)

    def end(self, session: Session, reason: EndReason) -> None:
        """End it; nothing happens when it has ended before."""
        if session.end_reason is not None:
            return
        session.learn()
        session.end_reason = reason
        self.mark(session, Step.ENDED, REASON_TEXT[reason])
        session.cancel_timers()
        self.log.retire(session)
        if session.engine_viewer is not None:
            self._spawn(self.take_figures(session))
        if session.lease is not None:
            self._pool.release(session.lease)
        if session.spool is not None:
            self._spawn(session.spool.discard())
        log.info(
            "viewing_ended", session_id=session.session_id, reason=reason, device_id=session.wish.device_id
        )

    def end_where(self, matches: Callable[[Session], bool], reason: EndReason) -> int:
        """End every live session that matches; how many."""
        doomed = [session for session in self.log.live() if matches(session)]
        for session in doomed:
            self.end(session, reason)
        return len(doomed)

    def fail(self, session: Session, error: TongshiError) -> None:
        """End it because its picture could not be opened."""
        step = Step.AUTHORISED if session.lease is None else session.lease.stream.step
        session.failure = Failure.of(error, step)
        if session.lease is None or session.lease.stream.trace_id != session.trace_id:
            self.note(session, step, trouble_words(error), is_trouble=True)
        self.end(session, EndReason.FAILED)

    def left(self, session: Session, reason: str) -> None:
        """Its viewer is gone, and the engine has closed him."""
        log.info("viewer_left", session_id=session.session_id, reason=reason)
        session.engine_viewer = None
        self.end(session, session.stream_end or EndReason.VIEWER_LEFT)

    def lost(self, session: Session, reason: EndReason, error: TongshiError | None) -> None:
        """Its stream ended under it."""
        if error is not None and session.failure is None:
            session.failure = Failure.of(error, Step.OPENED)
        session.engine_viewer = None  # closed with its stream
        if session.spool is not None and reason is EndReason.FINISHED and session.lease is not None:
            # All has come; the session lives until the file was fetched, or its address expires.
            session.learn()
            session.lost_packets = session.lease.stream.lost_packets
            session.spool.sender_finished()
            return
        if session.is_lasting and reason in IN_ORDER and session.end_reason is None:
            session.learn()
            session.stream_end = reason
            loop = asyncio.get_running_loop()
            session.timers.append(loop.call_later(MAX_AFTER_END_S, self.end, session, reason))
            return
        self.end(session, reason)

    async def take_figures(self, session: Session) -> None:
        """Close its viewer in the engine, which tells what he got."""
        number, session.engine_viewer = session.engine_viewer, None
        if number is not None and session.lease is not None and session.lease.stream.ingest is not None:
            session.bytes_sent = await session.lease.stream.ingest.detach(number)

    async def settle(self) -> None:
        """Wait for what ended sessions still have running."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
