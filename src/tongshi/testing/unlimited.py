"""What an application of the web kit needs and some tests do not: every call is the first."""

from __future__ import annotations

from datetime import datetime

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
