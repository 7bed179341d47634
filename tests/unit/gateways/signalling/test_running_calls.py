"""Running calls are recorded without holding up a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from tongshi.clock import ManualClock
from tongshi.errors import PeerTimeout, Unavailable
from tongshi.gateways.signalling import running_calls
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.running_calls import MAX_CALL_ID, RunningCalls
from tongshi.resources.registrations.model import OpenCall

CODE = "31010100001320000001"
TARGET = f"sip:{CODE}@192.0.2.7:5060"


class Rows:
    """A record that is as slow or as broken as a test wants."""

    def __init__(self) -> None:
        self.rows: dict[str, OpenCall] = {}
        self.writes = 0
        self.is_broken = False
        self.go = asyncio.Event()
        self.go.set()

    async def note_calls(self, opened: Sequence[OpenCall], ended: Sequence[str]) -> None:
        self.writes += 1
        await self.go.wait()
        if self.is_broken:
            raise Unavailable("数据库不可用")
        self.rows.update({call.call_id: call for call in opened})
        for call_id in ended:
            self.rows.pop(call_id, None)

    async def left_open(self, since: datetime) -> Sequence[OpenCall]:
        return [call for call in self.rows.values() if call.opened_at >= since]


class Line:
    """An endpoint that notes what it is asked to send, and never hears an answer."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def request(self, method: str, **words: Any) -> Any:
        self.sent.append({"method": method, **words})
        raise PeerTimeout("对端无应答")


def made(rows: Rows, line: Line | None = None) -> RunningCalls:
    return RunningCalls(line or Line(), rows, ManualClock())  # type: ignore[arg-type]


def call(call_id: str = "c1") -> Any:
    dialog = SimpleNamespace(
        target=TARGET, local=SimpleNamespace(tag="ours"), remote=SimpleNamespace(tag="theirs"), local_cseq=1
    )
    return SimpleNamespace(call_id=call_id, remote=Remote("192.0.2.7", 5060, "udp"), dialog=dialog)


async def test_a_call_has_its_row_before_its_media_is_used_and_none_afterwards() -> None:
    rows = Rows()
    running = made(rows)
    forget = await running.note(call(), "down", CODE)
    assert list(rows.rows) == ["c1"]
    forget()
    forget()  # the peer's BYE and our own end may both tell
    await running.stop()
    assert not rows.rows
    assert rows.writes == 2


async def test_a_slow_record_does_not_hold_up_the_picture_and_misses_nothing() -> None:
    rows = Rows()
    rows.go.clear()
    running = made(rows)
    async with asyncio.timeout(1):
        await running.note(call("a"), "down", CODE)
        (await running.note(call("b"), "down", CODE))()
        await running.note(call("c"), "down", CODE)
    assert rows.writes == 1
    rows.go.set()
    await running.stop()
    assert list(rows.rows) == ["a", "c"]
    assert rows.writes == 2  # whatever came meanwhile went together


async def test_a_broken_record_does_not_break_a_call() -> None:
    rows = Rows()
    rows.is_broken = True
    running = made(rows)
    (await running.note(call("a"), "down", CODE))()
    await running.stop()
    rows.is_broken = False
    await running.note(call("b"), "down", CODE)
    assert list(rows.rows) == ["b"]


async def test_a_call_id_that_no_index_can_hold_is_not_kept() -> None:
    rows = Rows()
    running = made(rows)
    running.begin(call("x" * (MAX_CALL_ID + 1)), "up", CODE)()
    await running.stop()
    assert not rows.writes


async def test_what_was_left_open_gets_a_bye_inside_its_dialog_and_is_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(running_calls, "BYES_AT_ONCE", 2)
    rows, line = Rows(), Line()
    before = made(rows)
    for number in range(5):
        await before.note(call(f"c{number}"), "down", CODE)
    after = made(rows, line)
    await after.end_left(await after.left())
    await after.stop()
    assert not rows.rows
    assert [one["call_id"] for one in line.sent] == [f"c{number}" for number in range(5)]
    first = line.sent[0]
    assert (first["method"], first["to_id"], first["request_uri"]) == ("BYE", CODE, TARGET)
    assert (first["from_tag"], first["to_tag"], first["cseq"]) == ("ours", "theirs", 2)
    assert first["remote"] == Remote("192.0.2.7", 5060, "udp")
