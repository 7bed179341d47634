"""Fleets from files and from arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tongshi.errors import InvalidRequest
from tongshi.testing.plan import CameraPlan, FleetPlan, Server, channel_id, configs, read_plan
from tongshi.testing.simulate import add_arguments, plan_of

SERVER = "31010100002000000001@127.0.0.1:5060"
FILE = """
keepalive_s = 5.0
[[server]]
id = "31010100002000000001"
host = "127.0.0.1"
port = 5060
secret = "s"
[[camera]]
id = "31010100001320000001"
name = "东门"
codec = "h265"
transport = "tcp"
longitude = 121.5
[camera.faults]
loss = 0.01
[[camera]]
id = "31010100001180000002"
channels = 2
"""


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_a_fleet_file_becomes_complete_cameras(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE, encoding="utf-8")
    camera, nvr = configs(read_plan(path))
    assert (camera.item.name, camera.codec, camera.transport) == ("东门", "h265", "tcp")
    assert camera.item.longitude == 121.5
    assert camera.item.latitude is not None
    assert camera.faults.loss == 0.01
    assert camera.keepalive_s == 5.0
    assert [one.device_id for one in nvr.channels] == ["31010100001320020001", "31010100001320020002"]
    assert all(one.parent_ids == (nvr.id,) for one in nvr.channels)


@pytest.mark.parametrize(
    "line",
    ['colour = "red"', "port = 70000", 'codec = "av1"', "channels = -1", "rate_kbps = 0"],
)
def test_unknown_keys_and_wrong_values_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE + line, encoding="utf-8")
    with pytest.raises(InvalidRequest):
        read_plan(path)


@pytest.mark.parametrize(
    "camera",
    [CameraPlan(id="123"), CameraPlan(id="31010100001320000001", server="31010100002000000009")],
)
def test_wrong_codes_and_unknown_servers_are_refused(camera: CameraPlan) -> None:
    plan = FleetPlan(server=(Server("31010100002000000001", "127.0.0.1", 5060, "s"),), camera=(camera,))
    with pytest.raises(InvalidRequest):
        configs(plan)


def test_a_code_used_twice_is_refused() -> None:
    row = CameraPlan(id="31010100001320000001")
    plan = FleetPlan(server=(Server("31010100002000000001", "127.0.0.1", 5060, "s"),), camera=(row, row))
    with pytest.raises(InvalidRequest):
        configs(plan)


def test_arguments_make_a_thousand_different_cameras() -> None:
    plan = plan_of(arguments("--server", SERVER, "--secret", "s", "--count", "1000", "--codec", "mixed"))
    made = configs(plan)
    assert len({one.id for one in made}) == 1000
    assert made[0].id == "31010100001320000001"
    assert {one.codec for one in made} == {"h264", "h265"}
    assert {one.scene for one in made} == {"crossing-day", "crossing-night", "metro-hall", "riverside"}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--server", "nonsense"),
        ("--server", "31010100002000000001@127.0.0.1:0"),
        ("--server", SERVER, "--count", "0"),
        ("--server", SERVER, "--first-id", "12"),
        ("--server", SERVER, "--first-id", "31010100001320999999", "--count", "2"),
    ],
)
def test_arguments_that_describe_no_fleet_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        plan_of(arguments("--secret", "s", *words))


def test_a_password_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TONGSHI_CAMERA_SECRET", raising=False)
    with pytest.raises(InvalidRequest):
        plan_of(arguments("--server", SERVER))
    monkeypatch.setenv("TONGSHI_CAMERA_SECRET", "from-outside")
    assert plan_of(arguments("--server", SERVER)).server[0].secret == "from-outside"


def test_channels_of_neighbouring_recorders_do_not_meet() -> None:
    first, second = "31010100001180000001", "31010100001180000002"
    of_first = {channel_id(first, n) for n in range(9999)}
    assert len(of_first) == 9999
    assert not of_first & {channel_id(second, n) for n in range(9999)}
