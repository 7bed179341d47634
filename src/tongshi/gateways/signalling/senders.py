"""Who sent this: a platform above with whom we are registered, a peer registered with us, or a stranger.

Implements: GB/T 28181-2022 9.1
"""

from __future__ import annotations

from collections.abc import Mapping

from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.upward import Upper


class Senders:
    """Those whom we listen to, each at its address.

    Args:
        uppers: platforms above by their code; filled by whoever builds them.
    """

    def __init__(self, uppers: Mapping[str, Upper], peers: Peers, routes: Routes) -> None:
        self._uppers = uppers
        self._peers = peers
        self._routes = routes

    def find(self, sender_id: str, remote: Remote) -> Peer | Upper | None:
        """The upper or peer of that code, if this came from where it is."""
        upper = self._uppers.get(sender_id) or self._redirected_to(sender_id)
        if upper is not None:
            return upper if upper.is_registered and upper.is_at(remote) else None
        # Some recorders write the channel into From (quirk 78).
        peer = self._peers.get(sender_id) or self._routes.learned_peer(sender_id)
        return peer if peer is not None and peer.is_at(remote) else None

    def _redirected_to(self, sender_id: str) -> Upper | None:
        """The upper that sent us on to the server of that code (9.1.2.3)."""
        return next((upper for upper in self._uppers.values() if upper.sip_id == sender_id), None)

    def is_home(self, host: str) -> bool:
        """Is somebody registered with us from this address, or a platform above us there?"""
        return self._peers.is_home(host) or any(upper.remote.host == host for upper in self._uppers.values())

    def lives_at(self, code: str, remote: Remote) -> bool:
        """Is this code registered from there?"""
        return self.find(code, remote) is not None
