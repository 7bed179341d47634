"""The plan catalogues that the standard prints, as data.

Implements: DB31DSJ/Z 001-2024 Table B.1

The key is the path: 加油站 and 广场 are printed twice on the second level. Rows 54 to 58 have no second
level. That of rows 79 to 81 is a rule, 按行政区划划分: below them stand divisions, made when first used.
Ids are the same on every platform, so that a plan keeps its place when it is exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tongshi.resources.plans.model import Catalogue, Visibility

BY_DIVISION: Final = "按行政区划划分"

# Number of the first row, first level, second levels; a line that begins with a blank goes on.
_TABLE: Final = """
1 交通场所 机场 火车站 客车站 地铁 公交站 高速收费站 加油站 新能源站（充电站、充气站）
9 道路桥隧 铁路 高速公路 城市道路 公路（国道、省道、县道、乡道） 桥梁 隧道 人行道（过街）
16 公共场所 博物馆 科技馆 图书馆 广场 宗教场所 殡葬场所 爱国主义教育基地 文化馆 体育场馆
25 重点医院 省级 市级 区级 社区级
29 重点园区 工业园区 物流园
31 商场超市 商场 超市 农贸市场 批发市场
35 公园景区 5A 4A 3A 2A A 其他
41 日常保障 街镇小区全量汇总 零售点位 商圈客流 公园景点 宾馆汇总 道路交通 公共交通站点
   工地监管 学校汇总 医院汇总 加油站 广场 公共机构
54 政务大厅
55 会议中心
56 出入境办证大厅
57 银行
58 企业
59 重点学校 大学 学院 中学 小学 幼儿园 职校
65 保障设施 水 电 气 垃圾处置
69 生态环境 大气应急管控 水库河流 森林 湖泊
73 高点地标 鹰眼 高眼 制高点
76 移动设备 无人机 巡逻机器人 执法记录仪
79 重点区域 按行政区划划分
80 居民小区 按行政区划划分
81 宾馆酒店 按行政区划划分
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One printed row. ``path`` has one name where no second level is printed or where it is a rule."""

    number: int
    path: tuple[str, ...]
    is_by_division: bool = False


def _rows() -> tuple[Row, ...]:
    found = []
    for line in _TABLE.strip().replace("\n   ", " ").splitlines():
        start, first, *seconds = line.split()
        if seconds == [BY_DIVISION] or not seconds:
            found.append(Row(int(start), (first,), is_by_division=bool(seconds)))
        else:
            found += [Row(int(start) + i, (first, second)) for i, second in enumerate(seconds)]
    return tuple(found)


ROWS: Final = _rows()
_FIRSTS: Final = tuple(dict.fromkeys(row.path[0] for row in ROWS))
# First levels whose second level is printed: nobody may add to it but who may extend the table.
CLOSED: Final = frozenset(row.path[0] for row in ROWS if len(row.path) == 2)
DIVIDED: Final = frozenset(row.path[0] for row in ROWS if row.is_by_division)


def first_id(name: str) -> str:
    """Id of a printed first level."""
    return f"1{_FIRSTS.index(name) + 1:02d}00"


def division_id(first: str, code: str) -> str:
    """Id of a division below a first level that is divided so."""
    return f"1{_FIRSTS.index(first) + 1:02d}{code}"


def catalogues() -> list[Catalogue]:
    """Every printed catalogue, parents first; what is printed is protected and seen by everybody."""
    rows = {row.path: row.number for row in ROWS}
    found = [_catalogue(first_id(name), "", (name,), rows.get((name,)), i) for i, name in enumerate(_FIRSTS)]
    for first in _FIRSTS:
        seconds = [row for row in ROWS if len(row.path) == 2 and row.path[0] == first]
        parent = first_id(first)
        found += [
            _catalogue(f"{parent[:3]}{i + 1:02d}", parent, row.path, row.number, i)
            for i, row in enumerate(seconds)
        ]
    return found


def _catalogue(id_: str, parent_id: str, path: tuple[str, ...], row: int | None, position: int) -> Catalogue:
    return Catalogue(
        id_,
        parent_id,
        path,
        standard_row=row,
        is_protected=True,
        visibility=Visibility.ALL,
        position=position,
    )
