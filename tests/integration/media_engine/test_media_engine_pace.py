"""The peak rate of sending can be limited (4.3.6): a large picture is spread over the time of its rate."""

from __future__ import annotations

import socket
import time

import pytest

from tongshi._media import PsSender

PICTURE_BYTES = 60_000
RATE_KBPS = 8_000
# 2 ms of the rate may leave at once, before the first wait.
DUE_S = PICTURE_BYTES * 8 / (RATE_KBPS * 1000) - 0.002


@pytest.mark.parametrize("is_limited", [True, False])
def test_a_large_picture_takes_the_time_that_its_rate_gives_it(is_limited: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PICTURE_BYTES)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(2.0)
        sender = PsSender("udp", "127.0.0.1", 0, 7, "h264", rate_kbps=RATE_KBPS if is_limited else 0)
        sender.connect("127.0.0.1", receiver.getsockname()[1])
        picture = b"\x00\x00\x00\x01\x65" + bytes([0x5A]) * PICTURE_BYTES
        # The best of three: a busy machine makes a sender late, never early.
        times, packets = [], 0
        for number in range(3):
            begun = time.monotonic()
            packets = sender.send_video(picture, 3_600 * number, key=True)
            times.append(time.monotonic() - begun)
            got = sum(len(receiver.recv(2_048)) for _ in range(packets))
            assert got > PICTURE_BYTES
        sender.close()
    assert packets > 40
    assert (min(times) >= DUE_S) is is_limited
