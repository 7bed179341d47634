"""The gate of the REST face: who calls, by a browser's session or by a signed request.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
A signed request is checked in this order: known key, signature, clock, replay, source address. An unknown
key and a wrong signature look the same. The clock may differ by 300 s in both directions; a nonce is kept
660 s, longer than any signature lives.

Browsers keep cookies by host and not by port: two platforms on one host would sign each other's people out,
so the cookie carries the platform's id.
"""

from __future__ import annotations

import hmac
import ipaddress
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
from tongshi.web.ports import Head, Identity
from tongshi.web.signature import WRONG, Signed, read_signed

CSRF_HEADER = "x-csrf-token"
CLOCK_SKEW_MS = 300_000
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(platform_id: str) -> str:
    """How the cookie of a platform's session is called."""
    return f"tongshi_session_{platform_id}"


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
        token = head.cookies.get(cookie_name(self._platform_id), "")
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
                raise Forbidden("缺少或错误的 X-CSRF-Token，应为登录应答中的 csrfToken", code=40302)
        return Identity(found.subject, _key(found.subject), is_cookie=True)

    async def _by_signature(self, head: Head) -> Identity:
        signed = read_signed(head.method, head.path, head.raw_query, head.headers, self._platform_id)
        key = await self._grants.find_key(signed.key_id)
        # An unknown key costs the same work as a known one.
        is_right = signed.is_by("" if key is None else key.secret)
        if key is None or not key.secret:
            raise Unauthenticated(WRONG, code=40102)
        neighbour = key.subject.platform_id
        try:
            await self._admit(head, key, signed, is_right=is_right)
        except (Unauthenticated, Forbidden) as error:
            self._refusals.note(neighbour, error.message)
            raise
        self._refusals.forget(neighbour)
        return Identity(key.subject, _key(key.subject), body_digest=signed.body_digest)

    async def _admit(self, head: Head, key: ApiKey, signed: Signed, *, is_right: bool) -> None:
        if not is_right:
            raise Unauthenticated(WRONG, code=40102)
        skew_ms = signed.skew_ms(self._clock.at())
        if abs(skew_ms) > CLOCK_SKEW_MS:
            raise Unauthenticated("时间相差超过 300 秒", code=40103, details={"skewMs": skew_ms})
        if not await self._grants.use_nonce(key.id, signed.signable.nonce):
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


def session_token(call: Call[Any, Any], platform_id: str) -> str:
    """The token of the browser's session with this platform; empty for a caller without one."""
    try:
        morsel = SimpleCookie(call.headers.get("cookie", "")).get(cookie_name(platform_id))
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _is_within(host: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False


def _key(subject: Subject) -> str:
    return f"{subject.kind.value}:{subject.id}"
