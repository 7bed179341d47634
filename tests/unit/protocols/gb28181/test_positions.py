"""Mobile positions in both forms, and the head's position as a notification."""

from __future__ import annotations

import pytest

from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.positions import (
    MobilePositionNotify,
    MobilePositionQuery,
    Position,
    PTZPositionNotify,
)
from tongshi.protocols.gb28181.version import Edition

SYSTEM, CAR, BIKE = "34020000001180000001", "34020000001320000009", "34020000001320000010"
AT = "2024-05-20T09:45:04"
HERE = Position(
    device_id=CAR, at=AT, longitude=118.380001, latitude=31.330002, speed=32.5, direction=87.0,
    altitude=12.4, height=1.8,
)  # fmt: skip
THERE = Position(device_id=BIKE, at=AT, longitude=121.5, latitude=31.2)


def test_the_list_of_2022_is_read_as_it_is_written() -> None:
    told = MobilePositionNotify(51, SYSTEM, "2024-05-20T09:45:05", (HERE, THERE))
    body = told.render()
    assert b'<SumNum>2</SumNum>\r\n<DeviceList Num="2">' in body
    assert decode(body) == told


@pytest.mark.parametrize("edition", [Edition.GB2014, Edition.GB2016])
def test_older_peers_get_one_flat_message_for_each_position(edition: Edition) -> None:
    told = MobilePositionNotify(51, SYSTEM, "2024-05-20T09:45:05", (HERE, THERE))
    parts = told.for_edition(edition)
    bodies = [part.render("gb2312", edition) for part in parts]
    assert all(b"DeviceList" not in body and b"Height" not in body for body in bodies)
    read = [decode(body) for body in bodies]
    assert [
        (one.device_id, one.positions[0].longitude) for one in read if isinstance(one, MobilePositionNotify)
    ] == [
        (CAR, 118.380001),
        (BIKE, 121.5),
    ]
    assert told.for_edition(Edition.GB2022) == (told,)


@pytest.mark.parametrize(
    "place", ["<Longitude>0</Longitude><Latitude>0</Latitude>", "<Longitude/><Latitude/>", ""]
)
def test_a_position_without_a_place_is_counted_and_not_believed(place: str) -> None:
    flat = f"<Notify><CmdType>MobilePosition</CmdType><SN>1</SN><DeviceID>{CAR}</DeviceID>{place}</Notify>"
    read = decode(flat.encode())
    assert isinstance(read, MobilePositionNotify)
    assert (read.positions, read.bad_items) == ((), 1)


@pytest.mark.parametrize(("text", "interval_s"), [("10", 10), ("", 5), ("0", 5), ("-3", 5), ("999999", 5)])
def test_the_interval_is_bounded(text: str, interval_s: int) -> None:
    body = (
        f"<Query><CmdType>MobilePosition</CmdType><SN>51</SN><DeviceID>{CAR}</DeviceID>"
        f"<Interval>{text}</Interval></Query>"
    )
    assert decode(body.encode()) == MobilePositionQuery(51, CAR, interval_s)


def test_a_head_that_turned() -> None:
    body = (
        f"<Notify><CmdType>PTZPosition</CmdType><SN>52</SN><DeviceID>{CAR}</DeviceID>"
        "<Pan>140.00</Pan><Tilt>10.50</Tilt><Zoom>2.00</Zoom></Notify>"
    )
    read = decode(body.encode())
    assert isinstance(read, PTZPositionNotify)
    assert (read.pan, read.tilt, read.zoom) == (140.0, 10.5, 2.0)
    assert decode(read.render()) == read
