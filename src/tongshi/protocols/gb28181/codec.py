"""Body to message: the registry of commands.

Implements: GB/T 28181-2022 A.2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmQuery, AlarmResponse
from tongshi.protocols.gb28181.broadcast import BroadcastNotify, BroadcastResponse
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
)
from tongshi.protocols.gb28181.device_response import (
    ConfigDownloadResponse,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.message import UnknownMessage, read_sn
from tongshi.protocols.gb28181.notify import CatalogNotify, Keepalive, MediaStatus
from tongshi.protocols.gb28181.positions import (
    MobilePositionNotify,
    MobilePositionQuery,
    PTZPositionNotify,
)
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordInfoResponse
from tongshi.protocols.gb28181.response import (
    CatalogResponse,
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.upload_notify import VideoUploadNotify

KnownMessage: TypeAlias = (
    CatalogQuery
    | DeviceInfoQuery
    | DeviceStatusQuery
    | DeviceControl
    | Keepalive
    | MediaStatus
    | CatalogNotify
    | CatalogResponse
    | DeviceInfoResponse
    | DeviceStatusResponse
    | DeviceControlResponse
    | RecordInfoQuery
    | RecordInfoResponse
    | AlarmNotify
    | AlarmResponse
    | AlarmQuery
    | BroadcastNotify
    | BroadcastResponse
    | VideoUploadNotify
    | MobilePositionQuery
    | MobilePositionNotify
    | PTZPositionNotify
    | DeviceConfig
    | ConfigDownloadQuery
    | PresetQuery
    | HomePositionQuery
    | CruiseTrackListQuery
    | CruiseTrackQuery
    | PTZPositionQuery
    | SDCardStatusQuery
    | DeviceUpgradeResult
    | UploadSnapShotFinished
    | ConfigDownloadResponse
    | DeviceConfigResponse
    | PresetResponse
    | HomePositionResponse
    | CruiseTrackListResponse
    | CruiseTrackResponse
    | PTZPositionResponse
    | SDCardStatusResponse
)
Message: TypeAlias = KnownMessage | UnknownMessage

KNOWN: Final = (
    CatalogQuery,
    DeviceInfoQuery,
    DeviceStatusQuery,
    DeviceControl,
    Keepalive,
    MediaStatus,
    CatalogNotify,
    CatalogResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
    DeviceControlResponse,
    RecordInfoQuery,
    RecordInfoResponse,
    AlarmNotify,
    AlarmResponse,
    AlarmQuery,
    BroadcastNotify,
    BroadcastResponse,
    VideoUploadNotify,
    MobilePositionQuery,
    MobilePositionNotify,
    PTZPositionNotify,
    DeviceConfig,
    ConfigDownloadQuery,
    PresetQuery,
    HomePositionQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
    DeviceUpgradeResult,
    UploadSnapShotFinished,
    ConfigDownloadResponse,
    DeviceConfigResponse,
    PresetResponse,
    HomePositionResponse,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
_ROOTS: Final = {"control": "Control", "query": "Query", "notify": "Notify", "response": "Response"}


def _catalogue(document: xml.Document) -> CatalogResponse | CatalogNotify:
    """Devices of 2011 send catalogue events under the root of the answer; an answer's item has no Event."""
    device_list = document.root.child("devicelist")
    first = device_list.child("item") if device_list else None
    is_event = first is not None and first.child("event") is not None
    return CatalogNotify.read(document) if is_event else CatalogResponse.read(document)


_READERS: Final[dict[tuple[str, str], Callable[[xml.Document], KnownMessage]]] = {
    **{(kind.root, kind.cmd_type.lower()): kind.read for kind in KNOWN},
    ("Response", "catalog"): _catalogue,
    # As the text of 2014 spelt it (quirk 72).
    ("Query", "persetquery"): PresetQuery.read,
    ("Response", "persetquery"): PresetResponse.read,
}


def decode(body: bytes, *, charset: str | None = None, limit_bytes: int = xml.MAX_TCP_BYTES) -> Message:
    """Decode one MANSCDP body.

    Args:
        body: the bytes of a MESSAGE, NOTIFY or SUBSCRIBE.
        charset: the charset a profile forces; None lets the body decide.
        limit_bytes: ``xml.MAX_UDP_BYTES`` or ``xml.MAX_TCP_BYTES``.

    Returns:
        The message; `UnknownMessage` for a command that is not in the registry. An item of a list that
        cannot be used is named in ``bad_items`` and does not spoil the others.

    Raises:
        RemoteViolation: no MANSCDP, or a known command without its DeviceID.
    """
    document = xml.parse(body, charset=charset, limit_bytes=limit_bytes)
    reader = document.root
    root = _ROOTS.get(xml.local_name(reader.element).lower())
    cmd_type = reader.text("cmdtype")
    if root is None or not 0 < len(cmd_type) <= MAX_ID_CHARS:
        raise RemoteViolation("not a MANSCDP message: root or CmdType missing")
    read = _READERS.get((root, cmd_type.lower()))
    if read is not None:
        return read(document)
    return UnknownMessage(root, cmd_type, read_sn(reader), reader.text("deviceid")[:MAX_ID_CHARS])
