"""What an application of the web kit needs and some tests do not: every call is the first."""

from __future__ import annotations

from datetime import datetime

from tongshi.web.operations import Quota
from tongshi.web.ports import Claim, Claimed, Kept


class NoAnswers:
    """``web.ports.Answers`` that forgets."""

    async def claim(self, claim: Claim) -> Claimed | None:
        """Always free."""
        return None

    async def keep(self, claim: Claim, kept: Kept, until: datetime) -> None:
        """Nothing is kept."""

    async def drop(self, claim: Claim) -> None:
        """Nothing is held."""


class NoQuotas:
    """``web.ports.Quotas`` without a limit."""

    async def take_call(self, caller: str, quota: Quota) -> int | None:
        """As often as you like."""
        return None

    async def take_rows(self, caller: str, rows: int) -> int | None:
        """As many as there are."""
        return None
