"""Those who are registered with us: where they are, when they were last heard, and in which order they fall
silent.

Implements: GB/T 28181-2022 9.1
Implements: GB/T 28181-2022 9.6
The table is kept in the order of last hearing, so that looking for silent peers costs what is found, not what
is registered.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from tongshi.gateways.signalling.endpoint import Remote
from tongshi.protocols.gb28181.message import next_sn
from tongshi.protocols.gb28181.profile import Profile, Quirk

MAX_PEERS = 200_000


@dataclass(slots=True)
class Peer:
    """One registered device or lower platform.

    Attributes:
        remote: source of its last authenticated message; our requests go there.
        expires_s: monotonic time at which the registration ends.
        last_seen_s: monotonic time of the last REGISTER or Keepalive.
        is_platform: a lower platform rather than a device.
        sn: last SN we used toward it.
        addresses: others that it may speak from (quirk 24), as its account names them.
    """

    id: str
    remote: Remote
    profile: Profile
    expires_s: float
    last_seen_s: float
    is_platform: bool = False
    sn: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def sip_id(self) -> str:
        """By which code SIP names it."""
        return self.id

    def next_sn(self) -> int:
        """A new SN toward this peer."""
        self.sn = next_sn(self.sn)
        return self.sn

    def is_at(self, remote: Remote) -> bool:
        """Did this come from where the peer registered?

        Ports change behind NAT, addresses only of those of whom an administrator says so (quirk 24). Who
        registered by TLS is heard by TLS only: a datagram with its address proves nothing.
        """
        if self.remote.transport == "tls" and remote.transport != "tls":
            return False
        is_its_own = remote.host == self.remote.host or remote.host in self.addresses
        return is_its_own or self.profile.has(Quirk.DUAL_HOMED)


class Peers:
    """Registered peers by id, the longest silent first."""

    def __init__(self, limit: int = MAX_PEERS) -> None:
        self._limit = limit
        self._peers: OrderedDict[str, Peer] = OrderedDict()
        self._homes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._peers

    @property
    def is_full(self) -> bool:
        return len(self._peers) >= self._limit

    def get(self, peer_id: str) -> Peer | None:
        return self._peers.get(peer_id)

    def ids(self) -> tuple[str, ...]:
        return tuple(self._peers)

    def put(self, peer: Peer) -> None:
        """Add or replace; it was heard just now."""
        self.remove(peer.id)
        self._peers[peer.id] = peer
        self._homes.update((peer.remote.host, *peer.addresses))
        self._peers.move_to_end(peer.id)

    def heard(self, peer: Peer, remote: Remote, now: float) -> None:
        """Note a sign of life and the address it came from (NAT may have changed the port)."""
        peer.last_seen_s = now
        if remote.host == peer.remote.host:  # from another of its addresses it only speaks
            peer.remote = remote
        self._peers.move_to_end(peer.id)

    def remove(self, peer_id: str) -> Peer | None:
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            for host in (peer.remote.host, *peer.addresses):
                self._homes[host] -= 1
                if not self._homes[host]:
                    del self._homes[host]
        return peer

    def is_home(self, host: str) -> bool:
        """Is anybody registered from this address?"""
        return host in self._homes

    def silent(self, before: float) -> list[Peer]:
        """Peers last heard before that time."""
        found = []
        for peer in self._peers.values():
            if peer.last_seen_s >= before:
                break
            found.append(peer)
        return found

    def expired(self, now: float) -> list[Peer]:
        """Peers whose registration has ended."""
        return [peer for peer in self._peers.values() if peer.expires_s <= now]
