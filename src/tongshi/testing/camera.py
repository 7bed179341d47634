"""One simulated device: registers, stays alive, answers, turns, and is called for its picture.

Implements: GB/T 28181-2022 9.6
Not here: what it answers (``answers``), its calls (``calls``), many of them (``fleet``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta

import structlog

from tongshi.clock import Clock, SystemClock
from tongshi.errors import PeerTimeout, RemoteViolation, Unavailable
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmResponse
from tongshi.protocols.gb28181.broadcast import BroadcastNotify, BroadcastResponse
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.protocols.gb28181.message import BaseMessage, next_sn
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.records import RecordInfoQuery
from tongshi.testing.answers import Device
from tongshi.testing.calls import Calls
from tongshi.testing.loudspeaker import Loudspeaker
from tongshi.testing.pan_tilt import around
from tongshi.testing.plan import VOICE_OUTPUT, CameraConfig
from tongshi.testing.studio import Studio
from tongshi.testing.undertakings import Undertakings

log = structlog.get_logger(__name__)

MANSCDP = "Application/MANSCDP+xml"
VERSION = (("X-GB-Ver", "3.0"),)
# AlarmType of method 5 (A.2.5.3), with words of the device.
_SEEN = ((6, "有人进入划定区域"), (1, "人工请求查看"), (2, "画面中有运动目标"))
_MAX_ANSWERS = 16  # queries being answered at once; further ones are not answered
_ANSWER_TIMEOUT_S = 8.0


class Camera:
    """A device on its own SIP address.

    Args:
        config: who it is. studio: pictures, shared by all cameras of the process.
        clock: its time. rng: jitter and noise.

    Attributes:
        faults: what it does wrong; may be replaced while it runs.
        device: channels, heads, presets and the instructions that came.
        port: its SIP port once started.
    """

    def __init__(
        self,
        config: CameraConfig,
        studio: Studio,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config, self.faults = config, config.faults
        self.device = Device.of(config.item, config.channels)
        self.device.peripherals = {item.device_id: item for item in config.peripherals}
        self.device.recorded, self.device.rate_kbps = config.recorded, config.rate_kbps
        for channel in self.device.channels.values():
            channel.head.presets = around(config.presets)
        self._clock, self._rng = clock or SystemClock(), rng or random.Random(config.id)
        self._remote = Remote(config.server.host, config.server.port, config.transport)
        self._endpoint = SipEndpoint(
            local_id=config.id,
            host=config.host,
            port=config.port,
            user_agent="Tongshi-Sim/1.0",
            on_request=self._on_request,
            on_invite=self._on_invite,
            clock=self._clock,
            allow_udp=config.transport == "udp",
            allow_tcp=config.transport == "tcp",
        )
        self._registrant = Registrant(
            self._endpoint,
            server_id=config.server.id,
            remote=self._remote,
            username=config.username or config.id,
            password=config.server.secret,
            expires_s=config.expires_s,
            retry_s=config.retry_s,
            on_state=self._on_state,
            rng=self._rng,
        )
        self.calls = Calls(
            config,
            self.device,
            studio,
            self._clock,
            self._rng,
            faults=lambda: self.faults,
            on_drop=self._drop,
        )
        self.loudspeaker = Loudspeaker(config.server.id, self._remote, config.host, self._endpoint)
        self._tasks: set[asyncio.Task[None]] = set()
        self._undertakings = Undertakings(self.device, config.scene, studio, self._clock, self)
        self._sn = self._rng.randrange(1, 1_000_000)
        self._is_running = False
        self._dying: asyncio.Future[None] | None = None
        self._ahead = timedelta()
        self._keepalive_s = config.keepalive_s
        self._gone = asyncio.Event()  # no longer registered

    @property
    def port(self) -> int:
        """Its SIP port."""
        return self._endpoint.port

    @property
    def time(self) -> datetime:
        """Its clock: its own until it registers, then the server's (7.10 a)."""
        return self._clock.at() + self._ahead

    @property
    def registered(self) -> asyncio.Event:
        """Set while the server holds its registration."""
        return self._registrant.registered

    async def start(self) -> None:
        """Bind, begin to register and to stay alive. Raises OSError: the port is taken."""
        await self._endpoint.start()
        self._is_running = True
        await self._registrant.start()
        self._spawn(self._stay_alive())
        if self.config.alarm_every_s:
            self._spawn(self._notice())

    async def stop(self) -> None:
        """End calls with BYE, deregister, release everything. Idempotent."""
        if self._is_running:
            self._is_running = False
            await self.calls.stop()
            await self.loudspeaker.hang_up()
            await self._cancel_tasks()
            await self._registrant.stop()
            await self._endpoint.stop()
        elif self._dying is not None:
            await asyncio.wait((self._dying,))

    async def vanish(self) -> None:
        """Die without a word: no BYE, no deregistration, as when the power fails. Idempotent."""
        if self._is_running:
            self._is_running = False
            await self._endpoint.stop(silently=True)
            await self.calls.stop(politely=False)
            await self._cancel_tasks()
            await self._registrant.stop()

    @property
    def keepalive_s(self) -> float:
        """Seconds between heartbeats: what was configured since, else the plan's."""
        return self._keepalive_s

    def take_rhythm(self, interval_s: int) -> None:
        """A platform configured another heartbeat (A.2.3.2.2)."""
        self._keepalive_s = float(interval_s)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside; it ends with the camera."""
        self._spawn(work)

    async def reboot(self) -> None:
        """Register again, as after a restart, and wait for it."""
        self._gone.clear()
        self._registrant.renew()
        await self._gone.wait()
        await self.registered.wait()

    async def notify(self, message: BaseMessage) -> int:
        """Send a notification; the status of its answer."""
        return await self._send(message)

    async def raise_alarm(self, code: str, **values: object) -> int:
        """Tell the platform of an alarm of one code; its SN, or 0 while a device alarm of it is held."""
        notify = self.device.siren.raised(self.next_sn(), code, self._clock.at(), **values)
        if notify is None:
            return 0
        await self._send(notify)
        return notify.sn

    def next_sn(self) -> int:
        """A number of its own."""
        self._sn = next_sn(self._sn)
        return self._sn

    async def _on_invite(self, invite: IncomingInvite) -> None:
        if self._is_from_server(invite.request.from_.uri.user):
            await self.calls.handle(invite)
        else:
            invite.reject(403)

    async def _on_request(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        if not self._is_from_server(request.from_.uri.user):
            incoming.respond(403)
            return
        if request.method == "INFO" and incoming.call is not None:
            self.calls.steer(incoming)
            return
        if request.method != "MESSAGE":
            incoming.respond(200 if incoming.call is not None else 405)
            return
        try:
            message = decode(request.body)
        except RemoteViolation:
            incoming.respond(400)
            return
        # An alarm that is passed on to this device is about another one.
        if not isinstance(message, AlarmNotify) and not self.device.knows(message.device_id):
            incoming.respond(404)
            return
        incoming.respond(200)
        if isinstance(message, AlarmResponse):
            self.device.siren.answered(message)
            return
        if isinstance(message, BroadcastNotify):
            self._spawn(self._broadcast(message))
            return
        if isinstance(message, DeviceControl):
            self._control(message)
        answers = self._answers(message)
        self._undertakings.begin(message)
        if answers and len(self._tasks) <= _MAX_ANSWERS:
            self._spawn(self._send_all(answers))

    def _answers(self, message: object) -> list[BaseMessage]:
        is_tcp = self.config.transport == "tcp"
        if isinstance(message, RecordInfoQuery):
            if self.faults.no_record_answer:
                return []
            return self.device.recordings(message, is_tcp=is_tcp, withheld=self.faults.records_withheld)
        return self.device.answer(message, self.time, is_tcp=is_tcp, now=self._clock.now())

    async def _broadcast(self, notify: BroadcastNotify) -> None:
        """Answer, then call once for each output that is meant (9.12.1)."""
        habits = self.loudspeaker.habits
        outputs = [code for code in self.device.peripherals if code[10:13] == VOICE_OUTPUT]
        outputs += [self.config.id] if self.config.speaker else []
        meant = [notify.device_id] if notify.device_id in outputs else outputs
        is_ok = bool(meant) and not habits.refuses
        if not habits.skips_response:
            await self._send(BroadcastResponse(notify.sn, notify.device_id, is_ok))
        if is_ok and not habits.is_mute:
            await asyncio.gather(*(self.loudspeaker.call(notify, output) for output in meant))

    def _control(self, message: DeviceControl) -> None:
        self.device.control(message, self._clock.now())
        if message.iframe:
            self.calls.ask_key_frame(message.device_id)
        if message.tele_boot:
            self._registrant.renew()

    def _is_from_server(self, user: str) -> bool:
        return user == self.config.server.id

    async def _send_all(self, messages: Sequence[BaseMessage]) -> None:
        """One after another, each after the answer to the one before (Annex M)."""
        for message in messages:
            if await self._send(message) != 200:
                log.info("camera_answer_failed", device_id=self.config.id, cmd_type=message.cmd_type)
                return

    async def _send(self, message: BaseMessage, timeout_s: float = _ANSWER_TIMEOUT_S) -> int:
        """Send a MESSAGE; the status of its answer, 0 when there is none."""
        try:
            response = await self._endpoint.request(
                "MESSAGE",
                to_id=self.config.server.id,
                remote=self._remote,
                body=message.render(),
                content_type=MANSCDP,
                timeout_s=timeout_s,
            )
        except (PeerTimeout, Unavailable):
            return 0
        return response.status

    async def _notice(self) -> None:
        """See something now and then: an alarm of the picture (method 5), of one kind after another."""
        code = next(iter(self.device.channels))
        while True:
            for kind, words in _SEEN:
                await asyncio.sleep(self.config.alarm_every_s * self._rng.uniform(0.5, 1.5))
                await self.registered.wait()
                await self.raise_alarm(code, method=5, priority=3, alarm_type=kind, description=words)

    async def _stay_alive(self) -> None:
        """Keepalive at each interval while registered; too many unanswered ones make it register again."""
        missed = 0
        while True:
            await self.registered.wait()
            self._sn = next_sn(self._sn)
            patience_s = min(_ANSWER_TIMEOUT_S, self.keepalive_s)
            status = await self._send(Keepalive(self._sn, self.config.id), patience_s)
            missed = 0 if status == 200 else missed + 1
            if status in (401, 403, 404) or missed >= self.config.keepalive_misses:
                missed = 0
                self._registrant.renew()
            await asyncio.sleep(self.keepalive_s)

    def _on_state(self, is_registered: bool, reason: str) -> None:
        log.debug("camera_state", device_id=self.config.id, registered=is_registered, reason=reason)
        if not is_registered:
            self._gone.set()
        if is_registered and self._registrant.server_date:
            self._set_clock(self._registrant.server_date)
        if self._is_running and not is_registered:
            self.calls.server_lost()

    def _set_clock(self, date: str) -> None:
        try:
            self._ahead = parse_time(date) - self._clock.at()
        except RemoteViolation:
            log.info("camera_date_unreadable", device_id=self.config.id, date=date)

    def _drop(self) -> None:
        self._dying = asyncio.ensure_future(self.vanish())  # kept, or it might be collected

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
