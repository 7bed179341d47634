"""Logs hide secrets wherever they stand; metrics carry closed labels."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
import structlog

from tongshi.observe import logs
from tongshi.observe.metrics import Metrics


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hunter2"},
        {"sip_secret": "hunter2"},
        {"headers": {"Authorization": "hunter2"}},
        {"rows": [{"csrfToken": "hunter2"}]},
        {"url": "http://h/live/1.flv?ticket=hunter2&x=1"},
        {"url": "postgresql://u:hunter2@h/db"},
        {"wire": "REGISTER sip:x\r\nAuthorization: Digest response=hunter2\r\n"},
    ],
)
def test_a_secret_is_masked_wherever_it_stands(fields: dict[str, object]) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    try:
        structlog.get_logger().info("event_name", **fields)
    finally:
        structlog.reset_defaults()
    line = stream.getvalue()
    assert json.loads(line)["event"] == "event_name"
    assert "hunter2" not in line
    assert logs.MASK in line


def test_what_is_no_secret_stays(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"event": "device_registered", "device_id": "31010400001310000001", "expires_s": 3600}
    assert logs.mask_secrets(None, "info", dict(event)) == event


def test_a_long_value_is_cut() -> None:
    masked = logs.mask_secrets(None, "info", {"event": "x" * 100_000})
    assert len(masked["event"]) == logs.MAX_VALUE_CHARS


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class _Answered:
    operation: _Named
    status: int
    rows: int
    duration_s: float


def test_calls_are_counted_by_operation_and_class_of_status() -> None:
    metrics = Metrics("1.2.3")
    metrics.observe(_Answered(_Named("listDevices"), 200, 7, 0.02))
    metrics.observe(_Answered(_Named("listDevices"), 404, 0, 0.001))
    text = metrics.render()[0].decode()
    assert 'tongshi_web_calls_total{operation="listDevices",status="2xx"} 1.0' in text
    assert 'tongshi_web_calls_total{operation="listDevices",status="4xx"} 1.0' in text
    assert 'tongshi_web_rows_total{operation="listDevices"} 7.0' in text
    assert 'tongshi_info{version="1.2.3"} 1.0' in text
