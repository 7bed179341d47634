"""SSRC numbers of a domain: ten decimal digits in y=, 32 bits in RTP.

Implements: GB/T 28181-2022 G.1

Digit 1 is 0 for live and 1 for history, digits 2 to 6 are digits 4 to 8 of the domain's code, digits 7 to
10 a serial that is unique among all streams of the domain, live and history together. A released serial
rests for a while, because packets of the old stream may still be on their way (quirk 40).
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from tongshi.errors import InvalidRequest, LimitExceeded
from tongshi.ids import PlatformId, Ssrc

SERIALS: Final = 10_000  # four digits: the bound of concurrent streams for one domain code
HOLD_S: Final = 60.0

Kind = Literal["live", "history"]


def format_ssrc(kind: Kind, domain_id: str, serial: int) -> Ssrc:
    """Build an SSRC from a 20-digit (or at least 8-digit) domain code and a serial 0-9999."""
    if not 0 <= serial < SERIALS:
        raise InvalidRequest("SSRC 序号应在 0 到 9999 之间", field="serial")
    digits = domain_id[3:8]
    if len(digits) != 5 or not (digits.isascii() and digits.isdigit()):
        raise InvalidRequest("平台编码应为 20 位数字", field="platformId")
    return Ssrc((1_000_000_000 if kind == "history" else 0) + int(digits) * SERIALS + serial)


def text10(ssrc: int) -> str:
    """The value of y= and of the stream serial in Subject: ten digits."""
    return f"{ssrc:010d}"


class SsrcPool:
    """The serials of one platform. Bounded by SERIALS; first released, first used again."""

    def __init__(self, platform_id: PlatformId, hold_s: float = HOLD_S) -> None:
        self._platform_id = platform_id
        self._hold_s = hold_s
        self._free = deque([*range(1, SERIALS), 0])
        self._held: deque[tuple[float, int]] = deque()
        self._used: set[int] = set()
        format_ssrc("live", platform_id, 0)  # a wrong code is refused here and not at the first call

    @property
    def in_use(self) -> int:
        """How many streams hold a serial now."""
        return len(self._used)

    def allocate(self, now: float, *, live: bool = True) -> Ssrc:
        """Take a number.

        Raises:
            LimitExceeded: all serials are in use or resting; carries the seconds until one may be free.
        """
        while self._held and self._held[0][0] <= now:
            self._free.append(self._held.popleft()[1])
        if not self._free:
            wait_s = max(self._held[0][0] - now, 1.0) if self._held else self._hold_s
            raise LimitExceeded("本域并发媒体流已达 10000 路", retry_after_s=wait_s)
        serial = self._free.popleft()
        self._used.add(serial)
        return format_ssrc("live" if live else "history", self._platform_id, serial)

    def release(self, ssrc: int, now: float) -> None:
        """Give a number back; one that is not ours or was given back already is ignored."""
        serial = ssrc % SERIALS
        if serial in self._used and ssrc % 1_000_000_000 == format_ssrc("live", self._platform_id, serial):
            self._used.remove(serial)
            self._held.append((now + self._hold_s, serial))
