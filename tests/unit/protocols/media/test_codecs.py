"""Payload types of RTP."""

from __future__ import annotations

from tongshi.protocols.media.codecs import LIVE_PAYLOAD_TYPES, RTP_MAPS, RtpMap


def test_every_offered_payload_type_has_its_map() -> None:
    assert LIVE_PAYLOAD_TYPES[0] == 96
    assert all(RTP_MAPS[number].payload_type == number for number in LIVE_PAYLOAD_TYPES)
    assert RtpMap(102, "AAC", 8000, 1).render() == "102 AAC/8000/1"
