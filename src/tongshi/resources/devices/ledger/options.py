"""The ledger's dictionaries, and a checker for those that others bring.

The ledger has no public standard. These lists were compared with public tables of several makers and
districts; beside each stands how well it is confirmed. Where a district's own differ, it gives its label
lists with the import. A dictionary that maps two labels to one value loses one of them for good, which
is why it is reported before anything is read by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tongshi.resources.devices.ledger.model import Findings, Kind


class Option(NamedTuple):
    """One entry of a dictionary."""

    label: str
    value: str


class Code(NamedTuple):
    """A ledger value, its usual label, and what GB/T 28181-2022 A.2.1.9 calls it; "" where it has no name."""

    value: str
    label: str
    national: str


CODES: Final[dict[str, tuple[Code, ...]]] = {
    # Confirmed by three public tables, values and labels.
    "JKDWLX": (
        Code("1", "一类视频监控点", "1"),
        Code("2", "二类视频监控点", "2"),
        Code("3", "三类视频监控点", "3"),
        Code("9", "其他点位", "9"),
        Code("4", "公安内部视频监控点", "9"),
    ),
    # Confirmed by two public tables with values, two more with the labels in this order. A mock-up from
    # Shanghai has 6 遥控枪机, 7 人脸摄像头; a later form has five labels more (门禁, ...) without values.
    "SXJLX": (
        Code("1", "球机", "1"),
        Code("2", "半球", "2"),
        Code("3", "固定枪机", "3"),
        Code("4", "遥控枪机", "4"),
        Code("5", "卡口枪机", "3"),
        Code("99", "未知", ""),
    ),
    # Confirmed by more than four public tables: it is the FunctionType of GA/T 1400 as well.
    "SXJGNLX": (
        Code("1", "车辆卡口", "03"),
        Code("2", "人员卡口", "02"),
        Code("99", "其他", "99"),
        Code("3", "微卡口", "99"),
        Code("4", "特征摄像机", "99"),
        Code("5", "普通监控", ""),
        Code("6", "高空瞭望摄像机", ""),
    ),
    # Labels confirmed by two public tables; the values 1, 2 and 9 by one, which has no 3 and adds
    # 10 外置白光, 11 内置白光, 12 LED 频闪: unconfirmed, refused by L-09.
    "BGSX": (
        Code("1", "无补光", "1"),
        Code("2", "红外补光", "2"),
        Code("3", "白光补光", "3"),
        Code("9", "其他补光", "9"),
    ),
    # Confirmed by two public tables: values by one, labels in this order by the other.
    "SXJBMGS": (
        Code("1", "MPEG-4", "1"),
        Code("2", "H.264", "2"),
        Code("3", "SVAC", "3"),
        Code("4", "H.265", "5"),
    ),
    # Confirmed by two public tables, values by one. A table of Baoshan has degrees (90): refused by L-09.
    "JSFW": (
        Code("1", "东", "1"),
        Code("2", "西", "2"),
        Code("3", "南", "3"),
        Code("4", "北", "4"),
        Code("5", "东南", "5"),
        Code("6", "东北", "6"),
        Code("7", "西南", "7"),
        Code("8", "西北", "8"),
        Code("9", "全向", ""),
    ),
}
# Without a home in our record, and so without codes here: SBZT 在用, 维修, 拆除 (labels by two public tables,
# the values unconfirmed); SXJWZLX, the PositionType of GA/T 1400 (1 to 15, 96 to 99; four tables) and
# longer in Shanghai (33 labels, one table); JSYYLB 1 to 9 (values by a table of Baoshan, labels by a form).
# The 18 departments of DB31DSJ/Z 001-2024 Table A.1, which came from this ledger; extensible by both.
DEPARTMENTS: Final[tuple[str, ...]] = (
    *("公安机关", "环保部门", "文博部门", "医疗部门", "旅游管理", "新闻广电", "食品医药监督管理部门"),
    *("教育管理部门", "检察院", "法院", "金融部门", "交通部门", "住房和城乡建设部门", "水利部门"),
    *("林业部门", "安全生产监督部门", "市政市容委", "国土局"),
)


_BY_VALUE = {column: {code.value: code for code in codes} for column, codes in CODES.items()}
_BY_LABEL = {column: {code.label: code for code in codes} for column, codes in CODES.items()}
_BACK = {
    column: {code.national: code for code in reversed(codes) if code.national}
    for column, codes in CODES.items()
}


def find(column: str, text: str, given: Mapping[str, str]) -> Code | None:
    """The code a cell means, by its value, by a label the importer gave, or by the usual label."""
    by_value = _BY_VALUE[column]
    value = text.lstrip("0") or text
    return by_value.get(value) or by_value.get(given.get(text, "")) or _BY_LABEL[column].get(text)


def back(column: str, national: str) -> str:
    """The ledger's value for a national one; "" when it has none. Of several the plainest."""
    code = _BACK[column].get(national)
    return "" if code is None else code.value


def check(column: str, options: Iterable[Option], findings: Findings) -> dict[str, str]:
    """Report what is wrong with a dictionary. Returns its labels with values, clashing ones left out."""
    labels: dict[str, str] = {}
    first_of: dict[str, str] = {}
    doubtful: set[str] = set()
    for number, (raw_label, raw_value) in enumerate(options, start=1):
        label, value = raw_label.strip(), raw_value.strip()
        if not label or not value:
            findings.add(number, column, "L-30", Kind.REFUSED, f"{label}={value}")
            continue
        if labels.get(label, value) != value:
            findings.add(number, column, "L-29", Kind.REFUSED, f"{label}={value}", f"{label}={labels[label]}")
            doubtful.add(label)
        elif first_of.get(value, label) != label:
            findings.add(number, column, "L-28", Kind.NOTE, f"{label}={value}", f"{first_of[value]}={value}")
        labels.setdefault(label, value)
        first_of.setdefault(value, label)
    return {label: value for label, value in labels.items() if label not in doubtful}
