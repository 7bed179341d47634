"""The stream that viewers are counted with, and how their cost is shown; nothing is sent here."""

from __future__ import annotations

import pytest

from tongshi._media import Engine
from tongshi.bench import viewer_cost


def test_the_group_begins_with_its_only_key_frame_and_keeps_its_rate() -> None:
    units = viewer_cost.group()
    assert [is_key for _, is_key in units] == [True] + [False] * (viewer_cost.GROUP - 1)
    kbps = sum(len(unit) for unit, _ in units) * 8 / 1_000 * viewer_cost.FPS / viewer_cost.GROUP
    assert kbps == pytest.approx(viewer_cost.KBPS, rel=0.35)


def test_the_time_of_the_engine_s_own_threads_is_counted() -> None:
    engine = Engine()
    try:
        engine.open_ingest(viewer_cost.STREAM, "udp", viewer_cost.HOST)  # answered by a packet thread
        assert viewer_cost.engine_cpu_s() > 0
    finally:
        engine.shutdown()


def test_a_stream_is_shown_once_and_a_viewer_s_cost_for_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"stream_alone": [0.004], "http-flv": [0.0002, 0.0001, 0.0004], "webrtc": [0.002, 0.001, 0.003]}
    monkeypatch.setattr(viewer_cost, "measure", lambda *_: found)
    lines = viewer_cost.table(viewer_cost.run(16, 3)).splitlines()
    assert lines[2:] == [
        "| stream_alone | 0.40 (0.40-0.40) |",
        "| http-flv a viewer | 0.02 (0.01-0.04) |",
        "| webrtc a viewer | 0.20 (0.10-0.30) |",
    ]
