"""UDP ports for RTSP clients: pairs out of a bounded range, each connected to its client's.

A connected socket sends to the one address and takes packets from it alone, so that nobody can be made the
target of a stream but the host that asks for it. Which ports are free the system knows best: who finds one
taken tries the next.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tongshi.errors import Unavailable


@dataclass(frozen=True, slots=True)
class PortPair:
    """The two sockets of a track; ``port`` is that of RTP, the next one that of RTCP."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class PortRange:
    """Even ports from ``first`` to ``last``, each with the one behind it; 0 as the first has none."""

    def __init__(self, first: int, last: int) -> None:
        self._ports = range(first + first % 2, last, 2) if first else range(0)
        self._next = 0

    def __len__(self) -> int:
        return len(self._ports)

    def open(self, local_host: str, client_host: str, client_port: int) -> PortPair:
        """A pair for a client's pair. Raises Unavailable: all are taken (50302)."""
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            try:
                rtp = _connected((local_host, port), (client_host, client_port))
            except OSError:
                continue
            try:
                rtcp = _connected((local_host, port + 1), (client_host, client_port + 1))
            except OSError:
                rtp.close()
                continue
            return PortPair(port, rtp, rtcp)
        raise Unavailable("RTSP 的 UDP 端口已用完", code=50302, retry_after_s=5)


def _connected(local: tuple[str, int], peer: tuple[str, int]) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in local[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.bind(local)
        one.connect(peer)
    except OSError:
        one.close()
        raise
    return one
