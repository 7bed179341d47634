"""The smallest JPEG file that is whole: markers in their order around a picture that nobody looks at."""

from __future__ import annotations


def tiny_jpeg(width: int, height: int, filling: bytes = b"") -> bytes:
    """A picture of that size by its header; ``filling`` makes one differ from another."""
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            _segment(0xFE, filling or b"-"),
            _segment(0xC0, bytes((8, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), 1, 1, 0x11, 0))),
            _segment(0xDA, bytes((1, 1, 0, 0, 63, 0))),
            b"\x00\x01\xff\x00\x02",
            b"\xff\xd9",
        )
    )


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content
