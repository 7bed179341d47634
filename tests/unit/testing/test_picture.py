"""The living picture: what is drawn into it survives coding and can be read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tongshi.errors import InvalidRequest
from tongshi.testing.clips import Clip, load_clip, make_clips, write_clip
from tongshi.testing.frame_code import Code, read_code, write_code
from tongshi.testing.lettering import Lettering, find_font
from tongshi.testing.pan_tilt import View
from tongshi.testing.picture import HEIGHT, WIDTH, Codec, CodedFrame, Picture, clock_text
from tongshi.testing.scenery import WORLDS

AT = datetime(2026, 3, 4, 23, 59, 58, tzinfo=UTC)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clips") / "crossing-day.mp4"
    write_clip(path, WORLDS["crossing-day"](), frames=10)
    return load_clip(path)


@pytest.fixture(scope="module")
def lettering() -> Lettering:
    return Lettering()


def decode(frames: list[CodedFrame], codec: Codec) -> list[NDArray[np.uint8]]:
    """Luma planes, decoded by FFmpeg."""
    decoder = av.CodecContext.create("hevc" if codec == "h265" else "h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))]
    pictures += decoder.decode(None)
    return [picture.to_ndarray()[:HEIGHT].astype(np.uint8) for picture in pictures]


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("rate_kbps", [128, 512])
def test_the_block_code_survives_compression(
    clip: Clip, lettering: Lettering, codec: Codec, rate_kbps: int
) -> None:
    picture = Picture(clip, lettering, label="东门", codec=codec, rate_kbps=rate_kbps)
    views = [View(pan=(330.0 + 2.5 * n) % 360, tilt=-12.5 + n, zoom=1.0 + n / 10) for n in range(30)]
    frames = [picture.next(view, AT + timedelta(seconds=n * 0.08)) for n, view in enumerate(views)]
    decoded = decode(frames, codec)
    assert [read_code(luma) for luma in decoded] == [
        Code(round(view.pan, 1), round(view.tilt, 1), round(view.zoom, 1), n) for n, view in enumerate(views)
    ]


def test_a_key_frame_comes_every_two_seconds_and_on_demand(clip: Clip, lettering: Lettering) -> None:
    picture = Picture(clip, lettering, label="东门")
    keys = [n for n in range(52) if picture.next(View(), AT, force_key=n == 33).is_key]
    assert keys[:3] == [0, 25, 33]


def test_every_key_frame_carries_its_parameter_sets(clip: Clip, lettering: Lettering) -> None:
    picture = Picture(clip, lettering, label="东门")
    frames = [picture.next(View(), AT) for _ in range(26)]
    assert all(b"\x00\x00\x00\x01\x67" in frame.data for frame in frames if frame.is_key)
    assert len(decode(frames[25:], "h264")) == 1


@pytest.mark.parametrize("view", [View(pan=90.0), View(tilt=40.0), View(zoom=2.0)])
def test_turning_and_zooming_change_the_scene(clip: Clip, lettering: Lettering, view: View) -> None:
    middle = slice(60, 300)
    before, after = Picture(clip, lettering, label="x"), Picture(clip, lettering, label="x")
    before.draw(View(), AT)
    after.draw(view, AT)
    change = np.abs(before.luma[middle].astype(int) - after.luma[middle].astype(int)).mean()
    assert change > 5.0


def test_panning_right_shows_what_was_on_the_right(clip: Clip, lettering: Lettering) -> None:
    before, after = Picture(clip, lettering, label="x"), Picture(clip, lettering, label="x")
    before.draw(View(), AT)
    after.draw(View(pan=45.0), AT)  # 160 of 1,280 pixels
    assert np.array_equal(before.luma[100:300, 160:], after.luma[100:300, : WIDTH - 160])


def test_all_limits_of_the_head_stay_inside_the_panorama(clip: Clip, lettering: Lettering) -> None:
    picture = Picture(clip, lettering, label="x")
    for pan in (0.0, 123.4, 359.9):
        for tilt in (-20.0, 0.0, 70.0):
            for zoom in (1.0, 1.01, 3.3, 8.0):
                picture.draw(View(pan, tilt, zoom), AT)


def test_a_sub_stream_is_half_as_large_and_still_the_scene(clip: Clip, lettering: Lettering) -> None:
    small = Picture(clip, lettering, label="PTZ-1", rate_kbps=128, is_small=True)
    coded = [small.next(View(), AT) for _ in range(3)]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    seen = [one for frame in coded for one in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)
    assert {(one.width, one.height) for one in seen} == {(WIDTH // 2, HEIGHT // 2)}
    drawn = small.luma[::2, ::2].astype(int)
    assert np.abs(seen[-1].to_ndarray()[: HEIGHT // 2].astype(int) - drawn).mean() < 12


def test_the_clock_shows_beijing_time() -> None:
    assert clock_text(AT, chinese=True) == "2026年03月05日 星期四 07:59:58"
    assert clock_text(AT, chinese=False) == "2026-03-05 07:59:58"


def test_the_clock_line_changes_with_the_second_and_only_then(clip: Clip, lettering: Lettering) -> None:
    def line(at: datetime) -> bytes:
        picture = Picture(clip, lettering, label="x")
        picture.draw(View(), at)
        return picture.luma[8:38, 12:330].tobytes()

    assert line(AT) == line(AT + timedelta(milliseconds=900))
    assert line(AT) != line(AT + timedelta(seconds=1))


def test_without_a_chinese_font_the_code_of_the_device_is_drawn(clip: Clip) -> None:
    latin = find_font(("DejaVuSans.ttf",))
    plain = Lettering(font=latin)
    plain.has_chinese = False
    named = Picture(clip, plain, label="南京路", fallback_label="31010100001310000001")
    coded = Picture(clip, plain, label="31010100001310000001")
    named.draw(View(), AT)
    coded.draw(View(), AT)
    assert np.array_equal(named.luma, coded.luma)


def test_a_picture_without_code_reads_as_none() -> None:
    assert read_code(np.full((360, 640), 128, np.uint8)) is None
    assert read_code(np.zeros((100, 100), np.uint8)) is None


def test_one_flipped_cell_is_noticed() -> None:
    luma = np.full((360, 640), 128, np.uint8)
    write_code(luma, Code(10.0, 5.0, 2.0, 77))
    assert read_code(luma) == Code(10.0, 5.0, 2.0, 77)
    luma[320:328, 512:520] = 251 - luma[320:328, 512:520]
    assert read_code(luma) is None


def test_clips_already_there_are_left_alone(tmp_path: Path) -> None:
    for name in WORLDS:
        (tmp_path / f"{name}.mp4").write_bytes(b"mine")
    lines: list[str] = []
    paths = make_clips(tmp_path, lines.append)
    assert [path.read_bytes() for path in paths] == [b"mine"] * len(WORLDS)
    assert len(lines) == len(WORLDS)


def test_a_clip_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(InvalidRequest):
        load_clip(path)


def test_every_world_moves_and_closes_its_loop() -> None:
    for world in (draw() for draw in WORLDS.values()):
        start, middle, end = (np.asarray(world.draw(phase)) for phase in (0.0, 0.3, 1.0))
        assert (start != middle).mean() > 0.005
        assert np.array_equal(start, end)
