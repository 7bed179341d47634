"""A block code in the picture's corner: where the camera looks and which frame this is.

It is readable after compression. 64 cells of 8 x 8 pixels, 16 across and 4 down, black or white, first bit at
the top left: pan in tenths of a degree (12 bits), tilt in tenths above -90 (11), zoom in tenths (9), frame
counter (16), CRC-16 of these (16). The corner lies on the grid of macroblocks and so costs a coder few bits.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELL = 8
COLUMNS, ROWS = 16, 4
LEFT, TOP = 512, 320  # in a picture of 640 x 360
WIDTH, HEIGHT = COLUMNS * CELL, ROWS * CELL

_DARK, _LIGHT = 16, 235
_MIDDLE = (_DARK + _LIGHT) // 2


@dataclass(frozen=True, slots=True)
class Code:
    """What a frame says of itself. ``pan`` and ``tilt`` in degrees, ``counter`` wraps at 65536."""

    pan: float
    tilt: float
    zoom: float
    counter: int


def write_code(luma: NDArray[np.uint8], code: Code) -> None:
    """Draw the code into a luma plane of at least 640 x 360, in place."""
    cells = np.unpackbits(np.frombuffer(_pack(code), np.uint8)).reshape(ROWS, COLUMNS)
    shades = np.where(cells, np.uint8(_LIGHT), np.uint8(_DARK)).astype(np.uint8)
    luma[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = shades.repeat(CELL, axis=0).repeat(CELL, axis=1)


def read_code(luma: NDArray[np.uint8]) -> Code | None:
    """Read the code of a decoded luma plane (360 x 640); None when there is none or its CRC does not fit."""
    if luma.ndim != 2 or luma.shape[0] < TOP + HEIGHT or luma.shape[1] < LEFT + WIDTH:
        return None
    corner = luma[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].reshape(ROWS, CELL, COLUMNS, CELL)
    shades = corner[:, 2:-2, :, 2:-2].mean(axis=(1, 3))
    return _unpack(np.packbits(shades > _MIDDLE).tobytes())


def _pack(code: Code) -> bytes:
    pan = round(code.pan * 10) % 3600
    tilt = min(max(round(code.tilt * 10) + 900, 0), 2047)
    zoom = min(max(round(code.zoom * 10), 0), 511)
    fields = (pan << 36) | (tilt << 25) | (zoom << 16) | (code.counter & 0xFFFF)
    body = fields.to_bytes(6, "big")
    return body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def _unpack(data: bytes) -> Code | None:
    body, crc = data[:6], int.from_bytes(data[6:], "big")
    if binascii.crc_hqx(body, 0xFFFF) != crc:
        return None
    fields = int.from_bytes(body, "big")
    return Code(
        pan=(fields >> 36) / 10,
        tilt=((fields >> 25 & 0x7FF) - 900) / 10,
        zoom=(fields >> 16 & 0x1FF) / 10,
        counter=fields & 0xFFFF,
    )
