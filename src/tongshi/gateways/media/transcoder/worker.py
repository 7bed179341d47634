"""The process that decodes: a still of a group of pictures, or a whole stream that is coded anew.

What a camera sends is decoded here and nowhere else, so that nothing in it hurts the platform: this process
holds its own memory within a limit, is niced, keeps no secret, and ends when its input does.

Run as ``python -m tongshi.gateways.media.transcoder.worker MEMORY still CODEC``: Annex B in, a JPEG out; or
``... MEMORY sound RATE``: FLV of our engine in, its G.711 out as AAC at RATE Hz, ``SOUND_HEAD``
before each frame; or
``... MEMORY live HOST PORT SSRC VIDEO AUDIO WIDTH HEIGHT FPS KBPS``: FLV of our engine in, PS over RTP back
to it. VIDEO is ``h264`` to code anew, ``copy-h264`` or ``copy-h265``; AUDIO is ``aac``, ``copy-g711a`` and
the like, or ``-`` for none; a number that is 0 leaves the usual. On standard output it says every second
how it stands, see ``Meter``. A recording that is steered comes with
pauses and jumps; the engine makes one even time of them, and what is made here follows it.
"""

from __future__ import annotations

import io
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av

from tongshi._media import PsSender
from tongshi.errors import TongshiError
from tongshi.gateways.media.transcoder.pipe import SOUND_HEAD
from tongshi.protocols.media import flv
from tongshi.protocols.media.adts import SAMPLES, adts, shape_of
from tongshi.protocols.media.g711 import RATE_HZ as G711_HZ
from tongshi.protocols.media.g711 import SILENCE, Law

NICE: Final = 10
READ_BYTES: Final = 256 * 1024
MAX_GOP_BYTES: Final = 32 * 1024 * 1024
CONNECT_S: Final = 5.0
KEY_EVERY_MS: Final = 2_000
TELL_S: Final = 1.0
MAX_PERCENT: Final = 99_900
USUAL_SIZE: Final = 1_280, 720
USUAL_FPS: Final = 25
USUAL_KBPS: Final = 1_500  # up to the usual size, and of larger ones by their pixels
UNBOUND: Final = 1 << 15
MAX_PIXELS: Final = 3_840 * 2_160
STANDING_S: Final = (
    0.4  # a picture after such a silence is one that was stepped to, and is shown whatever the rate
)
SOUND_HZ: Final = 16_000
SOUND_BPS: Final = 32_000
DECODERS: Final = {"h264": "h264", "h265": "hevc", "g711a": "pcm_alaw", "g711u": "pcm_mulaw", "aac": "aac"}
LAWS: Final[dict[str, Law]] = {"g711a": "alaw", "g711u": "ulaw"}
PAUSE_MS: Final = 300  # between two packets of a file's sound: more is no jitter
SILENCE_MORE: Final = 128  # the resampler holds a few samples back
START_CODE: Final = b"\0\0\0\1"


def main() -> int:
    """Do one job. 1: it could not be done, and why stands on standard error."""
    memory, job, *rest = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    av.logging.set_level(av.logging.FATAL)
    try:
        if job == "still":
            sys.stdout.buffer.write(still(sys.stdin.buffer.read(MAX_GOP_BYTES), rest[0]))
            sys.stdout.buffer.flush()
        elif job == "sound":
            _sound(int(rest[0]), sys.stdout.buffer)
        else:
            _live(rest)
    except BrokenPipeError:
        return 0  # nobody takes it any more
    except (av.FFmpegError, TongshiError, OSError, ValueError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def still(gop: bytes, codec: str) -> bytes:
    """The last picture of a group as JPEG. Raises ValueError: nothing in it can be decoded."""
    decoder: Any = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_count = 2
    last = None
    for packet in [*decoder.parse(gop), *decoder.parse(None), None]:
        try:
            last = next(reversed(decoder.decode(packet)), last)
        except av.error.InvalidDataError:
            continue  # a picture that was cut does not keep the others from being seen
    if last is None:
        raise ValueError("no picture could be decoded")
    coder: Any = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt = last.width, last.height, "yuvj420p"
    coder.time_base = Fraction(1, 25)
    coder.options = {"q:v": "3"}
    frame = last.reformat(format="yuvj420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    out = io.BytesIO()
    for packet in [*coder.encode(frame), *coder.encode(None)]:
        out.write(bytes(packet))
    return out.getvalue()


def _live(arguments: list[str]) -> None:
    host, port, ssrc, video, audio, *numbers = arguments
    width, height, fps, kbps = map(int, numbers)
    coded = video.removeprefix("copy-")
    out = PsSender("tcp-active", host, 0, int(ssrc), coded, audio.removeprefix("copy-").strip("-"))
    out.connect(host, int(port))
    pictures: Any = Copy(out) if video.startswith("copy-") else Recode(out, width, height, fps, kbps)
    sound: Any = None if audio == "-" else Sound(out) if audio == "aac" else CopySound(out)
    meter = Meter(pictures, time.monotonic)
    try:
        reader = flv.FlvReader()
        while data := meter.idle(lambda: os.read(0, READ_BYTES)):
            for kind, time_ms, content in reader.feed(data):
                if kind == flv.VIDEO and (tag := flv.video_of(content)) is not None:
                    pictures.take(time_ms, tag)
                    meter.took(time_ms)
                elif kind == flv.SOUND and sound is not None and (heard := flv.sound_of(content)) is not None:
                    sound.take(time_ms, heard)
                if line := meter.line():
                    print(line, flush=True)
        pictures.finish()
    finally:
        out.close()


def _sound(rate_hz: int, out: BinaryIO) -> None:
    sound, reader = FiledSound(out, rate_hz), flv.FlvReader()
    while data := os.read(0, READ_BYTES):
        for kind, time_ms, content in reader.feed(data):
            if kind == flv.SOUND and (heard := flv.sound_of(content)) is not None:
                sound.take(time_ms, heard)
        out.flush()
    sound.finish()
    out.flush()


class Meter:
    """What went in and came out so far, and how fast it could go: media time by the time spent on it.

    A line is ``TAKEN MADE THINNED UNDECODED SPEED``: pictures, and the speed of the last second or more in
    percent, 100 being just fast enough; time spent waiting for input does not count.
    """

    def __init__(self, pictures: Sink, clock: Callable[[], float]) -> None:
        self._pictures = pictures
        self._clock = clock
        self._since = clock()
        self._idle_s = 0.0
        self._first_ms: int | None = None
        self._last_ms = 0

    def idle(self, read: Callable[[], bytes]) -> bytes:
        """What is read; the time that it takes is no work."""
        began = self._clock()
        data = read()
        self._idle_s += self._clock() - began
        return data

    def took(self, time_ms: int) -> None:
        """A picture of this time went in."""
        self._first_ms = time_ms if self._first_ms is None else self._first_ms
        self._last_ms = time_ms

    def line(self) -> str:
        """How it stands, when that was last said a while ago; else ""."""
        passed_s = self._clock() - self._since
        if passed_s < TELL_S or self._first_ms is None:
            return ""
        media_s = max(0, self._last_ms - self._first_ms) / 1_000
        percent = min(MAX_PERCENT, round(100 * media_s / max(0.001, passed_s - self._idle_s)))
        self._since, self._idle_s, self._first_ms = self._clock(), 0.0, self._last_ms
        one = self._pictures
        return f"{one.taken} {one.made} {one.thinned} {one.undecoded} {percent}"


class Sink:
    """Where pictures go; the first waits for the connection, because it is a key frame.

    ``thinned`` are left out because fewer a second were asked for, ``undecoded`` because nothing can be made
    of them.
    """

    def __init__(self, out: PsSender) -> None:
        self._out = out
        self._is_connected = False
        self.taken = self.made = self.thinned = self.undecoded = 0

    def send(self, annexb: bytes, pts_90k: int, *, is_key: bool) -> None:
        """Send one picture. Raises ConnectionError: nobody takes it."""
        until = time.monotonic() + CONNECT_S
        while not self._out.send_video(annexb, pts_90k, is_key):
            if self._is_connected:
                return
            if time.monotonic() > until:
                raise ConnectionError("the engine did not take the stream")
            time.sleep(0.005)
        self._is_connected = True
        self.made += 1


class Copy(Sink):
    """Pictures as they are, for who wants other sound only."""

    def __init__(self, out: PsSender) -> None:
        super().__init__(out)
        self._sets = b""

    def take(self, time_ms: int, tag: flv.VideoTag) -> None:
        """One tag of the source."""
        if tag.is_config:
            self._sets = parameter_sets(tag.codec, tag.data)
            return
        self.taken += 1
        units = b"".join(START_CODE + unit for unit in units_of(tag.data))
        self.send(
            (self._sets if tag.is_key else b"") + units, 90 * (time_ms + tag.shift_ms), is_key=tag.is_key
        )

    def finish(self) -> None:
        """Nothing is held back."""


class Recode(Sink):
    """Pictures decoded, made no larger than asked for, and coded as H.264."""

    def __init__(self, out: PsSender, width: int, height: int, fps: int, kbps: int) -> None:
        super().__init__(out)
        self._most = (width or UNBOUND, height or UNBOUND) if width or height else USUAL_SIZE
        self._fps, self._kbps = fps or USUAL_FPS, kbps
        self._gap_ms = 1_000 / self._fps * 0.8
        self._decoder: Any = None
        self._coder: Any = None
        self._last_ms = self._key_ms = -(10**9)
        self._shown_at = 0.0  # by our clock

    def take(self, time_ms: int, tag: flv.VideoTag) -> None:
        """One tag of the source; what cannot be decoded is left out until the next that can."""
        if tag.is_config:
            self.finish()
            self._decoder = av.CodecContext.create(DECODERS[tag.codec], "r")
            self._decoder.extradata = tag.data
            self._decoder.thread_count = 2
            self._decoder.thread_type = "SLICE"  # threads by frame would hold pictures back
            return
        self.taken += 1
        if self._decoder is None:
            self.undecoded += 1
            return
        packet = av.Packet(tag.data)
        packet.pts, packet.dts, packet.time_base = time_ms + tag.shift_ms, time_ms, Fraction(1, 1_000)
        self._decode(packet, time_ms)

    def finish(self) -> None:
        """Show what was held back for its order."""
        if self._decoder is not None:
            self._decode(None, self._last_ms)
            self._decoder = None

    def _decode(self, packet: Any, time_ms: int) -> None:
        try:
            pictures = self._decoder.decode(packet)
        except (av.error.InvalidDataError, av.error.EOFError):
            self.undecoded += packet is not None
            return
        for picture in pictures:
            self._picture(picture, time_ms if picture.pts is None else picture.pts)

    def _picture(self, picture: Any, at_ms: int) -> None:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"a picture of {picture.width} x {picture.height}")
        now = time.monotonic()
        is_after_silence = at_ms > self._last_ms and now - self._shown_at > STANDING_S
        if 0 <= at_ms - self._last_ms < self._gap_ms and not is_after_silence:
            self.thinned += 1
            return
        self._shown_at = now
        width, height = fitted(picture.width, picture.height, *self._most)
        if self._coder is None or (self._coder.width, self._coder.height) != (width, height):
            self._coder = self._new_coder(width, height)
            self._key_ms = -(10**9)
        frame = picture.reformat(width=width, height=height, format="yuv420p")
        frame.pts, frame.time_base = at_ms * 90, Fraction(1, 90_000)
        is_due = not 0 <= at_ms - self._key_ms < KEY_EVERY_MS
        frame.pict_type = av.video.frame.PictureType.I if is_due else av.video.frame.PictureType.NONE
        self._last_ms = at_ms
        self._key_ms = at_ms if is_due else self._key_ms
        for packet in self._coder.encode(frame):
            self.send(bytes(packet), packet.pts, is_key=packet.is_keyframe)

    def _new_coder(self, width: int, height: int) -> Any:
        kbps = self._kbps or usual_kbps(width, height)
        coder: Any = av.CodecContext.create("libx264", "w")
        coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
        coder.time_base, coder.framerate = Fraction(1, 90_000), Fraction(self._fps)
        coder.bit_rate, coder.gop_size, coder.max_b_frames, coder.thread_count = kbps * 1_000, 250, 0, 2
        rate = f"{kbps}k"
        coder.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "maxrate": rate,
            "bufsize": rate,
        }
        return coder


class CopySound:
    """Sound as it is, beside pictures that are coded anew."""

    def __init__(self, out: PsSender) -> None:
        self._out = out
        self._shape: tuple[int, int] | None = None  # of AAC

    def take(self, time_ms: int, tag: flv.SoundTag) -> None:
        """One tag of the source."""
        if tag.is_config:
            self._shape = shape_of(tag.data)
        elif tag.codec != "aac":
            self._out.send_audio(tag.data, time_ms * 90)
        elif self._shape is not None:
            self._out.send_audio(adts(tag.data, *self._shape), time_ms * 90)


class SoundCoder:
    """Any sound that we carry, coded as AAC of one channel."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._decoder: Any = None
        self._codec = ""
        self._resampler: Any = None
        self._coder: Any = None

    def take(self, time_ms: int, tag: flv.SoundTag) -> None:
        """One tag of the source; sound that cannot be decoded is left out."""
        if tag.is_config or tag.codec != self._codec:
            self._begin(tag)
        if tag.is_config or self._decoder is None:
            return
        packet = av.Packet(tag.data)
        packet.pts, packet.time_base = time_ms, Fraction(1, 1_000)
        try:
            frames = self._decoder.decode(packet)
        except av.error.InvalidDataError:
            return
        for frame in frames:
            frame.pts, frame.time_base = time_ms, Fraction(1, 1_000)
            for piece in self._resampler.resample(frame):
                self._encode(piece)

    def _begin(self, tag: flv.SoundTag) -> None:
        self._codec = tag.codec
        self._decoder = av.CodecContext.create(DECODERS[tag.codec], "r")
        if tag.codec == "aac":
            self._decoder.extradata = tag.data if tag.is_config else None
        else:
            self._decoder.sample_rate, self._decoder.layout = 8_000, "mono"
        self._resampler = av.AudioResampler("fltp", "mono", self._rate_hz, frame_size=SAMPLES)
        self._coder = av.CodecContext.create("aac", "w")
        self._coder.sample_rate, self._coder.layout, self._coder.format = self._rate_hz, "mono", "fltp"
        self._coder.bit_rate, self._coder.time_base = SOUND_BPS, Fraction(1, self._rate_hz)

    def _encode(self, piece: Any) -> None:
        for packet in self._coder.encode(piece):
            self._send(bytes(packet), (packet.pts or 0) * packet.time_base)

    def _send(self, frame: bytes, time_s: Fraction) -> None:
        """One AAC frame; the first may be of a time before the sound, while the coder fills."""
        raise NotImplementedError


class Sound(SoundCoder):
    """Sound of a stream, back to the engine."""

    def __init__(self, out: PsSender) -> None:
        super().__init__(SOUND_HZ)
        self._out = out

    def _send(self, frame: bytes, time_s: Fraction) -> None:
        self._out.send_audio(adts(frame, SOUND_HZ, 1), max(0, int(time_s * 90_000)))


class FiledSound(SoundCoder):
    """Sound of a file, to a pipe: after a pause it begins anew, and nothing of its end is lost."""

    def __init__(self, out: BinaryIO, rate_hz: int) -> None:
        super().__init__(rate_hz)
        self._pipe = out
        self._end_ms = 0.0  # of what was taken since it began
        self._samples = 0

    def take(self, time_ms: int, tag: flv.SoundTag) -> None:
        """One tag of the source, of G.711."""
        law = LAWS.get(tag.codec)
        if law is None:
            return
        if self._decoder is not None and (tag.codec != self._codec or abs(time_ms - self._end_ms) > PAUSE_MS):
            self.finish()
        if self._decoder is None:
            self._codec, self._samples = "", 0
        super().take(time_ms, tag)
        self._samples += len(tag.data)
        self._end_ms = time_ms + len(tag.data) * 1_000 / G711_HZ

    def finish(self) -> None:
        """Give out what the coder still holds: it works on whole frames, so that silence fills the last."""
        if self._decoder is None:
            return
        rest = -self._samples % (SAMPLES * G711_HZ // self._rate_hz)
        silence = SILENCE[LAWS[self._codec]][:1] * (rest + SILENCE_MORE)
        super().take(round(self._end_ms), flv.SoundTag(self._codec, False, silence))
        self._encode(None)
        self._decoder = None

    def _send(self, frame: bytes, time_s: Fraction) -> None:
        at = round(time_s * self._rate_hz)
        if at >= 0:
            self._pipe.write(SOUND_HEAD.pack(at, len(frame)) + frame)


def fitted(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The largest even size of that shape within bounds; never larger than it was."""
    factor = min(1.0, most_width / width, most_height / height)
    return max(2, round(width * factor / 2) * 2), max(2, round(height * factor / 2) * 2)


def usual_kbps(width: int, height: int) -> int:
    """The rate of a picture for which none was said."""
    usual_width, usual_height = USUAL_SIZE
    return max(USUAL_KBPS, USUAL_KBPS * width * height // (usual_width * usual_height))


def units_of(data: bytes) -> Iterator[bytes]:
    """NAL units with lengths of four bytes, as long as they are whole."""
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 4 : end]
        at = end


def parameter_sets(codec: str, record: bytes) -> bytes:
    """The parameter sets of a decoder configuration record as Annex B (ISO/IEC 14496-15 5.3.3, 8.3.3)."""
    sets, at = [], 5
    arrays = [31, 255] if codec == "h264" else []
    if codec == "h265":
        arrays, at = [0] * record[22], 23
    for mask in arrays:
        if codec == "h264":
            count, at = record[at] & mask, at + 1
        else:
            count, at = int.from_bytes(record[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            sets.append(START_CODE + record[at + 2 : at + 2 + size])
            at += 2 + size
    return b"".join(sets)


if __name__ == "__main__":
    sys.exit(main())
