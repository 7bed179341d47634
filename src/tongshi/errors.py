"""The family of errors. Each class carries its meaning in HTTP and in SIP; one renderer a protocol reads it.

``code`` is the number in the REST envelope (docs/rest.md lists them); the default of a class can be
narrowed by one instance, never widened to another HTTP status.
"""

from __future__ import annotations

from typing import ClassVar


class TongshiError(Exception):
    """Base of every error we raise on purpose.

    Args:
        message: what is wrong, for a person; Chinese when a user will read it, without secrets.
        code: number for the REST envelope; the class's own when omitted.
        field: name of the offending field as the caller spelt it.
        retry_after_s: seconds to wait before another try is sensible.
        details: JSON-able facts for the caller (``holder``, ``supported``, ``sipStatus``...).
    """

    http_status: ClassVar[int] = 500
    sip_status: ClassVar[int] = 500
    default_code: ClassVar[int] = 50000

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
        details: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.field = field
        self.retry_after_s = retry_after_s
        self.details = details or {}


class InvalidRequest(TongshiError):
    """The caller's data is wrong; names the field."""

    http_status, sip_status, default_code = 400, 400, 40001


class Unauthenticated(TongshiError):
    """Who are you?"""

    http_status, sip_status, default_code = 401, 401, 40101


class Forbidden(TongshiError):
    """You may not."""

    http_status, sip_status, default_code = 403, 403, 40301


class NotFound(TongshiError):
    """No such thing, or not yours to know."""

    http_status, sip_status, default_code = 404, 404, 40401


class MethodNotAllowed(TongshiError):
    """The path exists, the method does not."""

    http_status, sip_status, default_code = 405, 405, 40501


class PayloadTooLarge(TongshiError):
    """The body is longer than the operation takes."""

    http_status, sip_status, default_code = 413, 413, 41301


class UnsupportedMediaType(TongshiError):
    """The body is of a kind, or packed in a way, that we do not read."""

    http_status, sip_status, default_code = 415, 415, 41501


class Conflict(TongshiError):
    """The present state forbids it."""

    http_status, sip_status, default_code = 409, 486, 40901


class Gone(TongshiError):
    """The position asked for was compacted away; do a full synchronisation."""

    http_status, sip_status, default_code = 410, 410, 41001


class Unprocessable(TongshiError):
    """Well-formed, but outside the dictionary or not an option of this device."""

    http_status, sip_status, default_code = 422, 488, 42203


class LimitExceeded(TongshiError):
    """Quota or rate; carries the seconds to wait."""

    http_status, sip_status, default_code = 429, 503, 42901


class Unsupported(TongshiError):
    """We know it and do not do it; cites the clause."""

    http_status, sip_status, default_code = 501, 501, 50100


class PeerFailed(TongshiError):
    """A device or platform refused or failed."""

    http_status, sip_status, default_code = 502, 500, 50201


class Unavailable(TongshiError):
    """We cannot serve it now: device offline, media full, database away."""

    http_status, sip_status, default_code = 503, 503, 50301


class PeerTimeout(TongshiError):
    """A device or platform was silent (50401), sent no media (50402) or nothing decodable (50403)."""

    http_status, sip_status, default_code = 504, 504, 50401


class RemoteViolation(TongshiError):
    """They broke the protocol."""

    http_status, sip_status, default_code = 400, 400, 40000


class LocalViolation(TongshiError):
    """We would break the protocol: a bug, never caught."""

    http_status, sip_status, default_code = 500, 500, 50000
