"""The OpenAPI document and the 73 rows of the standard."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.responses import Response

from tongshi.errors import Conflict, LocalViolation, PeerTimeout
from tongshi.web import annex_e, openapi, system
from tongshi.web.operations import (
    BadTable,
    Call,
    Nothing,
    Operation,
    Page,
    Quota,
    Request,
    check_table,
)

# Table E.1 to E.4 as the standard prints them, method by method in the order of the rows.
METHODS = {
    1: "POST POST POST POST GET POST GET POST POST",
    2: " ".join(["POST"] * 13),
    3: "GET GET GET GET GET POST GET GET POST GET POST POST POST POST GET GET POST POST GET GET",
    4: "GET GET GET GET GET GET POST GET GET GET GET POST GET POST POST POST POST GET GET DELETE POST DELETE "
    "GET GET GET GET GET POST GET GET GET",
}


class Right(StrEnum):
    SOME = "some"


class Tag(StrEnum):
    SOME = "some"


class Query(Request, frozen=True):
    page_no: int
    codes: tuple[str, ...] = ()


async def _page(call: Call[Nothing, Query]) -> Page[str]:
    return Page(rows=[], total=0, page_no=1, page_size=50)


def _list_devices(
    method: str = "GET", summary: str = "权限校验分页查询设备信息"
) -> Operation[Nothing, Query, Page[str]]:
    return Operation(
        name="listDevices",
        method=method,
        path="/api/v1/archive/devices",
        summary=summary,
        permission=Right.SOME,
        quota=Quota.QUERY,
        audit=Tag.SOME,
        body=Nothing,
        query=Query,
        response=Page[str],
        handler=_page,
        row="E.1-7",
    )


def _document() -> dict[str, Any]:
    table = annex_e.complete([_list_devices()], lambda value: Right.SOME, Tag.SOME)
    everything = [*table, *system.operations(table)]
    check_table(everything)
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(openapi.document(everything)))
    return document


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(_document()).validate()


def test_all_73_rows_are_there_with_the_standards_methods() -> None:
    found = {}
    for item in _document()["paths"].values():
        for method, operation in item.items():
            if "x-db31" in operation:
                found[operation["x-db31"]] = (method.upper(), operation["summary"])
    wanted = {
        f"E.{table}-{number}": method
        for table, methods in METHODS.items()
        for number, method in enumerate(methods.split(), 1)
    }
    assert len(wanted) == 73
    assert {row: method for row, (method, _) in found.items()} == wanted
    assert found["E.3-3"] == ("GET", "查询场所标签字典")
    assert found["E.3-6"] == ("POST", "查询场所标签字典")


def test_what_is_not_built_says_so() -> None:
    paths = _document()["paths"]
    plan = paths["/api/v1/plans/{planCode}"]["get"]
    assert plan["x-state"] == "not-implemented"
    assert "501" in plan["responses"]
    assert "200" not in plan["responses"]
    devices = paths["/api/v1/archive/devices"]["get"]
    assert devices["x-state"] == "implemented"
    assert devices["x-permission"] == "some"
    assert [p["name"] for p in devices["parameters"]] == ["pageNo", "codes"]
    assert [p["required"] for p in devices["parameters"]] == [True, False]


def test_the_document_names_every_answer_and_asks_for_a_body_only_where_one_is_needed() -> None:
    class Wish(Request, frozen=True):
        name: str = ""

    async def save(call: Call[Wish, Nothing]) -> Nothing:
        return Nothing()

    async def fetch(call: Call[Nothing, Nothing]) -> Response:
        return Response()

    shared: dict[str, Any] = {
        "permission": Right.SOME,
        "quota": Quota.QUERY,
        "audit": Tag.SOME,
        "query": Nothing,
        "response": Nothing,
    }
    told = openapi.document(
        [
            Operation(
                name="save",
                method="POST",
                path="/wish",
                summary="存",
                body=Wish,
                handler=save,
                statuses=(200, 202),
                refusals=(Conflict, PeerTimeout),
                **shared,
            ),
            Operation(
                name="fetch",
                method="GET",
                path="/wish",
                summary="取",
                body=Nothing,
                handler=fetch,
                is_raw=True,
                media_types=("text/csv", "application/zip"),
                **shared,
            ),
        ]
    )["paths"]["/wish"]
    wanted = {"200", "202", "400", "401", "403", "404", "409", "413", "415", "429", "500", "503", "504"}
    assert set(told["post"]["responses"]) == wanted
    assert told["post"]["requestBody"]["required"] is False
    assert set(told["get"]["responses"]["200"]["content"]) == {"text/csv", "application/zip"}


def test_a_raw_answer_without_a_media_type_is_a_bad_table() -> None:
    operation = _list_devices()
    with pytest.raises(BadTable, match="media types"):
        check_table([replace(operation, is_raw=True)])


def test_a_built_row_with_another_method_or_name_is_a_bug() -> None:
    for wrong in (_list_devices(method="POST"), _list_devices(summary="设备列表")):
        with pytest.raises(LocalViolation):
            annex_e.complete([wrong], lambda value: Right.SOME, Tag.SOME)


def test_the_document_is_the_same_each_time() -> None:
    assert _document() == _document()


def test_no_implements_line_is_claimed_for_stand_ins() -> None:
    source = Path(annex_e.__file__).read_text(encoding="utf-8")
    assert not re.search(r"^Implements: .* E\.", source, re.MULTILINE)
