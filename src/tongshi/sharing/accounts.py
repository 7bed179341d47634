"""People: the first administrator by a one-time code, sign-in with a throttle, sessions.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 7.4
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, InvalidRequest, LimitExceeded, Unauthenticated
from tongshi.sharing import store
from tongshi.sharing.model import Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.passwords import Passwords, check_strength
from tongshi.sharing.permissions import DEVICE_ACTIONS, ROLES
from tongshi.storage.engine import Database

IDLE = timedelta(minutes=30)
LIFETIME = timedelta(hours=12)
MAX_SESSIONS_OF_A_USER = 10
MAX_FAILURES = 5
LOCK = timedelta(minutes=15)
# Attempts from one address on whatever names, in one window; the table forgets the oldest address when full.
MAX_FAILURES_OF_AN_ADDRESS = 20
MAX_ADDRESSES = 10_000
# A session is written to at most this often, so that reading costs no write.
_TOUCH = timedelta(minutes=1)
_SETUP = "setup_code_sha256"
_NAME = re.compile(r"[\w.@-]{1,64}\Z")


OnSignOut = Callable[[Connection, str, datetime], None]  # the number of the user, and when


def _nothing_else(conn: Connection, user_id: str, at: datetime) -> None:
    """Nobody else needs to know."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: what the browser gets (once) and who it is."""

    token: str
    csrf_token: str
    subject: Subject
    expires_at: datetime

    def __repr__(self) -> str:
        return f"SignedIn(subject={self.subject!r}, token=***)"


class Accounts:
    """Accounts of people and their sessions."""

    def __init__(self, db: Database, clock: Clock, passwords: Passwords | None = None) -> None:
        self._db = db
        self._clock = clock
        self._passwords = passwords or Passwords()
        self._failures: dict[str, tuple[int, float]] = {}
        # What else ends when a person signs out, in the same transaction; set once when the parts are joined.
        self.on_sign_out: OnSignOut = _nothing_else

    async def prepare(self) -> None:
        """Write the built-in roles and the administrators' grant; run at each start."""
        await self._db.write(_prepare, self._clock.at())

    async def create_setup_code(self) -> str | None:
        """A new one-time code while there is no account, else None. The one before stops working."""
        code = "-".join(secrets.token_hex(2).upper() for _ in range(4))
        is_needed = await self._db.write(_keep_setup_code, _hash(code).hex())
        return code if is_needed else None

    async def redeem(
        self, code: str, name: str, password: str, *, display_name: str = "", address: str = ""
    ) -> Subject:
        """Turn the one-time code into the first administrator.

        Raises:
            Forbidden: wrong code, or there is an account already.
            InvalidRequest: weak password or unusable name.
            LimitExceeded: too many wrong codes from this address.
        """
        self._check_address(address)
        _check_name(name)
        check_strength(password)
        given = _hash(code.strip().upper()).hex()
        if not hmac.compare_digest(await self._db.read(_setup_code), given):
            self._count_failure(address)
            raise Forbidden("初始化码无效")
        password_hash = await self._passwords.hash(password)
        return await self._db.write(
            _redeem, given, name, display_name, password_hash, address, self._clock.at()
        )

    async def create_user(
        self,
        by: Subject,
        name: str,
        password: str,
        roles: Sequence[str],
        *,
        display_name: str = "",
        organisation: str = "",
        address: str = "",
    ) -> Subject:
        """Create an account. Raises InvalidRequest (name, password, role) or Conflict 40902."""
        _check_name(name)
        check_strength(password)
        for role in roles:
            if role not in ROLES:
                raise InvalidRequest(f"角色 {role} 不存在", field="roles")
        password_hash = await self._passwords.hash(password)
        return await self._db.write(
            _create_user,
            by,
            name,
            password_hash,
            tuple(roles),
            display_name,
            organisation,
            address,
            self._clock.at(),
        )

    async def sign_in(self, name: str, password: str, address: str) -> SignedIn:
        """Check a password and open a session.

        Raises:
            Unauthenticated: wrong name or password, or a closed account; the three look the same.
            LimitExceeded: too many failures on this account or from this address.
        """
        self._check_address(address)
        at = self._clock.at()
        user = await self._db.read(_find_user, name)
        if user is not None and user.locked_until is not None and at < user.locked_until:
            wait_s = (user.locked_until - at).total_seconds()
            raise LimitExceeded("登录失败次数过多，账号已暂时锁定", retry_after_s=wait_s)
        is_right = await self._passwords.matches(password, None if user is None else user.password_hash)
        if user is None or not is_right or not user.is_enabled:
            self._count_failure(address)
            await self._db.write(_note_failure, name, address, at)
            raise Unauthenticated("用户名或口令错误")
        self._failures.pop(address, None)
        token, csrf_token = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        session = store.Session(_hash(token), user.id, csrf_token, address, at, at + LIFETIME)
        await self._db.write(_open_session, user, session, at)
        return SignedIn(token, csrf_token, user.subject, session.expires_at)

    async def resume(self, token: str) -> SignedIn | None:
        """The signed-in person behind a browser's token; None when it is unknown, idle or expired."""
        at = self._clock.at()
        found = await self._db.read(store.find_session, _hash(token))
        if found is None:
            return None
        session, user = found
        if at >= session.expires_at or at - session.last_used_at >= IDLE or not user.is_enabled:
            return None
        if at - session.last_used_at >= _TOUCH:
            await self._db.write(store.touch_session, session.token_hash, at)
        return SignedIn(token, session.csrf_token, user.subject, session.expires_at)

    async def sign_out(self, token: str, address: str = "") -> None:
        """End a session; an unknown one is no error."""
        await self._db.write(_close_session, _hash(token), address, self._clock.at(), self.on_sign_out)

    async def change_password(self, by: Subject, user_id: int, password: str, address: str = "") -> None:
        """Replace a password; every session of that user ends."""
        check_strength(password)
        password_hash = await self._passwords.hash(password)
        await self._db.write(_set_password, by, user_id, password_hash, address, self._clock.at())

    def _check_address(self, address: str) -> None:
        count, since = self._failures.get(address, (0, 0.0))
        left_s = since + LOCK.total_seconds() - self._clock.now()
        if left_s <= 0:
            self._failures.pop(address, None)
        elif count >= MAX_FAILURES_OF_AN_ADDRESS:
            raise LimitExceeded("该地址登录失败次数过多，请稍后重试", retry_after_s=left_s)

    def _count_failure(self, address: str) -> None:
        count, since = self._failures.get(address, (0, self._clock.now()))
        if address not in self._failures and len(self._failures) >= MAX_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))
        self._failures[address] = (count + 1, since)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidRequest("用户名须为 1 至 64 位文字、数字或 . @ - _", field="name")


def _prepare(conn: Connection, at: datetime) -> None:
    store.ensure_roles(conn)
    if store.find_grant(conn, "G-ADMIN") is None:
        # Administrators hold their right by a grant like everybody, so that each use names a number.
        grant = Grant(
            "G-ADMIN", SubjectKind.ROLE, "admin", DEVICE_ACTIONS, ScopeKind.ALL, reason="系统初始化"
        )
        store.add_grant(conn, grant, at)


def _setup_code(conn: Connection) -> str:
    return store.get_setting(conn, _SETUP) or ""


def _keep_setup_code(conn: Connection, code_hash: str) -> bool:
    is_needed = store.count_users(conn) == 0
    store.put_setting(conn, _SETUP, code_hash if is_needed else None)
    return is_needed


def _redeem(
    conn: Connection,
    code_hash: str,
    name: str,
    display_name: str,
    password_hash: str,
    address: str,
    at: datetime,
) -> Subject:
    # Taken inside the transaction: of two redemptions at once only one wins.
    if not store.take_setting(conn, _SETUP, code_hash) or store.count_users(conn):
        raise Forbidden("初始化码无效")
    user_id = store.add_user(conn, name, password_hash, ["admin"], at, display_name=display_name)
    subject = _subject(conn, user_id)
    _audit(conn, at, AuditTag.SETUP, Outcome.DONE, subject, address)
    return subject


def _create_user(
    conn: Connection,
    by: Subject,
    name: str,
    password_hash: str,
    roles: tuple[str, ...],
    display_name: str,
    organisation: str,
    address: str,
    at: datetime,
) -> Subject:
    user_id = store.add_user(
        conn, name, password_hash, roles, at, display_name=display_name, organisation=organisation
    )
    _audit(conn, at, AuditTag.USER_CHANGE, Outcome.DONE, by, address, object_id=str(user_id))
    return _subject(conn, user_id)


def _find_user(conn: Connection, name: str) -> store.User | None:
    return store.find_user(conn, name=name) if _NAME.match(name) else None


def _note_failure(conn: Connection, name: str, address: str, at: datetime) -> None:
    user = _find_user(conn, name)
    subject = Subject(SubjectKind.USER, "" if user is None else str(user.id), name[:64])
    if user is not None and store.count_failure(conn, user.id) >= MAX_FAILURES:
        store.reset_failures(conn, user.id, locked_until=at + LOCK)
    _audit(conn, at, AuditTag.SIGN_IN, Outcome.DENIED, subject, address)


def _open_session(conn: Connection, user: store.User, session: store.Session, at: datetime) -> None:
    store.reset_failures(conn, user.id, locked_until=None)
    store.add_session(conn, session, at, MAX_SESSIONS_OF_A_USER)
    _audit(conn, at, AuditTag.SIGN_IN, Outcome.DONE, user.subject, session.address)


def _close_session(
    conn: Connection, token_hash: bytes, address: str, at: datetime, on_sign_out: OnSignOut
) -> None:
    found = store.find_session(conn, token_hash)
    if found is not None:
        store.end_session(conn, token_hash)
        on_sign_out(conn, found[1].subject.id, at)
        _audit(conn, at, AuditTag.SIGN_OUT, Outcome.DONE, found[1].subject, address)


def _set_password(
    conn: Connection, by: Subject, user_id: int, password_hash: str, address: str, at: datetime
) -> None:
    if store.find_user(conn, user_id=user_id) is None:
        raise Conflict("用户不存在")
    store.set_password(conn, user_id, password_hash, at)
    _audit(conn, at, AuditTag.USER_CHANGE, Outcome.DONE, by, address, object_id=str(user_id))


def _subject(conn: Connection, user_id: int) -> Subject:
    user = store.find_user(conn, user_id=user_id)
    assert user is not None, "just written in this transaction"
    return user.subject


def _audit(
    conn: Connection,
    at: datetime,
    event: AuditTag,
    outcome: Outcome,
    subject: Subject,
    address: str,
    object_id: str = "",
) -> None:
    audit.append(
        conn,
        audit.AuditEntry(
            at,
            event,
            outcome,
            subject.kind.value,
            subject.id,
            subject.name,
            object_kind="user" if object_id else "",
            object_id=object_id,
            address=address,
        ),
    )
