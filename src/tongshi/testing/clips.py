"""Base clips: each world of ``scenery`` as a looping H.264 file, made once, read back as shared raw frames.

A clip is an ordinary MP4 file; one put into the folder by hand (a real recording) is used like our own. For
reading it is decoded once into an unnamed temporary file that all cameras of the process map: no decoder runs
while they stream, and the kernel may drop the pages again, so memory stays bounded whatever their number.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from numpy.typing import NDArray

from tongshi.errors import InvalidRequest
from tongshi.testing.scenery import HEIGHT, WIDTH, WORLDS, World

FPS = Fraction(25, 2)
LOOP_FRAMES = 100
MAX_FRAMES = 200  # of a clip somebody else made; the rest is left out

_LUMA = WIDTH * HEIGHT
_FRAME = _LUMA * 3 // 2

Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """Raw frames of one scene, mapped, read-only: luma HEIGHT x WIDTH, chroma half of it each way."""

    name: str
    luma: Plane  # count x HEIGHT x WIDTH
    blue: Plane  # count x HEIGHT/2 x WIDTH/2
    red: Plane

    @property
    def frames(self) -> int:
        """How many frames the loop has."""
        return int(self.luma.shape[0])


def make_clips(folder: Path, on_progress: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Make what is missing of the clips; those already there are left alone.

    Args:
        folder: where they go; made when missing.
        on_progress: told one line a clip.

    Returns:
        The files, one a world, in the order of ``WORLDS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, (name, world) in enumerate(WORLDS.items(), start=1):
        path = folder / f"{name}.mp4"
        if path.exists():
            on_progress(f"clip {number}/{len(WORLDS)} {name}: present")
        else:
            on_progress(f"clip {number}/{len(WORLDS)} {name}: drawing {LOOP_FRAMES} frames")
            write_clip(path, world())
        made.append(path)
    return made


def write_clip(path: Path, world: World, frames: int = LOOP_FRAMES) -> None:
    """Draw one loop of a world into an MP4 file. A half-written file never gets the final name."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "21"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(np.asarray(world.draw(number / frames)), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_clip(path: Path) -> Clip:
    """Decode a clip into mapped raw frames, scaled to the panorama's size when it is of another.

    Raises:
        InvalidRequest: the file holds no picture that can be decoded.
    """
    with tempfile.TemporaryFile() as raw:
        count = _decode_into(path, raw)
        raw.flush()
        if count == 0:
            raise InvalidRequest(f"{path} 中没有可解码的画面", field="clip")
        mapped = mmap.mmap(raw.fileno(), count * _FRAME, access=mmap.ACCESS_READ)
    frames = np.frombuffer(mapped, np.uint8).reshape(count, _FRAME)
    half = (count, HEIGHT // 2, WIDTH // 2)
    return Clip(
        name=path.stem,
        luma=frames[:, :_LUMA].reshape(count, HEIGHT, WIDTH),
        blue=frames[:, _LUMA : _LUMA * 5 // 4].reshape(half),
        red=frames[:, _LUMA * 5 // 4 :].reshape(half),
    )


def _decode_into(path: Path, raw: IO[bytes]) -> int:
    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                small = frame.reformat(width=WIDTH, height=HEIGHT, format="yuv420p")
                raw.write(small.to_ndarray().tobytes())
                count += 1
                if count >= MAX_FRAMES:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise InvalidRequest(f"{path} 不是可读的视频文件：{error}", field="clip") from error
    return count
