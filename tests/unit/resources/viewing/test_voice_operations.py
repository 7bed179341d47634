"""Rows E.2-12 and E.2-13 over HTTP: what is asked for, what is refused, and by whose right."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import httpx2
import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Forbidden, NotFound
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.voice import Voice, VoiceClosing, VoiceOpening, VoiceWish
from tongshi.resources.viewing.voice_http import operations
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.testing.unlimited import NoAnswers, NoQuotas
from tongshi.web import app as web
from tongshi.web.annex_e import ROWS
from tongshi.web.ports import Head, Identity

CODE = "31010400001310000001"
START, STOP = "/api/v1/video/audio/start", "/api/v1/video/audio/stop"


@dataclass
class SaidVoice:
    """Stands for ``Voice``: remembers what it was asked for."""

    asked: list[tuple[Viewer, VoiceWish]] = field(default_factory=list)
    error: Exception | None = None

    async def start(self, viewer: Viewer, wish: VoiceWish) -> VoiceOpening:
        self.asked.append((viewer, wish))
        if self.error is not None:
            raise self.error
        until = datetime(2026, 1, 1, tzinfo=UTC)
        return VoiceOpening("s1", wish.mode, wish.law, until, uplink_url="ws://media/talk/s1?ticket=t")

    async def stop(self, viewer: Viewer, session_id: str) -> VoiceClosing:
        if session_id != "s1":
            raise NotFound("没有这个会话", code=40404)
        return VoiceClosing(True, 1.5)


class OpenGate:
    """Lets in who names a right in a header."""

    async def authenticate(self, head: Head) -> Identity | None:
        held = head.headers.get("x-rights", "")
        if not held:
            return None
        rights = frozenset(Permission(right) for right in held.split(","))
        return Identity(Subject(SubjectKind.USER, "1", "张三", permissions=rights), "user:1")

    async def authorise(self, identity: Identity, permission: StrEnum, head: Head) -> None:
        if permission not in cast(Subject, identity.caller).permissions:
            raise Forbidden("未授予该接口的权限")


class NoRecorder:
    async def record(self, attempt: Any) -> None:
        return None


def client(voice: SaidVoice) -> httpx2.AsyncClient:
    made = web.build(
        operations(cast(Voice, voice)),
        gate=OpenGate(),
        recorder=NoRecorder(),
        clock=ManualClock(),
        answers=NoAnswers(),
        quotas=NoQuotas(),
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=made), base_url="http://platform")


def test_the_operations_are_the_rows_of_the_standard() -> None:
    rows = {row.row: row for row in ROWS}
    for operation in operations(cast(Voice, None)):
        row = rows[str(operation.row)]
        assert (operation.name, operation.method, operation.path) == (row.name, row.method, row.path)
        assert (operation.summary, operation.permission.value) == (row.summary, row.permission)


async def test_a_voice_is_opened_and_closed() -> None:
    voice = SaidVoice()
    async with client(voice) as http:
        rights = {"x-rights": "video:live,video:close"}
        body = {"DeviceID": CODE, "mode": "broadcast", "codec": "g711u", "purpose": "疏导"}
        answer = (await http.post(START, json=body, headers=rights)).json()
        assert answer["code"] == 0
        assert answer["data"] == {
            "sessionId": "s1",
            "mode": "broadcast",
            "url": None,
            "uplinkUrl": "ws://media/talk/s1?ticket=t",
            "codec": "g711u",
            "sampleRate": 8000,
            "halfDuplex": True,
            "expiresAt": "2026-01-01T00:00:00Z",
            "heard": None,
        }
        ((viewer, wish),) = voice.asked
        assert (viewer.subject.name, wish.device_id, wish.law, wish.purpose) == ("张三", CODE, "ulaw", "疏导")
        closed = (await http.post(STOP, json={"sessionId": "s1"}, headers=rights)).json()["data"]
        assert closed == {"closed": True, "durationSec": 1.5}
        unknown = await http.post(STOP, json={"sessionId": "s2"}, headers=rights)
        assert (unknown.status_code, unknown.json()["code"]) == (404, 40404)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"DeviceID": CODE, "codec": "aac", "mode": "talk"}, 42203),
        ({"DeviceID": CODE, "codec": "aac", "mode": "broadcast"}, 42203),
        ({"DeviceID": CODE, "codec": "g722.1"}, 42203),
        ({"DeviceID": CODE, "protocol": "webrtc"}, 42203),
        ({"DeviceID": CODE, "protocol": "hls"}, 42203),
        ({"DeviceID": "31"}, 40001),
        ({"DeviceID": CODE, "mode": "shout"}, 40001),
        ({}, 40001),
    ],
)
async def test_what_we_do_not_have_is_refused_by_name(body: dict[str, str], code: int) -> None:
    voice = SaidVoice()
    async with client(voice) as http:
        answer = (await http.post(START, json=body, headers={"x-rights": "video:live"})).json()
    assert answer["code"] == code
    assert not voice.asked
    if code == 42203:
        assert answer["data"]["details"]["supported"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"codec": "aac", "mode": "talk"}, "只送 G.711 语音"),
        ({"codec": "g722.1", "mode": "broadcast"}, "只送 G.711 语音"),
        ({"codec": "g722.1"}, "没有 G.722.1 的解码器"),
    ],
)
async def test_a_codec_that_we_lack_is_refused_with_why_and_the_way_out(
    body: dict[str, str], words: str
) -> None:
    async with client(SaidVoice()) as http:
        asked = {"DeviceID": CODE, **body}
        answer = (await http.post(START, json=asked, headers={"x-rights": "video:live"})).json()
    assert words in answer["msg"]
    assert "请将 codec 设为 g711a" in answer["msg"]
    assert answer["data"]["field"] == "codec"


async def test_nobody_and_the_powerless_are_refused_and_a_held_device_names_its_holder() -> None:
    voice = SaidVoice(error=Conflict("该设备正在被喊话", code=40903, details={"holder": "李四"}))
    async with client(voice) as http:
        body = {"DeviceID": CODE, "mode": "talk"}
        assert (await http.post(START, json=body)).status_code == 401
        powerless = await http.post(START, json=body, headers={"x-rights": "archive:read"})
        assert powerless.status_code == 403
        held = await http.post(START, json=body, headers={"x-rights": "video:live"})
    assert (held.status_code, held.json()["code"]) == (409, 40903)
    assert held.json()["data"]["details"]["holder"] == "李四"
