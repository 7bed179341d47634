"""A neighbour whose calls are refused is told apart from one that does not call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Unauthenticated
from tongshi.exchange.signing import Signer
from tongshi.sharing.gate import SharingGate
from tongshi.sharing.refusals import Refusals
from tongshi.sharing.store import ApiKey
from tongshi.web.ports import Head

HOME, DISTRICT = "31010400002000000001", "31010100002000000001"


async def call(refusals: Refusals, secret: str, key: str = "district") -> None:
    async def find_key(key_id: str) -> ApiKey | None:
        known = ApiKey("district", "区级平台", "s" * 32, frozenset(), platform_id=DISTRICT)
        return known if key_id == known.id else None

    async def use_nonce(key_id: str, nonce: str) -> bool:
        return True

    clock = ManualClock()
    grants: Any = SimpleNamespace(find_key=find_key, use_nonce=use_nonce)
    no_accounts: Any = None
    headers = Signer(key, secret, HOME, clock).headers("GET", "/exchange/v1/digest", "", b"")
    lower = {name.lower(): value for name, value in headers.items()}
    head = Head("r-1", "GET", "/exchange/v1/digest", "", lower, {}, "192.0.2.7", clock.at())
    await SharingGate(no_accounts, grants, clock, HOME, refusals).authenticate(head)


async def test_a_wrong_secret_is_named_until_the_next_good_call() -> None:
    refusals = Refusals()
    with pytest.raises(Unauthenticated):
        await call(refusals, "x" * 32)
    assert "签名不正确" in refusals.of(DISTRICT)
    await call(refusals, "s" * 32)
    assert refusals.of(DISTRICT) == ""


async def test_an_unknown_key_is_nobodys_refusal() -> None:
    refusals = Refusals()
    for number in range(3):
        with pytest.raises(Unauthenticated):
            await call(refusals, "s" * 32, key=f"stranger-{number}")
    assert refusals.of(DISTRICT) == ""
    assert not refusals._reasons
