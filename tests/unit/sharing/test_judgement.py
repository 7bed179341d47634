"""The decision itself, without a database: order of the rules, scopes, dates, hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tongshi.errors import Forbidden, InvalidRequest, NotFound
from tongshi.sharing.model import (
    EVERYTHING,
    Context,
    Decision,
    Grant,
    Hours,
    Rule,
    Scope,
    ScopeKind,
    Subject,
    SubjectKind,
    Target,
    judge,
)
from tongshi.sharing.permissions import DEVICE_ACTIONS, ROLES, Permission

# Noon in Beijing.
AT = datetime(2026, 1, 1, 4, tzinfo=UTC)
CAMERA = Target("31010400001320000001", "31010407", "31010400002000000001")
VIEWER = Subject(SubjectKind.USER, "7", permissions=ROLES["viewer"][1])
GRANT = Grant(
    "G1",
    SubjectKind.USER,
    "7",
    frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_LIVE}),
    ScopeKind.CIVIL_CODE,
    frozenset({"310104"}),
)


def decided(
    *grants: Grant,
    action: Permission = Permission.VIDEO_LIVE,
    target: Target | None = CAMERA,
    at: datetime = AT,
    subject: Subject = VIEWER,
) -> Decision:
    is_device_action = action in DEVICE_ACTIONS
    return judge(subject, action, target, grants, Context(at), is_device_action=is_device_action)


def test_a_fitting_grant_allows_and_is_named() -> None:
    decision = decided(GRANT)
    assert (decision.allow, decision.rule, decision.grant, decision.code) == (True, Rule.GRANTED, "G1", 0)
    assert decision.require() is decision


def test_the_service_permission_comes_before_everything() -> None:
    powerless = replace(VIEWER, permissions=frozenset())
    decision = decided(GRANT, subject=powerless)
    assert (decision.rule, decision.code) == (Rule.SERVICE, 40301)
    with pytest.raises(Forbidden):
        decision.require()


def test_a_grant_does_not_replace_the_service_permission() -> None:
    assert decided(replace(GRANT, actions=frozenset(Permission)), action=Permission.USER_ADMIN).code == 40301


@pytest.mark.parametrize(
    ("scope_kind", "values", "allow"),
    [
        (ScopeKind.ALL, (), True),
        (ScopeKind.CIVIL_CODE, ("31",), True),
        (ScopeKind.CIVIL_CODE, ("310105", "31010407"), True),
        (ScopeKind.CIVIL_CODE, ("310105",), False),
        (ScopeKind.OWNER, ("31010400002000000001",), True),
        (ScopeKind.OWNER, ("31010500002000000001",), False),
        (ScopeKind.DEVICE, ("31010400001320000001",), True),
        (ScopeKind.DEVICE, ("31010400001320000002",), False),
        (ScopeKind.DEVICE, (), False),
    ],
)
def test_a_grant_reaches_as_far_as_its_scope(
    scope_kind: ScopeKind, values: tuple[str, ...], allow: bool
) -> None:
    decision = decided(replace(GRANT, scope_kind=scope_kind, scope_values=frozenset(values)))
    assert decision.allow is allow


def test_unknown_and_out_of_scope_are_told_alike() -> None:
    unknown = decided(GRANT, target=None)
    hidden = decided(GRANT, target=replace(CAMERA, civil_code="310105"))
    assert (unknown.code, unknown.reason, unknown.grant) == (hidden.code, hidden.reason, hidden.grant)
    with pytest.raises(NotFound) as missing:
        hidden.require()
    assert missing.value.code == 40401


def test_who_may_list_the_device_is_told_that_the_action_is_missing() -> None:
    seeing = replace(GRANT, actions=frozenset({Permission.ARCHIVE_READ}))
    assert decided(seeing).code == 40303


@pytest.mark.parametrize(
    "dead",
    [
        {"valid_from": AT + timedelta(seconds=1)},
        {"valid_to": AT},
        {"revoked_at": AT - timedelta(days=1)},
    ],
)
def test_a_grant_outside_its_dates_is_none(dead: dict[str, datetime]) -> None:
    assert decided(replace(GRANT, **dead)).code == 40401  # type: ignore[arg-type]


def test_hours_are_those_of_beijing() -> None:
    assert decided(replace(GRANT, hours=Hours.parse("11:59-12:01"))).allow
    assert decided(replace(GRANT, hours=Hours.parse("04:00-05:00"))).code == 40306
    night = replace(GRANT, hours=Hours.parse("22:00-06:00"))
    assert decided(night, at=AT + timedelta(hours=11)).allow
    assert decided(night, at=AT + timedelta(hours=17, minutes=59)).allow
    assert decided(night, at=AT + timedelta(hours=18)).code == 40306


def test_a_sensitive_device_needs_a_grant_for_sensitive_ones() -> None:
    sensitive = replace(CAMERA, is_sensitive=True)
    assert decided(GRANT, target=sensitive).code == 40305
    assert decided(GRANT, replace(GRANT, number="G2", is_sensitive=True), target=sensitive).grant == "G2"


def test_the_limits_of_the_grant_go_with_the_decision() -> None:
    limited = replace(GRANT, valid_to=AT + timedelta(days=1), hours=Hours.parse("08:00-18:00"))
    assert decided(limited).limits == {"validTo": "2026-01-02T04:00:00+00:00", "hours": "08:00-18:00"}


def test_an_action_on_no_device_needs_the_permission_only() -> None:
    assert decided(action=Permission.PLATFORM_READ, target=None).allow


@pytest.mark.parametrize("text", ["", "8-18", "08:00", "25:00-26:00", "08:00-18:00-20:00", "a-b", "-"])
def test_odd_hours_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Hours.parse(text)


def test_scopes_unite_and_the_empty_one_holds_nothing() -> None:
    assert not Scope().holds(CAMERA)
    assert EVERYTHING.holds(CAMERA)
    both = Scope(civil_codes=frozenset({"1"})) | Scope(owners=frozenset({CAMERA.owner}))
    assert both == Scope(False, frozenset({"1"}), frozenset({CAMERA.owner}))
    assert both.holds(CAMERA)


def test_only_administrators_hold_every_permission() -> None:
    assert [name for name, (_, held) in ROLES.items() if held == frozenset(Permission)] == ["admin"]
    assert not ROLES["viewer"][1] & {Permission.PTZ_CONTROL, Permission.USER_ADMIN, Permission.ARCHIVE_WRITE}
