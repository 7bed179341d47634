"""A key that is bound to networks is worth nothing elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Forbidden
from tongshi.exchange.signing import Signer
from tongshi.sharing.gate import SharingGate
from tongshi.sharing.store import ApiKey
from tongshi.web.ports import Head

HOME = "31010400002000000001"


async def authenticate(client_host: str, addresses: tuple[str, ...]) -> Any:
    async def find_key(key_id: str) -> ApiKey:
        return ApiKey(key_id, "app", "s" * 32, frozenset(), addresses=addresses)

    async def use_nonce(key_id: str, nonce: str) -> bool:
        return True

    clock = ManualClock()
    grants: Any = SimpleNamespace(find_key=find_key, use_nonce=use_nonce)
    no_accounts: Any = None
    headers = Signer("app", "s" * 32, HOME, clock).headers("GET", "/exchange/v1/digest", "", b"")
    lower = {name.lower(): value for name, value in headers.items()}
    head = Head("r-1", "GET", "/exchange/v1/digest", "", lower, {}, client_host, clock.at())
    return await SharingGate(no_accounts, grants, clock, HOME).authenticate(head)


@pytest.mark.parametrize(
    ("client_host", "addresses"),
    [
        ("192.0.2.7", ()),
        ("192.0.2.7", ("192.0.2.0/24",)),
        ("2001:db8::7", ("192.0.2.0/24", "2001:db8::/32")),
    ],
)
async def test_a_key_opens_from_its_networks(client_host: str, addresses: tuple[str, ...]) -> None:
    identity = await authenticate(client_host, addresses)
    assert identity.caller.id == "app"


@pytest.mark.parametrize("client_host", ["198.51.100.1", "no address", ""])
async def test_elsewhere_it_is_refused(client_host: str) -> None:
    with pytest.raises(Forbidden) as caught:
        await authenticate(client_host, ("192.0.2.0/24",))
    assert caught.value.code == 40302
