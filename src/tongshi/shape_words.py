"""What msgspec says of a value that does not fit, in words for people who fill in forms and tables."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

_WHERE = re.compile(r" - at `\$(.*?)`\Z")
_QUOTED = re.compile(r"`([^`]*)`")
_NAMES = {
    "int": "整数",
    "float": "数字",
    "str": "文字",
    "bool": "是或否",
    "null": "空",
    "array": "列表",
    "object": "对象",
    "datetime": "时间",
}
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"Expected `(.+?)`, got `(.+?)`"), lambda m: f"应为{_kind(m[1])}，收到的是{_kind(m[2])}"),
    (re.compile(r"Expected `.+?` of length <= (\d+)"), lambda m: f"长度不得超过 {m[1]}"),
    (re.compile(r"Expected `.+?` of length >= (\d+)"), lambda m: f"长度不得少于 {m[1]}"),
    (re.compile(r"Expected `.+?` of length (\d+)"), lambda m: f"长度应为 {m[1]}"),
    (re.compile(r"Expected `.+?` matching regex '\^\[0-9\]\{(\d+)\}\$'"), lambda m: f"应为 {m[1]} 位数字"),
    (re.compile(r"Expected `.+?` matching regex"), lambda m: "格式不对"),
    (re.compile(r"Expected `.+?` <= (\S+)"), lambda m: f"不得大于 {m[1]}"),
    (re.compile(r"Expected `.+?` >= (\S+)"), lambda m: f"不得小于 {m[1]}"),
    (re.compile(r"Expected `.+?` < (\S+)"), lambda m: f"应小于 {m[1]}"),
    (re.compile(r"Expected `.+?` > (\S+)"), lambda m: f"应大于 {m[1]}"),
    (re.compile(r"Invalid enum value (.+)"), lambda m: f"没有 {m[1]} 这个取值"),
    (re.compile(r"Invalid RFC3339"), lambda m: "时间须写作 2026-01-31T08:00:00+08:00"),
    (re.compile(r"Object missing required field"), lambda m: "缺少必填项"),
    (re.compile(r"Object contains unknown field `(.+?)`"), lambda m: f"不认识的字段 {m[1]}"),
)


def in_words(rule: str) -> str:
    """The rule in Chinese; as msgspec says it when it is none that we know."""
    for pattern, say in _RULES:
        found = pattern.match(rule)
        if found:
            return say(found)
    return rule


def told(error: msgspec.ValidationError, whole: str) -> tuple[str, str]:
    """What is wrong and where: the path of the field, empty for the whole, and the sentence.

    Args:
        whole: what the sentence calls the value that has no path.
    """
    text = str(error)
    where = _WHERE.search(text)
    path = where.group(1).lstrip(".") if where else ""
    rule = text[: where.start()] if where else text
    for start, words in (
        ("Object missing required field", "缺少必填项"),
        ("Object contains unknown field", "不认识的字段"),
    ):
        if rule.startswith(start):
            path = f"{path}.{_QUOTED.findall(rule)[0]}".lstrip(".")
            return path, f"{words} {path}"
    return path, f"{path or whole} 不符合要求：{in_words(rule)}"


def _kind(types: str) -> str:
    """``float | null`` is a number, which may be left out: the second half says nothing new to a person."""
    parts = [part for part in types.split(" | ") if part != "null"] or ["null"]
    return "或".join(_NAMES.get(part, part) for part in parts)
