"""Every column of the ledger: its name, its title, where it lives in our record, how a cell is read.

Implements: DB31DSJ/Z 001-2024 Table A.1
Names and titles were compared with tables of Baoshan and Putuo and with a form of the later kind, all public:
all of them confirmed by two at least but ``BWLX`` (the name by one, its title by none).
The nine attributes of Table A.1 are a slice of this ledger; their names are the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tongshi.resources.devices.ledger import cells


class Column(NamedTuple):
    """A column. ``home`` is an attribute of the item, ``ext.`` one of the extended attributes, "" none."""

    name: str
    title: str
    home: str = ""
    convert: cells.Convert = cells.plain

    @property
    def attribute(self) -> str:
        return self.home.removeprefix("ext.")

    @property
    def is_ext(self) -> bool:
        return self.home.startswith("ext.")


ID = "SBBM"
# Other names of a column in tables that Shanghai's districts keep: the longer name of the photo stands in two
# of them, the others in one that was made later (its titles: 监视方向, 录像或图片保存天数, 视频/图片分辨率).
OTHER_SPELLINGS: Final = {
    "SXJCJYSZPURL": "SXJCJYSZP",
    "IPV4DZ": "IPV4",
    "JSFX": "JSFW",
    "LXHTPBCTS": "LXBCTS",
    "SPTPFBL": "SPFBL",
}

COLUMNS: Final = (
    Column(ID, "设备编码", "device_id"),
    Column("SBMC", "设备名称", "name"),
    Column("SBCS", "设备厂商", "manufacturer"),
    Column("XZQY", "行政区域", "civil_code", cells.street),
    Column("JKDWLX", "监控点位类型", "point_type", cells.coded),
    Column("SBXH", "设备型号", "model"),
    Column("DWSC", "点位俗称", "point_common_name"),
    Column("IPV4", "IPv4 地址", "ip_address", cells.address_v4),
    Column("MACDZ", "MAC 地址", "mac", cells.hardware),
    Column("SXJLX", "摄像机类型", "ptz_type", cells.coded),
    Column("SXJGNLX", "摄像机功能类型", "function_types", cells.functions),
    Column("BGSX", "补光属性", "supply_light_type", cells.coded),
    Column("SXJBMGS", "摄像机编码格式", "encode_type", cells.coded),
    Column("AZDZ", "安装地址", "address"),
    Column("AZGD", "安装高度"),
    Column("JD", "经度", "longitude", cells.decimal),
    Column("WD", "纬度", "latitude", cells.decimal),
    Column("KSJL", "可视距离", "max_view_distance", cells.decimal),
    Column("SXJWZLX", "摄像机位置类型"),
    Column("JSFW", "监视方位", "direction_type", cells.coded),
    Column("AZSJ", "安装时间", "install_time", cells.moment),
    Column("GLDW", "管理单位", "management_unit"),
    Column("GLDWLXFS", "管理单位联系方式", "contact_info"),
    Column("LXBCTS", "录像保存天数", "record_save_days", cells.whole),
    Column("SBZT", "设备状态"),
    Column("SPFBL", "视频分辨率", "resolutions", cells.resolutions),
    Column("SPXHLX", "视频信号类型"),
    Column("JSYYLB", "建设/应用类别"),
    Column("SFDWGX", "是否对外共享"),
    Column("SFJRSJPT", "是否接入三级平台"),
    Column("CSBH", "场所编号"),
    Column("CSMC", "场所名称"),
    Column("BWLX", "部位类型"),
    Column("CRFX", "出入方向"),
    Column("SFKK", "是否可控", "ext.is_controllable", cells.flag),
    Column("JPBH", "键盘编号", "ext.keyboard_number", cells.keyboard),
    Column("DYCCSBIP", "对应存储设备 IP", "ext.storage_device_ip", cells.bounded(30)),
    Column("DYCCSBTD", "对应存储设备通道", "ext.storage_channel", cells.bounded(20)),
    Column("SXJCJYSZP", "摄像机场景预设照片 URL", "ext.scene_photo_url", cells.bounded(512)),
    Column("DWMK", "定位模块", "ext.has_positioning_module", cells.flag),
    Column("LWSX", "联网属性", "ext.is_networked", cells.flag),
    Column("SSXQGAJG", "所属辖区公安机关", "ext.police_jurisdiction", cells.police),
    Column("SSBMHY", "所属部门/行业", "ext.industries", cells.departments),
)
BY_NAME: Final = {column.name: column for column in COLUMNS}
FLAGS: Final = tuple(column.name for column in COLUMNS if column.convert is cells.flag)
