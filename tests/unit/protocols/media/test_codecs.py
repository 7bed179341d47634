"""Codec numbers of the f= line, of PS and of RTP."""

from __future__ import annotations

from tongshi.protocols.media.codecs import (
    AUDIO_NUMBERS,
    AUDIO_RATES_KBPS,
    LIVE_PAYLOAD_TYPES,
    PS_AUDIO_TYPES,
    PS_VIDEO_TYPES,
    RTP_MAPS,
    SAMPLING_KHZ,
    VIDEO_NUMBER_OF,
    VIDEO_NUMBERS,
    AudioCodec,
    RtpMap,
    VideoCodec,
)


def test_format_numbers_are_those_of_the_standard() -> None:
    assert [VIDEO_NUMBERS[n].value for n in range(1, 6)] == ["MPEG-4", "H.264", "SVAC", "3GP", "H.265"]
    assert AUDIO_NUMBERS[1] is AudioCodec.G711
    assert AUDIO_NUMBERS[6] is AudioCodec.AAC
    assert VIDEO_NUMBER_OF[VideoCodec.H265] == 5


def test_stream_types_of_ps_name_their_codec() -> None:
    assert PS_VIDEO_TYPES[0x1B] is VideoCodec.H264
    assert PS_VIDEO_TYPES[0x24] is VideoCodec.H265
    assert PS_AUDIO_TYPES[0x90] is AudioCodec.G711
    assert not PS_VIDEO_TYPES.keys() & PS_AUDIO_TYPES.keys()


def test_code_tables_are_whole() -> None:
    assert list(AUDIO_RATES_KBPS) == list(range(1, 31))
    assert list(SAMPLING_KHZ) == list(range(1, 18))
    assert (AUDIO_RATES_KBPS[8], SAMPLING_KHZ[1]) == (64, 8)


def test_every_offered_payload_type_has_its_map() -> None:
    assert LIVE_PAYLOAD_TYPES[0] == 96
    assert all(RTP_MAPS[number].payload_type == number for number in LIVE_PAYLOAD_TYPES)
    assert RtpMap(102, "AAC", 8000, 1).render() == "102 AAC/8000/1"
