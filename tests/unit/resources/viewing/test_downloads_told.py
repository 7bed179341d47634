"""What a download says of sound that its file cannot hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tongshi.ids import DeviceId
from tongshi.resources.viewing.history import HistoryOpening
from tongshi.resources.viewing.history_wire import playback_answer
from tongshi.resources.viewing.media_ports import Ingest, Tell, Transcoder
from tongshi.resources.viewing.model import Codec, FileFormat, Opening, SoundOfFile
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.recordings import Window
from tongshi.resources.viewing.sessions import Session, Wish
from tongshi.resources.viewing.wire import session_answer
from tongshi.sharing.model import Subject, SubjectKind

AT = datetime(2026, 5, 19, tzinfo=UTC)
UNCODED = SoundOfFile()


class SaidSpool:
    """A file that holds something."""

    size, media_s, is_complete = 9, 1.0, False

    def __init__(self, sound: SoundOfFile = UNCODED) -> None:
        self.done = asyncio.Event()
        self.sound = sound

    async def give_sound(self, codec: str, transcoder: Transcoder | None, tell: Tell) -> None:
        raise NotImplementedError

    async def begin(self, ingest: Ingest) -> None:
        raise NotImplementedError

    def sender_finished(self) -> None:
        raise NotImplementedError

    def read(self) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def discard(self) -> None:
        raise NotImplementedError


def downloading(file_format: FileFormat, sound: str, made: SoundOfFile) -> Session:
    wish = Wish(
        DeviceId("31010100001320000001"),
        window=Window(AT, AT),
        download_speed=1,
        file_format=file_format,
    )
    session = Session(Viewer(Subject(SubjectKind.USER, "1", "张三"), "127.0.0.1"), wish, 0.0, AT)
    session.spool = SaidSpool(made)
    session.codec = Codec("h264", sound)
    return session


@pytest.mark.parametrize(
    ("file_format", "sound", "left_out"),
    [
        (FileFormat.MP4, "g711a", "g711a"),
        (FileFormat.MP4, "g722.1", "g722.1"),
        (FileFormat.MP4, "aac", ""),
        (FileFormat.MP4, "", ""),
        (FileFormat.PS, "g711u", ""),
        (FileFormat.PS, "g722.1", ""),
    ],
)
def test_sound_that_a_file_cannot_hold_is_told_in_the_answer_and_the_session(
    file_format: FileFormat, sound: str, left_out: str
) -> None:
    session = downloading(file_format, sound, UNCODED)
    view = session.view(1.0)
    told = session_answer(view).download
    assert view.download is not None
    assert told is not None
    answer = playback_answer(HistoryOpening(Opening(view, ()), None, None, None))
    assert view.download.left_out == left_out
    assert told.notice == answer.notice == view.download.words
    assert bool(told.notice) == bool(left_out)
    if left_out:
        assert f"声音编码为 {left_out}" in told.notice
        assert "format 为 ps" in told.notice


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (SoundOfFile("g711a", 16_000), ""),
        (
            SoundOfFile("g711a", 16_000, "转码进程异常退出", 12.34),
            "录像的声音由 g711a 转码为 AAC，转码进程异常退出，文件中只有前 12.3 秒的声音",
        ),
        (SoundOfFile(why="转码已满"), "声音编码为 g711a，MP4 不能承载，转码已满，文件中没有声音"),
    ],
)
def test_sound_that_is_coded_anew_is_told_with_its_source_and_what_is_missing_of_it(
    made: SoundOfFile, told: str
) -> None:
    view = downloading(FileFormat.MP4, "g711a", made).view(1.0)
    assert view.download is not None
    assert told in view.download.words
    assert bool(told) == bool(view.download.words)
    assert view.codec is not None
    if made.coded_from:
        assert (view.codec.audio, view.codec.audio_rate_hz) == ("aac", 16_000)
        assert view.transcoded_from == Codec("h264", "g711a")
    else:
        assert (view.codec.audio, view.transcoded_from) == ("g711a", None)
