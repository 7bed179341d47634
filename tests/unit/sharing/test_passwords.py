"""The rule of 7.4 and the hashing around it."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from tongshi.errors import InvalidRequest
from tongshi.sharing.passwords import Passwords, check_strength


@pytest.mark.parametrize("password", ["Tongshi-1", "密码abc123!", "a1!" + "x" * 125])
def test_strong_passwords_pass(password: str) -> None:
    check_strength(password)


@pytest.mark.parametrize(
    "password",
    ["", "a1!bcde", "abcdefgh1", "abcdefg!", "1234567!", "12345678", "a1!" + "x" * 126, "abc 1234"],
)
def test_weak_passwords_are_refused_by_name_of_the_field(password: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_strength(password, "newPassword")
    assert refused.value.field == "newPassword"


async def test_a_hash_matches_its_password_only() -> None:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    stored = await passwords.hash("Tongshi-1")
    assert stored.startswith("$argon2id$")
    assert await passwords.matches("Tongshi-1", stored)
    assert not await passwords.matches("Tongshi-2", stored)
    assert not await passwords.matches("Tongshi-1", None)
    assert not await passwords.matches("Tongshi-1", "no hash at all")
