"""Questions that wait for their answer: an answer is a MESSAGE of its own, matched by peer, command and SN.

Implements: GB/T 28181-2022 A.1
"""

from __future__ import annotations

import asyncio

from tongshi.errors import LimitExceeded, PeerTimeout
from tongshi.protocols.gb28181.message import BaseMessage

MAX_WAITING = 10_000

Key = tuple[str, str, int]


class Answers:
    """Waiting questions by (peer, CmdType), then by SN."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._waiting: dict[tuple[str, str], dict[int, asyncio.Future[BaseMessage]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def expect(self, peer_id: str, cmd_type: str, sn: int) -> Key:
        """Begin to wait, before the question is sent: some devices answer before their 200 (quirk 73).

        Raises:
            LimitExceeded: too many wait already.
        """
        if self._count >= self._limit:
            raise LimitExceeded("等待应答的查询过多", retry_after_s=5)
        future: asyncio.Future[BaseMessage] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((peer_id, cmd_type), {})[sn] = future
        self._count += 1
        return (peer_id, cmd_type, sn)

    async def wait(self, key: Key, timeout_s: float) -> BaseMessage:
        """The answer.

        Raises:
            PeerTimeout: none came in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiting[key[:2]][key[2]]
        except TimeoutError as error:
            raise PeerTimeout("设备没有应答查询") from error
        finally:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """Stop waiting; nothing happens when nobody waits."""
        same = self._waiting.get(key[:2], {})
        future = same.pop(key[2], None)
        if future is None:
            return
        self._count -= 1
        future.cancel()
        if not same:
            del self._waiting[key[:2]]

    def give(self, peer_id: str, answer: BaseMessage) -> bool:
        """Hand an answer to whoever waits for it; False when nobody does.

        An SN that the peer lost or truncated matches when exactly one question of that kind waits (quirk 7).
        """
        same = self._waiting.get((peer_id, answer.cmd_type), {})
        future = same.get(answer.sn)
        if future is None and len(same) == 1:
            future = next(iter(same.values()))
        if future is None or future.done():
            return False
        future.set_result(answer)
        return True

    def close(self) -> None:
        """Let everybody go."""
        for kind, same in list(self._waiting.items()):
            for sn in list(same):
                self.forget((*kind, sn))
