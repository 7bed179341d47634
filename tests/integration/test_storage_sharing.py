"""Sign-in, sessions, keys, grants and decisions on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from argon2 import PasswordHasher

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import ManualClock
from tongshi.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TongshiError,
    Unauthenticated,
)
from tongshi.sharing import accounts, store
from tongshi.sharing.accounts import Accounts, SignedIn
from tongshi.sharing.decision import Access
from tongshi.sharing.grants import NONCE_KEPT, Grants
from tongshi.sharing.model import Context, Grant, Hours, Scope, ScopeKind, Subject, SubjectKind, Target
from tongshi.sharing.passwords import Passwords
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage import changes
from tongshi.storage.engine import Database

PASSWORD = "Tongshi-2026"
HERE, CAMERA = "192.0.2.1", Target("31010400001320000001", "310104", "31010400002000000001")


class House:
    """Everything of sharing over one database, with a clock moved by hand and cheap hashes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock()
        cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.accounts = Accounts(database, self.clock, cheap)
        self.grants = Grants(database, self.clock)
        self.access = Access(database)

    @property
    def context(self) -> Context:
        return Context(self.clock.at(), HERE, "request-1")

    async def admin(self) -> Subject:
        code = await self.accounts.create_setup_code()
        assert code is not None
        return await self.accounts.redeem(code, "admin", PASSWORD, display_name="管理员", address=HERE)

    async def viewer(self) -> Subject:
        return await self.accounts.create_user(await self.admin(), "viewer", PASSWORD, ["viewer"])

    async def give(self, to: Subject, **fields: object) -> Grant:
        values: dict[str, object] = {
            "number": "",
            "subject_kind": to.kind,
            "subject_id": to.id,
            "actions": frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_LIVE}),
            "scope_kind": ScopeKind.CIVIL_CODE,
            "scope_values": frozenset({"310104"}),
        }
        return await self.grants.give(to, Grant(**{**values, **fields}), self.context)  # type: ignore[arg-type]


@pytest.fixture
async def house(database: Database) -> House:
    made = House(database)
    await made.accounts.prepare()
    return made


# --- First start and sign-in


async def test_the_setup_code_makes_one_administrator_once(house: House) -> None:
    code = await house.accounts.create_setup_code()
    assert code is not None
    results = await asyncio.gather(
        house.accounts.redeem(code, "one", PASSWORD),
        house.accounts.redeem(code, "two", PASSWORD),
        return_exceptions=True,
    )
    assert sorted(type(r).__name__ for r in results) == ["Forbidden", "Subject"]
    assert await house.accounts.create_setup_code() is None
    with pytest.raises(Forbidden):
        await house.accounts.redeem(code, "three", PASSWORD)


async def test_a_second_start_invalidates_the_first_code(house: House) -> None:
    first = await house.accounts.create_setup_code()
    second = await house.accounts.create_setup_code()
    assert first is not None
    assert second is not None
    with pytest.raises(Forbidden):
        await house.accounts.redeem(first, "admin", PASSWORD)
    subject = await house.accounts.redeem(second.lower(), "admin", PASSWORD)
    assert subject.permissions == frozenset(Permission)


async def test_guessing_setup_codes_is_stopped(house: House) -> None:
    await house.accounts.create_setup_code()
    for _ in range(accounts.MAX_FAILURES_OF_AN_ADDRESS):
        with pytest.raises(Forbidden):
            await house.accounts.redeem("0000", "admin", PASSWORD, address=HERE)
    with pytest.raises(LimitExceeded):
        await house.accounts.redeem("0000", "admin", PASSWORD, address=HERE)


async def test_signing_in_opens_a_session_that_the_token_resumes(house: House) -> None:
    await house.admin()
    signed_in = await house.accounts.sign_in("admin", PASSWORD, HERE)
    resumed = await house.accounts.resume(signed_in.token)
    assert resumed is not None
    assert resumed.subject == signed_in.subject
    assert resumed.csrf_token == signed_in.csrf_token
    assert signed_in.subject.roles == {"admin"}
    await house.accounts.sign_out(signed_in.token)
    assert await house.accounts.resume(signed_in.token) is None


async def test_the_token_is_not_in_the_database_and_secrets_do_not_print(house: House) -> None:
    await house.admin()
    signed_in = await house.accounts.sign_in("admin", PASSWORD, HERE)
    found = await house.database.read(store.find_session, accounts._hash(signed_in.token))
    assert found is not None
    user = found[1]
    for shown in (repr(signed_in), repr(user), repr(found[0])):
        assert signed_in.token not in shown
        assert PASSWORD not in shown
        assert "argon2" not in shown


async def test_a_session_ends_when_idle_and_at_the_latest_after_its_lifetime(house: House) -> None:
    await house.admin()
    signed_in = await house.accounts.sign_in("admin", PASSWORD, HERE)
    for _ in range(23):
        house.clock.advance(29 * 60)
        assert (await house.accounts.resume(signed_in.token) is None) == (
            house.clock.at() >= signed_in.expires_at
        )
    second = await house.accounts.sign_in("admin", PASSWORD, HERE)
    house.clock.advance(31 * 60)
    assert await house.accounts.resume(second.token) is None


async def test_only_so_many_sessions_of_a_user_are_kept(house: House) -> None:
    await house.admin()
    opened: list[SignedIn] = []
    for _ in range(accounts.MAX_SESSIONS_OF_A_USER + 2):
        house.clock.advance(1)
        opened.append(await house.accounts.sign_in("admin", PASSWORD, HERE))
    alive = [await house.accounts.resume(s.token) is not None for s in opened]
    assert alive == [False, False] + [True] * accounts.MAX_SESSIONS_OF_A_USER


async def test_wrong_name_and_wrong_password_look_the_same_and_are_audited(house: House) -> None:
    await house.admin()
    texts = []
    for name, password in (("admin", "wrong"), ("nobody", PASSWORD), ("a\0b", "x"), ("", "")):
        with pytest.raises(Unauthenticated) as refused:
            await house.accounts.sign_in(name, password, HERE)
        texts.append((refused.value.message, refused.value.code))
    assert len(set(texts)) == 1
    records, total = await house.database.read(audit.page, 1, 10)
    assert [(r.entry.event, r.entry.outcome) for r in records[:4]] == [(AuditTag.SIGN_IN, Outcome.DENIED)] * 4
    assert total == 5


async def test_an_account_locks_after_failures_and_opens_again(house: House) -> None:
    await house.admin()
    for _ in range(accounts.MAX_FAILURES):
        with pytest.raises(Unauthenticated):
            await house.accounts.sign_in("admin", "wrong", HERE)
    with pytest.raises(LimitExceeded) as locked:
        await house.accounts.sign_in("admin", PASSWORD, "198.51.100.1")
    assert locked.value.retry_after_s == accounts.LOCK.total_seconds()
    house.clock.advance(accounts.LOCK.total_seconds())
    await house.accounts.sign_in("admin", PASSWORD, HERE)


async def test_guessing_many_names_from_one_address_is_stopped(house: House) -> None:
    for number in range(accounts.MAX_FAILURES_OF_AN_ADDRESS):
        with pytest.raises(Unauthenticated):
            await house.accounts.sign_in(f"u{number}", "wrong", HERE)
    with pytest.raises(LimitExceeded):
        await house.accounts.sign_in("another", "wrong", HERE)
    with pytest.raises(Unauthenticated):
        await house.accounts.sign_in("another", "wrong", "198.51.100.1")
    house.clock.advance(accounts.LOCK.total_seconds() + 1)
    with pytest.raises(Unauthenticated):
        await house.accounts.sign_in("another", "wrong", HERE)


async def test_a_new_password_ends_every_session(house: House) -> None:
    admin = await house.admin()
    signed_in = await house.accounts.sign_in("admin", PASSWORD, HERE)
    await house.accounts.change_password(admin, int(admin.id), "Another-2027")
    assert await house.accounts.resume(signed_in.token) is None
    await house.accounts.sign_in("admin", "Another-2027", HERE)


async def test_a_closed_account_neither_signs_in_nor_goes_on(house: House) -> None:
    admin = await house.admin()
    signed_in = await house.accounts.sign_in("admin", PASSWORD, HERE)
    await house.database.write(store.set_enabled, int(admin.id), False)
    assert await house.accounts.resume(signed_in.token) is None
    with pytest.raises(Unauthenticated):
        await house.accounts.sign_in("admin", PASSWORD, HERE)


async def test_users_need_a_strong_password_a_free_name_and_known_roles(house: House) -> None:
    admin = await house.admin()
    for name, password, roles, error in (
        ("new", "weak", ["viewer"], InvalidRequest),
        ("new user", PASSWORD, ["viewer"], InvalidRequest),
        ("new", PASSWORD, ["king"], InvalidRequest),
        ("admin", PASSWORD, ["viewer"], Conflict),
    ):
        with pytest.raises(error):
            await house.accounts.create_user(admin, name, password, roles)
    viewer = await house.accounts.create_user(admin, "张三", PASSWORD, ["viewer", "operator"])
    assert viewer.permissions == ROLES["operator"][1] | ROLES["viewer"][1]
    found, total = await house.database.read(store.list_users, 2, 1)
    assert ([u.name for u in found], total) == (["张三"], 2)


# --- Decisions


async def test_an_administrator_may_by_a_numbered_grant_and_each_use_is_audited(house: House) -> None:
    admin = await house.admin()
    decision = await house.access.require(admin, Permission.PTZ_CONTROL, CAMERA, house.context)
    assert decision.grant == "G-ADMIN"
    records, _ = await house.database.read(audit.page, 1, 1)
    entry = records[0].entry
    assert (entry.event, entry.outcome, entry.grant_number, entry.object_id, entry.request_id) == (
        AuditTag.ACCESS_DECISION,
        Outcome.ALLOWED,
        "G-ADMIN",
        CAMERA.device_id,
        "request-1",
    )
    assert entry.details["action"] == "ptz:control"


async def test_unknown_and_not_permitted_look_the_same(house: House) -> None:
    viewer = await house.viewer()
    errors: list[TongshiError] = []
    for target in (CAMERA, None):
        with pytest.raises(NotFound) as refused:
            await house.access.require(viewer, Permission.VIDEO_LIVE, target, house.context)
        errors.append(refused.value)
    assert len({(e.message, e.code, e.field, str(e.details)) for e in errors}) == 1
    records, _ = await house.database.read(audit.page, 1, 2)
    assert {r.entry.outcome for r in records} == {Outcome.DENIED}


async def test_a_grant_opens_its_scope_and_no_more_until_it_is_revoked(house: House) -> None:
    viewer = await house.viewer()
    grant = await house.give(viewer)
    decision = await house.access.require(viewer, Permission.VIDEO_LIVE, CAMERA, house.context)
    assert decision.grant == grant.number
    elsewhere = Target("31010500001320000001", "310105", CAMERA.owner)
    with pytest.raises(NotFound):
        await house.access.require(viewer, Permission.VIDEO_LIVE, elsewhere, house.context)
    assert await house.access.is_valid(grant.number, house.context)
    await house.grants.revoke(viewer, grant.number, house.context)
    assert not await house.access.is_valid(grant.number, house.context)
    with pytest.raises(NotFound):
        await house.access.require(viewer, Permission.VIDEO_LIVE, CAMERA, house.context)
    told = await house.database.read(changes.read_after, 0, 10, ["grant"])
    assert [(c.key, c.op) for c in told] == [(grant.number, "put"), (grant.number, "delete")]
    with pytest.raises(NotFound):
        await house.grants.revoke(viewer, grant.number, house.context)


async def test_a_scope_is_the_union_of_the_grants_in_force(house: House) -> None:
    viewer = await house.viewer()
    assert await house.access.scope(viewer, Permission.VIDEO_LIVE, house.context) == Scope()
    await house.give(viewer)
    await house.give(viewer, scope_kind=ScopeKind.OWNER, scope_values=frozenset({"o"}))
    await house.give(viewer, valid_to=house.clock.at() + timedelta(hours=1), scope_values=frozenset({"9"}))
    await house.give(
        viewer,
        subject_kind=SubjectKind.ROLE,
        subject_id="viewer",
        scope_kind=ScopeKind.DEVICE,
        scope_values=frozenset({"d"}),
    )
    house.clock.advance(3600)
    scope = await house.access.scope(viewer, Permission.VIDEO_LIVE, house.context)
    assert scope == Scope(False, frozenset({"310104"}), frozenset({"o"}), frozenset({"d"}))
    assert await house.access.scope(viewer, Permission.PTZ_CONTROL, house.context) == Scope()


async def test_a_grant_comes_back_as_it_was_given(house: House) -> None:
    viewer = await house.viewer()
    at = house.clock.at()
    given = await house.give(
        viewer,
        valid_from=at,
        valid_to=at + timedelta(days=1),
        hours=Hours.parse("22:00-06:00"),
        is_sensitive=True,
        reason="专项",
    )
    assert await house.database.read(store.find_grant, given.number) == given
    found, total = await house.database.read(store.list_grants, 1, 1)
    assert (found, total) == ([given], 2)


async def test_grants_that_make_no_sense_are_refused(house: House) -> None:
    viewer = await house.viewer()
    at = house.clock.at()
    senseless: tuple[dict[str, object], ...] = (
        {"actions": frozenset()},
        {"actions": frozenset({Permission.USER_ADMIN})},
        {"scope_values": frozenset()},
        {"scope_kind": ScopeKind.ALL},
        {"scope_values": frozenset({"a/b"})},
        {"valid_from": at, "valid_to": at},
    )
    for fields in senseless:
        with pytest.raises(InvalidRequest):
            await house.give(viewer, **fields)


async def test_a_platforms_key_holds_the_platforms_grants(house: House) -> None:
    key = await house.grants.put_key(
        "k1", "区级平台", "secret", ROLES["exchange"][1], platform_id="31010400002000000001"
    )
    await house.give(
        key.subject,
        subject_kind=SubjectKind.PLATFORM,
        subject_id="31010400002000000001",
        actions=frozenset({Permission.ARCHIVE_READ}),
    )
    scope = await house.access.scope(key.subject, Permission.ARCHIVE_READ, house.context)
    assert scope.civil_codes == {"310104"}


# --- Keys


async def test_a_key_is_found_while_it_is_open_and_not_expired(house: House) -> None:
    await house.grants.put_key("k1", "应用", "geheim", {Permission.ARCHIVE_READ})
    key = await house.grants.find_key("k1")
    assert key is not None
    assert (key.secret, key.subject.may(Permission.ARCHIVE_READ)) == ("geheim", True)
    assert "geheim" not in repr(key)
    assert await house.grants.find_key("k2") is None
    expiring = store.ApiKey("k3", "", "s", frozenset(), expires_at=house.clock.at())
    await house.database.write(store.put_key, expiring, house.clock.at())
    assert await house.grants.find_key("k3") is None


async def test_a_nonce_works_once_for_each_key_and_is_forgotten_after_its_time(house: House) -> None:
    first = await asyncio.gather(*(house.grants.use_nonce("k", "n") for _ in range(5)))
    assert sorted(first) == [False] * 4 + [True]
    assert await house.grants.use_nonce("other", "n")
    house.clock.advance(NONCE_KEPT.total_seconds() - 1)
    assert not await house.grants.use_nonce("k", "n")
    house.clock.advance(1)
    assert await house.grants.use_nonce("k", "n")


async def test_the_chain_is_whole_after_all_of_this(house: House) -> None:
    viewer = await house.viewer()
    await house.give(viewer)
    await asyncio.gather(
        *(house.access.decide(viewer, Permission.VIDEO_LIVE, CAMERA, house.context) for _ in range(20))
    )
    assert await house.database.read(audit.verify) is None
