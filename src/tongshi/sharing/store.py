"""Users, sessions, keys and grants in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from tongshi.errors import Conflict
from tongshi.sharing.model import Grant, Hours, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import (
    api_key,
    api_nonce,
    grant_record,
    role,
    session,
    setting,
    user_account,
    user_role,
)
from tongshi.storage.times import from_ms, to_ms

Row = Any  # a row of a select; its columns are named in storage.schema


@dataclass(frozen=True, slots=True)
class User:
    """An account of a person, with the roles held."""

    id: int
    name: str
    display_name: str
    organisation: str
    password_hash: str
    is_enabled: bool
    failures: int
    locked_until: datetime | None
    roles: frozenset[str]
    permissions: frozenset[Permission]

    @property
    def subject(self) -> Subject:
        return Subject(
            SubjectKind.USER, str(self.id), self.display_name or self.name, self.roles, self.permissions
        )

    def __repr__(self) -> str:
        return f"User(id={self.id}, name={self.name!r}, password_hash=***)"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. The token itself is known to the browser only."""

    token_hash: bytes
    user_id: int
    csrf_token: str
    address: str
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of an application or a neighbour. The secret is kept readable: signing needs it."""

    id: str
    name: str
    secret: str
    permissions: frozenset[Permission]
    platform_id: str = ""
    addresses: tuple[str, ...] = ()
    is_enabled: bool = True
    expires_at: datetime | None = None

    @property
    def subject(self) -> Subject:
        return Subject(
            SubjectKind.API_KEY,
            self.id,
            self.name,
            frozenset(),
            self.permissions,
            self.platform_id,
        )

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r}, name={self.name!r}, secret=***)"


# --- Settings and roles


def get_setting(conn: Connection, name: str) -> str | None:
    """One setting, None when it was never set."""
    value: str | None = conn.execute(select(setting.c.value).where(setting.c.name == name)).scalar()
    return value


def put_setting(conn: Connection, name: str, value: str | None) -> None:
    """Set one setting; None removes it."""
    if value is None:
        conn.execute(delete(setting).where(setting.c.name == name))
    else:
        bulk_upsert(conn, setting, ("name", "value"), [(name, value)])


def take_setting(conn: Connection, name: str, value: str) -> bool:
    """Remove a setting that has this value. Of two callers at once only one is told True."""
    taken = delete(setting).where(setting.c.name == name, setting.c.value == value)
    return conn.execute(taken).rowcount == 1


def ensure_roles(conn: Connection) -> None:
    """Write the built-in roles as this program defines them; roles made by people stay."""
    rows = [(name, shown, _joined(permissions)) for name, (shown, permissions) in ROLES.items()]
    bulk_upsert(conn, role, ("name", "display_name", "permissions"), rows)


# --- Users


def count_users(conn: Connection) -> int:
    """How many accounts there are."""
    return conn.execute(select(func.count()).select_from(user_account)).scalar_one()


def add_user(
    conn: Connection,
    name: str,
    password_hash: str,
    roles: Iterable[str],
    at: datetime,
    *,
    display_name: str = "",
    organisation: str = "",
) -> int:
    """Create an account and return its number. Raises Conflict when the name is taken."""
    if conn.execute(select(user_account.c.id).where(user_account.c.name == name)).scalar() is not None:
        raise Conflict("用户名已存在", code=40902, field="name")
    key = conn.execute(
        insert(user_account).values(
            name=name,
            display_name=display_name,
            organisation=organisation,
            password_hash=password_hash,
            created_at=to_ms(at),
            password_changed_at=to_ms(at),
        )
    ).inserted_primary_key
    assert key is not None, "a single insert names its key"
    rows = [{"user_id": key[0], "role": name} for name in sorted(set(roles))]
    if rows:
        conn.execute(insert(user_role), rows)
    return int(key[0])


def find_user(conn: Connection, *, name: str | None = None, user_id: int | None = None) -> User | None:
    """An account by its name or number, with roles and permissions."""
    wanted = user_account.c.name == name if name is not None else user_account.c.id == user_id
    row = conn.execute(select(user_account).where(wanted)).one_or_none()
    return None if row is None else _user(conn, row)


def list_users(conn: Connection, page_no: int, page_size: int) -> tuple[list[User], int]:
    """One page of accounts in order of number, and how many there are."""
    statement = select(user_account).order_by(user_account.c.id)
    rows = conn.execute(statement.limit(page_size).offset((page_no - 1) * page_size)).all()
    return [_user(conn, row) for row in rows], count_users(conn)


def count_failure(conn: Connection, user_id: int) -> int:
    """Count one failed attempt more and return how many there were in a row."""
    u = user_account.c
    counted = update(user_account).where(u.id == user_id).values(failures=u.failures + 1)
    failures: int = conn.execute(counted.returning(u.failures)).scalar_one()
    return failures


def reset_failures(conn: Connection, user_id: int, locked_until: datetime | None) -> None:
    """Begin counting anew, after a success or with the account locked."""
    values = {"failures": 0, "locked_until_at": None if locked_until is None else to_ms(locked_until)}
    conn.execute(update(user_account).where(user_account.c.id == user_id).values(**values))


def set_password(conn: Connection, user_id: int, password_hash: str, at: datetime) -> None:
    """Replace a password and end the sessions that the old one opened."""
    values = {"password_hash": password_hash, "password_changed_at": to_ms(at), "failures": 0}
    conn.execute(update(user_account).where(user_account.c.id == user_id).values(**values))
    conn.execute(delete(session).where(session.c.user_id == user_id))


def set_enabled(conn: Connection, user_id: int, is_enabled: bool) -> None:
    """Open or close an account; closing ends its sessions."""
    conn.execute(update(user_account).where(user_account.c.id == user_id).values(is_enabled=is_enabled))
    if not is_enabled:
        conn.execute(delete(session).where(session.c.user_id == user_id))


# --- Sessions


def add_session(conn: Connection, new: Session, at: datetime, most: int) -> None:
    """Store a session; the user's oldest ones beyond ``most`` and everybody's expired ones go."""
    s = session.c
    conn.execute(delete(session).where(s.expires_at <= to_ms(at)))
    older = select(s.token_hash).where(s.user_id == new.user_id).order_by(s.created_at.desc())
    surplus = conn.execute(older.offset(most - 1)).scalars().all()
    if surplus:
        conn.execute(delete(session).where(s.token_hash.in_(surplus)))
    conn.execute(
        insert(session).values(
            token_hash=new.token_hash,
            user_id=new.user_id,
            csrf_token=new.csrf_token,
            address=new.address,
            created_at=to_ms(at),
            last_used_at=to_ms(new.last_used_at),
            expires_at=to_ms(new.expires_at),
        )
    )


def find_session(conn: Connection, token_hash: bytes) -> tuple[Session, User] | None:
    """A session with its user, expired or not."""
    row = conn.execute(select(session).where(session.c.token_hash == token_hash)).one_or_none()
    user = None if row is None else find_user(conn, user_id=row.user_id)
    if row is None or user is None:
        return None
    found = Session(
        row.token_hash,
        row.user_id,
        row.csrf_token,
        row.address,
        from_ms(row.last_used_at),
        from_ms(row.expires_at),
    )
    return found, user


def touch_session(conn: Connection, token_hash: bytes, at: datetime) -> None:
    """Note that a session was used."""
    conn.execute(update(session).where(session.c.token_hash == token_hash).values(last_used_at=to_ms(at)))


def end_session(conn: Connection, token_hash: bytes) -> None:
    """Forget a session."""
    conn.execute(delete(session).where(session.c.token_hash == token_hash))


# --- Keys


def put_key(conn: Connection, key: ApiKey, at: datetime) -> None:
    """Create or replace a key."""
    columns = (
        "id",
        "name",
        "secret",
        "platform_id",
        "permissions",
        "addresses",
        "is_enabled",
        "created_at",
        "expires_at",
    )
    row = (
        key.id,
        key.name,
        key.secret,
        key.platform_id,
        _joined(key.permissions),
        ",".join(key.addresses),
        key.is_enabled,
        to_ms(at),
        None if key.expires_at is None else to_ms(key.expires_at),
    )
    bulk_upsert(conn, api_key, columns, [row])


def find_key(conn: Connection, key_id: str) -> ApiKey | None:
    """A key by its id, enabled or not."""
    row = conn.execute(select(api_key).where(api_key.c.id == key_id)).one_or_none()
    if row is None:
        return None
    return ApiKey(
        id=row.id,
        name=row.name,
        secret=row.secret,
        permissions=_permissions(row.permissions),
        platform_id=row.platform_id,
        addresses=tuple(a for a in row.addresses.split(",") if a),
        is_enabled=row.is_enabled,
        expires_at=from_ms(row.expires_at),
    )


def remember_nonce(conn: Connection, key_id: str, nonce: str, at: datetime, keep: timedelta) -> bool:
    """Note a nonce. Returns False when it was used before; expired ones are forgotten on the way."""
    n = api_nonce.c
    conn.execute(delete(api_nonce).where(n.expires_at <= to_ms(at)))
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert
    else:
        from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
    row = upsert(api_nonce).values(key_id=key_id, nonce=nonce, expires_at=to_ms(at + keep))
    return conn.execute(row.on_conflict_do_nothing()).rowcount == 1


# --- Grants


def add_grant(conn: Connection, grant: Grant, at: datetime) -> None:
    """Store a grant. Raises Conflict when the number is taken."""
    if find_grant(conn, grant.number) is not None:
        raise Conflict("授权编号已存在", code=40902)
    conn.execute(
        insert(grant_record).values(
            number=grant.number,
            subject_kind=grant.subject_kind.value,
            subject_id=grant.subject_id,
            actions=_joined(grant.actions),
            scope_kind=grant.scope_kind.value,
            scope_values="/".join(sorted(grant.scope_values)),
            valid_from_at=_ms(grant.valid_from),
            valid_to_at=_ms(grant.valid_to),
            hours=str(grant.hours or ""),
            is_sensitive=grant.is_sensitive,
            reason=grant.reason,
            created_by=grant.created_by,
            created_at=to_ms(at),
        )
    )


def find_grant(conn: Connection, number: str) -> Grant | None:
    """A grant by its number, revoked or not."""
    row = conn.execute(select(grant_record).where(grant_record.c.number == number)).one_or_none()
    return None if row is None else _grant(row)


def grants_of(conn: Connection, subject: Subject) -> list[Grant]:
    """Grants not revoked, of the subject itself, of its roles, and of the platform its key speaks for."""
    g = grant_record.c
    holders = [(subject.kind.value, subject.id)]
    holders += [(SubjectKind.ROLE.value, name) for name in sorted(subject.roles)]
    if subject.platform_id:
        holders.append((SubjectKind.PLATFORM.value, subject.platform_id))
    held = or_(*(and_(g.subject_kind == kind, g.subject_id == key) for kind, key in holders))
    rows = conn.execute(select(grant_record).where(held, g.revoked_at.is_(None)).order_by(g.number))
    return [_grant(row) for row in rows]


def list_grants(conn: Connection, page_no: int, page_size: int) -> tuple[list[Grant], int]:
    """One page of grants, newest first, and how many there are."""
    g = grant_record.c
    total = conn.execute(select(func.count()).select_from(grant_record)).scalar_one()
    statement = select(grant_record).order_by(g.created_at.desc(), g.number.desc())
    rows = conn.execute(statement.limit(page_size).offset((page_no - 1) * page_size))
    return [_grant(row) for row in rows], total


def revoke_grant(conn: Connection, number: str, at: datetime) -> bool:
    """Take a grant back from now on. Returns False when there is no such grant in force."""
    g = grant_record.c
    statement = update(grant_record).where(g.number == number, g.revoked_at.is_(None))
    return conn.execute(statement.values(revoked_at=to_ms(at))).rowcount == 1


def _user(conn: Connection, row: Row) -> User:
    held = conn.execute(
        select(user_role.c.role, role.c.permissions)
        .select_from(user_role.join(role, user_role.c.role == role.c.name))
        .where(user_role.c.user_id == row.id)
    ).all()
    return User(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        organisation=row.organisation,
        password_hash=row.password_hash,
        is_enabled=row.is_enabled,
        failures=row.failures,
        locked_until=from_ms(row.locked_until_at),
        roles=frozenset(r.role for r in held),
        permissions=frozenset(p for r in held for p in _permissions(r.permissions)),
    )


def _grant(row: Row) -> Grant:
    return Grant(
        number=row.number,
        subject_kind=SubjectKind(row.subject_kind),
        subject_id=row.subject_id,
        actions=_permissions(row.actions),
        scope_kind=ScopeKind(row.scope_kind),
        scope_values=frozenset(v for v in row.scope_values.split("/") if v),
        valid_from=from_ms(row.valid_from_at),
        valid_to=from_ms(row.valid_to_at),
        hours=Hours.parse(row.hours) if row.hours else None,
        is_sensitive=row.is_sensitive,
        reason=row.reason,
        created_by=row.created_by,
        created_at=from_ms(row.created_at),
        revoked_at=from_ms(row.revoked_at),
    )


def _joined(permissions: Iterable[Permission]) -> str:
    return "/".join(sorted(p.value for p in permissions))


def _permissions(text: str) -> frozenset[Permission]:
    # A permission that this program does not know was written by a newer one and opens nothing here.
    known = {p.value for p in Permission}
    return frozenset(Permission(value) for value in text.split("/") if value in known)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)
