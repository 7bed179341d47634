"""How our services do, by what their callers saw.

Implements: DB31DSJ/Z 001-2024 6.4.4
Counted are bugs (500) and our own want of room (503). A silent or broken device (502, 504), and an offline
camera, say nothing of the service. Bound: two windows of counters for each operation of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tongshi.web.ports import Attempt

WINDOW_S = 300.0
MIN_FAILURES = 5
MAX_SHARE = 0.2
_OF_DEVICES = 50301
_VIDEO = "/api/v1/video/"


class ServiceWatch:
    """Counts the attempts of this window and the one before. ``now`` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._window = int(now() // WINDOW_S)
        self._calls: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._failures: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def observe(self, attempt: Attempt) -> None:
        """Note one finished request."""
        self._turn()
        name = attempt.operation.name
        self._calls[0][name] += 1
        if _is_ours(attempt):
            self._failures[0][name] += 1

    def trouble(self, operation: str) -> str:
        """Why an operation counts as degraded, for people; empty while it does not."""
        self._turn()
        calls = sum(counts[operation] for counts in self._calls)
        failures = sum(counts[operation] for counts in self._failures)
        if failures < MIN_FAILURES or failures <= calls * MAX_SHARE:
            return ""
        return f"最近 10 分钟内 {calls} 次调用中 {failures} 次失败"

    def _turn(self) -> None:
        window = int(self._now() // WINDOW_S)
        passed = window - self._window
        if passed <= 0:
            return
        self._window = window
        self._calls = (Counter(), self._calls[0] if passed == 1 else Counter())
        self._failures = (Counter(), self._failures[0] if passed == 1 else Counter())


def _is_ours(attempt: Attempt) -> bool:
    if attempt.status == 503:
        return not (attempt.operation.path.startswith(_VIDEO) and attempt.code == _OF_DEVICES)
    return attempt.status == 500
