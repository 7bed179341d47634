"""Metrics of the REST face, in the form Prometheus reads.

Implements: DB31DSJ/Z 001-2024 6.4.4
Labels come from closed sets: an operation's name and a class of status, never a device or a person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tongshi import __version__

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class NamedOperation(Protocol):
    """The part of an operation that becomes a label."""

    @property
    def name(self) -> str: ...


class AnsweredCall(Protocol):
    """What is measured of a call (``web.ports.Attempt``)."""

    @property
    def operation(self) -> NamedOperation: ...
    @property
    def status(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def duration_s(self) -> float: ...


class Metrics:
    """One registry a process; other parts add theirs to ``registry``."""

    def __init__(self, version: str = __version__) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "tongshi_web_calls_total",
            "Calls of an operation by class of status",
            ("operation", "status"),
            registry=self.registry,
        )
        self._rows = Counter(
            "tongshi_web_rows_total",
            "Records returned by an operation",
            ("operation",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tongshi_web_call_seconds",
            "Time to answer",
            ("operation",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._index_lag = Gauge(
            "tongshi_search_index_remaining_rows",
            "Archives that the indexes of search and place do not know yet, when last counted",
            registry=self.registry,
        )
        info = Gauge("tongshi_info", "The running version", ("version",), registry=self.registry)
        info.labels(version).set(1)

    def observe(self, call: AnsweredCall) -> None:
        """Note one answered call."""
        operation = call.operation.name
        self._calls.labels(operation, f"{call.status // 100}xx").inc()
        self._seconds.labels(operation).observe(call.duration_s)
        if call.rows:
            self._rows.labels(operation).inc(call.rows)

    def note_index_lag(self, remaining: int) -> None:
        """Note how many archives are not indexed yet."""
        self._index_lag.set(remaining)

    def follow(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a figure that another part keeps, read whenever somebody asks."""
        Gauge(name, about, registry=self.registry).set_function(read)

    def render(self) -> tuple[bytes, str]:
        """The text for a scraper, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
