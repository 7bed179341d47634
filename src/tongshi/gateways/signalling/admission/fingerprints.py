"""What a device says about itself, remembered and compared each time it says it again.

Implements: GB/T 28181-2022 8.1
User-Agent and source address come with REGISTER, maker, model and firmware with DeviceInfo, the hardware
address with the catalogue. What changed is shown until a person confirms it. With ``Policy.BLOCK`` a change
of what a device cannot change by itself (maker, model, hardware address) also ends its registration and
refuses further ones until then; an address or a firmware changes in daily work and is shown only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

import structlog

from tongshi.clock import Clock
from tongshi.resources.admission.model import Fingerprint, Standing

log = structlog.get_logger(__name__)

MAX_FINGERPRINTS = 200_000
MAX_TEXT = 128
BLOCKING: Final = frozenset({"manufacturer", "model", "mac"})


class Policy(StrEnum):
    """What a change does."""

    OFF = "off"
    SHOW = "show"
    BLOCK = "block"


class Fingerprints:
    """All fingerprints, in memory; ``on_change`` is told of each that has to be written.

    Args:
        on_block: told of a code whose registration has to end.
    """

    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        *,
        on_change: Callable[[Fingerprint], None] = lambda fingerprint: None,
        on_block: Callable[[str], None] = lambda code: None,
        limit: int = MAX_FINGERPRINTS,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._on_block = on_block
        self._limit = limit
        self._known: dict[str, Fingerprint] = {}

    def __len__(self) -> int:
        return len(self._known)

    def restore(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Take up what was remembered before a restart."""
        for fingerprint in fingerprints:
            self._known[fingerprint.code] = fingerprint

    def get(self, code: str) -> Fingerprint | None:
        """What we remember of a code."""
        return self._known.get(code)

    def objection(self, code: str) -> str | None:
        """Why this code may not register, in ASCII; None when it may."""
        known = self._known.get(code)
        if known is None or known.standing is not Standing.BLOCKED:
            return None
        return f"fingerprint changed ({', '.join(sorted(known.changed))}): waits for confirmation"

    def saw(self, code: str, traits: Mapping[str, str]) -> Fingerprint | None:
        """A device said this of itself; what it does not say is not compared."""
        if self._policy is Policy.OFF:
            return None
        said = {name: value.strip()[:MAX_TEXT] for name, value in traits.items() if value.strip()}
        known, at = self._known.get(code), self._clock.at()
        if known is None:
            if len(self._known) >= self._limit:
                return None
            return self._keep(Fingerprint(code, said, at, at))
        new = {name: value for name, value in said.items() if name not in known.traits}
        changed = {name: value for name, value in known.changed.items() if name not in said}
        changed |= {name: said[name] for name in said if known.traits.get(name, said[name]) != said[name]}
        if not new and changed == known.changed:
            return known
        now = replace(known, traits={**known.traits, **new}, changed=changed)
        if changed != known.changed:
            now = self._judge(replace(now, changed_at=at))
        return self._keep(now)

    def block(self, code: str, trait: str, value: str) -> None:
        """A bound trait is another than it may be: whatever the policy, this waits for a person."""
        at = self._clock.at()
        known = self._known.get(code) or Fingerprint(code, {}, at, at)
        changed = {**known.changed, trait: value[:MAX_TEXT]}
        self._keep(replace(known, changed=changed, changed_at=at, standing=Standing.BLOCKED))

    def confirmed(self, fingerprint: Fingerprint) -> None:
        """A person said that a change is right: it is trusted from now on."""
        self._known[fingerprint.code] = fingerprint

    def _judge(self, now: Fingerprint) -> Fingerprint:
        if not now.changed:
            return replace(now, standing=Standing.KNOWN)
        log.warning("fingerprint_changed", peer_id=now.code, traits=sorted(now.changed))
        is_blocked = self._policy is Policy.BLOCK and not BLOCKING.isdisjoint(now.changed)
        return replace(now, standing=Standing.BLOCKED if is_blocked else Standing.CHANGED)

    def _keep(self, now: Fingerprint) -> Fingerprint:
        before = self._known.get(now.code)
        self._known[now.code] = now
        self._on_change(now)
        was_blocked = before is not None and before.standing is Standing.BLOCKED
        if now.standing is Standing.BLOCKED and not was_blocked:
            self._on_block(now.code)
        return now
