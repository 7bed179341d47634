"""A link between two platforms of a history that loses, doubles, delays, cuts, spoils and lies.

What is cut or spoiled on the way fails the signature over the body's digest, as it does over HTTP. A lie is
told by the sender's own software, so its signature holds; only counts and digests can tell.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tongshi.errors import Conflict, Gone, LimitExceeded, NotFound, PeerFailed, PeerTimeout, TongshiError
from tongshi.exchange.client import Link, Packed
from tongshi.exchange.model import FullBegin, FullComplete, FullPage, OwnerRoot, Push
from tongshi.exchange.ranges import RangesQuery
from tongshi.exchange.repair import RANGES_PATH
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.testing.chaos.node import Node
from tongshi.testing.chaos.storm import Died
from tongshi.web.reading import decode_query

_T = TypeVar("_T", bound=msgspec.Struct)
_SHAPES: dict[str, type[Any]] = {
    "/exchange/v1/devices:push": Push,
    "/exchange/v1/devices/full:begin": FullBegin,
    "/exchange/v1/devices/full:page": FullPage,
    "/exchange/v1/devices/full:complete": FullComplete,
}
ON_THE_WAY = ("request lost", "answer lost", "doubled", "held back", "cut", "spoiled")
LIES = ("lie: count", "lie: digest", "lie: item left out", "lie: item altered", "lie: revision ahead")
_NAME, _REVISION = 1, -3


class ChaosLink(Link):
    """One direction. ``odds`` is the chance that a call meets something; 0 heals the link.

    Attributes:
        acknowledged: the position the receiver last answered with; 0 again when a full sets it back.
        fulls: how many fulls came to their last page.
    """

    def __init__(self, sender: str, receiver: Node, rng: random.Random, injected: Counter[str]) -> None:
        self.sender, self.receiver = sender, receiver
        self.odds = 0.0
        self.acknowledged = 0
        self.fulls = 0
        self._rng = rng
        self._injected = injected
        self._held: list[tuple[str, bytes]] = []

    async def close(self) -> None:
        """Nothing is held open."""

    async def pack(self, body: msgspec.Struct) -> Packed:
        """Packed when it is sent: until then a lie may change it."""
        return Packed(body, b"", is_compressed=False)

    async def send(self, path: str, packed: Packed, answer: type[_T]) -> _T:
        body, event = packed.body, self._event()
        data = msgspec.json.encode(self._lie(event, body) if event in LIES else body)
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
            self._injected["question lost"] += 1
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
        self._injected[event] += 1
        return event

    async def _deliver_late(self) -> None:
        path, data = self._held.pop(self._rng.randrange(len(self._held)))
        try:
            await self._deliver(path, data)
        except TongshiError:
            self._injected["late one refused"] += 1

    async def _deliver(self, path: str, data: bytes) -> bytes:
        """What the receiver answers; its errors as the sender's client names them."""
        exchange = self.receiver.exchange
        serve: dict[str, Callable[[str, Any], Awaitable[Any]]] = {
            "/exchange/v1/devices:push": exchange.push,
            "/exchange/v1/devices/full:begin": exchange.begin_full,
            "/exchange/v1/devices/full:page": exchange.page,
            "/exchange/v1/devices/full:complete": exchange.complete_full,
        }
        body = msgspec.json.decode(data, type=_SHAPES[path])
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

    def _lie(self, event: str, body: msgspec.Struct) -> msgspec.Struct:
        if event in ("lie: count", "lie: digest"):
            roots = getattr(body, "roots", None)
            return msgspec.structs.replace(body, roots=self._false(event, roots)) if roots else body
        items = list(getattr(body, "items", ()))
        if not items:
            return body
        place = self._rng.randrange(len(items))
        if event == "lie: item left out":
            del items[place]
        else:
            row = msgspec.json.decode(items[place])
            if event == "lie: item altered":
                row[_NAME] += "伪"
            else:
                row[_REVISION] += 50
            items[place] = msgspec.Raw(msgspec.json.encode(row))
        return msgspec.structs.replace(body, items=items)

    def _false(self, event: str, roots: list[OwnerRoot]) -> list[OwnerRoot]:
        place = self._rng.randrange(len(roots))
        root = roots[place]
        if event == "lie: count":
            root = msgspec.structs.replace(root, count=root.count + 1)
        else:
            root = msgspec.structs.replace(root, digest=root.digest[::-1])
        return [*roots[:place], root, *roots[place + 1 :]]
