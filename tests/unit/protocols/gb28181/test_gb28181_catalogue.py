"""A catalogue is complete when it is proved, and silence proves nothing."""

from __future__ import annotations

import pytest

from tongshi.protocols.gb28181.catalogue import (
    TCP_BODY_BYTES,
    UDP_BODY_BYTES,
    CatalogPart,
    CatalogueCollector,
    Cutter,
    Gap,
    paginate,
)
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.items import BadItem, conforming
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.protocols.gb28181.version import Edition

NVR = "34020000001180000001"


def camera(number: int) -> CatalogItem:
    return CatalogItem(device_id=f"3402000000132{number:07d}", name=f"通道{number}")


def part(sum_num: int, *numbers: int, sn: int = 17, device_id: str = NVR) -> CatalogResponse:
    return CatalogResponse(sn, device_id, sum_num, tuple(camera(number) for number in numbers))


def test_distinct_items_that_reach_sum_num_complete_it() -> None:
    collector = CatalogueCollector(17, NVR, 0.0)
    assert collector.add(part(3, 1, 2), 1.0)
    assert collector.state == "collecting"
    assert collector.add(part(3, 2), 2.0)
    assert collector.state == "collecting"
    assert collector.add(part(3, 3), 3.0)
    assert (collector.state, collector.received, collector.distinct) == ("complete", 4, 3)
    assert collector.finished_at == 3.0
    assert collector.next_timer() is None


def test_an_answer_of_zero_is_complete_and_one_without_sum_num_is_not() -> None:
    empty, silent = CatalogueCollector(17, NVR, 0.0), CatalogueCollector(17, NVR, 0.0)
    empty.add(part(0), 1.0)
    silent.add(part(-1, 1, 2), 1.0)
    assert (empty.state, silent.state) == ("complete", "collecting")


def test_items_under_a_sum_num_of_zero_prove_nothing() -> None:
    collector = CatalogueCollector(17, NVR, 0.0)
    collector.add(part(0, 1), 1.0)
    collector.handle_timer(16.0)
    assert collector.state == "incomplete"


def test_the_largest_sum_num_counts() -> None:
    collector = CatalogueCollector(17, NVR, 0.0)
    collector.add(part(3, 1), 1.0)
    collector.add(part(2, 2), 1.0)
    assert (collector.state, collector.sum_num) == ("collecting", 3)


def test_silence_after_a_part_is_incomplete() -> None:
    collector = CatalogueCollector(17, NVR, 0.0, idle_timeout_s=15)
    collector.add(part(3, 1, 2), 10.0)
    assert collector.next_timer() == 25.0
    collector.handle_timer(24.9)
    assert collector.state == "collecting"
    collector.handle_timer(25.0)
    assert (collector.state, collector.gap, collector.distinct) == ("incomplete", Gap.MISSING, 2)
    assert not collector.add(part(3, 3), 26.0)
    assert (collector.state, collector.distinct) == ("incomplete", 2)


def test_parts_that_trickle_end_at_the_total_time() -> None:
    collector = CatalogueCollector(17, NVR, 0.0, idle_timeout_s=15, total_timeout_s=30)
    for second in range(1, 30):
        collector.add(part(100, second), float(second))
    assert collector.next_timer() == 30.0
    collector.handle_timer(30.0)
    assert (collector.state, collector.gap) == ("incomplete", Gap.TOO_LONG)


def test_too_many_items_end_it_and_the_bound_holds() -> None:
    collector = CatalogueCollector(17, NVR, 0.0, max_items=2)
    collector.add(part(3, 1, 2, 3), 1.0)
    assert (collector.state, collector.distinct, collector.gap) == ("incomplete", 2, Gap.TOO_MANY)
    assert len(collector.take()) == 2


def test_an_unreadable_item_keeps_it_from_being_complete() -> None:
    collector = CatalogueCollector(17, NVR, 0.0)
    collector.add(CatalogResponse(17, NVR, 1, (camera(1),), (BadItem(1, "", "x"),)), 1.0)
    assert (collector.state, collector.bad_count) == ("collecting", 1)
    collector.handle_timer(2.0)  # all that was announced came: silence need not be waited for
    assert (collector.state, collector.gap) == ("incomplete", Gap.BROKEN)


def test_items_beyond_sum_num_are_taken_and_disprove_it() -> None:
    """24 no. 14: what is counted goes before what is announced."""
    collector = CatalogueCollector(17, NVR, 0.0)
    for number in range(1, 5):  # a recorder that announces each part by itself
        assert collector.add(part(1, number), float(number))
    assert (collector.state, collector.gap) == ("incomplete", Gap.BEYOND)
    assert [item.device_id[-1] for item in collector.take()] == ["1", "2", "3", "4"]
    collector.close()
    assert not collector.add(part(1, 5), 9.0)


def test_a_device_that_lists_itself_beside_what_it_counted_is_forgiven() -> None:
    """Quirk 8: itself and the platform it reports to are no channels that were announced."""
    itself, ours = CatalogItem(device_id=NVR), CatalogItem(device_id="34020000002000000001")
    collector = CatalogueCollector(17, NVR, 0.0, extras=frozenset({ours.device_id}))
    collector.add(CatalogResponse(17, NVR, 1, (itself, ours, camera(1))), 1.0)
    assert collector.state == "collecting"
    collector.handle_timer(2.0)
    assert (collector.state, collector.gap) == ("complete", None)
    early = CatalogueCollector(17, NVR, 0.0)
    early.add(part(1, 1), 1.0)
    early.add(CatalogResponse(17, NVR, 1, (itself,)), 1.0)
    assert early.state == "complete"


def test_a_second_answer_is_added_to_the_first_while_both_announce_the_same() -> None:
    first = CatalogueCollector(17, NVR, 0.0)
    first.add(part(3, 1, 2), 1.0)
    first.handle_timer(99.0)
    again = CatalogueCollector(18, NVR, 100.0, before=first.codes, before_sum=first.sum_num)
    again.add(part(3, 2, 3, sn=18), 101.0)
    assert (again.state, again.distinct) == ("complete", 3)
    changed = CatalogueCollector(18, NVR, 100.0, before=first.codes, before_sum=first.sum_num)
    changed.add(part(4, 3, 4, sn=18), 101.0)
    assert (changed.state, changed.distinct) == ("collecting", 2)


def test_a_peer_that_alters_the_sn_is_believed_while_the_right_one_never_came() -> None:
    """Quirk 7."""
    collector = CatalogueCollector(17, NVR, 0.0)
    assert collector.add(part(2, 1, sn=900), 1.0)
    assert not collector.add(part(2, 9, sn=901), 1.0)
    assert collector.add(part(2, 2, sn=900), 1.0)
    assert collector.state == "complete"
    right = CatalogueCollector(17, NVR, 0.0)
    right.add(part(2, 1), 1.0)
    assert not right.add(part(2, 2, sn=900), 1.0)


def test_parts_cut_as_text_are_read_as_the_same_items() -> None:
    cutter = Cutter(100, UDP_BODY_BYTES, Edition.GB2022)
    pages = [*(cutter.add(camera(number)) for number in range(20)), cutter.rest()]
    parts = [CatalogPart(5, NVR, 20, tuple(text for _, text in page)) for page in pages if page]
    assert all(len(one.render()) <= UDP_BODY_BYTES for one in parts)
    read = [decode(one.render()) for one in parts]
    items = [item for one in read if isinstance(one, CatalogResponse) for item in one.items]
    assert items == [camera(number) for number in range(20)]


@pytest.mark.parametrize(
    ("sn", "device_id", "belongs"),
    [
        (70_000, NVR, True),
        (0, NVR, True),
        (70_000 & 0xFFFF, NVR, True),
        (70_000, "3402", False),
    ],
)
def test_an_answer_belongs_by_device_and_sn(sn: int, device_id: str, belongs: bool) -> None:
    collector = CatalogueCollector(70_000, NVR, 0.0)
    assert collector.add(part(2, 1, sn=sn, device_id=device_id), 1.0) is belongs


def test_a_peer_that_goes_away_leaves_it_incomplete() -> None:
    collector = CatalogueCollector(17, NVR, 0.0)
    collector.finish(4.0)
    assert (collector.state, collector.finished_at) == ("incomplete", 4.0)


@pytest.mark.parametrize("max_bytes", [UDP_BODY_BYTES, TCP_BODY_BYTES])
def test_pages_hold_their_bound_and_collect_to_the_whole(max_bytes: int) -> None:
    items = [camera(number) for number in range(250)]
    pages = list(paginate(items, 17, NVR, per_message=100, max_bytes=max_bytes))
    collector = CatalogueCollector(17, NVR, 0.0)
    for page in pages:
        assert len(page.render()) <= max_bytes
        assert len(page.items) <= 100
        collector.add(page, 1.0)
    assert collector.state == "complete"
    assert collector.take() == tuple(items)
    assert not collector.waiting
    assert len(pages) == 3 or max_bytes == UDP_BODY_BYTES


def test_an_empty_catalogue_is_one_page_of_zero() -> None:
    assert list(paginate([], 17, NVR)) == [CatalogResponse(17, NVR, 0)]


def test_an_item_larger_than_the_bound_travels_alone() -> None:
    large = CatalogItem(device_id=f"3402000000132{1:07d}", address="长" * 1000)
    pages = list(paginate([camera(0), large, camera(2)], 17, NVR, max_bytes=UDP_BODY_BYTES))
    assert [len(page.items) for page in pages] == [1, 1, 1]


def test_the_table_names_every_attribute_in_order() -> None:
    assert tuple(field.attribute for field in ITEM_FIELDS) == CatalogItem.__struct_fields__
    assert sum(field.in_info for field in ITEM_FIELDS) == 27
    assert "Password" not in {field.wire for field in ITEM_FIELDS}


def test_a_device_gets_its_mandatory_defaults_and_a_group_none() -> None:
    device = conforming(CatalogItem(device_id="34020000001320000001"))
    assert (device.parental, device.status, device.point_type) == (0, DeviceStatus.OFF, 9)
    assert device.grassroots_code == "000000"
    group = CatalogItem(device_id="34020000002150000001")
    assert conforming(group) is group
