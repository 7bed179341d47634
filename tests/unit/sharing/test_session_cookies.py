"""Two platforms on one host: a browser sends the cookies of both to each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tongshi.clock import ManualClock
from tongshi.sharing.gate import SharingGate, cookie_name
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.web.ports import Head

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"


async def test_each_platform_takes_its_own_session_of_two() -> None:
    asked: list[str] = []

    async def resume(token: str) -> Any:
        asked.append(token)
        return SimpleNamespace(subject=Subject(SubjectKind.USER, "1", "admin", frozenset()), csrf_token="c")

    accounts: Any = SimpleNamespace(resume=resume)
    grants: Any = None
    clock = ManualClock()
    cookies = {cookie_name(CITY): "of the city", cookie_name(DISTRICT): "of the district"}
    head = Head("r-1", "GET", "/api/v1/session", "", {}, cookies, "127.0.0.1", clock.at())
    for platform_id in (CITY, DISTRICT):
        assert await SharingGate(accounts, grants, clock, platform_id).authenticate(head) is not None
    assert asked == ["of the city", "of the district"]
    assert await SharingGate(accounts, grants, clock, "31011500002000000001").authenticate(head) is None
