"""What a table's author reads when a value does not fit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from tongshi.errors import InvalidRequest
from tongshi.shape_words import in_words
from tongshi.web.operations import Request
from tongshi.web.reading import decode, decode_query


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    lon: Annotated[float, Meta(ge=-180, le=180)] | None = None
    number: Annotated[int, Meta(gt=0, lt=10)] = 1
    name: Annotated[str, Meta(min_length=2, max_length=3)] = "ab"
    code: Annotated[str, Meta(pattern=r"^\d+$")] = "1"
    way: Literal["in", "out"] = "in"
    at: datetime | None = None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"lon": "east"}, "应为数字，收到的是文字"),
        ({"lon": 181.0}, "不得大于 180.0"),
        ({"lon": -181.0}, "不得小于 -180.0"),
        ({"number": None}, "应为整数，收到的是空"),
        ({"number": 0}, "不得小于 1"),
        ({"number": 10}, "不得大于 9"),
        ({"name": "abcd"}, "长度不得超过 3"),
        ({"name": "a"}, "长度不得少于 2"),
        ({"code": "x"}, "格式不对"),
        ({"way": "up"}, "没有 'up' 这个取值"),
        ({"at": "soon"}, "时间须写作 2026-01-31T08:00:00+08:00"),
        ({"else": 1}, "不认识的字段 else"),
    ],
)
def test_a_rule_of_the_library_is_said_in_chinese(value: dict[str, object], words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Shape)
    assert in_words(str(refused.value).partition(" - at ")[0]) == words


def test_what_is_not_known_is_passed_on() -> None:
    assert in_words("Something new") == "Something new"


class Asked(Request, frozen=True):
    longitude: Annotated[float, Meta(le=180)] = 0
    names: tuple[str, ...] = ()


def test_what_a_body_or_a_query_breaks_is_said_in_chinese() -> None:
    for body, words in (
        (b'{"longitude": 500}', "longitude 不符合要求：不得大于 180.0"),
        (b'{"names": [1]}', "names[0] 不符合要求：应为文字，收到的是整数"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            decode(body, Asked)
        assert refused.value.message == words
    with pytest.raises(InvalidRequest) as refused:
        decode_query("longitude=x", Asked)
    assert refused.value.message == "longitude 不符合要求：应为数字，收到的是文字"
