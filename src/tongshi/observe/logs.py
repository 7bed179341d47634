"""Log set-up: constant event names with fields, as JSON or text, and never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

MASK = "***"
MAX_VALUE_CHARS = 4_000
_SECRET = re.compile(
    r"secret|passw|token|authorization|cookie|credential|private|x-tongshi-sign|\bkey\b|ticket|setup_code",
    re.IGNORECASE,
)
# Secrets inside text: URLs with a user or ticket, header lines of SIP and HTTP.
_IN_TEXT = re.compile(
    r"(?i)((?:ticket|token|secret|password)=)[^&\s\"']+|(://[^/\s:@]+:)[^@\s/]+(?=@)"
    r"|((?:proxy-)?authorization:\s*)[^\r\n]+"
)


def configure(
    level: str = "info", form: Literal["json", "text"] = "json", stream: TextIO | None = None
) -> None:
    """Set up structlog for the process.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json`` for machines, ``text`` for a terminal.
        stream: where lines go; standard error when None.
    """
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    trace: Any = structlog.processors.dict_tracebacks
    if form == "text":
        renderer, trace = structlog.dev.ConsoleRenderer(colors=False), structlog.processors.format_exc_info
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            trace,
            mask_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def mask_secrets(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: hide values of secret names, secrets within text, and cut what is too long."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if _SECRET.search(name) and value not in (None, "", True, False):
        return MASK
    if isinstance(value, str):
        return _IN_TEXT.sub(_hide, value[:MAX_VALUE_CHARS])
    if isinstance(value, Mapping):
        return {str(key): _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", inner) for inner in value]
    return value


def _hide(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None) + MASK
