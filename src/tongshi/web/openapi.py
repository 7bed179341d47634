"""The OpenAPI 3.1 document, read from the operation table.

Vendor extensions: ``x-db31`` (row of Annex E), ``x-permission``, ``x-quota``, ``x-audit``, ``x-state``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tongshi import __version__
from tongshi.web.envelope import Trouble
from tongshi.web.idempotency import HEADER, takes_key
from tongshi.web.operations import AnyOperation, Nothing, Open

_REF = "#/components/schemas/{name}"
_REFUSALS = {
    "400": "参数有误，data.field 指出字段",
    "401": "未登录，或签名、时间、随机数不对",
    "403": "没有权限",
    "404": "不存在，或不在可见范围内",
    "409": "与当前状态冲突",
    "410": "所要的位置已压缩或已过期，须重新开始",
    "413": "请求体过大",
    "415": "请求体的类型或压缩方式不支持",
    "422": "格式正确，但取值不在字典内或设备不支持",
    "429": "超过限流或配额，见 Retry-After",
    "500": "内部错误",
    "501": "尚未实现，data.details.row 指出标准条目",
    "502": "设备或对端平台失败",
    "503": "暂时无法提供：数据库不可用、设备不在线或已暂停",
    "504": "设备或对端平台没有应答",
}


def document(operations: Sequence[AnyOperation]) -> dict[str, Any]:
    """Describe every operation of the table.

    Returns:
        A JSON-able OpenAPI 3.1 document; paths and schemas are in a stable order, so that two builds compare.
    """
    shapes = {shape for o in operations for shape in (o.body, o.query, o.response) if shape is not Nothing}
    ordered = sorted(shapes, key=lambda shape: (shape.__module__, shape.__qualname__))
    (trouble, *schemas), components = msgspec.json.schema_components([Trouble, *ordered], ref_template=_REF)
    schema_of = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in sorted(operations, key=lambda o: (o.path, o.method)):
        item = _operation(operation, schema_of, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = item
    found: dict[str, Any] = _plain(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Tongshi 通视",
                "version": __version__,
                "summary": "DB31DSJ/Z 001-2024 视频数据资源管理平台接口",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(components.items())),
                "responses": {code: _refusal(text, trouble) for code, text in _REFUSALS.items()},
                "securitySchemes": {
                    "session": {
                        "type": "apiKey",
                        "in": "cookie",
                        "name": "tongshi_session_{platformId}",
                        "description": "登录应答设置，{platformId} 为本平台的 20 位编码",
                    },
                    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
                    "signature": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "X-Tongshi-Sign",
                        "description": "与其余 X-Tongshi-* 头一起，见 docs/integrators.md",
                    },
                },
            },
        }
    )
    return found


def _plain(value: Any) -> Any:
    """Whole bounds as integers.

    ``Meta(ge=0)`` and ``Meta(ge=0.0)`` are equal, so that which of the two a shape has depends on what was
    imported first.
    """
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _operation(
    operation: AnyOperation, schema_of: dict[type, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.path.split("/")[3] if operation.path.startswith("/api/") else "system"],
        "parameters": _parameters(operation, schema_of, components),
        "responses": _responses(operation, schema_of),
        "x-permission": operation.permission.value,
        "x-quota": operation.quota.wire_name,
        "x-audit": operation.audit.value,
        "x-state": "implemented" if operation.is_implemented else "not-implemented",
    }
    if operation.permission is Open.PUBLIC:
        item["security"] = []
    elif operation.has_side_effect and operation.method == "GET":
        item["security"] = [{"signature": []}]
    elif operation.method == "GET":
        item["security"] = [{"session": []}, {"signature": []}]
    else:
        item["security"] = [{"session": [], "csrf": []}, {"signature": []}]
    if operation.row is not None:
        item["x-db31"] = operation.row
    if operation.body is not Nothing:
        content = {"application/json": {"schema": schema_of[operation.body]}}
        is_required = any(field.required for field in msgspec.structs.fields(operation.body))
        item["requestBody"] = {"required": is_required, "content": content}
    if operation.takes_file:
        item["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    return item


def _parameters(
    operation: AnyOperation, schema_of: dict[type, dict[str, Any]], components: dict[str, Any]
) -> list[dict[str, Any]]:
    text = {"type": "string", "maxLength": 256}
    key = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in operation.parameters
    ]
    if operation.query is not Nothing:
        shape = components[schema_of[operation.query]["$ref"].rpartition("/")[2]]
        required = shape.get("required", [])
        for name, schema in shape["properties"].items():
            parameter = {"name": name, "in": "query", "required": name in required, "schema": schema}
            if schema.get("type") == "array":
                parameter |= {"style": "form", "explode": False}
            found.append(parameter)
    if takes_key(operation):
        found.append({"name": HEADER, "in": "header", "required": False, "schema": key})
    return found


def _responses(operation: AnyOperation, schema_of: dict[type, dict[str, Any]]) -> dict[str, Any]:
    data = schema_of.get(operation.response, {"type": "object"})
    # A body of any kind is measured and unpacked before anything is made of it.
    codes = {
        "400",
        "413",
        "415",
        "429",
        "500",
        "503",
        *(str(kind.http_status) for kind in operation.refusals),
    }
    if operation.permission is not Open.PUBLIC:
        codes |= {"401", "403"}
    if takes_key(operation):
        codes.add("409")
    # Whatever names something may name what is not there, or not to be seen.
    if operation.parameters or operation.body is not Nothing or operation.query is not Nothing:
        codes.add("404")
    if not operation.is_implemented:
        codes.add("501")
    responses: dict[str, Any] = {code: {"$ref": f"#/components/responses/{code}"} for code in sorted(codes)}
    if not operation.is_implemented:
        return responses
    schema: dict[str, Any] = {} if operation.is_raw else _envelope(data, 0)
    content = {kind: {"schema": schema} for kind in operation.media_types or ("application/json",)}
    content |= {kind: {"schema": {}} for kind in operation.other_kinds}
    told = {str(status): {"description": "成功", "content": content} for status in operation.statuses}
    if "304" in told:
        told["304"] = {"description": "未改变"}
    return {**told, **responses}


def _refusal(text: str, trouble: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _envelope(trouble, None)}}}


def _envelope(data: dict[str, Any], code: int | None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["code", "msg", "data", "requestId", "serverTime"],
        "properties": {
            "code": {"type": "integer"} if code is None else {"type": "integer", "const": code},
            "msg": {"type": "string"},
            "data": data,
            "requestId": {"type": "string"},
            "serverTime": {"type": "string", "format": "date-time"},
        },
    }
