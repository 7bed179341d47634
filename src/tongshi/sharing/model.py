"""Subjects, grants, scopes and decisions, without a database.

Implements: DB31DSJ/Z 001-2024 6.4.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum

from tongshi.clock import BEIJING
from tongshi.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound, TongshiError, Unauthenticated
from tongshi.sharing.permissions import Permission

MAX_SCOPE_VALUES = 10_000


class SubjectKind(StrEnum):
    """Who asks."""

    USER = "user"
    ROLE = "role"
    API_KEY = "api_key"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Subject:
    """A known caller.

    Attributes:
        kind, id: ``user`` and the number, ``api_key`` and the key's id, ``platform`` and the 20 digits.
        name: for people and the audit.
        roles: names of roles held.
        permissions: what roles or the key carry.
        platform_id: the neighbour that a key speaks for, else empty.
    """

    kind: SubjectKind
    id: str
    name: str = ""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[Permission] = frozenset()
    platform_id: str = ""

    def may(self, permission: Permission) -> bool:
        """Whether the service permission is there; which devices is another question."""
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class Target:
    """The device that is asked about."""

    device_id: str
    civil_code: str = ""
    owner: str = ""
    is_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of one request."""

    at: datetime
    address: str = ""
    request_id: str = ""
    on_behalf: str = ""


class ScopeKind(StrEnum):
    """What the values of a grant's scope are."""

    ALL = "all"
    CIVIL_CODE = "civil_code"
    OWNER = "owner"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of devices: everything, or the union of prefixes, owners and ids; empty, it holds nothing."""

    is_everything: bool = False
    civil_codes: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    device_ids: frozenset[str] = frozenset()

    def holds(self, target: Target) -> bool:
        """Whether the device is in the set."""
        return (
            self.is_everything
            or target.device_id in self.device_ids
            or target.owner in self.owners
            or any(target.civil_code.startswith(prefix) for prefix in self.civil_codes)
        )

    def __or__(self, other: Scope) -> Scope:
        return Scope(
            self.is_everything or other.is_everything,
            self.civil_codes | other.civil_codes,
            self.owners | other.owners,
            self.device_ids | other.device_ids,
        )


EVERYTHING = Scope(is_everything=True)


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the day in Beijing time, ``08:00-18:00``; over midnight when the end is not later."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Raises InvalidRequest for anything but ``HH:MM-HH:MM``."""
        try:
            start, end = text.split("-")
            return cls(time.fromisoformat(start), time.fromisoformat(end))
        except ValueError:
            raise InvalidRequest("时段应为 HH:MM-HH:MM", field="hours") from None

    def hold(self, at: datetime) -> bool:
        """Whether the moment lies within; the end is exclusive."""
        moment = at.astimezone(BEIJING).time()
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A right given: who, what, to which devices, when. ``number`` goes with each use into the audit."""

    number: str
    subject_kind: SubjectKind
    subject_id: str
    actions: frozenset[Permission]
    scope_kind: ScopeKind
    scope_values: frozenset[str] = frozenset()
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    hours: Hours | None = None
    is_sensitive: bool = False
    reason: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def scope(self) -> Scope:
        return Scope(
            self.scope_kind is ScopeKind.ALL,
            *(
                self.scope_values if self.scope_kind is kind else frozenset()
                for kind in (ScopeKind.CIVIL_CODE, ScopeKind.OWNER, ScopeKind.DEVICE)
            ),
        )

    def is_alive(self, at: datetime) -> bool:
        """Neither revoked nor outside its dates; the hours of the day are another question."""
        return (
            self.revoked_at is None
            and (self.valid_from is None or self.valid_from <= at)
            and (self.valid_to is None or at < self.valid_to)
        )


class Rule(StrEnum):
    """Which rule decided."""

    GRANTED = "granted"
    SERVICE = "service_permission"
    SCOPE = "data_scope"
    HOURS = "hours"
    SENSITIVE = "sensitivity"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided and by which rule.

    Attributes:
        allow: whether it may be done.
        rule: the rule that decided.
        grant: number of the grant that carries it; empty when no device is concerned, or on refusal.
        code: number for the REST envelope on refusal, else 0.
        reason: for the caller, in Chinese; tells nothing that the code hides.
        limits: what the grant limits the use to, for example ``validTo``.
    """

    allow: bool
    rule: Rule
    grant: str = ""
    code: int = 0
    reason: str = ""
    limits: dict[str, object] = field(default_factory=dict)

    def require(self) -> Decision:
        """Itself when allowed. Raises the error of the refusal otherwise: NotFound 40401, Forbidden 403xx."""
        if self.allow:
            return self
        kinds: dict[int, type[TongshiError]] = {401: Unauthenticated, 404: NotFound, 429: LimitExceeded}
        raise kinds.get(self.code // 100, Forbidden)(self.reason, code=self.code)


def judge(
    subject: Subject,
    action: Permission,
    target: Target | None,
    grants: Iterable[Grant],
    context: Context,
    *,
    is_device_action: bool,
) -> Decision:
    """Decide, given every grant of the subject and its roles; ``decision.Access`` records what comes out."""
    if not subject.may(action):
        return Decision(False, Rule.SERVICE, code=40301, reason="未授予该接口的权限")
    if target is None:
        if not is_device_action:
            return Decision(True, Rule.GRANTED)
        return Decision(False, Rule.SCOPE, code=40401, reason=_UNKNOWN)
    alive = [g for g in grants if g.is_alive(context.at) and g.scope.holds(target)]
    carrying = [g for g in alive if action in g.actions]
    if not carrying:
        # Who may see the device in a list may be told that the action is what is missing.
        if any(Permission.ARCHIVE_READ in g.actions for g in alive):
            return Decision(False, Rule.SCOPE, code=40303, reason="未授予该设备的此项操作")
        return Decision(False, Rule.SCOPE, code=40401, reason=_UNKNOWN)
    timely = [g for g in carrying if g.hours is None or g.hours.hold(context.at)]
    if not timely:
        return Decision(False, Rule.HOURS, code=40306, reason="不在授权时段内")
    fitting = [g for g in timely if g.is_sensitive or not target.is_sensitive]
    if not fitting:
        return Decision(False, Rule.SENSITIVE, code=40305, reason="敏感视频须先申请审批")
    return _allowed(fitting[0])


_UNKNOWN = "设备不存在"


def _allowed(grant: Grant) -> Decision:
    limits: dict[str, object] = {}
    if grant.valid_to is not None:
        limits["validTo"] = grant.valid_to.isoformat()
    if grant.hours is not None:
        limits["hours"] = str(grant.hours)
    return Decision(True, Rule.GRANTED, grant=grant.number, limits=limits)
