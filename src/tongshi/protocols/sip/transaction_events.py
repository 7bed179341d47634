"""What transactions tell: what they send, and what their user hears.

A response, a failure and an end name the transaction by its key.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongshi.protocols.sip.message import Remote, Request, Response

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes to send. A reply whose connection is gone is dropped, never redialled."""

    data: bytes
    remote: Remote
    is_reply: bool = False


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new request; answer it with ``respond(key, ...)``."""

    key: Key
    request: Request
    source: Remote


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An ACK for a 2xx."""

    request: Request
    source: Remote


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to our request; repeated 2xx to INVITE come again."""

    key: Key
    response: Response
    source: Remote


@dataclass(frozen=True, slots=True)
class TransactionFailed:
    """No final response will come: ``is_timeout`` tells silence from a broken transport."""

    key: Key
    is_timeout: bool


@dataclass(frozen=True, slots=True)
class Terminated:
    """An INVITE transaction of either side is over."""

    key: Key


Event = RequestReceived | AckReceived | ResponseReceived | TransactionFailed | Terminated
