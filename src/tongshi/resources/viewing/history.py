"""Recordings of a device: search them, watch or fetch them, steer what is being watched.

Implements: DB31DSJ/Z 001-2024 E.2-3
Implements: DB31DSJ/Z 001-2024 E.2-4
Implements: DB31DSJ/Z 001-2024 E.2-5
Implements: GB/T 28181-2022 9.8
A recording is searched before its device is called, so that "nothing was recorded then" is said with the
nearest recordings and not found out by a black picture. A device that cannot be searched is called all the
same, and the answer says why its timeline is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from tongshi.clock import Clock
from tongshi.errors import InvalidRequest, NotFound, PeerFailed, PeerTimeout, TongshiError, Unprocessable
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.mansrtsp import BASIC_SCALES, Command, Method, Reply, Span
from tongshi.protocols.gb28181.records import RecordFile
from tongshi.resources.viewing.media_ports import Holding
from tongshi.resources.viewing.model import Closing, Opening, Step
from tongshi.resources.viewing.ports import Centre, Guard, HistoryCall, NoCentre, Recordings, Stepping, Viewer
from tongshi.resources.viewing.recordings import (
    MAX_PLAYBACK,
    MAX_SEARCH,
    Found,
    Playhead,
    RecordLocation,
    Search,
    Timeline,
    Window,
    nearest,
    timeline,
)
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.sessions import Wish
from tongshi.resources.viewing.stepping import Stepper, no_step
from tongshi.resources.viewing.streams import SharedStream
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
NEAR = timedelta(days=1)  # how far around an empty window the nearest recordings are looked for
_INVALID_RANGE = 457


class Action(StrEnum):
    """What a viewer may ask of a playback; the value is the word in the REST face."""

    PLAY = "play"
    PAUSE = "pause"
    RESUME = "resume"
    SEEK = "seek"
    SCALE = "scale"
    STEP = "step"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Steering:
    """One wish: ``position_s`` counts from the start of the window, ``at`` is the same as a moment."""

    action: Action
    position_s: float | None = None
    at: datetime | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class PlayState:
    """How a playback stands now; the position is reckoned by the clock between two controls."""

    state: str
    position_s: float
    at: datetime
    scale: float


@dataclass(frozen=True, slots=True)
class HistoryOpening:
    """An opened recording. ``timeline`` is None when the device could not be searched: ``why_unknown``."""

    opening: Opening
    timeline: Timeline | None
    why_unknown: TongshiError | None
    file_size: int | None
    is_own: bool = False  # played from this platform's own recordings


class HistoryViewing:
    """Recordings, for people and services through REST and for platforms above."""

    def __init__(
        self,
        viewing: Viewing,
        recordings: Recordings,
        guard: Guard,
        clock: Clock,
        centre: Centre | None = None,
    ) -> None:
        self._viewing = viewing
        self._recordings = recordings
        self._centre = centre or NoCentre()
        self._guard = guard
        self._clock = clock

    async def search(self, viewer: Viewer, search: Search, purpose: str = "recordSearch") -> Timeline:
        """What there is within a window of at most 31 days.

        Raises:
            NotFound, Forbidden: the access decision. InvalidRequest: a window that is none (40003).
            PeerTimeout, PeerFailed, Unavailable: as ``Recordings.search``.
        """
        search.window.check(MAX_SEARCH)
        await self.admit(viewer, search.device_id, purpose)
        return timeline(search.window, await self.find(search))

    async def admit(self, viewer: Viewer, device_id: DeviceId, purpose: str) -> None:
        """Decide whether somebody may know what a device has recorded. Raises NotFound, Forbidden."""
        await self._guard.admit(viewer, Permission.VIDEO_PLAYBACK, device_id, purpose)

    async def has_own(self, search: Search) -> bool:
        """Whether this platform recorded anything of that itself."""
        return bool((await self._centre.search(search)).files)

    async def find(self, search: Search) -> Found:
        """Ask our own storage and the device for whoever was admitted, and put both together.

        Raises:
            What ``Recordings.search`` does, when we recorded nothing ourselves; else it is incomplete.
        """
        if search.location is RecordLocation.DEVICE:
            return await self._recordings.search(search)
        own = await self._centre.search(search)
        try:
            far = await self._recordings.search(search)
        except TongshiError as error:
            if not own.files:
                raise
            log.info("device_recordings_unknown", device_id=search.device_id, code=error.code)
            return replace(own, is_complete=False)
        return Found(
            own.files + far.files, own.is_complete and far.is_complete, own.announced + far.announced
        )

    async def watch(self, viewer: Viewer, wish: Wish, location: RecordLocation) -> HistoryOpening:
        """Open a recording for one viewer.

        Raises:
            NotFound: no such device for this viewer (40401), or nothing recorded then (40405, details
            ``earlier`` and ``later`` name the nearest). Others as ``Viewing.watch``.
        """
        assert wish.window is not None  # whoever calls this asks for a recording
        search = Search(wish.device_id, wish.window.check(MAX_PLAYBACK), location)
        wish = replace(wish, location=location)
        known: Timeline | None = None
        why: TongshiError | None = None

        async def look() -> None:
            nonlocal known, why
            try:
                known = timeline(search.window, await self.find(search))
            except (PeerTimeout, PeerFailed) as error:
                why = error
                log.info("recordings_unknown", device_id=search.device_id, code=error.code)
                return
            if not known.spans and known.is_complete:
                raise await self._nothing(search)

        opening = await self._viewing.watch(viewer, wish, prepare=look)
        stream = self._viewing.stream_of(viewer, opening.view.session_id).origin
        spans = known.spans if known is not None else ()
        if stream.is_own:
            of_centre = replace(search, location=RecordLocation.CENTER)
            spans = timeline(search.window, await self._centre.search(of_centre)).spans
        # It plays since its first picture came, also while a process of ours was started to code it anew.
        began = stream.reached.get(Step.FIRST_KEY_FRAME, self._clock.now())
        stream.playhead = Playhead(search.window, spans, began)
        call = stream.history_call
        file_size = call.file_size if call is not None else None
        return HistoryOpening(opening, known, why, file_size, is_own=stream.is_own)

    async def steer(self, viewer: Viewer, session_id: str, steering: Steering) -> PlayState:
        """Pause, go on, jump, change speed, go on by one picture, stop.

        Raises:
            NotFound: no such session of this viewer (40404). Gone: it is over.
            InvalidRequest: a position outside the recording (40003).
            Unprocessable: the device cannot (42203, details ``supportedScales`` or ``supported``).
            PeerTimeout: it said nothing. PeerFailed: it refused.
        """
        stream = self._viewing.stream_of(viewer, session_id).origin
        if stream.history_call is None or stream.playhead is None:
            raise Unprocessable("只有录像回放可以控制", field="sessionId")
        is_download = stream.key.history is not None and stream.key.history.is_download
        if is_download and steering.action is not Action.STOP:
            raise Unprocessable("录像下载不支持播放控制", field="action", details={"supported": ["stop"]})
        if steering.action is Action.STEP:
            return await self._step(stream, stream.playhead, stream.history_call)
        command = _command(steering, stream.playhead)
        if steering.action is Action.STOP:
            await self._stop(stream.history_call, command)
            state = self._state(stream, stream.playhead, "stopped")
            await self._viewing.stop(viewer, session_id)
            return state
        if stream.stepper is not None and command.method is Method.PLAY:
            reply = await stream.stepper.play(command, stream.playhead.position_s(self._clock.now()))
        else:
            reply = await stream.history_call.steer(command)
        _check(reply, command)
        obey(stream, command, reply, self._clock.now())
        return self._state(stream, stream.playhead)

    async def close(self, viewer: Viewer, session_id: str) -> Closing:
        """End a session of a recording; as ``Viewing.stop``."""
        return await self._viewing.stop(viewer, session_id)

    def state(self, viewer: Viewer, session_id: str) -> PlayState:
        """How a playback stands; raises as ``steer``."""
        stream = self._viewing.stream_of(viewer, session_id).origin
        if stream.playhead is None:
            raise Unprocessable("只有录像回放有播放位置", field="sessionId")
        return self._state(stream, stream.playhead)

    def _state(self, stream: SharedStream, head: Playhead, state: str = "") -> PlayState:
        now = self._clock.now()
        said = state or ("paused" if stream.is_paused else "playing")
        return PlayState(said, round(head.position_s(now), 3), head.at(now), head.scale)

    async def _step(self, stream: SharedStream, head: Playhead, call: HistoryCall) -> PlayState:
        """One picture on, and it stands."""
        if isinstance(call, Stepping):
            position_s = await call.step()
            stream.is_paused = True
        else:
            position_s = await self._lead(stream, head, call)
            head.scale = 1.0
        head.stand(self._clock.now(), position_s)
        return self._state(stream, head)

    async def _lead(self, stream: SharedStream, head: Playhead, call: HistoryCall) -> float:
        """Hold back what a device sends, pause it, and lead it past the viewer."""
        stepper = stream.stepper
        if stepper is None:
            if not isinstance(stream.ingest, Holding):
                raise no_step("承载该录像的媒体节点不支持逐帧播放")
            stepper = stream.stepper = Stepper(stream.ingest, call)
        now = self._clock.now()
        await stepper.hold()
        if not stream.is_paused:
            await self._stand(stream, stepper, call, now)
        return await stepper.step(head.position_s(now), head.scale)

    async def _stand(self, stream: SharedStream, stepper: Stepper, call: HistoryCall, now: float) -> None:
        """Pause what is held back already; it goes on when its sender cannot."""
        command = Command(method=Method.PAUSE, cseq=0)
        try:
            reply = await call.steer(command)
        except BaseException:
            await stepper.let_go()
            raise
        if not reply.is_success:
            await stepper.let_go()
            raise no_step("设备不支持暂停，无法逐帧播放")
        obey(stream, command, reply, now)

    async def _stop(self, call: HistoryCall, command: Command) -> None:
        try:
            await call.steer(command)
        except TongshiError as error:
            log.info("teardown_unanswered", code=error.code)  # BYE follows and ends it all the same

    async def _nothing(self, search: Search) -> NotFound:
        """The refusal for an empty window, with what is nearest within a day on either side."""
        window = search.window
        wide = Window(window.start - NEAR, window.end + NEAR, window.kind)
        found = Found(())
        try:
            found = await self.find(replace(search, window=wide))
        except TongshiError as error:
            log.info("nearest_unknown", device_id=search.device_id, code=error.code)
        earlier, later = nearest(found.files, window)
        details: dict[str, object] = {"earlier": _told(earlier), "later": _told(later)}
        return NotFound("该时段没有录像", code=40405, details=details)


def obey(stream: SharedStream, command: Command, reply: Reply, now: float) -> None:
    """Note what a device was told and did; silence while it is paused is no loss (quirk 53).

    A device that cannot go at the speed asked for may name the one it goes at (B.2.8).
    """
    stream.is_paused = command.method is Method.PAUSE
    stream.woken_at = now
    head = stream.playhead
    if head is None:
        return
    if command.method is Method.PAUSE:
        head.pause(now)
    elif command.method is Method.PLAY:
        scale = command.scale if reply.scale is None else reply.scale
        head.play(now, None if command.span is None else command.span.start, scale)


def _command(steering: Steering, head: Playhead) -> Command:
    action, position_s = steering.action, steering.position_s
    if steering.at is not None:
        position_s = (steering.at - head.window.start).total_seconds()
    if position_s is not None and not 0 <= position_s <= head.window.length_s:
        raise InvalidRequest("位置不在所回放的时段内", code=40003, field="position")
    scale = steering.scale
    if scale is not None and abs(scale) not in SCALES:
        raise _no_scale()
    if action is Action.PAUSE:
        return Command(method=Method.PAUSE, cseq=0)
    if action is Action.STOP:
        return Command(method=Method.TEARDOWN, cseq=0)
    if action is Action.SEEK:
        if position_s is None:
            raise InvalidRequest("需要给出 position", field="position")
        return Command(method=Method.PLAY, cseq=0, span=Span(position_s))
    if action is Action.SCALE:
        if scale is None:
            raise InvalidRequest("需要给出 scale", field="scale")
        return Command(method=Method.PLAY, cseq=0, scale=scale)
    if position_s is None and scale is None:
        return Command(method=Method.PLAY, cseq=0, span=Span(None))
    return Command(
        method=Method.PLAY, cseq=0, span=None if position_s is None else Span(position_s), scale=scale
    )


def _check(reply: Reply, command: Command) -> None:
    """Turn a refusal inside the reply into its reason."""
    if reply.is_success:
        return
    if reply.status == _INVALID_RANGE:
        raise InvalidRequest("设备没有该位置的录像", code=40003, field="position")
    if command.scale is not None:
        raise _no_scale()
    message = f"设备拒绝了回放控制（{reply.status}）"
    raise PeerFailed(message, code=50201, details={"rtspStatus": reply.status})


def _no_scale() -> Unprocessable:
    supported = sorted(BASIC_SCALES)
    return Unprocessable("设备不支持该倍速", field="scale", details={"supportedScales": supported})


def _told(file: RecordFile | None) -> dict[str, str] | None:
    if file is None:
        return None
    return {"startTime": file.start.isoformat(), "endTime": file.end.isoformat()}
