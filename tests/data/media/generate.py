"""Write the media samples beside this file: FFmpeg's encoders, and a small program stream writer of its own.

The writer shares no code with ``native/src/ps_mux.rs``, so that the demultiplexer is not only tested on what
our own multiplexer makes. Run: ``.venv/bin/python tests/data/media/generate.py``.
"""

import fractions
import pathlib
import zlib
from typing import Any

import av

HERE = pathlib.Path(__file__).parent
FRAMES, GROUP, WIDTH, HEIGHT = 10, 5, 320, 240
PTS_FIRST, PTS_STEP = 900_000, 3600


def encode(codec: str) -> list[tuple[bytes, bool]]:
    """Annex B access units of a moving pattern, and whether each is a key frame."""
    context: Any = av.CodecContext.create(codec, "w")  # PyAV types it as the base class of all codecs
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = fractions.Fraction(1, 25), fractions.Fraction(25)
    private = f"keyint={GROUP}:min-keyint={GROUP}:bframes=0:repeat-headers=1:scenecut=0"
    if codec == "libx264":
        own = {"x264-params": private + ":sliced-threads=0"}
    else:
        own = {"x265-params": private + ":log-level=none:info=0"}
    context.options = {"preset": "ultrafast", "crf": "30", "tune": "zerolatency", **own}
    packets = []
    for number in range(FRAMES):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, value in zip(frame.planes, (40, 120, 140), strict=True):
            rows = [bytearray([value]) * plane.line_size for _ in range(plane.height)]
            for row in rows[number * 4 : number * 4 + 40]:
                row[number * 8 : number * 8 + 48] = bytes(x * x * number % 251 for x in range(48))
            plane.update(b"".join(rows))
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [(without_sei(bytes(packet), codec), packet.is_keyframe) for packet in packets]


def without_sei(unit: bytes, codec: str) -> bytes:
    """Leave out the encoder's advertisement, which is larger than the pictures."""
    nals = [nal.rstrip(b"\0") for nal in unit.split(b"\0\0\1")[1:]]
    if codec == "libx264":
        kept = [nal for nal in nals if nal[0] & 0x1F != 6]
    else:
        kept = [nal for nal in nals if nal[0] >> 1 & 0x3F not in (39, 40)]
    return b"".join(b"\0\0\0\1" + nal for nal in kept)


def pack(scr: int) -> bytes:
    bits = f"01{scr >> 30 & 7:03b}1{scr >> 15 & 32767:015b}1{scr & 32767:015b}1{0:09b}1{25000:022b}1111111000"
    return b"\0\0\1\xba" + int(bits, 2).to_bytes(10, "big")


def system_header() -> bytes:
    return bytes.fromhex("000001bb000c80c35104e17fe0e080c0c020")


def stream_map(*entries: tuple[int, int], crc_xor: int = 0) -> bytes:
    listed = b"".join(bytes([kind, stream, 0, 0]) for kind, stream in entries)
    body = b"\xe0\xff\0\0" + len(listed).to_bytes(2, "big") + listed
    head = b"\0\0\1\xbc" + (len(body) + 4).to_bytes(2, "big") + body
    return head + (mpeg_crc(head) ^ crc_xor).to_bytes(4, "big")


def mpeg_crc(data: bytes) -> int:
    """CRC-32/MPEG-2 by way of zlib's reflected one: reverse the bits of each byte and of the result."""
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2)


def pes(stream: int, data: bytes, pts: int | None, length: int | None = None) -> bytes:
    stamp = b""
    if pts is not None:
        bits = f"0010{pts >> 30 & 7:03b}1{pts >> 15 & 32767:015b}1{pts & 32767:015b}1"
        stamp = int(bits, 2).to_bytes(5, "big")
    head = bytes([0x80, 0x80 if stamp else 0, len(stamp)]) + stamp
    size = len(head) + len(data) if length is None else length
    return b"\0\0\1" + bytes([stream]) + size.to_bytes(2, "big") + head + data


def stream(units: list[tuple[bytes, bool]], kind: int, sound: tuple[int, bytes], **bent: object) -> bytes:
    """A program stream of the units; ``bent`` names what is wrong with it."""
    out = b""
    for number, (unit, is_key) in enumerate(units):
        pts = PTS_FIRST + number * PTS_STEP
        out += pack(pts)
        if is_key and not bent.get("no_map"):
            video = [] if bent.get("audio_only") else [(int(str(bent.get("declared", kind))), 0xE0)]
            out += system_header() + stream_map(*video, (sound[0], 0xC0), crc_xor=1 if bent.get("crc") else 0)
        if bent.get("private"):
            out += pes(0xBD, b"\0\0\1\xba\x44 private", None)
        out += pes(0xE0, unit, None if bent.get("no_pts") else pts, 0 if bent.get("open") else None)
        out += pes(0xC0, sound[1], pts)
    return out


def main() -> None:
    h264, h265 = encode("libx264"), encode("libx265")
    g711 = (0x90, b"\xd5" * 320)
    adts = (0x0F, bytes.fromhex("fff14c4001bffc00c800802380"))
    samples = {
        "good/h264_g711a.ps": stream(h264, 0x1B, g711),
        "good/h265_aac.ps": stream(h265, 0x24, adts),
        "good/h264.annexb": b"".join(unit for unit, _ in h264),
        "good/h265.annexb": b"".join(unit for unit, _ in h265),
        "bad/map_crc_wrong.ps": stream(h264, 0x1B, g711, crc=True),
        "bad/map_lists_sound_only.ps": stream(h264, 0x1B, g711, audio_only=True),
        "bad/map_missing.ps": stream(h265, 0x24, g711, no_map=True),
        "bad/map_says_h264_for_h265.ps": stream(h265, 0x24, g711, declared=0x1B),
        "bad/pes_length_zero.ps": stream(h264, 0x1B, g711, open=True),
        "bad/private_stream_like_a_pack.ps": stream(h264, 0x1B, g711, private=True),
        "bad/pts_missing.ps": stream(h264, 0x1B, g711, no_pts=True),
        "bad/begins_in_the_middle.ps": stream(h264, 0x1B, g711)[100:],
    }
    for name, data in samples.items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
