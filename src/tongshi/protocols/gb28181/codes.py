"""What the digits of a 20-digit code hint at.

Implements: GB/T 28181-2022 Annex E

Type digits are hints: no peer is refused because a channel calls itself 118 or 200 (dossier 17.6).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

_DIVISION = re.compile(r"(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})\Z", re.ASCII)
_DIGITS = re.compile(r"[0-9]{2,8}", re.ASCII)


class ItemKind(Enum):
    """What a catalogue item is, by its code (Annex J)."""

    DIVISION = "division"
    SYSTEM = "system"
    BUSINESS_GROUP = "business_group"
    VIRTUAL_ORGANISATION = "virtual_organisation"
    DEVICE = "device"


_KIND_BY_TYPE: Final = {
    "200": ItemKind.SYSTEM,
    "215": ItemKind.BUSINESS_GROUP,
    "216": ItemKind.VIRTUAL_ORGANISATION,
}


def kind_of(device_id: str) -> ItemKind:
    """What an item is: a division by its length, a group or system by its type, else a device."""
    if len(device_id) == 20:
        return _KIND_BY_TYPE.get(device_id[10:13], ItemKind.DEVICE)
    return ItemKind.DIVISION if _DIVISION.match(device_id) else ItemKind.DEVICE


def normalise_civil_code(text: str) -> str:
    """The longest division prefix of what a device wrote; "" when it has none (quirk 9).

    A valid code stays as it is. Of a longer number the basic access unit is dropped when it is 00, which
    means that there is none: the domain 3402000000 gives 340200.
    """
    text = text.strip()
    if _DIVISION.match(text):
        return text
    match = _DIGITS.match(text)
    if match is None:
        return ""
    digits = match.group()[: len(match.group()) // 2 * 2]
    return digits[:6] if len(digits) == 8 and digits.endswith("00") else digits


TYPE_NAMES: Final[dict[str, str]] = {
    "111": "DVR", "112": "视频服务器", "113": "编码器", "114": "解码器", "115": "视频切换矩阵",
    "116": "音频切换矩阵", "117": "报警控制器", "118": "网络视频录像机(NVR)",
    "120": "在线视频图像信息采集系统", "121": "视频卡口", "122": "多目设备", "123": "停车场出入口控制设备",
    "124": "人员出入口控制设备", "125": "安检设备", "130": "混合硬盘录像机(HVR)", "131": "摄像机",
    "132": "网络摄像机(IPC)", "133": "显示器", "134": "报警输入设备", "135": "报警输出设备",
    "136": "语音输入设备", "137": "语音输出设备", "138": "移动传输设备", "139": "其他外围设备",
    "140": "报警输出设备(继电器或触发器控制)", "141": "道闸", "142": "智能门", "143": "凭证识别单元",
    "200": "中心信令控制服务器", "201": "Web 应用服务器", "202": "媒体分发服务器", "203": "代理服务器",
    "204": "安全服务器", "205": "报警服务器", "206": "数据库服务器", "207": "GIS 服务器",
    "208": "管理服务器", "209": "接入网关", "210": "媒体存储服务器", "211": "信令安全路由网关",
    "215": "业务分组", "216": "虚拟组织", "300": "中心用户", "400": "终端用户",
    "500": "视频图像信息综合应用平台", "501": "视频图像信息运维管理平台", "502": "视频图像分析系统",
    "503": "视频图像信息数据库", "505": "视频图像分析设备",
}  # fmt: skip

INDUSTRY_NAMES: Final[dict[str, str]] = {
    "00": "社会治安路面接入", "01": "社会治安社区接入", "02": "社会治安内部接入", "03": "社会治安其他接入",
    "04": "交通路面接入", "05": "交通卡口接入", "06": "交通内部接入", "07": "交通其他接入",
    "08": "城市管理接入", "09": "卫生环保接入", "10": "商检海关接入", "11": "教育部门接入",
    "12": "民航接入", "13": "铁路接入", "14": "航运接入", "40": "农、林、牧、渔业接入", "41": "采矿业接入",
    "42": "制造业接入", "43": "电力、热力、燃气及水生产和供应业接入", "44": "建筑业接入",
    "45": "批发和零售业接入", "46": "交通运输、仓储和邮政业接入", "47": "住宿和餐饮业接入",
    "48": "信息传输、软件和信息技术服务业接入", "49": "金融业接入", "50": "房地产业接入",
    "51": "租赁和商务服务业接入", "52": "科学研究和技术服务业接入", "53": "水利、环境和公共设施管理业接入",
    "54": "居民服务、修理和其他服务业接入", "55": "教育接入", "56": "卫生和社会工作接入",
    "57": "文化、体育和娱乐业接入", "58": "公共管理、社会保障和社会组织接入", "59": "国际组织接入",
}  # fmt: skip
