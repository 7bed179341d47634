"""Codec names and numbers: the f= line of SDP, stream types of PS, payload types of RTP.

Implements: GB/T 28181-2022 Annex F
Implements: GB/T 28181-2022 C.2

Packets live in the native engine; here are only the names that signalling and archives speak of.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class VideoCodec(Enum):
    """Video codecs in the order of their numbers in the f= line, from 1."""

    MPEG4 = "MPEG-4"
    H264 = "H.264"
    SVAC = "SVAC"
    GPP3 = "3GP"
    H265 = "H.265"


class AudioCodec(Enum):
    """Audio codecs in the order of their numbers in the f= line, from 1."""

    G711 = "G.711"
    G723 = "G.723.1"
    G729 = "G.729"
    G722 = "G.722.1"
    SVAC = "SVAC"
    AAC = "AAC"


class RtpMap(msgspec.Struct, frozen=True):
    """One a=rtpmap: payload type 0-127, encoding name as spelt, clock in Hz, channels when given."""

    payload_type: int
    encoding: str
    clock_hz: int
    channels: int | None = None

    def render(self) -> str:
        """The value after ``a=rtpmap:``."""
        suffix = f"/{self.channels}" if self.channels is not None else ""
        return f"{self.payload_type} {self.encoding}/{self.clock_hz}{suffix}"


VIDEO_NUMBERS: Final = dict(enumerate(VideoCodec, 1))
AUDIO_NUMBERS: Final = dict(enumerate(AudioCodec, 1))
VIDEO_NUMBER_OF: Final = {codec: number for number, codec in VIDEO_NUMBERS.items()}
AUDIO_NUMBER_OF: Final = {codec: number for number, codec in AUDIO_NUMBERS.items()}

# stream_type of the program stream map (dossier 15.2)
PS_VIDEO_TYPES: Final = {
    0x10: VideoCodec.MPEG4,
    0x1B: VideoCodec.H264,
    0x24: VideoCodec.H265,
    0x80: VideoCodec.SVAC,
}
PS_AUDIO_TYPES: Final = {
    0x0F: AudioCodec.AAC,
    0x90: AudioCodec.G711,
    0x91: AudioCodec.G711,
    0x92: AudioCodec.G722,
    0x93: AudioCodec.G723,
    0x99: AudioCodec.G729,
    0x9B: AudioCodec.SVAC,
}

PS: Final = RtpMap(96, "PS", 90_000)
RTP_MAPS: Final = {
    96: PS,
    97: RtpMap(97, "MPEG4", 90_000),
    98: RtpMap(98, "H264", 90_000),
    99: RtpMap(99, "SVAC", 90_000),
    100: RtpMap(100, "H265", 90_000),
    102: RtpMap(102, "AAC", 8_000),
    8: RtpMap(8, "PCMA", 8_000),
    4: RtpMap(4, "G723", 8_000),
    9: RtpMap(9, "G722", 8_000),
    18: RtpMap(18, "G729", 8_000),
    20: RtpMap(20, "SVACA", 8_000),
}
LIVE_PAYLOAD_TYPES: Final = (96, 98, 97, 99, 100)  # PS first: some devices take the first whatever it is

# Resolution numbers of the f= line; other sizes are written as WxH.
RESOLUTION_NAMES: Final = {1: "QCIF", 2: "CIF", 3: "4CIF", 4: "D1", 5: "720P", 6: "1080P/I"}
RATE_TYPE_NAMES: Final = {1: "CBR", 2: "VBR"}

AUDIO_RATES_KBPS: Final = {
    1: 5.3, 2: 6.3, 3: 8, 4: 16, 5: 24, 6: 32, 7: 48, 8: 64, 9: 12, 10: 80, 11: 96, 12: 112, 13: 128, 14: 160,
    15: 192, 16: 224, 17: 256, 18: 288, 19: 320, 20: 10.8, 21: 12.4, 22: 14, 23: 15.6, 24: 17.2, 25: 19.6,
    26: 21.2, 27: 24.4, 28: 23.05, 29: 34, 30: 48.61,
}  # fmt: skip
SAMPLING_KHZ: Final = {
    1: 8, 2: 14, 3: 16, 4: 32, 5: 7, 6: 11, 7: 12, 8: 22, 9: 24, 10: 44, 11: 48, 12: 64, 13: 88, 14: 96,
    15: 12.8, 16: 25.6, 17: 38.4,
}  # fmt: skip
