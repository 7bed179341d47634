"""The sound of a download, with an engine and a coder that do what the test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from tongshi.errors import Unavailable
from tongshi.gateways.media import file_sound
from tongshi.gateways.media.file_sound import FileSound
from tongshi.resources.viewing.media_ports import Ingest, Transcoder
from tongshi.resources.viewing.model import SoundOfFile

FLV = b"FLV\x01\x04\0\0\0\x09\0\0\0\0"


def sound_tag(time_ms: int, data: bytes = b"\xd5" * 160) -> bytes:
    """One tag of A-law as the engine writes it."""
    content = b"\x72" + data
    head = b"\x08" + len(content).to_bytes(3, "big") + (time_ms & 0xFFFFFF).to_bytes(3, "big") + bytes(4)
    return head + content + (len(content) + 11).to_bytes(4, "big")


class FakeIngest:
    """Keeps the engine's end of the connection."""

    def __init__(self) -> None:
        self.engine: socket.socket | None = None

    async def attach(self, container: str, fd: int, head: bytes, on_closed: Any) -> int:
        assert container == "flv-audio"
        self.engine = socket.socket(fileno=fd)
        return 1


class FakeJob:
    rate_hz = 16_000

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self.take = take
        self.ended = asyncio.Event()
        self.reason = ""
        self.fed = b""
        self.is_given_back = False

    def feed(self, data: bytes) -> None:
        self.fed += data

    def finish(self) -> None:
        self.ended.set()

    async def end(self) -> None:
        self.is_given_back = True


class FakeCoder:
    """Begins one job."""

    def __init__(self) -> None:
        self.job: FakeJob | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def begin_sound(self, codec: str, take: Callable[[int, bytes], None]) -> FakeJob:
        await self.go.wait()
        self.job = FakeJob(take)
        return self.job


async def begun() -> tuple[FileSound, socket.socket]:
    sound, ingest = FileSound(), FakeIngest()
    await sound.begin(cast(Ingest, ingest))
    assert ingest.engine is not None
    return sound, ingest.engine


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


async def test_the_coder_gets_all_sound_also_that_from_before_it_began() -> None:
    sound, engine = await begun()
    coder = FakeCoder()
    engine.sendall(FLV + sound_tag(5_000))
    await until(lambda: sound._heard == "g711a")
    await sound.decide("", cast(Transcoder, coder), lambda words: None)
    assert sound.told == SoundOfFile("g711a", 16_000)
    job = coder.job
    assert job is not None
    engine.sendall(sound_tag(5_020))
    await until(lambda: job.fed == FLV + sound_tag(5_000) + sound_tag(5_020))
    engine.close()
    await sound.rest()
    assert job.is_given_back
    await sound.end()


async def test_one_that_dies_in_the_middle_is_told_with_the_seconds_that_are_there() -> None:
    sound, engine = await begun()
    coder, words = FakeCoder(), list[str]()
    engine.sendall(FLV + sound_tag(5_000))
    await until(lambda: sound._heard == "g711a")
    await sound.decide("g711a", cast(Transcoder, coder), words.append)
    assert coder.job is not None
    coder.job.take(16_000 * 7, b"frame")
    coder.job.reason = "status -9"
    coder.job.ended.set()
    await until(lambda: bool(words))
    assert sound.told == SoundOfFile("g711a", 16_000, "转码进程异常退出", 2.1)
    assert coder.job.is_given_back, "its place is free at once"
    engine.close()
    await sound.end()


async def test_one_that_does_not_come_to_its_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sound, "FINISH_S", 0.05)
    monkeypatch.setattr(FakeJob, "finish", lambda self: None)
    sound, engine = await begun()
    coder, words = FakeCoder(), list[str]()
    await sound.decide("g711u", cast(Transcoder, coder), words.append)
    engine.close()
    await sound.rest()
    assert (sound.told, len(words)) == (SoundOfFile(why="转码进程没有及时完成"), 1)
    assert coder.job is not None
    assert coder.job.is_given_back
    await sound.end()


async def test_a_download_that_is_closed_while_its_coder_begins_keeps_no_place() -> None:
    sound, engine = await begun()
    coder = FakeCoder()
    coder.go.clear()
    deciding = asyncio.ensure_future(sound.decide("g711a", cast(Transcoder, coder), lambda words: None))
    await asyncio.sleep(0)
    await sound.end()
    coder.go.set()
    await deciding
    assert coder.job is not None
    assert coder.job.is_given_back
    engine.close()


@pytest.mark.parametrize(
    ("codec", "why"), [("g711a", "转码已满"), ("aac", ""), ("g722.1", ""), ("", "声音在下载开始之后才出现")]
)
async def test_what_is_not_coded_is_not_waited_for(codec: str, why: str) -> None:
    class Full:
        async def begin_sound(self, codec: str, take: object) -> FakeJob:
            raise Unavailable("转码已满", code=50302)

    sound, engine = await begun()
    assert sound.beside(b"file") == b""
    await sound.decide(codec, cast(Transcoder, Full()), lambda words: None)
    assert sound.told == SoundOfFile(why=why)
    assert sound.beside(b" of pictures") == b"file of pictures"
    assert await sound.rest() == b""
    await sound.end()
    engine.close()


async def test_more_pictures_than_may_wait_are_written_without_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_sound, "MAX_HELD_BYTES", 8)
    sound, engine = await begun()
    assert sound.beside(b"12345678") == b""
    assert sound.beside(b"9") == b"123456789"
    coder = FakeCoder()
    await sound.decide("g711a", cast(Transcoder, coder), lambda words: None)
    assert (sound.told.why, coder.job) == ("声音的编码没有及时得知", None)
    await sound.end()
    engine.close()
