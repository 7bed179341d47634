"""The door of the signalling gateway: what is read at all, and what is answered without being kept.

Implements: GB/T 28181-2022 8.1
Two looks, each before the work it saves. ``admits`` sees a source before anything is parsed: an address
that has used up its bucket is dropped in silence. ``screen`` sees the header lines before a transaction is
made and before any body is read: what a stranger asks is refused without state, so that no number of
strangers fills the tables that registered peers need. A REGISTER without a nonce of ours is challenged
there too.

| sender | REGISTER | OPTIONS | anything else |
|---|---|---|---|
| address with somebody registered | passes | passes | passes; of a code not registered there 403 |
| other address | passes while the bucket lasts | the same | the same, and 403 without state |
| banned address | 403 while the bucket lasts, then silence | the same | the same |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tongshi.clock import Clock
from tongshi.errors import RemoteViolation
from tongshi.gateways.signalling.admission.bans import Bans
from tongshi.gateways.signalling.admission.buckets import Buckets
from tongshi.gateways.signalling.admission.strangers import Strangers
from tongshi.protocols.gb28181.version import OWN_EDITION
from tongshi.protocols.sip.message import Remote, Request
from tongshi.resources.admission.model import BanReason

log = structlog.get_logger(__name__)

Pairs = tuple[tuple[str, str], ...]
Verdict = tuple[int, Pairs]  # status 0 is silence

VERSION = ("X-GB-Ver", OWN_EDITION.wire)
PASSED = 2.0  # tokens given back for a registration: REGISTER twice


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of strangers we listen to.

    Attributes:
        burst, rate_per_s: messages of one unknown address, at once and lasting.
        flood: messages of one address dropped unread that make it a flood and ban it.
        stranger_connections: TCP connections of one address where nobody is registered.
    """

    burst: float = 500.0
    rate_per_s: float = 50.0
    flood: int = 500
    stranger_connections: int = 64


class Door:
    """Fulfils what ``agent_loop`` and ``transport`` ask before they work.

    Args:
        is_home: is somebody registered with us from this address, or is a platform above us there?
        lives_at: is this code registered from there?
        challenge: the answer to a REGISTER that proves nothing yet, not even that our answers arrive.
    """

    def __init__(
        self,
        limits: Limits,
        bans: Bans,
        strangers: Strangers,
        clock: Clock,
        *,
        is_home: Callable[[str], bool],
        lives_at: Callable[[str, Remote], bool],
        challenge: Callable[[Request, Remote], Verdict | None] = lambda request, source: None,
    ) -> None:
        self._limits = limits
        self.bans = bans
        self.strangers = strangers
        self._clock = clock
        self._is_home = is_home
        self._lives_at = lives_at
        self._challenge = challenge
        self._buckets = Buckets(limits.rate_per_s, limits.burst)

    def admits(self, source: Remote) -> bool:
        """May anything of this source be read?"""
        host = source.host
        if self._is_home(host):
            return True
        now = self._clock.now()
        if self._buckets.take(host, now):
            return True
        at = self._clock.at()
        if self.strangers.drop(source) % self._limits.flood == 0 and not self.bans.covers(host, at):
            self.bans.ban(host, BanReason.FLOOD, at)
        return False

    def screen(self, request: Request, source: Remote) -> Verdict | None:
        """The answer that needs no state, or None: go on."""
        host, method = source.host, request.method
        is_home = self._is_home(host)
        if not is_home and self.bans.covers(host, self._clock.at()):
            return self._refuse(request, source)
        if method == "REGISTER":
            is_banned = self.is_banned(_sender(request), source)
            return self._refuse(request, source) if is_banned else self._challenge(request, source)
        if method == "OPTIONS" or (is_home and request.to.tag):
            return None
        if self._lives_at(_sender(request), source):
            return None
        if is_home and not self._buckets.take(host, self._clock.now()):
            self.strangers.drop(source)
            return 0, ()
        return self._refuse(request, source)

    def admits_connection(self, source: Remote, open_already: int) -> bool:
        """May this address open one more TCP connection?"""
        if self._is_home(source.host):
            return True
        if self.bans.covers(source.host, self._clock.at()):
            return False
        return open_already < self._limits.stranger_connections

    def passed(self, source: Remote) -> None:
        """A registration was granted: what it took from the bucket is given back."""
        self._buckets.give(source.host, self._clock.now(), PASSED)

    def is_banned(self, code: str, source: Remote) -> bool:
        """Is this code banned from registering there? Who is registered there is not locked out by others."""
        if self._lives_at(code, source):
            return False
        at = self._clock.at()
        is_address = not self._is_home(source.host) and self.bans.covers(source.host, at)
        return is_address or self.bans.covers(f"{code}@{source.host}", at)

    def failed(self, code: str, source: Remote, reason: BanReason) -> None:
        """Somebody could not prove to be who it says."""
        host = source.host
        subject = f"{code[:64]}@{host}" if self._is_home(host) else host
        self.bans.fail(subject, reason, self._clock.now(), self._clock.at())

    def _refuse(self, request: Request, source: Remote) -> Verdict:
        self.strangers.note(request.method, source, _sender(request))
        if request.method == "ACK":
            return 0, ()
        return 403, (VERSION,) if request.method == "REGISTER" else ()


def _sender(request: Request) -> str:
    try:
        return request.from_.uri.user
    except RemoteViolation:
        return ""
