"""Where a camera looks: the seven digits of CapturePositionType and their names.

Implements: GB/T 28181-2022 Annex O

Three digits major, two middle, two minor; the minor ones belong to each industry and default to 00. Middle
99 is "other" of its major.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tongshi.errors import InvalidRequest

_OTHER: Final = "其他"


class PositionMajor(msgspec.Struct, frozen=True):
    """One major class with the names of its middle classes."""

    code: str
    name: str
    middles: dict[str, str]


def describe(code: str) -> str:
    """The Chinese name of a seven-digit code, major/middle; "" when it is not in the table."""
    major = POSITION_TYPES.get(code[:3])
    middle = major.middles.get(code[3:5]) if major else None
    return f"{major.name}/{middle}" if major and middle and is_valid(code) else ""


def is_valid(code: str) -> bool:
    """Whether major and middle are in the table and the minor part is two digits."""
    if len(code) != 7 or not (code.isascii() and code.isdigit()):
        return False
    major = POSITION_TYPES.get(code[:3])
    return major is not None and code[3:5] in major.middles


def position_type(major: str, middle: str, minor: str = "00") -> str:
    """Compose a code. Raises InvalidRequest when it is not in the table."""
    code = f"{major}{middle}{minor}"
    if not is_valid(code):
        raise InvalidRequest("摄像机采集部位类型不在附录 O 中", field="CapturePositionType")
    return code


_TABLE: Final[tuple[tuple[str, str, str], ...]] = (
    ("001", "开放式广场", "历史政治广场 大型集会广场 商业广场 文化体育广场 宗教广场 *"),
    (
        "002",
        "道路、路口、过街天桥、地下通道",
        "城市道路 乡镇道路 城市地下通道及过街天桥 乡村道路 97:城市其他 98:乡镇其他 *",
    ),
    (
        "003",
        "公路出入口、边界卡口、收费通道、服务区",
        "高速公路 国道 省际 市际 县际 城镇道路 交通状态监测 事故多发路段 *",
    ),
    ("004", "大型桥梁、隧道", "桥梁 隧道 *"),
    ("005", "商业、金融区域", "城市 乡镇 其他金融场所 *"),
    ("006", "交通枢纽外广场", "机场 火车站 港口 码头 长途汽车站 *"),
    ("007", "城市轨道交通站点周边", "城市轨道交通站点周边 *"),
    (
        "008",
        "水域",
        "海岸 海域 长江岸线 长江水域 黄河岸线 黄河水域 湖泊水库岸线 湖泊水库水域 池塘 "
        "96:其他江河岸线 97:其他江河水域 98:其他岸线 99:其他水域",
    ),
    ("009", "边境线", "边境线"),
    ("010", "铁路沿线", "铁路沿线"),
    ("011", "党政机关", "出入口 办事大厅 *"),
    ("012", "车站、机场、轨道、公交、加油站", "机场 火车站 港口 城市轨道交通 长途汽车站 城市公交 加油站 *"),
    ("013", "银行", "银行 *"),
    ("014", "寄递、物流、仓储", "寄递 物流 仓储 *"),
    ("015", "电力、电信、广电、油气、供水", "电力 电信 广播电视 石油天然气 供水 *"),
    ("016", "商场、会展、市场", "商场 会展 市场 *"),
    ("017", "学校", "学校 学前教育机构 其他教育机构 *"),
    ("018", "医疗、社会服务", "医院 公共卫生机构 社会工作机构 *"),
    ("019", "文化娱乐场所", "歌舞厅 游艺厅 互联网上网服务场所 新闻出版 美术馆剧院 *"),
    ("020", "宾馆、洗浴", "宾馆 洗浴 *"),
    ("021", "展览馆、大型场馆", "展览馆 体育场馆 其他大型场馆 *"),
    ("022", "风景名胜区", "风景名胜区 *"),
    ("023", "其他重点安保单位", "其他重点安保单位 *"),
    ("024", "社区安防", "社区安防 *"),
    ("025", "森林、草原", "森林 草原 *"),
    ("026", "居民小区", "出入口 *"),
    ("027", "公共停车场", "公共停车场 *"),
    ("028", "危险物品场所", "危险物品场所 *"),
    ("031", "生态环境", "危险废物 生态资源 *"),
    ("032", "文物、博物馆", "文物保护单位 博物馆 其他不可移动文物 *"),
    ("998", "其他重点公共区域", "*"),
    ("999", "其他重点行业", "*"),
)


def _middles(text: str) -> dict[str, str]:
    """Names in order get 01, 02, ...; "97:name" names its number; "*" is 99, other."""
    middles: dict[str, str] = {}
    for number, part in enumerate(text.split(), 1):
        code, colon, name = part.partition(":")
        if part == "*":
            middles["99"] = _OTHER
        elif colon:
            middles[code] = name
        else:
            middles[f"{number:02d}"] = part
    return middles


POSITION_TYPES: Final[dict[str, PositionMajor]] = {
    code: PositionMajor(code, name, _middles(text)) for code, name, text in _TABLE
}
