"""The gate of the REST face: who calls, by a browser's session or by a signed request.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
A signed request is checked in this order: known key, signature, clock, replay, source address. An unknown
key and a wrong signature look the same. The clock may differ by 300 s in both directions; a nonce is kept
660 s, longer than any signature lives.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from enum import StrEnum
from http.cookies import CookieError, SimpleCookie
from typing import Any

from tongshi.clock import Clock
from tongshi.errors import Forbidden, Unauthenticated
from tongshi.sharing.accounts import Accounts
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Context, Subject
from tongshi.sharing.permissions import Permission
from tongshi.sharing.refusals import Refusals
from tongshi.sharing.store import ApiKey
from tongshi.web.operations import Call
from tongshi.web.ports import BodyDigest, Head, Identity
from tongshi.web.signature import ALGORITHMS, Signable, sign

COOKIE = "tongshi_session"
CSRF_HEADER = "x-csrf-token"
CLOCK_SKEW_MS = 300_000
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}\Z")
_TIMESTAMP = re.compile(r"[0-9]{10,16}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_WRONG = "签名不正确"


class SharingGate:
    """Recognises people and keys; ``web.ports.Gate``."""

    def __init__(
        self,
        accounts: Accounts,
        grants: Grants,
        clock: Clock,
        platform_id: str,
        refusals: Refusals | None = None,
    ) -> None:
        self._refusals = refusals or Refusals()
        self._accounts = accounts
        self._grants = grants
        self._clock = clock
        self._platform_id = platform_id

    async def authenticate(self, head: Head) -> Identity | None:
        """See ``web.ports.Gate``. A signature wins over a cookie."""
        if "x-tongshi-key" in head.headers:
            return await self._by_signature(head)
        token = head.cookies.get(COOKIE, "")
        return await self._by_session(head, token) if token else None

    async def authorise(self, identity: Identity, permission: StrEnum, head: Head) -> None:
        """See ``web.ports.Gate``."""
        subject = identity.caller
        assert isinstance(subject, Subject)
        assert isinstance(permission, Permission)
        if not subject.may(permission):
            raise Forbidden("未授予该接口的权限", details={"permission": permission.value})

    async def _by_session(self, head: Head, token: str) -> Identity:
        found = await self._accounts.resume(token)
        if found is None:
            raise Unauthenticated("登录已过期，请重新登录")
        if head.method not in _SAFE:
            given = head.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), found.csrf_token.encode()):
                raise Forbidden("缺少或错误的 X-CSRF-Token", code=40302)
        return Identity(found.subject, _key(found.subject), is_cookie=True)

    async def _by_signature(self, head: Head) -> Identity:
        headers = head.headers
        key_id, nonce = headers["x-tongshi-key"][:64], headers.get("x-tongshi-nonce", "")
        timestamp_ms = headers.get("x-tongshi-timestamp", "")
        digest_name, digest = _split(headers.get("x-tongshi-digest", ""), "X-Tongshi-Digest")
        sign_name, _ = _split(headers.get("x-tongshi-sign", ""), "X-Tongshi-Sign")
        if not _NONCE.match(nonce) or not _TIMESTAMP.match(timestamp_ms):
            raise Unauthenticated("缺少签名头，或格式不对", code=40102)
        key = await self._grants.find_key(key_id)
        signable = Signable(
            head.method,
            head.path,
            head.raw_query,
            headers["x-tongshi-digest"],
            timestamp_ms,
            nonce,
            self._platform_id,
            headers.get("x-tongshi-onbehalf", ""),
        )
        # An unknown key costs the same work as a known one.
        wanted = sign(signable, "" if key is None else key.secret, sign_name)
        is_right = hmac.compare_digest(wanted.encode(), headers["x-tongshi-sign"].encode())
        if key is None or not key.secret:
            raise Unauthenticated(_WRONG, code=40102)
        neighbour = key.subject.platform_id
        try:
            await self._admit(head, key, nonce, timestamp_ms, is_right=is_right)
        except (Unauthenticated, Forbidden) as error:
            self._refusals.note(neighbour, error.message)
            raise
        self._refusals.forget(neighbour)
        return Identity(key.subject, _key(key.subject), body_digest=BodyDigest(digest_name, digest))

    async def _admit(self, head: Head, key: ApiKey, nonce: str, timestamp_ms: str, *, is_right: bool) -> None:
        if not is_right:
            raise Unauthenticated(_WRONG, code=40102)
        skew_ms = int(timestamp_ms) - int(self._clock.at().timestamp() * 1000)
        if abs(skew_ms) > CLOCK_SKEW_MS:
            raise Unauthenticated("时间相差超过 300 秒", code=40103, details={"skewMs": skew_ms})
        if not await self._grants.use_nonce(key.id, nonce):
            raise Unauthenticated("该请求已经用过", code=40104)
        if key.addresses and not _is_within(head.client_host, key.addresses):
            raise Forbidden("该密钥不允许从此地址使用", code=40302)


def subject_of(call: Call[Any, Any]) -> Subject:
    """The caller of a guarded operation."""
    assert isinstance(call.caller, Subject), "a public operation has no subject"
    return call.caller


def context_of(call: Call[Any, Any]) -> Context:
    """The circumstances of a call, for a decision."""
    on_behalf = call.headers.get("x-tongshi-onbehalf", "")[:256]
    return Context(call.at, call.client_host, call.request_id, on_behalf)


def session_token(call: Call[Any, Any]) -> str:
    """The browser's session token; empty for a caller without one."""
    try:
        morsel = SimpleCookie(call.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _split(value: str, name: str) -> tuple[str, bytes]:
    algorithm, _, digits = value.partition("=")
    if algorithm not in ALGORITHMS or not _HEX.match(digits):
        raise Unauthenticated(f"{name} 应为 sm3=… 或 sha256=…（64 位小写十六进制）", code=40102)
    return algorithm, bytes.fromhex(digits)


def _is_within(host: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False


def _key(subject: Subject) -> str:
    return f"{subject.kind.value}:{subject.id}"
