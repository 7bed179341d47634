"""We as the lower side: registered with a platform above, alive to it, and recognisable by it.

Implements: GB/T 28181-2022 9.1
Implements: GB/T 28181-2022 9.6
After ``count`` heartbeats in a row without an answer the upper counts as offline: what it watches is released
and registration begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from tongshi.errors import TongshiError
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.signalling.upward_names import NO_NAMES, Names
from tongshi.protocols.gb28181.message import next_sn
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.profile import Profile, for_edition
from tongshi.protocols.gb28181.version import Edition

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UpperAccount:
    """How we register with a platform above."""

    id: str
    remote: Remote
    username: str
    password: str = field(repr=False)
    expires_s: int = 86_400
    retry_s: float = 60.0
    names: Names = NO_NAMES


class Upper:
    """One platform above us.

    Args:
        on_state: told (registered, reason) at each change. on_heard: told of each heartbeat it answered.
    """

    def __init__(
        self,
        account: UpperAccount,
        own_id: str,
        endpoint: SipEndpoint,
        post: Post,
        beat: Beat,
        on_state: Callable[[Upper, bool, str], None],
        on_heard: Callable[[Upper], None] = lambda _: None,
    ) -> None:
        self.id = account.id
        self.names = account.names
        self.profile: Profile = for_edition(Edition.GB2022, account.remote.transport)
        self._own_id = own_id
        self._post = post
        self._beat = beat
        self._on_state = on_state
        self._on_heard = on_heard
        self.faulty: tuple[str, ...] = ()  # told with every heartbeat
        self._sn = 0
        self._task: asyncio.Task[None] | None = None
        self._registrant = Registrant(
            endpoint,
            server_id=account.id,
            remote=account.remote,
            username=account.username,
            password=account.password,
            expires_s=account.expires_s,
            retry_s=account.retry_s,
            on_state=self._state_changed,
        )

    @property
    def is_registered(self) -> bool:
        return self._registrant.registered.is_set()

    @property
    def said_edition(self) -> str:
        """X-GB-Ver of its answer to our registration, "" for none."""
        return self._registrant.server_version

    @property
    def remote(self) -> Remote:
        """Where we are registered, or try to be: elsewhere than configured after a redirection (9.1.2.3)."""
        return self._registrant.remote

    @property
    def sip_id(self) -> str:
        """The code of the server there; ``id`` stays the one that names the platform to us."""
        return self._registrant.server_id

    def is_at(self, remote: Remote) -> bool:
        """Did this come from where we are registered? Of one behind TLS, by TLS only."""
        is_as_safe = self.remote.transport != "tls" or remote.transport == "tls"
        return remote.host == self.remote.host and is_as_safe

    def next_sn(self) -> int:
        """A new SN toward this platform."""
        self._sn = next_sn(self._sn)
        return self._sn

    async def start(self) -> None:
        """Register in the background and keep alive while registered."""
        await self._registrant.start()
        self._task = asyncio.get_running_loop().create_task(self._keep_alive())

    async def stop(self) -> None:
        """Deregister."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._registrant.stop()

    async def beat(self) -> None:
        """A heartbeat between the others, because something must be told at once."""
        await self._beat_once()

    async def _keep_alive(self) -> None:
        missed = 0
        while True:
            await self._registrant.registered.wait()
            missed = 0 if await self._beat_once() else missed + 1
            if missed >= self._beat.count:
                log.warning("upper_silent", platform_id=self.id, missed=missed)
                missed = 0
                self._on_state(self, False, "keepaliveTimeout")
                self._registrant.renew()
            await asyncio.sleep(self._beat.interval_s)

    async def _beat_once(self) -> bool:
        """One heartbeat; an upper that answers with an error has forgotten us: as good as silence."""
        keepalive = Keepalive(self.next_sn(), self._own_id, True, self.faulty)
        try:
            status = await self._post.send(self, keepalive, timeout_s=min(8.0, self._beat.interval_s))
        except TongshiError as error:
            log.info("keepalive_unanswered", platform_id=self.id, error=error.message)
            return False
        if not 200 <= status < 300:
            return False
        self._on_heard(self)
        return True

    def _state_changed(self, is_registered: bool, reason: str) -> None:
        log.info("upper_state", platform_id=self.id, registered=is_registered, reason=reason)
        self._on_state(self, is_registered, reason)
