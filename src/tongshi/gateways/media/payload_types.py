"""What a session description says of payload types, in the words of the engine.

Implements: GB/T 28181-2022 C.2
Names that are not known are left out: the engine then goes by the standard's numbers and by the bytes, as it
does for a maker's own name, which says that its stream does not conform (G.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from tongshi.protocols.media.codecs import RtpMap

# PT 9 is G.722.1 in this standard (Table G, C.2.4), under the name that RFC 3551 gives to G.722.
_NAMES: Final = {
    "PS": "ps",
    "MP2P": "ps",
    "H264": "h264",
    "H265": "h265",
    "HEVC": "h265",
    "MPEG4": "mpeg4",
    "MP4V-ES": "mpeg4",
    "SVAC": "svac",
    "PCMA": "g711a",
    "PCMU": "g711u",
    "G723": "g723.1",
    "G722": "g722.1",
    "G7221": "g722.1",
    "G729": "g729",
    "SVACA": "svac-audio",
    "AAC": "aac",
    "MPEG4-GENERIC": "aac",
}


def payload_types(maps: Iterable[RtpMap]) -> list[tuple[int, str, int]]:
    """(number, the engine's name, clock in Hz) of each that has one."""
    named = ((one, _NAMES.get(one.encoding.upper())) for one in maps)
    return [(one.payload_type, name, one.clock_hz) for one, name in named if name is not None]


def is_numeric(host: str) -> bool:
    """Whether packets can be compared with it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
