"""Registration of devices and lower platforms: challenge, check, record, answer.

Implements: GB/T 28181-2022 9.1
Implements: GB/T 28181-2022 9.10
Implements: GB/T 28181-2022 8.1
A first REGISTER is always challenged, known or not, so that the answer does not tell which codes exist. MD5
is offered to everybody without qop (quirk 16), SHA-256 besides it to peers of the 2022 edition. Nothing is
answered 200 before the record holds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from tongshi.clock import Clock
from tongshi.errors import RemoteViolation, TongshiError
from tongshi.gateways.signalling.admission.judgement import Judge, TrustingJudge
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Account, Registrations, StoredRegistration
from tongshi.protocols.gb28181.dates import render_date, render_rfc1123
from tongshi.protocols.gb28181.profile import Profile, Quirk
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import OWN_EDITION, Edition, Feature, parse_version, supports
from tongshi.protocols.sip.address import Transport, bracketed
from tongshi.protocols.sip.digest import (
    Authorization,
    Challenge,
    NonceState,
    NonceStore,
    secret_hash,
    verify,
)
from tongshi.protocols.sip.message import Remote, Request
from tongshi.resources.admission.model import BanReason

log = structlog.get_logger(__name__)

MIN_EXPIRES_S = 3_600  # 9.1.1 d
DEFAULT_EXPIRES_S = 86_400
MAX_EXPIRES_S = 7 * 86_400
NONCE_LIFETIME_S = 300

_VERSION = ("X-GB-Ver", OWN_EDITION.wire)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where peers whose code begins with ``prefix`` are sent on to (9.1.2.3)."""

    prefix: str
    server_id: str
    remote: Remote
    expires_s: int = DEFAULT_EXPIRES_S


@dataclass(frozen=True, slots=True)
class Domain:
    """Who we are as a registrar; the realm is the first ten digits of our code."""

    server_id: str
    realm: str
    min_expires_s: int = MIN_EXPIRES_S
    redirects: tuple[Redirect, ...] = ()


class PeerProfiles(Protocol):
    """How to deal with peers."""

    def effective(self, peer_id: str) -> Profile:
        """As far as is known before this registration."""
        ...

    def registered(self, peer_id: str, request: Request, transport: Transport, username: str) -> Profile:
        """A registration was accepted: what follows from it and from all before."""
        ...


class Registrar:
    """Answers REGISTER.

    Args:
        channels_of: channels that are reached by a peer; they go offline with it.
        on_online: told of a peer that was not registered before, or not at this address.
        on_offline: told of a peer that deregistered.
        profiles: how to deal with each peer, by what it was seen to do.
        judge: who may register from where, and what becomes of those who fail.
        on_again: told of a peer that registered again from where it was; it may have restarted.
    """

    def __init__(
        self,
        domain: Domain,
        peers: Peers,
        record: Registrations,
        clock: Clock,
        *,
        channels_of: Callable[[str], Sequence[str]],
        on_online: Callable[[Peer], None],
        on_offline: Callable[[Peer, str], None],
        profiles: PeerProfiles,
        judge: Judge | None = None,
        on_again: Callable[[Peer], None] = lambda peer: None,
    ) -> None:
        self._profiles = profiles
        self._domain = domain
        self._peers = peers
        self._record = record
        self._clock = clock
        self._channels_of = channels_of
        self._on_online = on_online
        self._on_offline = on_offline
        self._on_again = on_again
        self._nonces = NonceStore(secrets.token_bytes(32), lifetime_s=NONCE_LIFETIME_S)
        self._judge = judge or TrustingJudge()

    async def handle(self, incoming: IncomingRequest) -> None:
        """One REGISTER, answered exactly once."""
        try:
            await self._handle(incoming)
        except RemoteViolation as violation:
            incoming.respond(
                400, headers=(_VERSION, ("Warning", f'399 tongshi "{_ascii(violation.message)}"'))
            )
        except TongshiError as error:
            retry = str(int(error.retry_after_s or 30))
            incoming.respond(503, headers=(_VERSION, ("Retry-After", retry)))

    async def _handle(self, incoming: IncomingRequest) -> None:
        request, now = incoming.request, self._clock.now()
        peer_id = request.from_.uri.user
        if not 0 < len(peer_id) <= MAX_ID_CHARS:
            raise RemoteViolation("no user in From")
        if self._judge.is_banned(peer_id, incoming.remote):
            incoming.respond(403, headers=(_VERSION,))
            return
        challenge = self.challenge(request, incoming.remote)
        if challenge is not None:
            incoming.respond(challenge[0], headers=challenge[1])
            return
        edition = parse_version(request.headers.get("X-GB-Ver") or None)
        credentials = Authorization.parse(request.headers.get("Authorization"))
        audience = _audience(peer_id, incoming.remote)
        account = await self._record.account(peer_id, credentials.username)
        if account is None or not self._is_right(peer_id, credentials, account):
            self._refuse(incoming, peer_id, BanReason.UNKNOWN if account is None else BanReason.DIGEST)
        elif self._nonces.accept(credentials, now, audience) is not NonceState.FRESH:
            incoming.respond(401, headers=self._challenges(edition, audience, is_stale=True))
        elif (objection := self._judge.objection(peer_id, incoming.remote)) is not None:
            self._refuse(incoming, peer_id, BanReason.BINDING, objection)
        elif _expires_of(request) == 0:
            await self._deregister(incoming, peer_id)
        elif (redirect := self._redirect_of(peer_id, edition)) is not None:
            self._send_on(incoming, peer_id, redirect)
        else:
            await self._register(incoming, peer_id, account, edition, credentials.username)

    def _is_right(self, peer_id: str, credentials: Authorization, account: Account) -> bool:
        # The secret decides in either case (quirk 18).
        is_foreign = self._profiles.effective(peer_id).has(Quirk.FOREIGN_REALM)
        realm = credentials.realm if is_foreign else self._domain.realm
        try:
            ha1 = secret_hash(credentials.algorithm, credentials.username, realm, account.secret)
        except TongshiError:
            return False
        return verify(credentials, method="REGISTER", ha1=ha1)

    def challenge(self, request: Request, source: Remote) -> tuple[int, tuple[tuple[str, str], ...]] | None:
        """The 401 for a REGISTER that carries no nonce of ours for this sender at this address; None: go on.

        It needs no state, and nobody's secret is looked up for who may not even receive what we answer.
        """
        try:
            peer_id = request.from_.uri.user
            text = request.headers.get("Authorization")
            nonce = Authorization.parse(text).nonce if text else ""
        except RemoteViolation:
            return None  # answered 400 by whoever handles it
        audience = _audience(peer_id, source)
        if text and self._nonces.is_ours(nonce, audience):
            return None
        edition = parse_version(request.headers.get("X-GB-Ver") or None)
        return 401, self._challenges(edition, audience, is_stale=bool(text))

    def _challenges(self, edition: Edition, audience: str, *, is_stale: bool) -> tuple[tuple[str, str], ...]:
        now = self._clock.now()
        nonce = self._nonces.issue_steady(now, secrets.token_bytes(4), audience)
        basic = Challenge(self._domain.realm, nonce, is_stale=is_stale)
        challenges = [basic]
        if edition >= Edition.GB2022:
            challenges.append(replace(basic, algorithm="SHA-256", qop="auth"))
        return (*(("WWW-Authenticate", challenge.render()) for challenge in challenges), _VERSION)

    def _redirect_of(self, peer_id: str, edition: Edition) -> Redirect | None:
        """Where this peer is sent on to; an edition before 2022 knows no 302 and stays here (Annex I)."""
        if not supports(edition, Feature.REDIRECT):
            return None
        fitting = [one for one in self._domain.redirects if peer_id.startswith(one.prefix)]
        return max(fitting, key=lambda one: len(one.prefix), default=None)

    def _send_on(self, incoming: IncomingRequest, peer_id: str, redirect: Redirect) -> None:
        """302 after the digest was right, so that a stranger learns nothing of our servers (9.1.2.3 d)."""
        remote = redirect.remote
        transport = f";transport={remote.transport}" if remote.is_reliable else ""
        target = f"<sip:{redirect.server_id}@{bracketed(remote.host)}:{remote.port}{transport}>"
        log.info("registration_redirected", peer_id=peer_id, server_id=redirect.server_id)
        self._judge.redirected(incoming.remote)
        incoming.respond(302, headers=(("Contact", target), ("Expires", str(redirect.expires_s)), _VERSION))

    def _refuse(
        self, incoming: IncomingRequest, peer_id: str, reason: BanReason, objection: str = ""
    ) -> None:
        """403, with a reason that its owner can read when it is not about the secret."""
        self._judge.failed(peer_id, incoming.remote, reason)
        log.warning(
            "registration_refused",
            peer_id=peer_id,
            source=str(incoming.remote),
            reason=reason.value,
            objection=objection,
        )
        warning = (("Warning", f'399 tongshi "{objection}"'),) if objection else ()
        incoming.respond(403, headers=(_VERSION, *warning))

    async def _register(
        self, incoming: IncomingRequest, peer_id: str, account: Account, edition: Edition, username: str
    ) -> None:
        request, now, at = incoming.request, self._clock.now(), self._clock.at()
        known = self._peers.get(peer_id)
        if known is None and self._peers.is_full:
            incoming.respond(503, headers=(_VERSION, ("Retry-After", "300")))
            return
        asked = _expires_of(request)
        expires_s = min(max(asked, self._domain.min_expires_s), MAX_EXPIRES_S)
        remote = incoming.remote
        contact = request.contact
        await self._record.put(
            StoredRegistration(
                peer_id=peer_id,
                host=remote.host,
                port=remote.port,
                transport=remote.transport,
                contact=str(contact.uri) if contact is not None else "",
                call_id=request.call_id,
                user_agent=request.headers.get("User-Agent")[:128],
                edition=edition.wire,
                registered_at=at,
                expires_at=at + timedelta(seconds=expires_s),
                last_seen_at=at,
                is_platform=account.is_platform,
            ),
            is_refresh=known is not None,
        )
        profile = self._profiles.registered(peer_id, request, remote.transport, username)
        before = self._peers.get(peer_id)  # again: another registration may have been faster
        sn = before.sn if before is not None else 0
        peer = Peer(peer_id, remote, profile, now + expires_s, now, account.is_platform, sn)
        peer.addresses = self._judge.other_addresses(peer_id, remote)
        self._peers.put(peer)
        self._judge.passed(peer, request)
        bound = f"<{contact.uri}>" if contact is not None else f"<sip:{peer_id}@{remote.host}:{remote.port}>"
        incoming.respond(
            200,
            headers=(
                ("Contact", f"{bound};expires={expires_s}"),
                ("Expires", str(expires_s)),
                *_date(at, profile),
                _VERSION,
            ),
        )
        if before is None or before.remote != remote:
            self._on_online(peer)
        else:
            self._on_again(peer)

    async def _deregister(self, incoming: IncomingRequest, peer_id: str) -> None:
        peer = self._peers.remove(peer_id)
        await self._record.remove(peer_id, self._channels_of(peer_id), self._clock.at(), "deregistered")
        incoming.respond(200, headers=(("Expires", "0"), ("Date", render_date(self._clock.at())), _VERSION))
        if peer is not None:
            self._on_offline(peer, "deregistered")


def _audience(peer_id: str, source: Remote) -> str:
    """Whom a nonce is for: a replay from elsewhere, or for another code, is worth nothing."""
    return f"{peer_id[:64]} {source.host}"


def _expires_of(request: Request) -> int:
    """The lifetime asked for, or the default (9.1.1 d)."""
    return DEFAULT_EXPIRES_S if request.expires is None else min(request.expires, MAX_EXPIRES_S)


def _date(at: datetime, profile: Profile) -> tuple[tuple[str, str], ...]:
    """The time, in the form that the peer can take; none for one whose clock it would break (quirk 22)."""
    if profile.has(Quirk.NO_DATE_HEADER):
        return ()
    return (("Date", render_rfc1123(at) if profile.has(Quirk.RFC1123_DATE) else render_date(at)),)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii").replace('"', "'")[:120]
