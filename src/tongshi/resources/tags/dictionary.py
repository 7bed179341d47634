"""The tag dictionary that a platform begins with.

Implements: DB31DSJ/Z 001-2024 Table D.3

The two groups of places are printed, value by value and in this order; they are the same on every platform
and not changed by hand. No operation of Table E.3 makes groups or definitions, so that each of the other
classes of Table D.1 (1 to 3) has one group with one definition, empty and open for values of one's own.
Codes are digits: group, definition, value; the printed ones are the same on every platform.
"""

from __future__ import annotations

from typing import Final

from tongshi.resources.tags.model import Define, Group, TagSort, Value

PLACE_TYPES: Final = (
    "社区、道路、路口、酒店、交通干线、学校、展馆会场、单位、商圈、商场、商业场所、银行、医院、政府机关、停车场、公园、公共设施、"
    "办公楼宇、景点、交通站点、汽车站、加油站、休闲场所、广场、工厂、治安卡口断面、宗教场所、墓园、高架、火车站、便利店、写字楼、"
    "网吧网咖、教育机构、游乐园、营业厅、洗浴场所、快递、通信单位、药店、图书馆、墓场、电影院、涉外场所、动物园、咖啡厅、车站码头、"
    "机场"
)
PLACE_PARTS: Final = (
    "天桥、建筑工地、隧道、岗亭、派出所、高架、机房、南广场、北广场、路段、后门、楼顶、高空、围墙、南通道、自行车道、广场、西通道、"
    "东通道、河道、公交站、北通道、大堂、侧门、东侧、西侧、南侧、北侧、车库、绿化带、电梯厅、车库通道、中段、农宅、交叉口、沿街商铺、"
    "停车场、南门、北门、东门、西门、路面、出入口、路口、向西、向东、向北、向南、周边道路、大门、进口、出口、楼道口、西向东、东向西、"
    "南向北、北向南、人行道"
)

GROUPS: Final = (
    Group("0001", "场所类型", TagSort.PLACE, 0),
    Group("0002", "场所部位", TagSort.PLACE, 1),
    Group("0003", "应用标签", TagSort.APPLICATION, 2),
    Group("0004", "属性标签", TagSort.ATTRIBUTE, 3),
    Group("0005", "个性标签", TagSort.PERSONAL, 4),
)
DEFINES: Final = tuple(
    Define(f"{group.code}01", group.code, group.name, group.sort, group.position, group.sort != TagSort.PLACE)
    for group in GROUPS
)


def values() -> list[Value]:
    """Every printed value."""
    printed = zip(DEFINES[:2], (PLACE_TYPES, PLACE_PARTS), strict=True)
    return [
        Value(f"{define.code}{number:03d}", define.code, text, position=number)
        for define, texts in printed
        for number, text in enumerate(texts.split("、"), start=1)
    ]
