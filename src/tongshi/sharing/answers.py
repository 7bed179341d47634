"""Answers kept for callers that repeat a call; ``web.ports.Answers`` in the database.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
"""

from __future__ import annotations

from datetime import datetime

from tongshi.sharing import answer_store
from tongshi.storage.engine import Database
from tongshi.web.ports import Claim, Claimed, Kept


class KeptAnswers:
    """One transaction to claim, one to keep; a call without a key costs nothing here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, claim: Claim) -> Claimed | None:
        """See ``web.ports.Answers``."""
        return await self._db.write(answer_store.claim, claim)

    async def keep(self, claim: Claim, kept: Kept, until: datetime) -> None:
        """See ``web.ports.Answers``."""
        await self._db.write(answer_store.keep, claim, kept, until)

    async def drop(self, claim: Claim) -> None:
        """See ``web.ports.Answers``."""
        await self._db.write(answer_store.drop, claim)
