"""Believable cameras of Shanghai: where they hang, what they are called, every field a catalogue asks for.

Coordinates are WGS-84: the middle of a district and an offset of some hundred metres. The roads exist; the
cameras, units and telephone numbers do not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus


@dataclass(frozen=True, slots=True)
class District:
    """One of the sixteen, with a point in its middle (degrees, WGS-84)."""

    civil_code: str
    name: str
    longitude: float
    latitude: float
    roads: tuple[str, ...]


_TABLE = """\
310101 黄浦区 121.4795 31.2272 南京东路 西藏中路 淮海中路 河南中路 人民大道
310104 徐汇区 121.4320 31.1905 肇嘉浜路 漕溪北路 衡山路 天钥桥路 龙腾大道
310105 长宁区 121.4195 31.2180 延安西路 中山西路 虹桥路 天山路 仙霞路
310106 静安区 121.4485 31.2340 南京西路 石门一路 北京西路 共和新路 江宁路
310107 普陀区 121.3935 31.2505 武宁路 曹杨路 长寿路 真北路 金沙江路
310109 虹口区 121.4815 31.2655 四川北路 大连路 东大名路 曲阳路 溧阳路
310110 杨浦区 121.5205 31.2720 四平路 五角场环岛 黄兴路 控江路 杨树浦路
310112 闵行区 121.3775 31.1140 沪闵路 七莘路 莘松路 虹梅南路 申长路
310113 宝山区 121.4850 31.4055 牡丹江路 友谊路 逸仙路 沪太路 共康路
310114 嘉定区 121.2610 31.3760 城中路 博乐路 曹安公路 沪宜公路 墨玉路
310115 浦东新区 121.5405 31.2230 世纪大道 张杨路 陆家嘴环路 杨高中路 锦绣路
310116 金山区 121.3375 30.7430 卫清西路 龙胜路 蒙山路 板桥西路 杭州湾大道
310117 松江区 121.2245 31.0330 人民北路 中山中路 思贤路 新松江路 文诚路
310118 青浦区 121.1205 31.1510 公园路 城中东路 外青松公路 淀山湖大道 盈港路
310120 奉贤区 121.4700 30.9190 南桥路 解放中路 环城东路 望园路 金海公路
310151 崇明区 121.3935 31.6240 八一路 人民路 鼓浪屿路 陈海公路 东门路
310000 上海市 121.4690 31.2320 人民大道 外滩中山东一路 世纪大道 延安高架路
"""
*DISTRICTS, CITY = (
    District(code, name, float(longitude), float(latitude), tuple(roads))
    for code, name, longitude, latitude, *roads in map(str.split, _TABLE.splitlines())
)

_PLACES = (
    ("路口", "0020100", 1),
    ("地铁站厅", "0120400", 2),
    ("广场", "0010300", 1),
    ("公交站", "0120600", 1),
    ("人行天桥", "0020300", 1),
)
_MAKES = (("通视仿真", "TS-PTZ-2200"), ("通视仿真", "TS-IPC-4100"))
_LARGEST_OFFSET_DEG = 0.008  # about 800 m


def district(civil_code: str) -> District:
    """The district of a code of 6 or more digits; the city for others of Shanghai. Raises InvalidRequest."""
    for one in DISTRICTS:
        if civil_code.startswith(one.civil_code):
            return one
    if civil_code.startswith("31"):
        return CITY
    raise InvalidRequest("只有上海市的行政区划可用于生成相机", field="civil-code")


def make_item(
    device_id: str,
    number: int,
    *,
    civil_code: str,
    parent_id: str,
    rng: random.Random,
    codec: str = "h264",
    name_prefix: str = "",
    is_ptz: bool = True,
) -> CatalogItem:
    """The catalogue item of a generated camera, every field of the standard's Item filled that suits."""
    home = district(civil_code)
    road = home.roads[number % len(home.roads)]
    place, position_type, room_type = _PLACES[rng.randrange(len(_PLACES))]
    kind = "球机" if is_ptz else "枪机"
    manufacturer, model = _MAKES[0 if is_ptz else 1]
    return CatalogItem(
        device_id=device_id,
        name=f"{name_prefix}{road}{place}{number + 1:02d}号{kind}",
        manufacturer=manufacturer,
        model=model,
        civil_code=civil_code,
        block=f"{home.civil_code}000000",
        address=f"上海市{home.name}{road}{rng.randrange(1, 1800)}号" if home is not CITY else f"上海市{road}",
        parental=0,
        parent_ids=(parent_id,),
        register_way=1,
        secrecy=0,
        status=DeviceStatus.ON,
        longitude=round(home.longitude + rng.uniform(-_LARGEST_OFFSET_DEG, _LARGEST_OFFSET_DEG), 6),
        latitude=round(home.latitude + rng.uniform(-_LARGEST_OFFSET_DEG, _LARGEST_OFFSET_DEG), 6),
        ptz_type=1 if is_ptz else 3,
        photoelectric_imaging_types=("1",),
        capture_position_type=position_type,
        room_type=room_type,
        supply_light_type=rng.choice((1, 2, 3)),
        direction_type=rng.randrange(1, 9),
        resolutions=("640x360",),
        stream_numbers=("0", "1"),
        download_speeds=("1", "2", "4"),
        svc_space_support_mode=0,
        svc_time_support_mode=0,
        horizontal_field_angle=58.3,
        vertical_field_angle=34.1,
        max_view_distance=float(rng.randrange(60, 200, 10)),
        grassroots_code="000000",
        point_type=rng.choice((1, 2, 3)),
        point_common_name=f"{road}{place}",
        mac="02-00-5E-" + "-".join(f"{rng.randrange(256):02X}" for _ in range(3)),
        function_types=("03", "04") if place == "路口" else ("02",),
        encode_type="5" if codec == "h265" else "2",
        install_time=_install_time(rng),
        management_unit=f"{home.name}城市运行管理中心（仿真）",
        contact_info=f"021-0000{rng.randrange(10000):04d}",
        record_save_days=rng.choice((30, 90)),
        industrial_classification="S92",
    )


def _install_time(rng: random.Random) -> str:
    return f"{rng.randrange(2019, 2025)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}T09:00:00"
