"""Who may register from where: bindings of accounts, fingerprints of devices, bans of those who fail.

Implements: GB/T 28181-2022 8.1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog

from tongshi.gateways.signalling.admission.bindings import Bindings
from tongshi.gateways.signalling.admission.door import Door
from tongshi.gateways.signalling.admission.fingerprints import Fingerprints
from tongshi.gateways.signalling.peers import Peer
from tongshi.protocols.sip.message import Remote, Request
from tongshi.resources.admission.model import BanReason

log = structlog.get_logger(__name__)


class Judge(Protocol):
    """What the registrar asks."""

    def is_banned(self, code: str, source: Remote) -> bool:
        """Is this code refused from there for the time being?"""
        ...

    def objection(self, code: str, source: Remote) -> str | None:
        """Why who proved its secret may yet not register from there, in ASCII; None when it may."""
        ...

    def other_addresses(self, code: str, source: Remote) -> tuple[str, ...]:
        """Where else it may speak from."""
        ...

    def failed(self, code: str, source: Remote, reason: BanReason) -> None:
        """It was refused."""
        ...

    def passed(self, peer: Peer, request: Request) -> None:
        """It is registered."""
        ...

    def redirected(self, source: Remote) -> None:
        """It proved its secret and was sent on to another server."""
        ...


class TrustingJudge:
    """No bindings, no fingerprints, no bans."""

    def is_banned(self, code: str, source: Remote) -> bool:
        return False

    def objection(self, code: str, source: Remote) -> str | None:
        return None

    def other_addresses(self, code: str, source: Remote) -> tuple[str, ...]:
        return ()

    def failed(self, code: str, source: Remote, reason: BanReason) -> None:
        return None

    def passed(self, peer: Peer, request: Request) -> None:
        return None

    def redirected(self, source: Remote) -> None:
        return None


class Admission:
    """The judge of a platform: door, bindings and fingerprints."""

    def __init__(self, door: Door, bindings: Bindings, fingerprints: Fingerprints) -> None:
        self._door = door
        self._bindings = bindings
        self._fingerprints = fingerprints

    def is_banned(self, code: str, source: Remote) -> bool:
        return self._door.is_banned(code, source)

    def objection(self, code: str, source: Remote) -> str | None:
        return self._bindings.objection(code, source.host) or self._fingerprints.objection(code)

    def other_addresses(self, code: str, source: Remote) -> tuple[str, ...]:
        return tuple(host for host in self._bindings.hosts(code) if host != source.host)

    def failed(self, code: str, source: Remote, reason: BanReason) -> None:
        self._door.failed(code, source, reason)

    def passed(self, peer: Peer, request: Request) -> None:
        self._door.passed(peer.remote)
        self._fingerprints.saw(
            peer.id, {"userAgent": request.headers.get("User-Agent"), "address": peer.remote.host}
        )

    def redirected(self, source: Remote) -> None:
        self._door.passed(source)

    def told(self, code: str, traits: Mapping[str, str]) -> None:
        """A registered device said more of itself: maker, model, firmware, hardware address."""
        mac = traits.get("mac", "")
        objection = self._bindings.mac_objection(code, mac)
        if objection is None:
            self._fingerprints.saw(code, traits)
        else:
            log.warning("binding_broken", peer_id=code, objection=objection)
            self._fingerprints.block(code, "mac", mac)
