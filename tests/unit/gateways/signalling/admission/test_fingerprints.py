"""Bindings refuse by address and hardware; fingerprints remember, compare, show and block."""

from __future__ import annotations

import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.admission.bindings import Binding, Bindings, plain_mac
from tongshi.gateways.signalling.admission.fingerprints import Fingerprints, Policy
from tongshi.resources.admission.model import Fingerprint, Standing

DEVICE = "31010100001320000001"


class Book:
    """Fingerprints with what they told."""

    def __init__(self, policy: Policy, limit: int = 10) -> None:
        self.kept: list[Fingerprint] = []
        self.blocked: list[str] = []
        self.clock = ManualClock()
        self.fingerprints = Fingerprints(
            policy, self.clock, on_change=self.kept.append, on_block=self.blocked.append, limit=limit
        )

    def saw(self, **traits: str) -> Fingerprint:
        now = self.fingerprints.saw(DEVICE, traits)
        assert now is not None
        return now


def test_the_longest_binding_decides_by_address_and_network() -> None:
    bindings = Bindings(
        [Binding("31010100", ("10.1.0.0/16", "2001:db8::/32")), Binding(DEVICE, ("192.0.2.7", "192.0.2.8"))]
    )
    assert bindings.objection("31010100001320000002", "10.1.2.3") is None
    assert bindings.objection("31010100001320000002", "2001:db8::1") is None
    assert "bound" in (bindings.objection("31010100001320000002", "10.2.0.1") or "")
    assert bindings.objection(DEVICE, "192.0.2.7") is None
    assert bindings.objection(DEVICE, "10.1.2.3") is not None
    assert bindings.objection("44010100001320000002", "10.2.0.1") is None
    assert bindings.objection(DEVICE, "nonsense") is not None
    assert bindings.hosts(DEVICE) == ("192.0.2.7", "192.0.2.8")


def test_hardware_is_compared_however_it_is_written() -> None:
    bindings = Bindings([Binding(DEVICE, macs=("00:1A:2b:3c:4D:5e",))])
    assert bindings.mac_objection(DEVICE, "001a-2B3C-4d5e") is None
    assert bindings.mac_objection(DEVICE, "") is None
    assert bindings.mac_objection("31010100001320000002", "00:00:00:00:00:01") is None
    assert "000000000001" in (bindings.mac_objection(DEVICE, "00:00:00:00:00:01") or "")
    assert plain_mac("00-1a-2b") == "001A2B"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        Bindings([Binding(DEVICE, ("10.1.0.0/33",))])


def test_what_a_device_says_first_is_trusted_and_more_is_added() -> None:
    book = Book(Policy.SHOW)
    book.saw(userAgent="Cam/1.0", address="192.0.2.7")
    now = book.saw(manufacturer="甲", model="")
    assert dict(now.traits) == {"userAgent": "Cam/1.0", "address": "192.0.2.7", "manufacturer": "甲"}
    assert now.standing is Standing.KNOWN
    assert len(book.kept) == 2
    book.saw(userAgent="Cam/1.0")
    assert len(book.kept) == 2  # nothing new: nothing is written


def test_a_change_is_shown_and_goes_when_it_is_taken_back() -> None:
    book = Book(Policy.SHOW)
    book.saw(manufacturer="甲", mac="001A")
    changed = book.saw(manufacturer="乙")
    assert (changed.standing, dict(changed.changed)) == (Standing.CHANGED, {"manufacturer": "乙"})
    assert dict(changed.traits)["manufacturer"] == "甲"
    assert book.fingerprints.objection(DEVICE) is None
    assert book.saw(manufacturer="甲").standing is Standing.KNOWN


def test_a_change_of_the_maker_blocks_until_a_person_confirms_it() -> None:
    book = Book(Policy.BLOCK)
    book.saw(manufacturer="甲", firmware="1")
    assert book.saw(firmware="2").standing is Standing.CHANGED  # daily work
    assert book.blocked == []
    assert book.saw(manufacturer="乙").standing is Standing.BLOCKED
    assert book.blocked == [DEVICE]
    assert "manufacturer" in (book.fingerprints.objection(DEVICE) or "")
    now = book.fingerprints.get(DEVICE)
    assert now is not None
    trusted = Fingerprint(DEVICE, {**now.traits, **now.changed}, now.first_at, book.clock.at())
    book.fingerprints.confirmed(trusted)
    assert book.fingerprints.objection(DEVICE) is None
    assert book.saw(manufacturer="乙").standing is Standing.KNOWN


def test_a_foreign_hardware_address_blocks_whatever_the_policy() -> None:
    book = Book(Policy.SHOW)
    book.saw(manufacturer="甲")
    book.fingerprints.block(DEVICE, "mac", "000000000001")
    assert book.blocked == [DEVICE]
    assert book.fingerprints.objection(DEVICE) is not None


def test_the_table_is_bounded_and_off_remembers_nothing() -> None:
    book = Book(Policy.SHOW, limit=2)
    for number in range(5):
        book.fingerprints.saw(f"{DEVICE[:19]}{number}", {"userAgent": "x" * 500})
    assert len(book.fingerprints) == 2
    kept = book.fingerprints.get(f"{DEVICE[:19]}0")
    assert kept is not None
    assert len(kept.traits["userAgent"]) == 128
    off = Book(Policy.OFF)
    assert off.fingerprints.saw(DEVICE, {"userAgent": "x"}) is None
