"""Shared streams: one source is opened once, held by many, and closed after the last one left.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 K
A stream goes through four steps (invited, answered, first packet, first key frame). Each wait has its own
limit and its own error, so that a silent device (50401), a device that answers without media (50402) and one
whose media cannot be decoded (50403) are told apart. Whatever goes wrong, call, port and SSRC are given back
by one ``_tear_down``.

Holders come and go; when the last one left before the device answered, the call is abandoned at once; after
that a live stream stays warm for ``linger_s``. A recording is one holder's, and ends with it, or after its
sender said that it is finished and the last packets have come. While it is paused its silence is no loss
(quirk 53).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, NotFound, PeerTimeout, TongshiError, Unavailable
from tongshi.ids import DeviceId
from tongshi.resources.viewing.key_frames import PATIENCE_S, KeyFrames
from tongshi.resources.viewing.media_ports import Ingest, MediaEngine, Promise, Transcoder, Wishing
from tongshi.resources.viewing.model import (
    REASON_TEXT,
    Codec,
    Coding,
    EndReason,
    Limits,
    Quality,
    Step,
    StreamKey,
    Timeouts,
    Transcoding,
    Transport,
)
from tongshi.resources.viewing.ports import (
    Centre,
    HistoryCall,
    HistoryRequest,
    LiveCall,
    LiveRequest,
    NoCentre,
    NoTimeline,
    Route,
    Signalling,
    Timeline,
)
from tongshi.resources.viewing.recordings import Playhead, RecordLocation, Search, timeline
from tongshi.resources.viewing.stepping import Stepper
from tongshi.resources.viewing.transcoding import TranscodedCall

log = structlog.get_logger(__name__)

_FIGURES = {
    "packets": "收到 {} 个媒体包",
    "malformedPackets": "{} 个包格式错误",
    "foreignSsrcPackets": "{} 个包的 SSRC 与应答不符",
    "lostPackets": "丢失 {} 个包",
    "sipStatus": "对端应答 SIP {}",
}

Lost = Callable[[EndReason, TongshiError | None], None]
OnIngest = Callable[[Ingest], Awaitable[None]]

# Codecs that no browser and no decoder here knows; relays carry them as they are.
UNPLAYABLE_VIDEO = frozenset({"svac", "mpeg4"})


CENTRE_ROUTE = Route("", Transport.TCP_PASSIVE, is_platform=True)  # our own recordings: no peer sends them
DRAIN_LOOKS = 15
DRAIN_LOOK_S = 0.1
SOUND_WAIT_S = 0.4
CODER_START_S = 10.0  # a process of ours on a busy machine; one that dies is noticed at once


class SharedStream:
    """One source inside the engine, with those who hold it."""

    def __init__(self, key: StreamKey, now: float) -> None:
        self.key = key
        self.stream_id = secrets.token_hex(12)
        self.trace_id = ""  # the timeline of whoever opened it
        self.reached: dict[Step, float] = {Step.REQUESTED: now}
        self.route: Route | None = None
        self.ingest: Ingest | None = None
        self.call: LiveCall | None = None
        self.history_call: HistoryCall | None = None  # the same call, when it is one for a recording
        self.transcoded: TranscodedCall | None = None  # the same call, when a process of ours codes it anew
        self.source: SharedStream | None = None  # what that process is fed with
        self.on_ingest: OnIngest | None = None
        self.lost_packets = 0
        self.playhead: Playhead | None = None
        self.is_paused = False
        self.stepper: Stepper | None = None  # once single pictures were asked for
        self.woken_at = 0.0  # when it was last told to go on: silence counts from there
        self.codec: Codec | None = None
        self.quality: Quality | None = None  # as of the last sweep
        self.coding: Coding | None = None  # likewise, of what is coded anew
        self.relays: set[int] = set()  # holders that need no picture, by their numbers
        self.unplayable: TongshiError | None = None  # why no viewer can be served, though relays are
        self.error: TongshiError | None = None
        self.end_reason: EndReason | None = None
        self.holders: dict[int, Lost | None] = {}  # None while the holder still waits for the opening
        self.answered = asyncio.Event()
        self.playing = asyncio.Event()
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None

    @property
    def is_live(self) -> bool:
        """Whether a device sends it as it happens."""
        return self.key.history is None and self.key.transcoding is None

    @property
    def origin(self) -> SharedStream:
        """What is steered, and what has the position: the stream itself, or the one that it is coded from."""
        return self if self.source is None else self.source

    @property
    def is_own(self) -> bool:
        """Whether this platform plays what it recorded itself."""
        return self.route is CENTRE_ROUTE

    @property
    def step(self) -> Step:
        """The step being waited for."""
        order = (Step.INVITED, Step.ANSWERED, Step.FIRST_PACKET, Step.FIRST_KEY_FRAME)
        return next((step for step in order if step not in self.reached), Step.FIRST_KEY_FRAME)


class Lease:
    """One holder's right to a stream."""

    def __init__(self, stream: SharedStream, number: int, *, reused: bool) -> None:
        self.stream = stream
        self.number = number
        self.reused = reused
        self.released = asyncio.Event()


class StreamPool:
    """All streams of this node, by device and stream number."""

    def __init__(
        self,
        signalling: Signalling,
        engine: MediaEngine,
        clock: Clock,
        timeouts: Timeouts,
        limits: Limits,
        timeline: Timeline | None = None,
        transcoder: Transcoder | None = None,
        centre: Centre | None = None,
    ) -> None:
        self._transcoder = transcoder
        self._timeline = timeline or NoTimeline()
        self._centre = centre or NoCentre()
        self._signalling = signalling
        self._engine = engine
        self._clock = clock
        self._timeouts = timeouts
        self._limits = limits
        self.key_frames = KeyFrames(signalling, clock, self._timeline)
        self._streams: dict[StreamKey, SharedStream] = {}
        self._numbers = 0
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def streams(self) -> tuple[SharedStream, ...]:
        """Those open or opening now."""
        return tuple(self._streams.values())

    def get(self, key: StreamKey) -> SharedStream | None:
        """The stream of a key, open or opening."""
        return self._streams.get(key)

    def find(self, stream_id: str) -> SharedStream | None:
        """A running stream by its number in URLs."""
        return next((s for s in self._streams.values() if s.stream_id == stream_id), None)

    def take(self, key: StreamKey, transport: Transport, on_ingest: OnIngest | None = None) -> Lease:
        """Hold a stream, beginning to open it when nobody has; ``ready`` says when it can be used.

        Args:
            on_ingest: told of the receiving end before the device is called, when this opens the stream.

        Raises:
            LimitExceeded: no room for another stream or holder (42904).
        """
        stream = self._streams.get(key)
        reused = stream is not None
        if stream is None:
            if len(self._streams) >= self._limits.max_streams:
                raise LimitExceeded("视频路数已满", code=42904, retry_after_s=10)
            stream = self._streams[key] = SharedStream(key, self._clock.now())
            stream.trace_id = self._timeline.current()
            stream.on_ingest = on_ingest
            stream.task = asyncio.get_running_loop().create_task(self._run(stream, transport))
        if len(stream.holders) >= self._limits.max_holders_of_stream:
            raise LimitExceeded("该视频的观看人数已满", code=42904, retry_after_s=10)
        if stream.linger is not None:
            stream.linger.cancel()
            stream.linger = None
        self._numbers += 1
        stream.holders[self._numbers] = None
        return Lease(stream, self._numbers, reused=reused)

    async def ready(self, lease: Lease, on_lost: Lost, until: Step = Step.FIRST_KEY_FRAME) -> None:
        """Wait until a held stream can be used. Whatever is raised, the lease is released.

        Args:
            on_lost: called once when the stream ends under this holder; not when opening fails (that raises)
            and
                not after ``release``.
            until: ``ANSWERED`` returns as soon as the device answered, ``FIRST_KEY_FRAME`` when there is a
            picture.

        Raises:
            TongshiError: what ``Signalling`` and ``MediaEngine`` raise, and the three time-outs.
            Unavailable: released meanwhile.
        """
        stream = lease.stream
        if until is Step.ANSWERED:
            stream.relays.add(lease.number)
        try:
            await _either(
                stream.answered if until is Step.ANSWERED else stream.playing, stream.over, lease.released
            )
        except BaseException:
            self.release(lease)
            raise
        if lease.released.is_set():
            raise Unavailable("视频已被关闭")
        if stream.end_reason is not None:
            self.release(lease)
            raise stream.error or Unavailable(REASON_TEXT[stream.end_reason])
        if until is Step.FIRST_KEY_FRAME and stream.unplayable is not None:
            self.release(lease)
            raise stream.unplayable
        stream.holders[lease.number] = on_lost

    def release(self, lease: Lease) -> None:
        """Let go; idempotent. The last holder of an answered stream leaves it warm for a while."""
        stream = lease.stream
        lease.released.set()
        if stream.holders.pop(lease.number, 0) == 0 or stream.holders or stream.end_reason is not None:
            return
        if not stream.answered.is_set() or stream.key.history is not None:
            self.end(stream, EndReason.CLOSED)
            return
        loop = asyncio.get_running_loop()
        stream.linger = loop.call_later(self._timeouts.linger_s, self.end, stream, EndReason.CLOSED)

    def end(self, stream: SharedStream, reason: EndReason, error: TongshiError | None = None) -> None:
        """End a stream now; holders are told, then everything it held is given back in the background."""
        if stream.end_reason is not None:
            return
        stream.end_reason, stream.error = reason, error
        if stream.linger is not None:
            stream.linger.cancel()
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
        holders, stream.holders = tuple(stream.holders.values()), {}
        stream.over.set()
        for on_lost in holders:
            if on_lost is not None:
                on_lost(reason, error)
        task = asyncio.get_running_loop().create_task(self._tear_down(stream))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def end_where(self, matches: Callable[[SharedStream], bool], reason: EndReason) -> int:
        """End every stream that matches; how many."""
        doomed = [stream for stream in self._streams.values() if matches(stream)]
        for stream in doomed:
            self.end(stream, reason)
        return len(doomed)

    async def sweep(self) -> None:
        """End the streams whose media stopped (GB/T 28181-2022 Annex K); no node holds up another."""
        await asyncio.gather(*(self._sweep_one(stream) for stream in self.streams()))

    async def _sweep_one(self, stream: SharedStream) -> None:
        if stream.ingest is None or not stream.playing.is_set() or stream.end_reason is not None:
            return
        figures = await stream.ingest.figures()
        stream.quality = figures.quality
        if figures.codec.video:
            stream.codec = figures.codec  # sound may come later than the picture
        if stream.transcoded is not None:
            self._keep_coding(stream, await stream.transcoded.figures())
        origin = stream.origin
        is_waking = self._clock.now() - origin.woken_at < self._timeouts.media_lost_s
        if figures.silent_s is None or origin.is_paused or is_waking:
            return
        if figures.silent_s >= self._timeouts.media_lost_s:
            # Some recorders end without a word (quirk 55): then their last packet was of the end.
            head, last = origin.playhead, self._clock.now() - figures.silent_s
            is_finished = head is not None and head.is_at_end(last)
            self.end(stream, EndReason.FINISHED if is_finished else EndReason.MEDIA_LOST)

    def _keep_coding(self, stream: SharedStream, coding: Coding) -> None:
        """Note how coding stands; the timeline hears of it when it first falls behind."""
        was_well = stream.coding is None or not stream.coding.skipped
        stream.coding = coding
        if was_well and coding.skipped:
            self._timeline.note(stream.trace_id, "transcoding", coding.trouble, is_trouble=True)

    async def ask_for_platform(self, device_id: DeviceId) -> None:
        """A platform above, which was admitted, wants a key frame; see ``KeyFrames.relay``."""
        of_device = [s for s in self._streams.values() if s.is_live and s.key.device_id == device_id]
        await self.key_frames.relay(device_id, tuple(stream.trace_id for stream in of_device))

    async def stop(self) -> None:
        """End all streams and wait until nothing is left of them."""
        await self.key_frames.stop()
        self.end_where(lambda _: True, EndReason.SHUTDOWN)
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _run(self, stream: SharedStream, transport: Transport) -> None:
        """Open, then stand by until the far side ends it."""
        try:
            await self._open(stream, transport)
        except TongshiError as error:
            log.info("live_failed", device_id=stream.key.device_id, step=stream.step, code=error.code)
            self._timeline.note(stream.trace_id, stream.step, trouble_words(error), is_trouble=True)
            self.end(stream, EndReason.FAILED, error)
            return
        except Exception:
            log.exception("live_crashed", device_id=stream.key.device_id, step=stream.step)
            self.end(stream, EndReason.FAILED, Unavailable("平台内部错误，视频未能打开", code=50302))
            return
        assert stream.call is not None  # _open sets both or raises
        assert stream.ingest is not None
        finished = asyncio.Event() if stream.history_call is None else stream.history_call.finished
        await _either(stream.call.ended, stream.ingest.ended, finished)
        if finished.is_set():
            await self._drain(stream, stream.ingest)
            self.end(stream, EndReason.FINISHED)
        elif stream.ingest.lost_with_node:
            self._timeline.note(stream.trace_id, Step.ENDED, stream.ingest.lost_with_node, is_trouble=True)
            self.end(stream, EndReason.NODE_LOST)
        elif stream.transcoded is not None:
            if stream.transcoded.trouble:
                words = f"转码进程：{stream.transcoded.trouble}"
                self._timeline.note(stream.trace_id, Step.ENDED, words, is_trouble=True)
            elif stream.transcoded.end_reason is EndReason.FINISHED:
                await self._drain(stream, stream.ingest)
            self.end(stream, stream.transcoded.end_reason)
        else:
            self.end(stream, EndReason.DEVICE_ENDED)

    async def _drain(self, stream: SharedStream, ingest: Ingest) -> None:
        """The word that a recording is finished may overtake its last packets, and the viewer's steps."""
        if stream.stepper is not None:
            await _either(stream.stepper.opened, ingest.ended)
        for _ in range(DRAIN_LOOKS):
            await asyncio.sleep(DRAIN_LOOK_S)
            figures = await ingest.figures()
            stream.lost_packets = figures.lost
            if figures.silent_s is None or figures.silent_s >= DRAIN_LOOK_S:
                return

    async def _open(self, stream: SharedStream, transport: Transport) -> None:
        key = stream.key
        route = stream.route = await self._route(key)
        if route is CENTRE_ROUTE:
            transport = Transport.AUTO  # how a device would send says nothing of ourselves
        chosen = route.transport if transport is Transport.AUTO else transport
        if key.transcoding is not None:
            chosen = Transport.TCP_PASSIVE  # from our own process: nothing may be lost on the way
        ingest = stream.ingest = await self._engine.open(
            stream.stream_id,
            chosen,
            key.device_id,
            is_local=stream.on_ingest is not None or key.transcoding is not None,
        )
        if stream.on_ingest is not None:
            await stream.on_ingest(ingest)
        if stream.is_live and isinstance(ingest, Wishing):
            ingest.on_key_frame_wanted(lambda why: self._want_key_frame(stream, why))
        self._reach(stream, Step.INVITED)
        call = await self._call(stream, chosen, ingest)
        await ingest.expect(Promise(call.ssrc, call.media_host, call.media_port, call.payload_types))
        if chosen is Transport.TCP_ACTIVE:
            await ingest.connect(call.media_host, call.media_port)
        self._reach(stream, Step.ANSWERED)
        stream.answered.set()
        patience_s = self._timeouts.first_packet_s if key.transcoding is None else CODER_START_S
        await self._wait_media(stream, ingest.first_packet, patience_s)
        self._reach(stream, Step.FIRST_PACKET)
        await self._wait_picture(stream, ingest)
        stream.playing.set()

    async def _call(self, stream: SharedStream, transport: Transport, ingest: Ingest) -> LiveCall:
        key, limit_s = stream.key, self._timeouts.answer_s
        if key.transcoding is not None:
            stream.call = stream.transcoded = await self._transcode(stream, key.transcoding, ingest)
            return stream.call
        if key.history is None:
            live = LiveRequest(
                key.device_id,
                key.stream_type,
                transport,
                ingest.host,
                ingest.port,
                stream.stream_id,
                announce=ingest.announce,
            )
            stream.call = await self._signalling.open_live(live, limit_s)
            return stream.call
        request = HistoryRequest(
            key.device_id,
            key.stream_type,
            transport,
            ingest.host,
            ingest.port,
            stream.stream_id,
            key.history.window,
            key.history.download_speed,
            announce=ingest.announce,
        )
        source = self._centre if stream.route is CENTRE_ROUTE else self._signalling
        stream.call = stream.history_call = await source.open_history(request, limit_s)
        return stream.call

    async def learn_codec(self, stream: SharedStream, is_enough: Callable[[Codec], bool]) -> None:
        """Learn what a running stream carries now; sound often comes a little after the first picture."""
        ends = self._clock.now() + SOUND_WAIT_S
        while stream.ingest is not None and stream.end_reason is None:
            codec = (await stream.ingest.figures()).codec
            if codec.video:  # nothing is known of what closed meanwhile
                stream.codec = codec
            if is_enough(codec) or self._clock.now() >= ends:
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    async def _transcode(self, stream: SharedStream, wish: Transcoding, target: Ingest) -> TranscodedCall:
        """Hold the stream as the device sends it, and have it coded anew."""
        assert self._transcoder is not None  # who may ask for it was checked
        lease = self.take(replace(stream.key, transcoding=None), Transport.AUTO)
        call: TranscodedCall | None = None

        def lost(reason: EndReason, error: TongshiError | None) -> None:
            if call is not None:
                call.source_lost(reason, error)

        await self.ready(lease, lost)
        source = stream.source = lease.stream
        assert source.ingest is not None
        call = TranscodedCall(source.codec or Codec(), lambda: self.release(lease))
        await call.begin(self._transcoder, source.ingest, wish, target)
        return call

    async def _wait_picture(self, stream: SharedStream, ingest: Ingest) -> None:
        """A picture that can be shown; without one, relays go on with what comes and viewers do not.

        Raises:
            PeerTimeout: there is none, and nobody relays what comes (50403).
        """
        try:
            await self._wait_key_frame(stream, ingest)
            self._reach(stream, Step.FIRST_KEY_FRAME)
            stream.codec = (await ingest.figures()).codec
            if stream.codec.video in UNPLAYABLE_VIDEO:
                details: dict[str, object] = {"codec": stream.codec.video}
                message = f"码流编码为 {stream.codec.video.upper()}，浏览器不能播放，只能原样转发给上级平台"
                raise PeerTimeout(message, code=50403, details=details)
        except PeerTimeout as error:
            is_relayed = not stream.relays.isdisjoint(stream.holders)
            assert stream.call is not None
            has_ended = stream.call.ended.is_set() or ingest.ended.is_set()
            if error.code != 50403 or not is_relayed or has_ended:
                raise
            stream.unplayable = error
            self._timeline.note(stream.trace_id, stream.step, trouble_words(error), is_trouble=True)

    async def _wait_key_frame(self, stream: SharedStream, ingest: Ingest) -> None:
        """The first, asked for when the device lets wait for it; raises as ``_wait_media``."""
        loop = asyncio.get_running_loop()
        asking = loop.call_later(PATIENCE_S, self._want_key_frame, stream, "first")
        try:
            await self._wait_media(stream, ingest.first_key_frame, self._timeouts.first_key_frame_s)
        finally:
            asking.cancel()

    def _want_key_frame(self, stream: SharedStream, why: str) -> None:
        if stream.is_live and stream.end_reason is None:
            self.key_frames.want(stream.key.device_id, stream.trace_id, why)

    async def _route(self, key: StreamKey) -> Route:
        """Where the picture comes from: for a recording our own storage, when it has what is asked for."""
        source = None if key.transcoding is None else self._streams.get(replace(key, transcoding=None))
        if source is not None and source.route is not None:
            return source.route  # what is coded anew comes on the way of what it is made of
        if key.history is None or key.history.location is RecordLocation.DEVICE:
            return await self._signalling.route(key.device_id)
        search = Search(key.device_id, key.history.window, RecordLocation.CENTER)
        known = timeline(search.window, await self._centre.search(search))
        if known.spans and (key.history.location is RecordLocation.CENTER or not known.gaps):
            return CENTRE_ROUTE
        try:
            return await self._signalling.route(key.device_id)
        except (NotFound, Unavailable):
            if known.spans:
                return CENTRE_ROUTE  # in part is better than not at all; the timeline says what is missing
            raise

    async def _wait_media(self, stream: SharedStream, event: asyncio.Event, limit_s: float) -> None:
        assert stream.call is not None
        assert stream.ingest is not None
        try:
            async with asyncio.timeout(limit_s):
                await _either(event, stream.call.ended, stream.ingest.ended)
        except TimeoutError:
            pass
        if not event.is_set():
            raise await self._no_picture(stream, stream.ingest)

    async def _no_picture(self, stream: SharedStream, ingest: Ingest) -> TongshiError:
        """Which of the two: nothing came, or something that is no picture; or that this cannot be told."""
        assert stream.call is not None
        if ingest.lost_with_node:
            return Unavailable(ingest.lost_with_node, code=50302, retry_after_s=1)
        if stream.transcoded is not None:
            log.warning("transcoding_gave_no_picture", trouble=stream.transcoded.trouble)
            return Unavailable("转码未能产生画面，请改看子码流，或稍后再试", code=50302, retry_after_s=10)
        figures = await ingest.figures()
        if not figures.is_known:
            words = (
                ingest.lost_with_node or "承载该路的媒体节点没有应答，不知道设备是否发送了视频，请重新打开"
            )
            return Unavailable(words, code=50302, retry_after_s=1)
        details: dict[str, object] = {
            "packets": figures.packets,
            "malformedPackets": figures.malformed,
            "foreignSsrcPackets": figures.foreign_ssrc,
            "lostPackets": figures.lost,
            "hungUp": stream.call.ended.is_set(),
        }
        if figures.packets or figures.malformed:
            return PeerTimeout("设备已发送数据，但其中没有可解码的画面", code=50403, details=details)
        return PeerTimeout("设备已应答，但没有发送视频", code=50402, details=details)

    def _reach(self, stream: SharedStream, step: Step) -> None:
        stream.reached[step] = self._clock.now()
        self._timeline.note(stream.trace_id, step)

    async def _tear_down(self, stream: SharedStream) -> None:
        task = stream.task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        try:
            if stream.ingest is not None:
                await stream.ingest.close()
            if stream.call is not None:
                await stream.call.end()
        except (TongshiError, OSError) as error:
            log.warning("live_release_failed", device_id=stream.key.device_id, error=str(error))
        log.info("live_ended", device_id=stream.key.device_id, reason=stream.end_reason)


def trouble_words(error: TongshiError) -> str:
    """What went wrong, with the figures that tell an unplugged camera from one that sends elsewhere."""
    facts = [f"{error.message}（{error.code}）"]
    for name, said in _FIGURES.items():
        count = error.details.get(name)
        if isinstance(count, int) and count:
            facts.append(said.format(count))
    return "；".join(facts)


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
