"""What a sender's own faulty software says: its signature holds, only counts and digests can tell."""

from __future__ import annotations

import random

import msgspec

from tongshi.exchange.model import OwnerRoot

LIES = ("lie: count", "lie: digest", "lie: item left out", "lie: item altered", "lie: revision ahead")
# Places of the name and of the revision in a row; ``exchange.rows`` names them all.
_NAME, _REVISION = 1, -3


def lie(event: str, body: msgspec.Struct, rng: random.Random) -> msgspec.Struct:
    """A body of the exchange with one thing false in it; unchanged when it has nothing of that kind."""
    if event in ("lie: count", "lie: digest"):
        roots = getattr(body, "roots", None)
        return msgspec.structs.replace(body, roots=_false(event, roots, rng)) if roots else body
    items = list(getattr(body, "items", ()))
    if not items:
        return body
    place = rng.randrange(len(items))
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


def _false(event: str, roots: list[OwnerRoot], rng: random.Random) -> list[OwnerRoot]:
    place = rng.randrange(len(roots))
    root = roots[place]
    if event == "lie: count":
        root = msgspec.structs.replace(root, count=root.count + 1)
    else:
        root = msgspec.structs.replace(root, digest=root.digest[::-1])
    return [*roots[:place], root, *roots[place + 1 :]]
