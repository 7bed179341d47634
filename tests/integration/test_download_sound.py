"""G.711 recordings downloaded as MP4: their sound as AAC at its time, their pictures byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tongshi.clock import BEIJING
from tongshi.gateways.media.spool import FileSpool
from tongshi.gateways.media.transcoder import process
from tongshi.gateways.media.transcoder.pool import Transcoders
from tongshi.gateways.signalling.trace.ring import Note
from tongshi.ids import DeviceId
from tongshi.protocols.media.adts import SAMPLES
from tongshi.resources.viewing.history import HistoryOpening
from tongshi.resources.viewing.history_wire import playback_answer
from tongshi.resources.viewing.model import Download, EndReason, Transport
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing import calls
from tongshi.testing.frame_code import read_code
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded, second_of
from tongshi.testing.senders import open_sender
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.stream import FrameSender

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
START = datetime(2026, 5, 19, 22, 0, tzinfo=BEIJING)
AAC_FRAME_S = SAMPLES / 16_000
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


class Overheard:
    """A camera's sender that keeps a copy of the pictures."""

    def __init__(self, sender: FrameSender, units: list[bytes]) -> None:
        self._sender, self._units = sender, units

    @property
    def local_port(self) -> int:
        return self._sender.local_port

    def connect(self, host: str, port: int) -> None:
        self._sender.connect(host, port)

    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        sent = self._sender.send_video(annexb, pts_90k, key)
        if sent:
            self._units += [part.rstrip(b"\0") for part in annexb.split(b"\0\0\1") if part.strip(b"\0")]
        return sent

    def send_audio(self, payload: bytes, pts_90k: int) -> int:
        return self._sender.send_audio(payload, pts_90k)

    def close(self) -> None:
        self._sender.close()


async def recorder(neighbourhood: Neighbourhood, **changes: Any) -> tuple[SmallPlatform, Any]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    recorded = (Recorded(START, START + timedelta(hours=1)),)
    row = CameraPlan(
        id=CODE, scene="crossing-day", civil_code="310101", recorded=recorded, **{"audio": True, **changes}
    )
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return platform, camera


async def opened(platform: SmallPlatform, seconds: float, speed: int) -> HistoryOpening:
    window = Window(START, START + timedelta(seconds=seconds))
    asked = Wish(
        DeviceId(CODE), expire_s=60, window=window, download_speed=speed, transport=Transport.TCP_PASSIVE
    )
    return await platform.history.watch(platform.viewer, asked, RecordLocation.AUTO)


def download(platform: SmallPlatform, opening: HistoryOpening) -> Download:
    found = platform.viewing.session(platform.viewer, opening.opening.view.session_id).download
    assert found is not None
    return found


async def fetched(opening: HistoryOpening, path: Path) -> Path:
    ((_, url),) = opening.opening.urls

    def fetch() -> None:
        with urllib.request.urlopen(url, timeout=60) as answer:  # of this test's platform
            path.write_bytes(answer.read())

    await asyncio.to_thread(fetch)
    return path


def process_of(platform: SmallPlatform) -> int:
    (job,) = platform.transcoders._jobs
    assert job._process is not None
    return job._process.pid


def kind_of(unit: bytes, codec: str) -> int:
    return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63


def units_of(path: Path) -> list[bytes]:
    """The NAL units of the pictures of an MP4 in order."""
    units = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            data, at = bytes(packet), 0
            while at < len(data):
                size = int.from_bytes(data[at : at + 4], "big")
                units.append(data[at + 4 : at + 4 + size].rstrip(b"\0"))
                at += 4 + size
    assert units
    return units


def pictures_of(path: Path) -> list[tuple[float, datetime]]:
    """The time of each picture, and the recorded second that it shows."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            code = read_code(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
            assert code is not None
            assert frame.time is not None
            found.append((frame.time, second_of(code.counter, START)))
    return found


def sound_of(path: Path) -> tuple[float, NDArray[np.float32]]:
    """When the sound begins, and all of it as one piece; every frame follows the one before."""
    parts, first, end = [], None, None
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        assert (stream.codec_context.name, stream.sample_rate) == ("aac", 16_000)
        for frame in container.decode(stream):
            assert frame.time is not None
            first = frame.time if first is None else first
            assert end is None or frame.time == pytest.approx(end, abs=0.001)
            end = frame.time + frame.samples / frame.sample_rate
            parts.append(np.asarray(frame.to_ndarray()[0], np.float32))
    assert first is not None
    return first, np.concatenate(parts)


def strokes(begins: float, samples: NDArray[np.float32]) -> list[float]:
    """When the chimes are struck: where it is suddenly louder than in the tenth of a second before."""
    step = 160
    loud = np.array([np.abs(samples[at : at + step]).max() for at in range(0, len(samples) - step, step)])
    found = [n for n in range(10, len(loud)) if loud[n] > 0.1 and loud[n] > 2.0 * loud[n - 10 : n].max()]
    return [begins + n * step / 16_000 for n in found]


@pytest.mark.parametrize(
    ("codec", "law", "speed", "parameter_sets"),
    [("h264", "alaw", 4, {7, 8, 9}), ("h265", "ulaw", 8, {32, 33, 34, 35})],
)
async def test_sound_comes_as_aac_at_its_time_beside_the_very_pictures_that_were_sent(
    neighbourhood: Neighbourhood,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    codec: str,
    law: str,
    speed: int,
    parameter_sets: set[int],
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(calls, "open_sender", lambda *given: Overheard(open_sender(*given), sent))
    platform, _ = await recorder(neighbourhood, codec=codec, law=law)
    opening = await opened(platform, 8, speed)
    answer = playback_answer(opening)
    assert answer.codec is not None
    assert answer.transcoded_from is not None
    source = {"alaw": "g711a", "ulaw": "g711u"}[law]
    assert (answer.codec.video, answer.codec.audio, answer.notice) == (codec, "aac", "")
    assert (answer.transcoded_from.video, answer.transcoded_from.audio) == (codec, source)
    assert platform.transcoders.running == 1
    path = await fetched(opening, tmp_path / "got.mp4")
    assert units_of(path) == [unit for unit in sent if kind_of(unit, codec) not in parameter_sets]
    pictures = pictures_of(path)
    first = pictures[0][0]
    assert pictures[-1][0] - first == pytest.approx(8.0, abs=0.2)
    begins, samples = sound_of(path)
    assert begins == pytest.approx(first, abs=AAC_FRAME_S)
    assert begins + len(samples) / 16_000 == pytest.approx(first + 8.0, abs=3 * AAC_FRAME_S)
    struck = strokes(begins, samples)
    assert struck == pytest.approx([first + second for second in range(1, 8)], abs=AAC_FRAME_S)
    for second in range(1, 8):  # and the pictures say the same second there, in steps of theirs
        shown = next(at for at, moment in pictures if moment >= START + timedelta(seconds=second))
        assert 0 <= shown - (first + second) < 0.17
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert (view.end_reason, download(platform, opening).state) == (EndReason.FINISHED, "complete")
    assert download(platform, opening).words == ""


async def test_a_slow_process_slows_nothing_and_loses_nothing(
    neighbourhood: Neighbourhood, tmp_path: Path
) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 16, 8)
    os.kill(process_of(platform), signal.SIGSTOP)
    await neighbourhood.until(lambda: camera.calls.count == 0)  # all has come, and nothing was coded
    await neighbourhood.until(lambda: download(platform, opening).media_s >= 15.6)
    assert download(platform, opening).state == "receiving"
    os.kill(process_of(platform), signal.SIGCONT)
    path = await fetched(opening, tmp_path / "got.mp4")
    begins, samples = sound_of(path)
    assert begins + len(samples) / 16_000 == pytest.approx(pictures_of(path)[0][0] + 16.0, abs=0.2)
    assert len(strokes(begins, samples)) == 15
    await neighbourhood.nothing_left(platform)


@pytest.mark.parametrize(("limit", "why"), [(0, "平台已关闭转码"), (1, "转码已满（1/1 路正在进行）")])
async def test_without_a_place_the_file_comes_without_sound_and_says_why(
    neighbourhood: Neighbourhood, tmp_path: Path, limit: int, why: str
) -> None:
    platform, _ = await recorder(neighbourhood)
    platform.transcoders.limit = limit
    job = None if limit == 0 else await platform.transcoders.begin_sound("g711a", lambda at, frame: None)
    opening = await opened(platform, 2, 4)
    answer = playback_answer(opening)
    assert why in answer.notice
    assert "声音编码为 g711a" in answer.notice
    assert "format 为 ps" in answer.notice
    assert answer.codec is not None
    assert (answer.codec.audio, answer.transcoded_from) == ("g711a", None)
    path = await fetched(opening, tmp_path / "got.mp4")
    assert len(pictures_of(path)) == 25
    with av.open(str(path)) as container:
        assert not container.streams.audio
    assert download(platform, opening).words == answer.notice
    if job is not None:
        await job.end()
    await neighbourhood.nothing_left(platform)


async def test_a_process_that_dies_before_its_first_frame_leaves_a_file_of_pictures_and_the_reason(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    platform, _ = await recorder(neighbourhood)
    monkeypatch.setattr(process, "_MODULE", "tongshi.no_such_module")
    opening = await opened(platform, 4, 4)
    path = await fetched(opening, tmp_path / "got.mp4")
    assert len(pictures_of(path)) == 50
    with av.open(str(path)) as container:
        assert not container.streams.audio
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED
    assert "转码进程异常退出，文件中没有声音" in download(platform, opening).words
    noted = platform.gateway.timeline.find(view.trace_id)
    assert noted is not None
    assert [one for one in noted.all() if isinstance(one, Note) and "转码进程异常退出" in one.text]
    assert platform.transcoders.failed == 1
    await neighbourhood.nothing_left(platform)


async def test_a_process_that_dies_in_the_middle_ends_the_sound_and_not_the_pictures(
    neighbourhood: Neighbourhood,
) -> None:
    platform, _ = await recorder(neighbourhood)
    opening = await opened(platform, 120, 2)
    session = platform.viewing._sessions.get(opening.opening.view.session_id)
    assert session is not None
    spool = session.spool
    assert isinstance(spool, FileSpool)
    sound = spool._sound
    assert sound is not None
    await neighbourhood.until(lambda: sound._mixer.sound_s is not None)
    os.kill(process_of(platform), signal.SIGKILL)
    await neighbourhood.until(lambda: bool(download(platform, opening).words))
    told = download(platform, opening)
    assert told.state == "receiving"
    assert "转码进程异常退出，文件中只有前 " in told.words
    assert told.sound.until_s is not None
    assert 0 < told.sound.until_s <= told.media_s + 1
    await neighbourhood.until(lambda: download(platform, opening).bytes > told.bytes)
    assert platform.transcoders.running == 0, "its place is free at once"
    await platform.history.close(platform.viewer, opening.opening.view.session_id)
    await neighbourhood.nothing_left(platform)


async def test_who_closes_a_download_frees_its_place(neighbourhood: Neighbourhood) -> None:
    platform, _ = await recorder(neighbourhood)
    opening = await opened(platform, 120, 1)
    assert platform.transcoders.running == 1
    await platform.history.close(platform.viewer, opening.opening.view.session_id)
    await neighbourhood.nothing_left(platform)


async def test_a_switched_off_pool_refuses_in_words() -> None:
    with pytest.raises(Exception, match="平台已关闭转码"):
        await Transcoders(0).begin_sound("g711a", lambda at, frame: None)
    with pytest.raises(Exception, match="g722"):
        await Transcoders(1).begin_sound("g722.1", lambda at, frame: None)
