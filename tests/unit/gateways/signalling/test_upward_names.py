"""What an upper is told instead of our codes, and what it may say in return."""

from __future__ import annotations

import pytest

from tongshi.errors import InvalidRequest
from tongshi.gateways.signalling.upward_names import NO_NAMES, Alias, Names
from tongshi.protocols.gb28181.notify import CatalogChange, CatalogEvent, CatalogNotify, Keepalive
from tongshi.protocols.gb28181.query import DeviceInfoQuery
from tongshi.protocols.gb28181.response import CatalogResponse, DeviceInfoResponse
from tongshi.protocols.gb28181.types import CatalogItem

OWN, NVR, ONE, TWO = (
    "31010100002000000001",
    "31010100001180000001",
    "31010100001320000001",
    "31010100001320000002",
)
SHOWN = "31000000001320000077"
NAMES = Names([Alias(ONE, SHOWN, "一号"), Alias(NVR, "31000000001180000001"), Alias(TWO, name="二号")], OWN)


def test_both_directions_undo_each_other() -> None:
    for code in (ONE, NVR, TWO, "31010100001320000009"):
        assert NAMES.real(NAMES.shown(code)) == code
    assert NAMES.real(ONE) is None  # shown under another code, it does not exist under its own


def test_codes_may_be_exchanged() -> None:
    swapped = Names([Alias(ONE, TWO), Alias(TWO, ONE)])
    assert (swapped.shown(ONE), swapped.real(ONE), swapped.hides(ONE)) == (TWO, TWO, False)


def test_a_device_whose_code_is_shown_for_another_is_not_shown() -> None:
    taken = Names([Alias(ONE, TWO)])
    assert taken.hides(TWO)
    assert taken.real(TWO) == ONE


def test_items_carry_the_other_codes_everywhere_and_the_other_name() -> None:
    item = CatalogItem(device_id=ONE, name="原名", parent_ids=(NVR, OWN), business_group_id="x")
    told = NAMES.item(item)
    assert (told.device_id, told.name, told.parent_ids) == (SHOWN, "一号", ("31000000001180000001", OWN))
    assert NAMES.item(CatalogItem(device_id=TWO)).name == "二号"


def test_any_message_is_mapped_and_one_without_such_codes_is_the_same_object() -> None:
    change = CatalogChange(CatalogEvent.OFF, CatalogItem(device_id=ONE))
    notified = NAMES.outward(CatalogNotify(1, OWN, (change,)))
    assert notified.changes[0].item.device_id == SHOWN
    answer = NAMES.outward(CatalogResponse(1, ONE, 1, (CatalogItem(device_id=ONE),)))
    assert (answer.device_id, answer.items[0].device_id) == (SHOWN, SHOWN)
    assert NAMES.outward(Keepalive(1, OWN, False, (ONE, TWO))).faulty == (SHOWN, TWO)
    assert NAMES.outward(DeviceInfoResponse(1, ONE, device_name="原名")).device_name == "一号"
    untouched = Keepalive(1, OWN)
    assert NAMES.outward(untouched) is untouched


def test_what_an_upper_says_is_understood_or_unknown() -> None:
    heard = NAMES.inward(DeviceInfoQuery(5, SHOWN))
    assert heard is not None
    assert heard.device_id == ONE
    assert NAMES.inward(DeviceInfoQuery(5, ONE)) is None
    query = DeviceInfoQuery(5, ONE)
    assert NO_NAMES.inward(query) is query


@pytest.mark.parametrize(
    "aliases",
    [
        [Alias(ONE, SHOWN), Alias(TWO, SHOWN)],
        [Alias(ONE, SHOWN), Alias(ONE, TWO)],
        [Alias(OWN, SHOWN)],
        [Alias(ONE, OWN)],
    ],
)
def test_a_mapping_that_cannot_be_undone_is_refused(aliases: list[Alias]) -> None:
    with pytest.raises(InvalidRequest):
        Names(aliases, OWN)
