"""What a ledger import or export found, rule by rule, cell by cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

MAX_FINDINGS = 10_000
MAX_SHOWN_CHARS = 80

# A cell as JSON, CSV or a spreadsheet brings it.
Cell = str | int | float | bool | None
Flags = Literal["auto", "01", "12"]


class Kind(StrEnum):
    """What became of what was read."""

    REFUSED = "refused"  # the row, or the cell, was not taken
    LOST = "lost"  # readable, but our record has no place for it
    CHANGED = "changed"  # taken in another form
    NOTE = "note"  # taken; somebody should look


RULES: Final[dict[str, str]] = {
    "L-01": "设备编码 SBBM 应为 20 位数字，该行未导入",
    "L-02": "同一设备编码在表中出现多次，以最后一行为准",
    "L-03": "该列在设备档案中没有对应项，未导入",
    "L-04": "应为数字，该值未导入",
    "L-05": "坐标超出范围、只有一个或为 0，经纬度均未导入",
    "L-06": "是/否 应为 0、1、2 或 是、否，该值未导入",
    "L-07": "按 1 是、2 否 读取，已转换为 1 是、0 否",
    "L-08": "LWSX 全为 1，无法判断取值约定，按表 A.1 读作未联网，请核对",
    "L-09": "不在字典中，该值未导入",
    "L-10": "按字典由文字转换为代码",
    "L-11": "字典取值与 GB/T 28181 不同，已按对应关系转换",
    "L-12": "字典取值在 GB/T 28181 中没有对应项，未导入",
    "L-13": "由毫秒时间或日期转换为北京时间",
    "L-14": "不是可识别的时间，该值未导入",
    "L-15": "键盘编号应为 8 位或 9 位数字，该值未导入",
    "L-16": "同一列的两种列名取值不同，以另一写法（如 SXJCJYSZPURL）为准",
    "L-17": "列名的另一写法，读作本列（如 SXJCJYSZPURL 读作 SXJCJYSZP）",
    "L-18": "XZQY 应为 8 位街镇代码",
    "L-19": "XZQY 与设备编码前 6 位不一致",
    "L-20": "地址格式不对，该值未导入",
    "L-21": "小数位数超出记录精度，已取最接近的数",
    "L-22": "文字过长或含有控制字符，该值未导入",
    "L-23": "该设备属于另一平台，未导入",
    "L-24": "该设备此前标为缺失，导入后恢复",
    "L-25": "同一列中 0 与 2 并存，无法判断取值约定，整列未导入",
    "L-26": "导出时该值在台账字典中没有对应项，留空",
    "L-27": "设备档案中的该项在台账中没有对应列，未导出",
    "L-28": "字典中两个名称对应同一取值",
    "L-29": "字典中同一名称对应两个取值",
    "L-30": "字典中有空的名称或取值",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One place and what happened there. Rows count from 1 below the header; 0 is the whole column."""

    row: int
    column: str
    rule: str
    kind: Kind
    read: str
    became: str = ""


@dataclass(slots=True)
class Findings:
    """Findings as they come: all are counted by rule, the first ``MAX_FINDINGS`` are kept."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, column: str, rule: str, kind: Kind, read: str, became: str = "") -> None:
        """Note one; long text is cut."""
        assert rule in RULES, rule
        self.counts[rule] += 1
        if len(self.kept) < MAX_FINDINGS:
            shown = (column[:MAX_SHOWN_CHARS], rule, kind, read[:MAX_SHOWN_CHARS], became[:MAX_SHOWN_CHARS])
            self.kept.append(Finding(row, *shown))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One device as the ledger tells it: only what its cells say, by attribute of our record."""

    number: int
    device_id: str
    item: dict[str, object]
    ext: dict[str, object]
