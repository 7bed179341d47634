"""The catalogue item and the one table that reads it, writes it and names its columns.

Implements: GB/T 28181-2022 A.2.1.9

`ITEM_FIELDS` stands in the order of the schema. The edition of 2016 kept BusinessGroupID inside Info and some
devices put PTZType outside it, so that a reader looks a name up at both levels. The schema's Password has no
attribute here: a device's password never leaves it through a catalogue and is dropped where it arrives.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple

import msgspec

MAX_ID_CHARS: Final = 64  # quirk 77: channels with letters or another length than 20 are opaque text
MAX_TEXT_CHARS: Final = 1024  # the schema names no length; ExtraInfo's bound serves for all text
MAX_LIST_ENTRIES: Final = 64  # parents, resolutions, ratios: no real item has more than ten


class DeviceStatus(Enum):
    """statusType (A.2.1.4)."""

    ON = "ON"
    OFF = "OFF"


class CatalogItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a catalogue: a device, a division, a system, a business group or a virtual organisation.

    Text that was not given is ""; a number that was not given is None; a list that was not given is empty.
    Longitude and latitude are degrees as the peer gave them (WGS-84 by the standard), angles are degrees,
    `max_view_distance` is metres, `install_time` is Beijing local time as on the wire.
    """

    device_id: str
    name: str = ""
    manufacturer: str = ""
    model: str = ""
    civil_code: str = ""
    block: str = ""
    address: str = ""
    parental: int | None = None
    parent_ids: tuple[str, ...] = ()
    register_way: int = 1
    security_level_code: str = ""
    secrecy: int = 0
    ip_address: str = ""
    port: int | None = None
    status: DeviceStatus | None = None
    longitude: float | None = None
    latitude: float | None = None
    business_group_id: str = ""
    ptz_type: int | None = None
    photoelectric_imaging_types: tuple[str, ...] = ()
    capture_position_type: str = ""
    room_type: int | None = None
    supply_light_type: int | None = None
    direction_type: int | None = None
    resolutions: tuple[str, ...] = ()
    stream_numbers: tuple[str, ...] = ()
    download_speeds: tuple[str, ...] = ()
    svc_space_support_mode: int | None = None
    svc_time_support_mode: int | None = None
    ssvc_ratios: tuple[str, ...] = ()
    mobile_device_type: int | None = None
    horizontal_field_angle: float | None = None
    vertical_field_angle: float | None = None
    max_view_distance: float | None = None
    grassroots_code: str = ""
    point_type: int | None = None
    point_common_name: str = ""
    mac: str = ""
    function_types: tuple[str, ...] = ()
    encode_type: str = ""
    install_time: str | None = None
    management_unit: str = ""
    contact_info: str = ""
    record_save_days: int | None = None
    industrial_classification: str = ""


FieldKind = Literal["text", "int", "float", "list", "enum"]


class ItemField(NamedTuple):
    """One element of itemType.

    ``kind`` says how the attribute is typed: "list" is text joined by "/", "enum" is DeviceStatus.
    ``mandatory`` marks what a device carries even when it is empty; ``device_only`` what has a default and
    yet is not part of the item of a division, a group or an organisation (Annex J).
    """

    wire: str
    attribute: str
    kind: FieldKind
    in_info: bool = False
    mandatory: bool = False
    device_only: bool = False


ITEM_FIELDS: Final[tuple[ItemField, ...]] = (
    ItemField("DeviceID", "device_id", "text", mandatory=True),
    ItemField("Name", "name", "text", mandatory=True),
    ItemField("Manufacturer", "manufacturer", "text", mandatory=True),
    ItemField("Model", "model", "text", mandatory=True),
    ItemField("CivilCode", "civil_code", "text", mandatory=True),
    ItemField("Block", "block", "text"),
    ItemField("Address", "address", "text", mandatory=True),
    ItemField("Parental", "parental", "int", mandatory=True),
    ItemField("ParentID", "parent_ids", "list"),
    ItemField("RegisterWay", "register_way", "int", mandatory=True, device_only=True),
    ItemField("SecurityLevelCode", "security_level_code", "text"),
    ItemField("Secrecy", "secrecy", "int", mandatory=True, device_only=True),
    ItemField("IPAddress", "ip_address", "text"),
    ItemField("Port", "port", "int"),
    ItemField("Status", "status", "enum", mandatory=True),
    ItemField("Longitude", "longitude", "float"),
    ItemField("Latitude", "latitude", "float"),
    ItemField("BusinessGroupID", "business_group_id", "text"),
    ItemField("PTZType", "ptz_type", "int", in_info=True),
    ItemField("PhotoelectricImagingType", "photoelectric_imaging_types", "list", in_info=True),
    ItemField("CapturePositionType", "capture_position_type", "text", in_info=True),
    ItemField("RoomType", "room_type", "int", in_info=True),
    ItemField("SupplyLightType", "supply_light_type", "int", in_info=True),
    ItemField("DirectionType", "direction_type", "int", in_info=True),
    ItemField("Resolution", "resolutions", "list", in_info=True),
    ItemField("StreamNumberList", "stream_numbers", "list", in_info=True),
    ItemField("DownloadSpeed", "download_speeds", "list", in_info=True),
    ItemField("SVCSpaceSupportMode", "svc_space_support_mode", "int", in_info=True),
    ItemField("SVCTimeSupportMode", "svc_time_support_mode", "int", in_info=True),
    ItemField("SSVCRatioSupportList", "ssvc_ratios", "list", in_info=True),
    ItemField("MobileDeviceType", "mobile_device_type", "int", in_info=True),
    ItemField("HorizontalFieldAngle", "horizontal_field_angle", "float", in_info=True),
    ItemField("VerticalFieldAngle", "vertical_field_angle", "float", in_info=True),
    ItemField("MaxViewDistance", "max_view_distance", "float", in_info=True),
    ItemField("GrassrootsCode", "grassroots_code", "text", in_info=True),
    ItemField("PointType", "point_type", "int", in_info=True),
    ItemField("PointCommonName", "point_common_name", "text", in_info=True),
    ItemField("MAC", "mac", "text", in_info=True),
    ItemField("FunctionType", "function_types", "list", in_info=True),
    ItemField("EncodeType", "encode_type", "text", in_info=True),
    ItemField("InstallTime", "install_time", "text", in_info=True),
    ItemField("ManagementUnit", "management_unit", "text", in_info=True),
    ItemField("ContactInfo", "contact_info", "text", in_info=True),
    ItemField("RecordSaveDays", "record_save_days", "int", in_info=True),
    ItemField("IndustrialClassification", "industrial_classification", "text", in_info=True),
)
