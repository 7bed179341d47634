"""What a simulated lower platform sends, well and badly."""

from __future__ import annotations

from typing import Any

import pytest

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.testing.defects import Defects, parts
from tongshi.testing.many_channels import ManyChannels
from tongshi.testing.simulate_lower import defects_of

PLATFORM = "31010100002000000001"
CHANNELS = ManyChannels(PLATFORM, 39, systems=3)


def sent(defects: Defects, answer: int = 0, node: str = PLATFORM) -> list[CatalogResponse]:
    bodies = parts(
        CHANNELS.items(node),
        CHANNELS.total(node),
        7,
        node,
        own=CHANNELS.own,
        defects=defects,
        answer=answer,
        per_message=4,
        max_bytes=100_000,
    )
    read = [decode(body) for body in bodies]
    assert all(isinstance(one, CatalogResponse) for one in read)
    return read  # type: ignore[return-value]  # it was just asserted


def codes(told: list[CatalogResponse]) -> list[str]:
    return [item.device_id for part in told for item in part.items]


def test_an_honest_answer_is_whole_and_says_so() -> None:
    told = sent(Defects())
    assert len(codes(told)) == len(set(codes(told))) == 43
    assert {(part.sn, part.device_id, part.sum_num) for part in told} == {(7, PLATFORM, 43)}
    assert codes(told)[0] == PLATFORM
    assert max(len(part.items) for part in told) == 4


def test_a_system_is_answered_with_itself_and_what_hangs_below() -> None:
    node = codes(sent(Defects()))[2]
    told = sent(Defects(), node=node)
    assert told[0].sum_num == len(codes(told)) == 14
    assert all(node in (item.device_id, *item.parent_ids) for part in told for item in part.items)
    assert CHANNELS.total("31010100002000000404") == 0


@pytest.mark.parametrize(
    ("defects", "answer", "items", "distinct", "sum_num"),
    [
        (Defects(lost_part=4), 0, 35, 35, 43),
        (Defects(lost_part=4, bad_answers=1), 1, 43, 43, 43),
        (Defects(doubled_part=3), 0, 55, 43, 43),
        (Defects(sum_num=5), 0, 43, 43, 48),
        (Defects(sum_num=-50), 0, 43, 43, 0),
        (Defects(stops_at=0.5), 0, 20, 20, 43),
        (Defects(surplus=6), 0, 49, 49, 43),
        (Defects(lists_itself=True), 0, 44, 43, 43),
    ],
)
def test_each_defect_does_what_it_says(
    defects: Defects, answer: int, items: int, distinct: int, sum_num: int
) -> None:
    told = sent(defects, answer)
    assert (len(codes(told)), len(set(codes(told))), told[0].sum_num) == (items, distinct, sum_num)


def test_an_item_that_is_broken_is_lost_alone() -> None:
    told = sent(Defects(broken_item=10))
    assert len(codes(told)) == 39
    assert sum(len(part.bad_items) for part in told) == 4


def test_items_may_lack_everything_but_code_and_name() -> None:
    item = sent(Defects(missing_fields=True))[3].items[0]
    assert (bool(item.name), item.civil_code, item.parent_ids, item.status) == (True, "", (), None)


def test_defects_are_given_by_name() -> None:
    words = ["loss=0.05", "lost-part=7", "wrong-charset", "sum-num=-3"]
    assert defects_of(words) == Defects(loss=0.05, lost_part=7, wrong_charset=True, sum_num=-3)
    for wrong in (["gloss=1"], ["lost-part"], ["loss=much"]):
        with pytest.raises(InvalidRequest):
            defects_of(wrong)


@pytest.mark.parametrize(
    "words", [{"channels": -1}, {"channels": 1_000_001}, {"channels": 1, "systems": 1_000}]
)
def test_a_platform_of_impossible_size_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ManyChannels(PLATFORM, **words)
