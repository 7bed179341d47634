"""The process that reads large pages of neighbours, so that one is read while another is stored.

Reading and digesting a row takes half as long as storing it and holds this interpreter's lock; beside the
writer it would take its time away. Frames on standard input and output are a length of four bytes and what
follows: the form and the items of a page as JSON, and MessagePack of what was read, in the order of
``reading.Items``. It ends when its input does.

Run as ``python -m tongshi.exchange.reading_child``.
"""

from __future__ import annotations

import gc
import struct
import sys
from typing import BinaryIO, cast

import msgspec

from tongshi.exchange.model import Form, Rejection
from tongshi.exchange.reading import Items, read_items
from tongshi.resources.devices.model import FlatArchive, Source

LENGTH = struct.Struct(">I")
# Index, then the fields of an archive; index, id, code, message and field of what was refused.
_Row = tuple[int, str, bytes, str, int, int | None, str, str, bytes, bool | None, str | None]
_decode = msgspec.msgpack.Decoder(tuple[list[_Row], list[tuple[int, str, int, str, str | None]]]).decode


def main() -> int:
    """Read pages until nobody sends one."""
    gc.disable()  # what a page makes holds no cycles, and all of it goes with the page
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (asked := _frame(source)) is not None:
        form, _, items = asked.partition(b"\n")
        told = msgspec.json.decode(items, type=list[msgspec.Raw])
        answer = pack(read_items(told, cast(Form, form.decode())))
        target.write(LENGTH.pack(len(answer)) + answer)
        target.flush()
    return 0


def pack(read: Items) -> bytes:
    """What was read, as it travels."""
    archives = [
        (
            index,
            a.device_id,
            a.line,
            a.owner,
            a.revision,
            a.updated_at_ms,
            a.source.value,
            a.shard,
            a.digest,
            a.online,
            a.origins,
        )
        for index, a in read.archives
    ]
    rejected = [(r.index, r.device_id, r.code, r.message, r.field) for r in read.rejected]
    return msgspec.msgpack.encode((archives, rejected))


def unpack(told: bytes | bytearray) -> Items:
    """What ``pack`` made. Raises msgspec.DecodeError."""
    archives, rejected = _decode(told)
    sources = {source.value: source for source in Source}
    return Items(
        [
            (
                index,
                FlatArchive(
                    key, line, owner, revision, at_ms, sources[source], shard, digest, online, origins
                ),
            )
            for index, key, line, owner, revision, at_ms, source, shard, digest, online, origins in archives
        ],
        [Rejection(*one) for one in rejected],
    )


def _frame(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    sys.exit(main())
