"""A link between two platforms of a history that loses, doubles, delays, cuts, spoils and lies.

What is cut or spoiled on the way fails the signature over the body's digest, as it does over HTTP. A lie is
told by the sender's own software (``lies.py``).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tongshi.errors import Conflict, Gone, LimitExceeded, NotFound, PeerFailed, PeerTimeout, TongshiError
from tongshi.exchange.client import Link, Packed
from tongshi.exchange.model import FullBegin, FullComplete, FullPage, Push
from tongshi.exchange.ranges import RangesQuery
from tongshi.exchange.repair import RANGES_PATH
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.testing.chaos.journal import Journal
from tongshi.testing.chaos.lies import LIES, lie
from tongshi.testing.chaos.node import Node
from tongshi.testing.chaos.storm import Died
from tongshi.web.reading import decode_query

_T = TypeVar("_T", bound=msgspec.Struct)
SHAPES: dict[str, type[Any]] = {
    "/exchange/v1/devices:push": Push,
    "/exchange/v1/devices/full:begin": FullBegin,
    "/exchange/v1/devices/full:page": FullPage,
    "/exchange/v1/devices/full:complete": FullComplete,
}
ON_THE_WAY = ("request lost", "answer lost", "doubled", "held back", "cut", "spoiled")


class ChaosLink(Link):
    """One direction. ``odds`` is the chance that a call meets something; 0 heals the link.

    Attributes:
        acknowledged: the position the receiver last answered with; 0 again when a full sets it back.
        fulls: how many fulls came to their last page.
    """

    def __init__(self, sender: str, receiver: Node, rng: random.Random, journal: Journal) -> None:
        self.sender, self.receiver = sender, receiver
        self.odds = 0.0
        self.acknowledged = 0
        self.fulls = 0
        self._rng = rng
        self._journal = journal
        self._held: list[tuple[str, bytes]] = []

    async def close(self) -> None:
        """Nothing is held open."""

    async def pack(self, body: msgspec.Struct) -> Packed:
        """Packed when it is sent: until then a lie may change it."""
        return Packed(body, b"", is_compressed=False)

    async def send(self, path: str, packed: Packed, answer: type[_T]) -> _T:
        body, event = packed.body, self._event()
        data = msgspec.json.encode(lie(event, body, self._rng) if event in LIES else body)
        promised = hashlib.sha256(data).digest()
        if event == "request lost":
            raise PeerTimeout("lost")
        if event == "cut":
            data = data[: self._rng.randrange(len(data))]
        elif event == "spoiled":
            place = self._rng.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ self._rng.randrange(1, 256)]) + data[place + 1 :]
        if hashlib.sha256(data).digest() != promised:
            raise PeerFailed("the digest of the body differs")
        if self._held and self._rng.random() < 0.5:
            # What was held back arrives now, behind later ones.
            await self._deliver_late()
        if event == "held back":
            self._held.append((path, data))
            raise PeerTimeout("still on its way")
        if event == "doubled":
            await self._deliver(path, data)
        result = msgspec.json.decode(await self._deliver(path, data), type=answer)
        if event == "answer lost":
            raise PeerTimeout("answer lost")
        if path.endswith(":push"):
            self.acknowledged = result.position  # type: ignore[attr-defined]  # a PushResult
        return result

    async def get(self, path: str, raw_query: str, answer: type[_T]) -> _T:
        """What the receiver holds of ours; such a question is lost or answered."""
        if self._rng.random() < self.odds:
            self._journal.note("question lost", self.sender)
            raise PeerTimeout("lost")
        exchange = self.receiver.exchange
        asker = Subject(SubjectKind.PLATFORM, self.sender, platform_id=self.sender)
        told: msgspec.Struct | None
        try:
            if path == RANGES_PATH:
                told = await exchange.ranges_of_told(asker, decode_query(raw_query, RangesQuery))
            else:
                told = await exchange.digest_of_told(asker, raw_query.partition("=")[2])
        except Died as error:
            raise PeerFailed("connection reset") from error
        return msgspec.json.decode(msgspec.json.encode(told), type=answer)

    def heal(self) -> None:
        """From here on everything arrives, once; what was held back is lost."""
        self.odds = 0.0
        self._held.clear()

    def _event(self) -> str:
        if self._rng.random() >= self.odds:
            return ""
        event = self._rng.choice(LIES if self._rng.random() < 0.25 else ON_THE_WAY)
        self._journal.note(event, self.sender)
        return event

    async def _deliver_late(self) -> None:
        path, data = self._held.pop(self._rng.randrange(len(self._held)))
        try:
            await self._deliver(path, data)
        except TongshiError:
            self._journal.note("late one refused", self.sender)

    async def _deliver(self, path: str, data: bytes) -> bytes:
        """What the receiver answers; its errors as the sender's client names them."""
        exchange = self.receiver.exchange
        serve: dict[str, Callable[[str, Any], Awaitable[Any]]] = {
            "/exchange/v1/devices:push": exchange.push,
            "/exchange/v1/devices/full:begin": exchange.begin_full,
            "/exchange/v1/devices/full:page": exchange.page,
            "/exchange/v1/devices/full:complete": exchange.complete_full,
        }
        body = msgspec.json.decode(data, type=SHAPES[path])
        if isinstance(body, FullPage) and body.is_last:
            # It sets the position back to where the full began.
            self.fulls, self.acknowledged = self.fulls + 1, 0
        try:
            return msgspec.json.encode(await serve[path](self.sender, body))
        except Died as error:
            raise PeerFailed("connection reset") from error
        except (Conflict, Gone, NotFound):
            raise
        except TongshiError as error:
            kind = LimitExceeded if error.http_status in (429, 503) else PeerFailed
            raise kind(error.message, details=error.details) from error
