"""Text from outside in a form that both engines keep."""

from __future__ import annotations


def storable(text: str, most: int = 1024) -> str:
    """``text`` without NUL and half surrogates (PostgreSQL refuses both), at most ``most`` characters."""
    return text[:most].replace("\0", "").encode("utf-8", "replace").decode("utf-8")
