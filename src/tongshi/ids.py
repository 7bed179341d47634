"""Identifiers parsed once at the edge.

Implements: GB/T 28181-2022 E.1
Implements: GB/T 28181-2022 6.1.2
A 20-digit code is centre (8), industry (2), type (3), network (1), serial (6). Its type digits are a hint,
never a reason to refuse; length and digits are checked.
"""

from __future__ import annotations

import re
from typing import NewType

from tongshi.errors import InvalidRequest

_CODE = re.compile(r"[0-9]{20}\Z", re.ASCII)
_CIVIL = re.compile(r"(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})\Z", re.ASCII)

DeviceId = NewType("DeviceId", str)
PlatformId = NewType("PlatformId", str)
CivilCode = NewType("CivilCode", str)
Ssrc = NewType("Ssrc", int)


def device_id(text: str, field: str = "DeviceID") -> DeviceId:
    """Check a 20-digit device code. Raises InvalidRequest naming ``field``."""
    if not _CODE.match(text):
        raise InvalidRequest(f"{field} 应为 20 位数字", field=field)
    return DeviceId(text)


def platform_id(text: str, field: str = "platformId") -> PlatformId:
    """Check a 20-digit platform code. Raises InvalidRequest naming ``field``."""
    if not _CODE.match(text):
        raise InvalidRequest(f"{field} 应为 20 位数字", field=field)
    return PlatformId(text)


def civil_code(text: str, field: str = "CivilCode") -> CivilCode:
    """Check an administrative division of 2, 4, 6 or 8 digits. Raises InvalidRequest naming ``field``."""
    if not _CIVIL.match(text):
        raise InvalidRequest(f"{field} 应为 2、4、6 或 8 位数字", field=field)
    return CivilCode(text)


def type_code(code: str) -> str:
    """Digits 11 to 13: 131/132 video channel, 200 platform, 215/216 groups."""
    return code[10:13]


def sip_domain(code: str) -> str:
    """The SIP domain of a code: its first ten digits (6.1.2)."""
    return code[:10]
