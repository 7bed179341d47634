"""The node's end: whether a call is of its platform. Same headers and signature as between platforms.

Both machines are ours, so their clocks may differ by 30 s only, and a nonce is kept for twice that. One key,
one platform: everything else is refused with the same words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, Unauthenticated
from tongshi.web.signature import WRONG, Signed, read_signed

CLOCK_SKEW_S = 30
MAX_NONCES = 200_000  # three thousand calls a second


class Seal:
    """Looks at the heads of calls.

    Args:
        platform_id: who may command.
        secret: shared with it.
        name: this node's, which a signature must be meant for.
    """

    def __init__(self, platform_id: str, secret: str, name: str, clock: Clock) -> None:
        self._platform_id, self._secret, self._name, self._clock = platform_id, secret, name, clock
        self._nonces: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def check(self, method: str, path: str, raw_query: str, headers: Mapping[str, str]) -> Signed:
        """Admit a call.

        Raises:
            Unauthenticated: unsigned or wrongly signed (40102), late (40103), or used before (40104).
            LimitExceeded: so many calls that their nonces cannot be remembered.
        """
        signed = read_signed(method, path, raw_query, headers, self._name)
        if not signed.is_by(self._secret) or signed.key_id != self._platform_id:
            raise Unauthenticated(WRONG, code=40102)
        skew_ms = signed.skew_ms(self._clock.at())
        if abs(skew_ms) > CLOCK_SKEW_S * 1000:
            raise Unauthenticated(_skewed(skew_ms), code=40103)
        self._use(signed.signable.nonce)
        return signed

    def _use(self, nonce: str) -> None:
        now = self._clock.now()
        while self._order and self._order[0][0] <= now:
            self._nonces.discard(self._order.popleft()[1])
        if nonce in self._nonces:
            raise Unauthenticated("该请求已经用过", code=40104)
        if len(self._order) >= MAX_NONCES:
            raise LimitExceeded("请求过于频繁", retry_after_s=1)
        self._nonces.add(nonce)
        self._order.append((now + 2 * CLOCK_SKEW_S, nonce))


def _skewed(skew_ms: int) -> str:
    """Whose clock is to be set, and by how much."""
    minutes, seconds = divmod(abs(skew_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [
        f"{count} {unit}" for count, unit in ((hours, "小时"), (minutes, "分"), (seconds, "秒")) if count
    ]
    way = "快" if skew_ms > 0 else "慢"
    return f"平台的时钟比媒体节点{way} {' '.join(parts)}，超过 {CLOCK_SKEW_S} 秒，请为两机校时（NTP）"
