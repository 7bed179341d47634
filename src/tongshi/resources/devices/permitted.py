"""What a caller may do with a device now, as it is shown."""

from __future__ import annotations

from datetime import datetime

from tongshi.resources.devices.query import Allowed, role_of
from tongshi.sharing.model import Rule
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer

ACTIONS: dict[str, Permission] = {
    "view": Permission.VIDEO_LIVE,
    "playback": Permission.VIDEO_PLAYBACK,
    "download": Permission.VIDEO_DOWNLOAD,
    "ptz": Permission.PTZ_CONTROL,
    "talk": Permission.TALK,
}


class Perm(Answer, frozen=True, omit_defaults=True):
    """What the caller may do with a device now."""

    view: bool
    playback: bool
    download: bool
    ptz: bool
    talk: bool
    needApproval: bool = False
    validFrom: datetime | None = None
    validTo: datetime | None = None
    hours: str = ""


class DecidedBy(Answer, frozen=True):
    """A grant that allows, and the role that carries it (empty when it is the caller's own)."""

    role_id: str
    rule_id: str


def perm_of(allowed: Allowed, is_controllable: bool | None) -> Perm:
    """What is allowed of one device.

    A camera that its owner calls uncontrollable cannot be turned, whatever was granted.
    """
    decided = {name: allowed.decisions[action] for name, action in ACTIONS.items()}
    may = {name: decision.allow for name, decision in decided.items()}
    may["ptz"] = may["ptz"] and is_controllable is not False
    return Perm(
        **may,
        needApproval=any(decision.rule is Rule.SENSITIVE for decision in decided.values()),
        validFrom=max((g.valid_from for g in allowed.grants if g.valid_from is not None), default=None),
        validTo=min((g.valid_to for g in allowed.grants if g.valid_to is not None), default=None),
        hours=next((str(g.hours) for g in allowed.grants if g.hours is not None), ""),
    )


def decided_by(allowed: Allowed) -> list[DecidedBy]:
    """The grants that say so."""
    return [DecidedBy(role_of(grant), grant.number) for grant in allowed.grants]
