"""Alarms as messages: taken from peers and uppers, answered, and passed on to those who are to have them.

Implements: GB/T 28181-2022 9.4
A MESSAGE gets its 200 at once and a Response of the same SN once the alarm is kept; a NOTIFY under a
subscription gets no Response. A peer speaks for itself, for what its catalogue told of, and for what no
archive knows (an alarm input, a centre of ten digits); an alarm in the name of somebody else's device is
refused.

What is kept is told to those above who subscribed alarms as well, but for the targets that it is passed on
to: the line keeps it until it is answered, a notification does not.

Each target has a line of its own: one that is silent holds up nobody else. What a line did not finish before
a restart is taken up after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerFailed, TongshiError
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Correspondent, Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmResponse
from tongshi.resources.alarms.model import Alarm, Delivery, DeliveryState, Source, SourceKind, Verdict
from tongshi.resources.alarms.service import Alarms
from tongshi.resources.alarms.wire import notify_of, told_of

log = structlog.get_logger(__name__)

MAX_TAKING = 512  # alarms being kept and answered at once; one more is asked to come again
MAX_LINE = 500  # alarms that wait for one target

# A peer, what it told, and the targets that it is passed on to.
OnTold = Callable[[Peer, AlarmNotify, Collection[str]], None]


@dataclass(frozen=True, slots=True)
class Persistence:
    """How often and how long a target is tried; ``pauses_s`` stand between the tries."""

    answer_s: float = 10.0
    pauses_s: tuple[float, ...] = (2.0, 10.0, 30.0)


class AlarmFlow:
    """Alarms of peers and uppers."""

    def __init__(
        self,
        alarms: Alarms,
        post: Post,
        answers: Answers,
        routes: Routes,
        archive: Archive,
        uppers: Mapping[str, Upper],
        clock: Clock,
        persistence: Persistence | None = None,
    ) -> None:
        self._alarms = alarms
        self._post = post
        self._answers = answers
        self._routes = routes
        self._archive = archive
        self._uppers = uppers
        self._clock = clock
        self._persistence = persistence or Persistence()
        self.on_told: OnTold = lambda peer, notify, targets: None
        self._lines: dict[str, deque[Alarm]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._passing: set[asyncio.Task[None]] = set()

    def register(self, dispatch: Dispatch) -> None:
        """Take what is this flow's."""
        dispatch.from_peer(AlarmNotify, self.from_peer)
        dispatch.from_peer(AlarmResponse, self.answer)
        dispatch.from_upper(AlarmNotify, self.from_upper)
        dispatch.from_upper(AlarmResponse, self.answer)

    async def start(self) -> None:
        """Take up what was waiting when the process before this one ended."""
        for alarm, target_id in await self._alarms.waiting():
            self._queue(alarm, target_id)

    async def stop(self) -> None:
        """Keep what came; what waits for a target is taken up after the next start."""
        while self._taking:
            await asyncio.gather(*self._taking, return_exceptions=True)
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def from_peer(self, incoming: IncomingRequest, peer: Peer, notify: AlarmNotify) -> None:
        """One alarm of a device or a lower platform."""
        if not await self._may_tell(peer, notify.device_id):
            log.warning("alarm_foreign", peer_id=peer.id, device_id=notify.device_id)
            incoming.respond(403)
            return
        kind = SourceKind.LOWER if peer.is_platform else SourceKind.DEVICE
        self._take(incoming, peer, notify, Source(peer.id, kind))

    async def from_upper(self, incoming: IncomingRequest, upper: Upper, notify: AlarmNotify) -> None:
        """One alarm that an upper passes down."""
        self._take(incoming, upper, notify, Source(upper.id, SourceKind.UPPER))

    async def answer(self, incoming: IncomingRequest, who: Peer | Upper, response: AlarmResponse) -> None:
        """The Response to an alarm that was passed on."""
        incoming.respond(200)
        self._answers.give(who.id, response)

    async def _may_tell(self, peer: Peer, device_id: str) -> bool:
        leads = self._routes.direct(device_id)
        if leads is not None:
            return leads is peer
        known = await self._archive.find(device_id)
        return known is None or peer.id in known.via

    def _take(
        self, incoming: IncomingRequest, who: Peer | Upper, notify: AlarmNotify, source: Source
    ) -> None:
        if len(self._taking) >= MAX_TAKING:
            incoming.respond(503)
            return
        incoming.respond(200)
        # Under a subscription the 200 is all the answer there is (9.11.2).
        to_id = incoming.request.from_.uri.user if incoming.request.method == "MESSAGE" else ""
        _spawn(self._taking, self._keep(who, notify, source, to_id))

    async def _keep(self, who: Peer | Upper, notify: AlarmNotify, source: Source, to_id: str) -> None:
        told = told_of(notify, self._clock.at())
        try:
            taken = await self._alarms.take(told, source)
        except TongshiError as error:
            log.warning("alarm_not_kept", source_id=source.id, device_id=told.device_id, error=error.message)
            self._tell_on(who, notify, ())
            await self._respond(who, notify, to_id, is_ok=False)
            return
        self._tell_on(who, notify, taken.targets)
        if taken.verdict is Verdict.KEPT and taken.alarm is not None:
            log.info(
                "alarm_kept",
                source_id=source.id,
                device_id=told.device_id,
                method=told.method,
                alarm_type=told.alarm_type,
                faults=told.faults,
                targets=len(taken.targets),
            )
            for target_id in taken.targets:
                self._queue(taken.alarm, target_id)
        await self._respond(who, notify, to_id, is_ok=True)

    def _tell_on(self, who: Peer | Upper, notify: AlarmNotify, targets: Collection[str]) -> None:
        """Those above who subscribed hear of it, but for whom it is passed on to: everybody gets it once."""
        if isinstance(who, Peer):
            self.on_told(who, notify, targets)

    async def _respond(self, who: Peer | Upper, notify: AlarmNotify, to_id: str, *, is_ok: bool) -> None:
        if not to_id or not notify.sn:
            return  # nobody waits for it, or there is no number to answer to
        try:
            await self._post.send(who, AlarmResponse(notify.sn, notify.device_id, is_ok), to_id=to_id)
        except TongshiError as error:
            log.info("alarm_response_undelivered", peer_id=who.id, error=error.message)

    def _queue(self, alarm: Alarm, target_id: str) -> None:
        line = self._lines.get(target_id)
        if line is None:
            line = self._lines[target_id] = deque()
            _spawn(self._passing, self._work_off(target_id, line))
        if len(line) >= MAX_LINE:
            lost = Delivery(alarm.id, target_id, DeliveryState.FAILED, error="等待分发的报警过多")
            _spawn(self._passing, self._note(lost))
            return
        line.append(alarm)

    async def _work_off(self, target_id: str, line: deque[Alarm]) -> None:
        """Pass on what waits for one target, one after another."""
        await asyncio.sleep(0)  # the first is put into the line by whoever began it
        while line:
            await self._note(await self._pass_on(line[0], target_id))
            line.popleft()
        del self._lines[target_id]

    async def _pass_on(self, alarm: Alarm, target_id: str) -> Delivery:
        """Try until it is answered or refused, or the last try failed."""
        error, pauses_s = "", (*self._persistence.pauses_s, 0.0)
        for turn, pause_s in enumerate(pauses_s, 1):
            try:
                response = await self._ask(alarm, target_id)
            except TongshiError as failed:
                error = failed.message
                if _is_refusal(failed):
                    return Delivery(alarm.id, target_id, DeliveryState.REFUSED, turn, error=error)
            else:
                state = DeliveryState.ANSWERED if response.result_ok else DeliveryState.REFUSED
                return Delivery(alarm.id, target_id, state, turn)
            log.info("alarm_not_delivered", target_id=target_id, alarm_id=alarm.id, turn=turn, error=error)
            await asyncio.sleep(pause_s)
        return Delivery(alarm.id, target_id, DeliveryState.FAILED, len(pauses_s), error=error)

    async def _ask(self, alarm: Alarm, target_id: str) -> AlarmResponse:
        upper = self._uppers.get(target_id)
        to: Correspondent = upper if upper is not None else await self._routes.peer_of(target_id)
        notify = notify_of(alarm.told, to.next_sn())
        return await self._post.ask(to, notify, AlarmResponse, self._persistence.answer_s, to_id=target_id)

    async def _note(self, done: Delivery) -> None:
        try:
            await self._alarms.note_delivery(done)
        except TongshiError as error:
            log.warning("alarm_delivery_not_noted", alarm_id=done.alarm_id, error=error.message)


def _is_refusal(error: TongshiError) -> bool:
    """SIP said no for good; an error of the target's own, or an absent one, is worth another try."""
    status = error.details.get("sipStatus")
    return isinstance(error, PeerFailed) and isinstance(status, int) and 400 <= status < 500 and status != 480


def _spawn(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    task = asyncio.get_running_loop().create_task(_guarded(work))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _guarded(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("alarm_task_crashed")
