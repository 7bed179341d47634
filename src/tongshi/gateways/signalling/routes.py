"""By which peer a channel is reached.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 Annex H
A device that is registered itself is its own route. Else the peer whose catalogue told of it last, else what
the archive says (its parents, then its owning platform). The learned part is a cache: losing it costs one
lookup.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from tongshi.errors import NotFound, Unavailable
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Archive

MAX_LEARNED = 1_000_000
MAX_WAYS = 4  # to one device beside the one that told of it last


class Routes:
    """Channel to peer."""

    def __init__(self, own_id: str, peers: Peers, archive: Archive, limit: int = MAX_LEARNED) -> None:
        self.own_id = own_id
        self._peers = peers
        self._archive = archive
        self._limit = limit
        self._learned: OrderedDict[str, str] = OrderedDict()
        self._channels: dict[str, set[str]] = {}
        self._others: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def learn(self, peer_id: str, channel_ids: Iterable[str]) -> None:
        """These channels were in that peer's catalogue."""
        for channel_id in channel_ids:
            self._note_other(channel_id, self._learned.get(channel_id, ""), peer_id)
            self._unlearn(channel_id)
            self._learned[channel_id] = peer_id
            self._channels.setdefault(peer_id, set()).add(channel_id)
        while len(self._learned) > self._limit:
            self._unlearn(next(iter(self._learned)))

    def doubled(self, peer_id: str, channel_ids: Iterable[str]) -> list[str]:
        """Those that another registered device told of, too (quirk 76); a platform's word is no doubt."""
        found = []
        for channel_id in channel_ids:
            teller = self._peers.get(self._learned.get(channel_id, ""))
            if teller is not None and teller.id not in (peer_id, channel_id) and not teller.is_platform:
                found.append(channel_id)
        return found

    def channels_of(self, peer_id: str) -> tuple[str, ...]:
        """Channels last told of by that peer."""
        return tuple(self._channels.get(peer_id, ()))

    def learned_peer(self, channel_id: str) -> Peer | None:
        """The registered peer that told of this channel, as far as we remember."""
        return self._peers.get(self._learned.get(channel_id, ""))

    def direct(self, device_id: str) -> Peer | None:
        """The registered peer that is this device, or that told of it, as far as we remember."""
        return self._peers.get(device_id) or self.learned_peer(device_id)

    def _unlearn(self, channel_id: str) -> None:
        peer_id = self._learned.pop(channel_id, None)
        if peer_id is not None:
            self._channels[peer_id].discard(channel_id)
            if not self._channels[peer_id]:
                del self._channels[peer_id]

    def _note_other(self, channel_id: str, before: str, now: str) -> None:
        """Several lower domains may tell of one device (H.2.1): the others stay ways to it."""
        held = self._others.get(channel_id, ())
        others = tuple(peer_id for peer_id in dict.fromkeys((before, *held)) if peer_id not in ("", now))
        if others:
            self._others[channel_id] = others[:MAX_WAYS]
            self._others.move_to_end(channel_id)
        elif held:
            del self._others[channel_id]
        while len(self._others) > self._limit:
            self._others.popitem(last=False)

    async def peers_of(self, device_id: str, preferred: Sequence[str] = ()) -> list[Peer]:
        """The registered peers that lead to a device: a preferred platform first, then as ``peer_of``.

        Raises:
            NotFound, Unavailable: as ``peer_of``.
        """
        names = [*preferred, *((self._learned[device_id],) if device_id in self._learned else ())]
        names += self._others.get(device_id, ())
        told = frozenset(names[len(preferred) :])
        ways = [self._peers.get(name) for name in dict.fromkeys(names)]
        known = [way for way in ways if way is not None and (way.id in told or way.is_platform)]
        first = self._peers.get(device_id)
        if first is not None:
            return [first]
        return known or [await self.peer_of(device_id)]

    async def way_to(self, device_id: str) -> Peer:
        """The peer to ask or command for whoever is being served, by the path that it prefers.

        Raises:
            NotFound, Unavailable: as ``peer_of``.
        """
        return (await self.peers_of(device_id, journey.current.get().preferred))[0]

    async def peer_of(self, device_id: str) -> Peer:
        """The registered peer to ask.

        Raises:
            NotFound: nobody ever told of this device (40401).
            Unavailable: known, and whoever leads to it is offline (50301).
        """
        direct = self.direct(device_id)
        if direct is not None:
            return direct
        found = await self._archive.find(device_id)
        if found is None:
            raise NotFound("设备不存在", code=40401)
        for peer_id in found.via:
            peer = self._peers.get(peer_id)
            if peer is not None:
                return peer
        raise Unavailable("设备不在线", code=50301)
