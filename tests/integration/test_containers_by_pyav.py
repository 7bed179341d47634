"""What our multiplexers write, opened and decoded by FFmpeg's demultiplexers; and the other way round."""

import io
import os
import pathlib
import subprocess

import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")
media = pytest.importorskip("tongshi._media", reason="the media crate is not built: make setup")

ROOT = pathlib.Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data" / "media"
FFMPEG_NAME = {"h264": "h264", "h265": "hevc"}


def access_units(codec: str) -> list[tuple[str, bytes, int, bool]]:
    """The ten pictures of the sample, as our own demultiplexer gives them."""
    name = {"h264": "h264_g711a.ps", "h265": "h265_aac.ps"}[codec]
    frames = media.ps_demux((SAMPLES / "good" / name).read_bytes())
    return [("video", data, pts, key) for kind, data, pts, key in frames if kind == codec]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_our_program_stream_is_opened_and_decoded_by_ffmpeg(codec: str) -> None:
    pictures = access_units(codec)
    silence = ("audio", b"\xd5" * 320, pictures[0][2], False)
    stream = media.ps_mux([*pictures, silence], codec, "g711a")
    with av.open(io.BytesIO(stream), format="mpeg") as container:
        names = [track.codec_context.name for track in container.streams]
        times = [frame.pts for frame in container.decode(video=0)]
    assert names == [FFMPEG_NAME[codec], "pcm_alaw"]
    assert times == [900_000 + number * 3600 for number in range(10)]


@pytest.mark.parametrize("name", sorted(path.name for path in (SAMPLES / "bad").glob("*.ps")))
def test_bad_program_streams_give_pictures_that_ffmpeg_decodes(name: str) -> None:
    frames = media.ps_demux((SAMPLES / "bad" / name).read_bytes())
    first = next(number for number, frame in enumerate(frames) if frame[3])
    pictures = [(codec, data) for codec, data, _, _ in frames[first:] if codec in FFMPEG_NAME]
    decoder = av.CodecContext.create(FFMPEG_NAME[pictures[0][0]], "r")
    decoded = [shown for _, data in pictures for shown in decoder.decode(av.Packet(data))]
    decoded += decoder.decode(None)
    # Joined in the middle, a stream can be shown from its second key frame on.
    assert len(decoded) == (5 if name == "begins_in_the_middle.ps" else 10)


def containers_example() -> pathlib.Path:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "native" / "target"))
    built = [target / profile / "examples" / "containers" for profile in ("release", "debug")]
    for path in built:
        if path.exists():
            return path
    pytest.skip("not built: cd native && cargo build --example containers")


@pytest.mark.parametrize("container", ["ps", "flv", "mp4"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_each_container_we_write_is_decoded_by_ffmpeg(
    codec: str, container: str, tmp_path: pathlib.Path
) -> None:
    source = SAMPLES / "good" / f"{codec}.annexb"
    subprocess.run([containers_example(), codec, source, tmp_path], check=True, timeout=20)
    with av.open(tmp_path / f"out.{container}") as opened:
        pictures = list(opened.decode(video=0))
    with av.open(tmp_path / f"out.{container}") as opened:
        sounds = list(opened.decode(audio=0))
    assert [(picture.width, picture.height) for picture in pictures] == [(320, 240)] * 10
    assert [float(picture.time) for picture in pictures] == pytest.approx([10 + n / 25 for n in range(10)])
    assert len(sounds) == 10
