"""Sockets of a SIP endpoint that lose datagrams both ways, by a seed. TCP is left alone."""

from __future__ import annotations

import random
from collections.abc import Callable

from tongshi.gateways.signalling.transport import SipSockets
from tongshi.protocols.sip.message import Remote
from tongshi.protocols.sip.transaction_events import Output


class LossySockets(SipSockets):
    """``lossy(loss, rng)`` makes what an endpoint takes for its ``sockets``."""

    loss = 0.0
    dropped = 0
    rng: random.Random

    async def open(self) -> int:
        receive = self.on_message

        def receive_some(data: bytes, source: Remote) -> None:
            if not self._is_lost(source):
                receive(data, source)

        self.on_message = receive_some
        return await super().open()

    def send(self, output: Output) -> None:
        if not self._is_lost(output.remote):
            super().send(output)

    def _is_lost(self, remote: Remote) -> bool:
        if remote.transport != "udp" or self.rng.random() >= self.loss:
            return False
        self.dropped += 1
        return True


def lossy(loss: float, rng: random.Random) -> Callable[..., SipSockets]:
    """Sockets that lose that share of datagrams each way; ordinary ones when it is 0."""
    if not loss:
        return SipSockets

    def make(host: str, port: int, **options: object) -> SipSockets:
        made = LossySockets(host, port, **options)  # type: ignore[arg-type]  # handed through
        made.loss, made.rng = loss, rng
        return made

    return make
