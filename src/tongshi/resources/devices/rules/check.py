"""The whole table of rules, and one archive held against it.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.rules import crossing, national, shanghai
from tongshi.resources.devices.rules.model import Facts, Issue, Rule

RULES: Final[tuple[Rule, ...]] = (*national.RULES, *shanghai.RULES, *crossing.RULES)
BY_NUMBER: Final[dict[str, Rule]] = {rule.number: rule for rule in RULES}
# Raise it when a rule changes: every archive is then held against the table anew.
EDITION: Final = 1


def check(archive: DeviceArchive, at: datetime) -> tuple[Issue, ...]:
    """The rules that an archive breaks, in the order of the table; whatever it holds, it never raises.

    Args:
        archive: as stored.
        at: now; InstallTime is compared with it.
    """
    facts = Facts(archive, at)
    return tuple(rule.issue() for rule in RULES if rule.applies(facts) and not rule.holds(facts))
