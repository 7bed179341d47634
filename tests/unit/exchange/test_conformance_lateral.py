"""Who may tell us of devices: lower platforms and departments beside us, nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Forbidden
from tongshi.exchange.service import Exchange
from tongshi.resources.platforms.model import Relation

SENDER = "31010400002000000001"


def exchange(relation: Relation | None) -> Exchange:
    async def list_all() -> list[Any]:
        platform = SimpleNamespace(id=SENDER, relation=relation, is_enabled=True)
        return [] if relation is None else [SimpleNamespace(platform=platform)]

    async def nothing_stored(*_: Any) -> None:
        return None

    platforms: Any = SimpleNamespace(list_all=list_all)
    database: Any = SimpleNamespace(read=nothing_stored)
    return Exchange(database, ManualClock(), platforms, "31000000002000000001")


@pytest.mark.parametrize("relation", [Relation.LOWER, Relation.LATERAL])
async def test_lower_and_lateral_platforms_may_push(relation: Relation) -> None:
    house = await exchange(relation).house(SENDER)
    assert SENDER in house.neighbours


@pytest.mark.parametrize("relation", [Relation.UPPER, None])
async def test_an_upper_and_a_stranger_may_not_push(relation: Relation | None) -> None:
    with pytest.raises(Forbidden):
        await exchange(relation).house(SENDER)
