"""Why the signed calls of a neighbour were refused last, for the page that shows how the exchange stands.

Kept in memory only: whoever knows the name of a key may cause a refusal, and that must cost no write. There
is one line for each neighbour that has a key, forgotten with its next good call.
"""

from __future__ import annotations


class Refusals:
    """The last refusal by platform id."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, platform_id: str, reason: str) -> None:
        """A call with this platform's key was refused; a key that speaks for nobody is not noted."""
        if platform_id:
            self._reasons[platform_id] = f"以该平台密钥发来的调用被拒绝：{reason}"

    def forget(self, platform_id: str) -> None:
        """A call was good."""
        self._reasons.pop(platform_id, None)

    def of(self, platform_id: str) -> str:
        """In words; empty when the last call was good."""
        return self._reasons.get(platform_id, "")
