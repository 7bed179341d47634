"""Sign-in, sign-out, who am I, and the one-time set-up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, Unauthenticated
from tongshi.sharing.accounts import Accounts, SignedIn
from tongshi.sharing.gate import cookie_name, session_token, subject_of
from tongshi.sharing.model import SubjectKind
from tongshi.web.operations import (
    MAX_PUBLIC_BODY_BYTES,
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Open,
    Operation,
    Quota,
    Reply,
    Request,
)

_Password = Annotated[str, Meta(min_length=1, max_length=256)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class SignIn(Request, frozen=True):
    """Name and password."""

    user: _Name
    password: _Password


class SetUp(Request, frozen=True):
    """The code printed at first start, and the first administrator."""

    code: Annotated[str, Meta(min_length=1, max_length=64)]
    user: _Name
    password: _Password


class SessionInfo(Answer, frozen=True):
    """Who is signed in. ``csrfToken`` goes into X-CSRF-Token of every call that is not a GET."""

    user: str
    display_name: str
    roles: list[str]
    permissions: list[str]
    csrf_token: str
    expires_at: datetime | None = None


class Created(Answer, frozen=True):
    """The account that was made."""

    user: str


def operations(
    accounts: Accounts, clock: Clock, platform_id: str, *, is_cookie_secure: bool
) -> list[AnyOperation]:
    """The operations of sign-in.

    Args:
        platform_id: 20-digit id of the platform that people sign in to; its cookie carries it.
        is_cookie_secure: whether browsers reach us by TLS, so that the cookie may insist on it.
    """

    def cookie(value: str, max_age_s: int) -> str:
        secure = "; Secure" if is_cookie_secure else ""
        name = cookie_name(platform_id)
        return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"

    async def sign_in(call: Call[SignIn, Nothing]) -> Reply[SessionInfo]:
        found = await accounts.sign_in(call.body.user, call.body.password, call.client_host)
        lifetime_s = int((found.expires_at - clock.at()).total_seconds())
        return Reply(_info(found), cookies=[cookie(found.token, lifetime_s)])

    async def sign_out(call: Call[Nothing, Nothing]) -> Reply[Nothing]:
        token = session_token(call, platform_id)
        if token:
            await accounts.sign_out(token, call.client_host)
        return Reply(Nothing(), cookies=[cookie("", 0)])

    async def who_am_i(call: Call[Nothing, Nothing]) -> SessionInfo:
        subject = subject_of(call)
        if subject.kind is SubjectKind.USER:
            found = await accounts.resume(session_token(call, platform_id))
            if found is None:
                raise Unauthenticated("登录已过期，请重新登录")
            return _info(found)
        permissions = sorted(p.value for p in subject.permissions)
        return SessionInfo(subject.id, subject.name, [], permissions, "")

    async def set_up(call: Call[SetUp, Nothing]) -> Reply[Created]:
        body = call.body
        subject = await accounts.redeem(body.code, body.user, body.password, address=call.client_host)
        return Reply(Created(subject.name), status=201)

    return [
        Operation(
            name="signIn",
            method="POST",
            path="/api/v1/session",
            summary="登录",
            permission=Open.PUBLIC,
            quota=Quota.PUBLIC,
            audit=AuditTag.SIGN_IN,
            body=SignIn,
            query=Nothing,
            response=SessionInfo,
            handler=sign_in,
            refusals=(Unauthenticated,),
            is_audited_within=True,
            max_body_bytes=MAX_PUBLIC_BODY_BYTES,
        ),
        Operation(
            name="signOut",
            method="DELETE",
            path="/api/v1/session",
            summary="退出登录",
            permission=Open.SIGNED_IN,
            quota=Quota.ADMIN,
            audit=AuditTag.SIGN_OUT,
            body=Nothing,
            query=Nothing,
            response=Nothing,
            handler=sign_out,
            is_audited_within=True,
        ),
        Operation(
            name="whoAmI",
            method="GET",
            path="/api/v1/session",
            summary="当前登录信息",
            permission=Open.SIGNED_IN,
            quota=Quota.QUERY,
            audit=AuditTag.SESSION_QUERY,
            body=Nothing,
            query=Nothing,
            response=SessionInfo,
            handler=who_am_i,
        ),
        Operation(
            name="setUp",
            method="POST",
            path="/api/v1/setup",
            summary="用一次性初始化码建立首个管理员",
            permission=Open.PUBLIC,
            quota=Quota.PUBLIC,
            audit=AuditTag.SETUP,
            body=SetUp,
            query=Nothing,
            response=Created,
            handler=set_up,
            statuses=(201,),
            refusals=(Forbidden, Conflict),
            is_audited_within=True,
            max_body_bytes=MAX_PUBLIC_BODY_BYTES,
        ),
    ]


def _info(found: SignedIn) -> SessionInfo:
    subject = found.subject
    return SessionInfo(
        user=subject.name,
        display_name=subject.name,
        roles=sorted(subject.roles),
        permissions=sorted(p.value for p in subject.permissions),
        csrf_token=found.csrf_token,
        expires_at=found.expires_at,
    )
