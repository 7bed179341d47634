"""Passwords: the rule of strength, and argon2 in threads with a cap.

Implements: DB31DSJ/Z 001-2024 7.4
"""

from __future__ import annotations

import asyncio
import re
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tongshi.errors import InvalidRequest

MIN_CHARS = 8
MAX_CHARS = 128
# Each hash takes 64 MiB and 0.2 s of CPU; more at once would let sign-in attempts take the machine.
MAX_AT_ONCE = 2


def check_strength(password: str, field: str = "password") -> None:
    """Raises InvalidRequest unless it has 8 or more characters with digits, letters and special ones."""
    kinds = (r"[0-9]", r"[A-Za-z]", r"[^0-9A-Za-z\s]")
    if not MIN_CHARS <= len(password) <= MAX_CHARS or not all(re.search(kind, password) for kind in kinds):
        raise InvalidRequest("口令须为 8 至 128 位，并包含数字、英文字母和特殊字符", field=field)


class Passwords:
    """Hashes and verifies off the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = asyncio.Semaphore(MAX_AT_ONCE)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The argon2id hash with its parameters and salt."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether it is the password; without a stored hash the same work is done and the answer is no."""
        if self._nobody is None:
            self._nobody = await self.hash(secrets.token_urlsafe(16))
        async with self._turn:
            is_right = await asyncio.to_thread(self._verify, password, stored or self._nobody)
        return is_right and stored is not None

    def _verify(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password[: MAX_CHARS + 1])
        except (VerificationError, InvalidHashError):
            return False
