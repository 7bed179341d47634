"""Client side of registration: REGISTER with digest, refresh, retry, redirection, deregistration.

Implements: GB/T 28181-2022 9.1.1
Implements: GB/T 28181-2022 9.1.2
We are registered from the moment a 2xx is read, not from when its task runs next: a server that subscribes
or asks right behind its 200 is answered as the one with which we are registered.
Not here: keepalives; whoever finds them unanswered calls ``renew``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from tongshi.errors import RemoteViolation, TongshiError
from tongshi.gateways.signalling.endpoint import SipEndpoint
from tongshi.ids import sip_domain
from tongshi.protocols.sip.address import transport_of
from tongshi.protocols.sip.digest import Challenge, answer, strongest
from tongshi.protocols.sip.message import Remote, Response

log = structlog.get_logger(__name__)

SIP_PORT, TLS_PORT = 5060, 5061
MAX_REDIRECTS = 5
_MAX_CHALLENGES = 2
_DEREGISTER_TIMEOUT_S = 3.0


class Registrant:
    """Keeps one identity registered at one server.

    Args:
        server_id: 20-digit code of the server. remote: its address.
        username: digest user, normally our own code. password: its secret.
        expires_s: lifetime we ask for; the server's answer decides. Configuration keeps it at 3600 or more.
        retry_s: shortest gap after a failure; up to half of it is added at random (9.1.1 c, 7.1 c).
        timeout_s: silence after which one REGISTER has failed.
        on_state: called with (registered, reason) at every change and after every failure.
        rng: source of jitter and cnonces.
        local_id: registers this identity instead of the endpoint's own.
        headers: further headers of every REGISTER.

    Attributes:
        registered: set while registered. server_date: Date header of the last 200, as it came.
        server_version: X-GB-Ver of the last 200, "" for none.
        remote, server_id: where we are registered; another server's after a redirection.
    """

    def __init__(
        self,
        endpoint: SipEndpoint,
        *,
        server_id: str,
        remote: Remote,
        username: str,
        password: str,
        expires_s: int = 86_400,
        retry_s: float = 60.0,
        timeout_s: float = 32.0,
        on_state: Callable[[bool, str], None] | None = None,
        rng: random.Random | None = None,
        local_id: str | None = None,
        headers: tuple[tuple[str, str], ...] = (("X-GB-Ver", "3.0"),),
    ) -> None:
        self.registered = asyncio.Event()
        self.server_date: str | None = None
        self.server_version = ""
        self.server_id, self.remote = server_id, remote
        self._home = server_id, remote
        self._endpoint = endpoint
        self._username, self._password = username, password
        self._expires_s, self._retry_s, self._timeout_s = expires_s, retry_s, timeout_s
        self._on_state = on_state
        self._rng = rng or random.SystemRandom()
        self._local_id = local_id
        self._headers = headers
        self._call_id, self._tag = f"{self._rng.getrandbits(64):016x}", f"{self._rng.getrandbits(64):016x}"
        self._cseq = 0
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin registering in the background; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"register-{self.server_id}")

    async def stop(self) -> None:
        """Deregister (Expires 0) when registered, and end. Never raises on a silent server."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self.registered.is_set():
            try:
                await self._exchange(0, min(self._timeout_s, _DEREGISTER_TIMEOUT_S))
            except TongshiError as error:
                log.info("sip_deregister_failed", server_id=self.server_id, reason=error.message)
        self._turn(False, "deregistered")

    def renew(self) -> None:
        """Register again now: the keepalives went unanswered, or the connection broke."""
        self._again.set()

    async def _run(self) -> None:
        while True:
            self._again.clear()
            # A broken connection means we are offline to the server, however long the lifetime (9.1.1 f).
            unwatch = self._endpoint.watch(self.remote, self.renew)
            try:
                lifetime_s, reason = await self._register()
                self._turn(bool(lifetime_s), reason)
                if not lifetime_s:
                    self.server_id, self.remote = self._home
                await self._pause(lifetime_s)
            finally:
                unwatch()

    async def _pause(self, lifetime_s: int) -> None:
        """Wait for the refresh, or for the next try after a failure; ``renew`` shortens only the former."""
        if not lifetime_s:
            await asyncio.sleep(self._retry_s * (1 + self._rng.random() / 2))
            return
        try:
            async with asyncio.timeout(lifetime_s * 2 / 3):
                await self._again.wait()
            self._turn(False, "lost")
            # Who was sent on by a redirect server begins there again (9.1.2.3 g).
            self.server_id, self.remote = self._home
        except TimeoutError:
            pass

    async def _register(self) -> tuple[int, str]:
        """One registration. Returns the granted lifetime, 0 when there is none, and the reason."""
        try:
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._exchange(self._expires_s, self._timeout_s)
                if response.status != 302:
                    break
                self._follow(response)
        except TongshiError as error:
            return 0, error.message
        if not response.is_success:
            return 0, f"{response.status} {response.reason}"
        return self._granted_s(response), "registered"

    def _granted_s(self, response: Response) -> int:
        return self._expires_s if response.expires is None else response.expires

    def _hear(self, response: Response) -> None:
        """The answer to a registration, before whatever the server sent behind it."""
        if not response.is_success:
            return
        self.server_date = response.headers.get("Date") or None
        self.server_version = response.headers.get("X-GB-Ver")
        if self._granted_s(response):
            self._turn(True, "registered")

    async def _exchange(self, expires_s: int, timeout_s: float) -> Response:
        """REGISTER, once more with credentials when challenged, once more when the nonce was stale."""
        authorization: tuple[tuple[str, str], ...] = ()
        for attempt in range(_MAX_CHALLENGES + 1):
            self._cseq += 1
            response = await self._endpoint.request(
                "REGISTER",
                to_id=self.server_id,
                remote=self.remote,
                headers=(*self._headers, *authorization, ("Expires", str(expires_s))),
                from_id=self._local_id,
                request_uri=self._uri,
                call_id=self._call_id,
                cseq=self._cseq,
                from_tag=self._tag,
                timeout_s=timeout_s,
                on_answer=self._hear if expires_s else None,
            )
            minimum = response.headers.get("Min-Expires")
            if response.status == 423 and expires_s and minimum.isascii() and minimum.isdigit():
                expires_s = max(expires_s, int(minimum[:9]))
                continue
            if response.status != 401:
                return response
            challenge = _challenge(response)
            if challenge is None or (attempt and not challenge.is_stale):
                return response
            cnonce = f"{self._rng.getrandbits(64):016x}"
            credentials = answer(
                challenge,
                username=self._username,
                password=self._password,
                method="REGISTER",
                uri=self._uri,
                cnonce=cnonce,
            )
            authorization = (("Authorization", credentials.render()),)
        return response

    def _follow(self, response: Response) -> None:
        """Take the server a redirection names; same account, same transport unless it says otherwise."""
        contact = response.contact
        if contact is None:
            raise RemoteViolation("redirection without Contact")
        uri = contact.uri
        transport = transport_of(uri.param("transport") or self.remote.transport)
        if uri.scheme == "sips":
            transport = "tls"
        if self.remote.transport == "tls" and transport != "tls":
            # Else whoever speaks for a server that we trust could lead us out of TLS.
            raise RemoteViolation("redirection from TLS to a transport without it")
        self.server_id = uri.user or self.server_id
        port = uri.port or (TLS_PORT if transport == "tls" else SIP_PORT)
        self.remote = Remote(uri.host.strip("[]"), port, transport)

    def _turn(self, is_registered: bool, reason: str) -> None:
        has_changed = is_registered != self.registered.is_set()
        if is_registered:
            self.registered.set()
        else:
            self.registered.clear()
        if not has_changed and is_registered:
            return
        log.info("sip_registration", server_id=self.server_id, registered=is_registered, reason=reason)
        if self._on_state is not None:
            self._on_state(is_registered, reason)

    @property
    def _uri(self) -> str:
        return f"sip:{self.server_id}@{sip_domain(self.server_id)}"


def _challenge(response: Response) -> Challenge | None:
    """The strongest challenge that we can answer."""
    challenges = []
    for line in response.headers.get_all("WWW-Authenticate"):
        try:
            challenges.append(Challenge.parse(line))
        except RemoteViolation:
            continue
    return strongest(challenges)
