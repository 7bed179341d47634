"""Digest authentication, both sides: challenge, answer, verification, nonces that cost no memory.

Implements: GB/T 28181-2022 8.1
RFC 3261 22, RFC 2617, RFC 7616 (SHA-256) and, with the same formula, SM3. A nonce is issue time, random
bytes and a truncated HMAC of both, so that a flood of unauthenticated requests fills no table; only a nonce
that was used with the right password is remembered, until it expires. Forgetting one early raises the floor
below which all are stale.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum

from tongshi.errors import RemoteViolation, Unsupported
from tongshi.protocols.sip.message import encode_text

_HASHES = {"md5": "md5", "sha-256": "sha256", "sm3": "sm3"}
_STRENGTH = ("md5", "sm3", "sha-256")
_PAIR = re.compile(r'[ \t]*([A-Za-z0-9_.-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))[ \t]*(?:,|\Z)')
_SCHEME = re.compile(r"[ \t]*Digest[ \t]+", re.IGNORECASE)
_HEX_COUNT = re.compile(r"[0-9A-Fa-f]{8}\Z", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
STEADY_S = 5


@dataclass(frozen=True, slots=True)
class Challenge:
    """WWW-Authenticate. ``qop`` is empty or the offered list as it stands."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: str = ""
    opaque: str = ""
    is_stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge:
        """Read one challenge. Raises RemoteViolation."""
        pairs = _pairs(text)
        if "nonce" not in pairs:
            raise RemoteViolation("challenge without nonce")
        return cls(
            pairs.get("realm", ""),
            pairs["nonce"],
            pairs.get("algorithm") or "MD5",
            pairs.get("qop", ""),
            pairs.get("opaque", ""),
            pairs.get("stale", "").lower() == "true",
        )

    def render(self) -> str:
        """The header value. The algorithm is always named: some devices fail without it (quirk 16)."""
        text = f"Digest realm={_quote(self.realm)}, nonce={_quote(self.nonce)}"
        if self.qop:
            text += f", qop={_quote(self.qop)}"
        if self.opaque:
            text += f", opaque={_quote(self.opaque)}"
        return text + f", algorithm={self.algorithm}" + (", stale=true" if self.is_stale else "")


@dataclass(frozen=True, slots=True)
class Authorization:
    """Authorization. ``qop`` is "" or "auth"; ``nc`` eight hex digits, "" without qop."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Authorization:
        """Read the credentials. Raises RemoteViolation when a necessary part is missing or malformed."""
        pairs = _pairs(text)
        missing = [name for name in ("username", "realm", "nonce", "uri", "response") if name not in pairs]
        if missing:
            raise RemoteViolation(f"credentials without {missing[0]}")
        qop = pairs.get("qop", "").lower()
        nc = pairs.get("nc", "")
        if qop and not (qop == "auth" and _HEX_COUNT.match(nc) and pairs.get("cnonce")):
            raise RemoteViolation("malformed qop in credentials")
        return cls(
            username=pairs["username"],
            realm=pairs["realm"],
            nonce=pairs["nonce"],
            uri=pairs["uri"],
            response=pairs["response"],
            algorithm=pairs.get("algorithm") or "MD5",
            qop=qop,
            nc=nc if qop else "",
            cnonce=pairs.get("cnonce", ""),
            opaque=pairs.get("opaque", ""),
        )

    def render(self) -> str:
        """The header value."""
        text = (
            f"Digest username={_quote(self.username)}, realm={_quote(self.realm)}, "
            f"nonce={_quote(self.nonce)}, uri={_quote(self.uri)}, response={_quote(self.response)}, "
            f"algorithm={self.algorithm}"
        )
        if self.qop:
            text += f", qop={self.qop}, nc={self.nc}, cnonce={_quote(self.cnonce)}"
        return text + (f", opaque={_quote(self.opaque)}" if self.opaque else "")


def answer(
    challenge: Challenge, *, username: str, password: str, method: str, uri: str, cnonce: str, count: int = 1
) -> Authorization:
    """Answer a challenge.

    Args:
        challenge: what the server sent; its realm is used, never our own idea of it.
        uri: Request-URI of the request that carries the answer.
        cnonce: fresh random text, used only with qop.
        count: how often this nonce was used, from 1.

    Raises:
        Unsupported: an algorithm other than MD5, SHA-256, SM3, or a qop list without ``auth``.
    """
    offered = [part.strip(" \t").lower() for part in challenge.qop.split(",") if part.strip(" \t")]
    if offered and "auth" not in offered:
        raise Unsupported("digest qop without auth")
    qop, nc = ("auth", f"{count:08x}") if offered else ("", "")
    ha1 = secret_hash(challenge.algorithm, username, challenge.realm, password)
    unsigned = Authorization(
        username,
        challenge.realm,
        challenge.nonce,
        uri,
        response="",
        algorithm=challenge.algorithm,
        qop=qop,
        nc=nc,
        cnonce=cnonce if qop else "",
        opaque=challenge.opaque,
    )
    return replace(unsigned, response=_response(unsigned, ha1, method))


def strongest(challenges: list[Challenge]) -> Challenge | None:
    """The challenge with the best algorithm we know; None when we know none."""
    known = [challenge for challenge in challenges if challenge.algorithm.lower() in _STRENGTH]
    return max(known, key=lambda challenge: _STRENGTH.index(challenge.algorithm.lower()), default=None)


def secret_hash(algorithm: str, username: str, realm: str, password: str) -> str:
    """HA1, which may be stored instead of the password. Raises Unsupported."""
    return _hash(algorithm, username, realm, password)


def verify(credentials: Authorization, *, method: str, ha1: str) -> bool:
    """Do the credentials prove knowledge of ``ha1``? Constant time.

    The URI is the one the credentials name, whatever the request line says (quirk 17).
    """
    try:
        expected = _response(credentials, ha1, method)
    except Unsupported:
        return False
    return hmac.compare_digest(expected.encode(), encode_text(credentials.response.lower()))


class NonceState(Enum):
    """What a nonce is worth."""

    FRESH = "fresh"
    STALE = "stale"
    REPLAYED = "replayed"
    UNKNOWN = "unknown"


class NonceStore:
    """Issues nonces and accepts each use of one once.

    Args:
        secret: key of this process, at least 16 random bytes.
        lifetime_s: how long a nonce is good.
        max_used: bound of remembered used nonces, against a registered peer that floods.
    """

    def __init__(self, secret: bytes, *, lifetime_s: int = 300, max_used: int = 200_000) -> None:
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._max_used = max_used
        self._used: OrderedDict[str, int] = OrderedDict()
        self._floor = -1

    def issue(self, now: float, random: bytes, audience: str = "") -> str:
        """A nonce of 32 hex digits from at least four random bytes, good for ``audience`` only."""
        head = (int(now) & 0xFFFFFFFF).to_bytes(4, "big") + random[:4]
        return (head + self._seal(head, audience)).hex()

    def issue_steady(self, now: float, random: bytes, audience: str, steady_s: int = STEADY_S) -> str:
        """A nonce that stays the same for a short time, unless it was used meanwhile (quirk 20)."""
        slot = int(now) // steady_s * steady_s
        mark = hmac.digest(self._secret, f"steady {slot} {audience}".encode(), "sha256")
        nonce = self.issue(slot, mark, audience)
        return nonce if nonce not in self._used else self.issue(now, random, audience)

    def is_ours(self, nonce: str, audience: str = "") -> bool:
        """Did we issue this nonce for that audience, however long ago?"""
        raw = bytes.fromhex(nonce) if _NONCE.match(nonce) else b""
        return bool(raw) and hmac.compare_digest(raw[8:], self._seal(raw[:8], audience))

    def accept(self, credentials: Authorization, now: float, audience: str = "") -> NonceState:
        """Judge and record one use. Call it only after ``verify`` said yes.

        Without qop a nonce is good once; with qop each count once and rising.
        """
        state, issued = self._age(credentials.nonce, now, audience)
        if state is not NonceState.FRESH:
            return state
        count = int(credentials.nc, 16) if credentials.qop else 1
        if count <= self._used.get(credentials.nonce, 0):
            return NonceState.REPLAYED
        self._used[credentials.nonce] = count
        self._forget(now)
        return NonceState.STALE if issued <= self._floor else NonceState.FRESH

    def __len__(self) -> int:
        return len(self._used)

    def _age(self, nonce: str, now: float, audience: str) -> tuple[NonceState, int]:
        if not self.is_ours(nonce, audience):
            return NonceState.UNKNOWN, 0
        raw = bytes.fromhex(nonce)
        issued = int.from_bytes(raw[:4], "big")
        age_s = (int(now) - issued) & 0xFFFFFFFF
        is_stale = age_s > self._lifetime_s or issued <= self._floor
        return (NonceState.STALE if is_stale else NonceState.FRESH), issued

    def _forget(self, now: float) -> None:
        """Drop what is too old, and beyond the bound the oldest use together with all its contemporaries."""
        while self._used:
            oldest = next(iter(self._used))
            issued = int(oldest[:8], 16)
            if (int(now) - issued) & 0xFFFFFFFF <= self._lifetime_s:
                if len(self._used) <= self._max_used:
                    return
                self._floor = max(self._floor, issued)
            del self._used[oldest]

    def _seal(self, head: bytes, audience: str) -> bytes:
        return hmac.digest(self._secret, head + audience.encode(), "sha256")[:8]


def _response(credentials: Authorization, ha1: str, method: str) -> str:
    algorithm = credentials.algorithm
    ha2 = _hash(algorithm, method, credentials.uri)
    if not credentials.qop:
        return _hash(algorithm, ha1, credentials.nonce, ha2)
    return _hash(algorithm, ha1, credentials.nonce, credentials.nc, credentials.cnonce, credentials.qop, ha2)


def _hash(algorithm: str, *parts: str) -> str:
    name = _HASHES.get(algorithm.lower())
    if name is None:
        raise Unsupported(f"digest algorithm {algorithm[:32]}")
    return hashlib.new(name, encode_text(":".join(parts)), usedforsecurity=False).hexdigest()


def _pairs(text: str) -> dict[str, str]:
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise RemoteViolation("not a digest header")
    pairs: dict[str, str] = {}
    at = scheme.end()
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None or match.end() == at:
            raise RemoteViolation("malformed digest header")
        quoted = match[2]
        value = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        pairs.setdefault(match[1].lower(), value)
        at = match.end()
    return pairs


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
