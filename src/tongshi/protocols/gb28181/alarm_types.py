"""The closed lists of an alarm: priority, method, and the types that belong to a method.

Implements: GB/T 28181-2022 A.2.5.3
The names are the standard's and are what people read. A value outside its list is no reason to lose an alarm;
``faults`` says what is wrong with it.
"""

from __future__ import annotations

from typing import Final

PRIORITIES: Final[dict[int, str]] = {1: "一级警情", 2: "二级警情", 3: "三级警情", 4: "四级警情"}

PHONE, DEVICE, SMS, GPS, VIDEO, FAULT, OTHER = 1, 2, 3, 4, 5, 6, 7
METHODS: Final[dict[int, str]] = {
    PHONE: "电话报警",
    DEVICE: "设备报警",
    SMS: "短信报警",
    GPS: "GPS 报警",
    VIDEO: "视频报警",
    FAULT: "设备故障报警",
    OTHER: "其他报警",
}

TYPES: Final[dict[int, dict[int, str]]] = {
    DEVICE: {
        1: "视频丢失报警",
        2: "设备防拆报警",
        3: "存储设备磁盘满报警",
        4: "设备高温报警",
        5: "设备低温报警",
    },
    VIDEO: {
        1: "人工视频报警",
        2: "运动目标检测报警",
        3: "遗留物检测报警",
        4: "物体移除检测报警",
        5: "绊线检测报警",
        6: "入侵检测报警",
        7: "逆行检测报警",
        8: "徘徊检测报警",
        9: "流量统计报警",
        10: "密度检测报警",
        11: "视频异常检测报警",
        12: "快速移动报警",
        13: "图像遮挡报警",
    },
    FAULT: {1: "存储设备磁盘故障报警", 2: "存储设备风扇故障报警"},
}
INTRUSION: Final = (VIDEO, 6)
EVENTS: Final[dict[int, str]] = {1: "进入区域", 2: "离开区域"}

FAULT_TEXTS: Final[dict[str, str]] = {
    "priority": "警情级别缺失或不在 1 至 4 之间",
    "method": "报警方式缺失或不在 1 至 7 之间",
    "type": "报警类型不属于该报警方式",
    "event": "事件类型只适用于入侵检测，且应为 1 或 2",
    "time": "报警时间缺失或无法识别，按收到的时间记录",
}


def faults(
    priority: int | None, method: int | None, alarm_type: int | None, event_type: int | None
) -> list[str]:
    """What is wrong with these values, by the keys of ``FAULT_TEXTS``."""
    found = []
    if priority not in PRIORITIES:
        found.append("priority")
    if method not in METHODS:
        found.append("method")
    elif alarm_type is not None and alarm_type not in TYPES.get(method, {}):
        found.append("type")
    if event_type is not None and (event_type not in EVENTS or (method, alarm_type) != INTRUSION):
        found.append("event")
    return found


def type_name(method: int | None, alarm_type: int | None) -> str:
    """What a type is called; "" for none, and for one that the standard does not know."""
    return "" if method is None or alarm_type is None else TYPES.get(method, {}).get(alarm_type, "")
