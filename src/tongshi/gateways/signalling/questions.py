"""Sending MANSCDP messages to a peer, and asking it something that it answers with a message of its own.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 8.3
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tongshi.errors import PeerFailed
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.answers import Answers, Key
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.upward_names import NO_NAMES
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.gb28181.query import DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import DeviceInfoResponse, DeviceStatusResponse

CONTENT_TYPE = "Application/MANSCDP+xml"
ANSWER_TIMEOUT_S = 10.0
SIP_TIMEOUT_S = 8.0  # of one MESSAGE: two retransmissions of T2 beyond the first second

_ASKING = ("Query", "Control")

A = TypeVar("A", bound=BaseMessage)


class Correspondent(Protocol):
    """Whoever MANSCDP goes to: a registered peer, or the platform we registered with."""

    @property
    def id(self) -> str: ...
    @property
    def sip_id(self) -> str: ...
    @property
    def remote(self) -> Remote: ...
    @property
    def profile(self) -> Profile: ...
    def next_sn(self) -> int: ...


class Post:
    """Sends messages to peers in their charset and edition.

    Args:
        own_id: our code, for the chain of platforms that a question or a command came through.
    """

    def __init__(self, endpoint: SipEndpoint, answers: Answers, own_id: str = "") -> None:
        self._endpoint = endpoint
        self._answers = answers
        self._own_id = own_id

    async def send(
        self,
        to: Correspondent,
        message: BaseMessage,
        *,
        to_id: str = "",
        timeout_s: float = SIP_TIMEOUT_S,
        remote: Remote | None = None,
    ) -> int:
        """Send one message; the final SIP status, whatever it is. To an upper its codes go as it knows them.

        Raises:
            PeerTimeout: no SIP answer. Unavailable: it could not be sent.
        """
        message = getattr(to, "names", NO_NAMES).outward(message)
        response = await self._endpoint.request(
            "MESSAGE",
            to_id=to_id or to.sip_id,
            remote=remote or to.remote,
            headers=self._path(to, message),
            body=message.render(to.profile.charset, to.profile.edition),
            content_type=CONTENT_TYPE,
            timeout_s=timeout_s,
        )
        return response.status

    def _path(self, to: Correspondent, message: BaseMessage) -> tuple[tuple[str, str], ...]:
        """What a lower platform is told of whom we ask and command for; a device would not read it."""
        if message.root not in _ASKING or not (isinstance(to, Peer) and to.is_platform):
            return ()
        return journey.current.get().headers(self._own_id) if self._own_id else ()

    async def reach_tcp(self, remote: Remote) -> Remote | None:
        """The same place by TCP, when a connection is open or can be made; None when it cannot (T-03)."""
        return await self._endpoint.reach_tcp(remote)

    @contextmanager
    def expecting(self, peer: Peer, order: BaseMessage) -> Iterator[Key]:
        """Wait for the answer to what is sent inside; see ``answer``. Raises LimitExceeded."""
        key = self._answers.expect(peer.id, order.cmd_type, order.sn)
        try:
            yield key
        finally:
            self._answers.forget(key)

    async def answer(self, key: Key, timeout_s: float) -> BaseMessage:
        """The answer that is expected. Raises PeerTimeout."""
        return await self._answers.wait(key, timeout_s)

    async def ask(
        self, peer: Correspondent, query: BaseMessage, kind: type[A], timeout_s: float, *, to_id: str = ""
    ) -> A:
        """Send a query and wait for its answer.

        Raises:
            PeerTimeout: silence. PeerFailed: refused by SIP, or answered with something else.
        """
        key = self._answers.expect(peer.id, query.cmd_type, query.sn)
        try:
            status = await self.send(peer, query, to_id=to_id)
            if not 200 <= status < 300:
                raise PeerFailed("设备拒绝了查询", details={"sipStatus": status})
            answer = await self._answers.wait(key, timeout_s)
        finally:
            self._answers.forget(key)
        if not isinstance(answer, kind):
            raise PeerFailed("设备的应答与查询不符")
        return answer

    async def device_info(
        self, peer: Peer, device_id: str, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> DeviceInfoResponse:
        """Ask who made a device (A.2.4.4)."""
        return await self.ask(peer, DeviceInfoQuery(peer.next_sn(), device_id), DeviceInfoResponse, timeout_s)

    async def device_status(
        self, peer: Peer, device_id: str, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> DeviceStatusResponse:
        """Ask whether a device works (A.2.4.2)."""
        query = DeviceStatusQuery(peer.next_sn(), device_id)
        return await self.ask(peer, query, DeviceStatusResponse, timeout_s)
