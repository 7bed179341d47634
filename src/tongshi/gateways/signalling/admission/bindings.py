"""Accounts bound to addresses and hardware: registered from elsewhere they are refused, with the reason.

Implements: GB/T 28181-2022 8.1
The hardware address does not travel in SIP: a device tells it in its catalogue (A.2.1.9 MAC), so that it can
be compared only once that came, a moment after the registration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

_SEPARATORS = re.compile(r"[^0-9A-Fa-f]")


@dataclass(frozen=True, slots=True)
class Binding:
    """One account: a whole code or the digits that codes begin with.

    Attributes:
        addresses: addresses and networks it may register from; empty: any.
        macs: hardware addresses it may have; empty: any.
    """

    prefix: str
    addresses: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()


class Bindings:
    """Bindings by code; the longest prefix decides. Raises ValueError for what is no address or network."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self._bindings: dict[str, tuple[tuple[IPv4Network | IPv6Network, ...], frozenset[str]]] = {
            binding.prefix: (
                tuple(ip_network(text, strict=False) for text in binding.addresses),
                frozenset(map(plain_mac, binding.macs)),
            )
            for binding in bindings
        }
        self._lengths = sorted({len(prefix) for prefix in self._bindings}, reverse=True)

    def objection(self, code: str, host: str) -> str | None:
        """Why this code may not register from there; None when it may."""
        networks, _ = self._of(code)
        if not networks:
            return None
        try:
            address = ip_address(host)
        except ValueError:
            return f"bound to other addresses than {host[:64]}"
        is_inside = any(address in network for network in networks)
        return None if is_inside else f"bound to other addresses than {host}"

    def mac_objection(self, code: str, mac: str) -> str | None:
        """Why this hardware address is not the one that is bound; None when it is, or none is told."""
        _, macs = self._of(code)
        if not macs or not mac or plain_mac(mac) in macs:
            return None
        return f"bound to another hardware address than {plain_mac(mac)[:32]}"

    def hosts(self, code: str) -> tuple[str, ...]:
        """Single addresses among its own: a device with two of them speaks from both (quirk 24)."""
        networks, _ = self._of(code)
        return tuple(str(network.network_address) for network in networks if network.num_addresses == 1)

    def _of(self, code: str) -> tuple[tuple[IPv4Network | IPv6Network, ...], frozenset[str]]:
        for length in self._lengths:
            found = self._bindings.get(code[:length])
            if found is not None and len(code) >= length:
                return found
        return (), frozenset()


def plain_mac(text: str) -> str:
    """A hardware address as hex digits alone, upper case, whatever stands between them."""
    return _SEPARATORS.sub("", text).upper()
