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

from tongshi.exchange.model import Form
from tongshi.exchange.reading import Items, read_items

LENGTH = struct.Struct(">I")
_decode = msgspec.msgpack.Decoder(Items).decode
_encode = msgspec.msgpack.Encoder().encode


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
    return _encode(read)


def unpack(told: bytes | bytearray) -> Items:
    """What ``pack`` made. Raises msgspec.DecodeError."""
    return _decode(told)


def _frame(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    sys.exit(main())
