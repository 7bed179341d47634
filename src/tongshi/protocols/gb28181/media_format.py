"""The f= line: what media is asked for or given.

Implements: GB/T 28181-2022 G.2
"""

from __future__ import annotations

import re

import msgspec

from tongshi.errors import RemoteViolation

_LINE = re.compile(r"(?:v/(?P<video>[^av]*))?(?:a/?(?P<audio>.*))?\Z")
_VIDEO_PARTS = 5
_AUDIO_PARTS = 3
_MAX_CHARS = 120


class MediaFormat(msgspec.Struct, frozen=True):
    """Fields as written, "" for "not given"; the tables of the codes stand in ``protocols.media.codecs``.

    ``resolution`` is a number 1 to 6 or ``WxH``; ``fps`` 0-99; ``rate_type`` 1 CBR, 2 VBR;
    ``video_rate_kbps`` in kb/s; ``audio_rate`` and ``sampling`` are codes.
    """

    video_codec: str = ""
    resolution: str = ""
    fps: str = ""
    rate_type: str = ""
    video_rate_kbps: str = ""
    audio_codec: str = ""
    audio_rate: str = ""
    sampling: str = ""

    def render(self) -> str:
        """The value after ``f=``, always complete."""
        video = "/".join((self.video_codec, self.resolution, self.fps, self.rate_type, self.video_rate_kbps))
        return f"v/{video}a/{self.audio_codec}/{self.audio_rate}/{self.sampling}"

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing, as ``f=v/////a///`` and the all-zero form of many devices."""
        return not any(value.strip("0") for value in msgspec.structs.astuple(self))


def parse_format(text: str) -> MediaFormat:
    """Read an f= value; blanks are dropped (quirk 70), missing parts are "not given".

    Raises:
        RemoteViolation: it is none.
    """
    text = "".join(text.split())
    match = _LINE.match(text) if len(text) <= _MAX_CHARS else None
    if match is None or (match["video"] is None and match["audio"] is None):
        raise RemoteViolation("unreadable f= line", field="f")
    video = (match["video"] or "").split("/")
    audio = (match["audio"] or "").split("/")
    return MediaFormat(*_padded(video, _VIDEO_PARTS), *_padded(audio, _AUDIO_PARTS))


def _padded(parts: list[str], count: int) -> list[str]:
    return (parts + [""] * count)[:count]
