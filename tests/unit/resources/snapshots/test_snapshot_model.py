"""How an order stands (A.2.5.7), and what is wrong with a name (9.14.1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tongshi.clock import BEIJING
from tongshi.resources.snapshots.model import Issue, Order, Person, Place, State, conclude, judge_name

CODE = "31010100001320000001"
AT = datetime(2026, 5, 1, 8, 0, tzinfo=BEIJING)
ORDER = Order("s", CODE, Place(), Person("user", "1", "a"), AT, AT + timedelta(minutes=2), count=3)
NAME = CODE + "02" + "20260501080000000" + "01"


@pytest.mark.parametrize(
    ("told", "received", "is_overdue", "state"),
    [
        (None, 0, False, State.WAITING),
        (None, 3, False, State.WAITING),
        (None, 3, True, State.COMPLETE),
        (None, 1, True, State.PARTIAL),
        (None, 0, True, State.FAILED),
        (3, 3, False, State.COMPLETE),
        (3, 2, False, State.WAITING),
        (3, 2, True, State.PARTIAL),
        (2, 2, False, State.PARTIAL),
        (2, 3, False, State.PARTIAL),
        (1, 0, True, State.FAILED),
        (0, 0, False, State.FAILED),
        (0, 2, False, State.PARTIAL),
    ],
)
def test_an_order_ends_with_the_device_s_word_or_at_its_deadline(
    told: int | None, received: int, is_overdue: bool, state: State
) -> None:
    order = replace(ORDER, told=None if told is None else ("x",) * told)
    found, reason = conclude(order, received, is_overdue=is_overdue)
    assert found is state
    assert bool(reason) is (state in (State.PARTIAL, State.FAILED) or (told is None and is_overdue))


def test_names_are_judged() -> None:
    assert judge_name(f"{NAME}.jpg", CODE, AT) == ((), AT)
    assert judge_name("", CODE, AT) == ((Issue.NO_NAME,), None)
    assert judge_name("snap.jpg", CODE, AT) == ((Issue.NAME_LAYOUT,), None)
    other = "3" * 20 + "03" + NAME[22:]
    assert judge_name(other, CODE, AT)[0] == (Issue.NAME_DEVICE, Issue.NAME_KIND)
    assert judge_name(NAME, CODE, AT + timedelta(hours=1))[0] == (Issue.NAME_TIME,)
