"""A request to the viewers' listener that gets an HTTP status of its own."""

from __future__ import annotations


class Refused(Exception):
    """Answered with ``status`` and the envelope of an error; ``fields`` are response headers it needs."""

    def __init__(self, status: int, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields or {}
