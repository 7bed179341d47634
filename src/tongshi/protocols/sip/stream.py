"""SIP messages out of a TCP byte stream.

Implements: GB/T 28181-2022 4.3.2
Content-Length delimits. Without it a body is assumed only where Content-Type promises one; it ends with the
closing tag of its XML root, before the next start line, or where the peer pauses (quirk 31). Once the
framing is lost nothing behind it can be trusted: ``violation`` is set and the connection has to go; the
frames found before are still good.
"""

from __future__ import annotations

import re

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.message import MAX_BODY_BYTES, MAX_HEAD_BYTES, looks_like_sip

_HEAD_END = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\n(?:Content-Length|l)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_TYPE = re.compile(rb"\n(?:Content-Type|c)[ \t]*:[ \t]*([^\r\n;]*)", re.IGNORECASE)
_ROOT_END = re.compile(rb"</(?:Query|Control|Notify|Response)[ \t]*>", re.IGNORECASE)
_NEXT_START = re.compile(rb"\n(?=SIP/2\.0 [1-6]|[A-Z]{3,16} sips?:[^\r\n]{1,1000} SIP/2\.0\r?\n)")
_PREFIX_BYTES = 24
# A body without a length is searched for its end, so it gets a smaller bound than one that declares itself.
_MAX_UNDECLARED_BYTES = 256 * 1024
# The longest text the two patterns above can match, so that a rescan misses nothing that straddles two
# segments.
_OVERLAP_BYTES = 1_100


class StreamParser:
    """Cuts a stream into whole messages, fit for ``message.parse``.

    Attributes:
        violation: why the framing was lost, None while all is well.
        awaits_pause: the last message may be complete; call ``pause`` when the peer stays silent.
    """

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.violation: RemoteViolation | None = None
        self.awaits_pause = False
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._head_end = 0
        self._length: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the frames now complete. Keep-alive line ends between messages vanish."""
        if self.violation is not None:
            return []
        self._buffer += data
        frames: list[bytes] = []
        while self.violation is None and (frame := self._cut()) is not None:
            frames.append(frame)
        return frames

    def pause(self) -> list[bytes]:
        """The peer went silent: a body of unknown length ends here."""
        if not self.awaits_pause or self.violation is not None:
            return []
        self.awaits_pause = False
        return [self._take(len(self._buffer))]

    @property
    def buffered_bytes(self) -> int:
        """What waits for more."""
        return len(self._buffer)

    def _cut(self) -> bytes | None:
        if not self._head_end and not self._find_head():
            return None
        if self._length is None:
            return self._cut_undeclared()
        end = self._head_end + self._length
        return self._take(end) if len(self._buffer) >= end else None

    def _find_head(self) -> bool:
        """Find the end of the head and read what it says of the body."""
        buffer = self._buffer
        if not self._scanned:
            while buffer and buffer[0] in b"\r\n":
                del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
            if not buffer or not self._starts_well():
                return False
        # The end mark is at most three bytes, so only the last two of what was seen matter again.
        match = _HEAD_END.search(buffer, max(0, self._scanned - 2))
        self._scanned = len(buffer)
        if match is None or match.end() > MAX_HEAD_BYTES:
            if len(buffer) > MAX_HEAD_BYTES:
                self._lose("head too large")
            return False
        self._head_end = match.end()
        return self._read_length(bytes(buffer[: match.start() + 1]))

    def _starts_well(self) -> bool:
        """Refuse what is no SIP from its first bytes on; wait while there are too few to tell."""
        prefix = bytes(self._buffer[:_PREFIX_BYTES])
        if looks_like_sip(prefix):
            return True
        if len(prefix) < _PREFIX_BYTES and re.match(rb"[A-Z][A-Z0-9/.]* *\Z", prefix):
            return False
        self._lose("not SIP")
        return False

    def _read_length(self, head: bytes) -> bool:
        lengths = {value.strip(b" \t") for value in _LENGTH.findall(head)}
        if len(lengths) > 1:
            self._lose("contradicting Content-Length")
            return False
        if not lengths:
            self._length = None if _TYPE.search(head) else 0
            return True
        text = lengths.pop()
        if not re.match(rb"[0-9]{1,9}\Z", text) or int(text) > self._max_body_bytes:
            self._lose("bad Content-Length")
            return False
        self._length = int(text)
        return True

    def _cut_undeclared(self) -> bytes | None:
        seen = self._scanned - _OVERLAP_BYTES
        following = _NEXT_START.search(self._buffer, max(self._head_end - 1, seen))
        closing = _ROOT_END.search(self._buffer, max(self._head_end, seen))
        self._scanned = len(self._buffer)
        ends = [match.end() for match in (following, closing) if match is not None]
        if ends:
            return self._take(min(ends))
        if len(self._buffer) - self._head_end > _MAX_UNDECLARED_BYTES:
            self._lose("body without length too large")
        else:
            self.awaits_pause = True
        return None

    def _take(self, end: int) -> bytes:
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._scanned = self._head_end = 0
        self._length = None
        self.awaits_pause = False
        return frame

    def _lose(self, why: str) -> None:
        self.violation = RemoteViolation(why)
        self._buffer.clear()
        self.awaits_pause = False
