"""Read what a stranger sent: bounded body and inflation, digest, typed JSON and query, named errors."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request

from tongshi.errors import InvalidRequest, PayloadTooLarge, Unauthenticated, UnsupportedMediaType
from tongshi.shape_words import told
from tongshi.web.ports import BodyDigest

# A sender slower than this holds a connection for nothing (slow-loris).
BODY_TIMEOUT_S = 30.0
MAX_QUERY_FIELDS = 100

_S = TypeVar("_S", bound=msgspec.Struct)
# PostgreSQL stores no U+0000 in text; refused here, so that both databases answer alike.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# What msgspec would take besides: a bare number, as seconds since 1970. The document says date-time.
_NUMBER = re.compile(r"[\s+-]?[0-9.]+\Z")
_LIST_MARK = re.compile(r"\A(?:typing\.Annotated\[)?(?:list|tuple)\b")


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Take the body as it came, never more than ``limit_bytes`` and never longer than ``BODY_TIMEOUT_S``."""
    too_large = PayloadTooLarge(f"请求体超过 {limit_bytes} 字节", details={"limitBytes": limit_bytes})
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise InvalidRequest("请求体未在规定时间内传完") from error
    except ClientDisconnect as error:
        raise InvalidRequest("连接中断，请求体不完整") from error
    return b"".join(chunks)


async def until_left(request: Request) -> None:
    """End when the caller has closed its connection; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def check_digest(body: bytes, promised: BodyDigest) -> None:
    """Compare the body with the digest that was signed. Raises Unauthenticated 40102."""
    if not hmac.compare_digest(hashlib.new(promised.algorithm, body).digest(), promised.value):
        raise Unauthenticated("请求体与签名的摘要不符", code=40102)


def unpack(body: bytes, headers: Mapping[str, str], limit_bytes: int) -> bytes:
    """Undo ``Content-Encoding: gzip``, never growing past ``limit_bytes``."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise UnsupportedMediaType("只接受 gzip 压缩", details={"supported": ["identity", "gzip"]})
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest("请求体不是完整的 gzip 数据") from error
    if len(plain) > limit_bytes:
        raise PayloadTooLarge(f"解压后超过 {limit_bytes} 字节", details={"limitBytes": limit_bytes})
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest("请求体不是完整的 gzip 数据")
    return plain


def decode_body(body: bytes, content_type: str, shape: type[_S]) -> _S:
    """Decode JSON into ``shape``; an empty body counts as ``{}``.

    Raises:
        InvalidRequest: names the field and the rule it breaks.
    """
    if body and content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("请求体应为 application/json")
    return decode(body or b"{}", shape)


def decode(data: bytes | msgspec.Raw, shape: type[_S]) -> _S:
    """Decode one JSON value, for a body or for one item of a list kept as ``msgspec.Raw``."""
    # The plain search costs a twentieth of the pattern, and almost never finds anything.
    if b"\\u0000" in bytes(data) and _NUL.search(data):
        raise InvalidRequest("文本中不允许出现 U+0000 字符")
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"不是合法的 JSON：{error}") from error
    except RecursionError as error:
        raise InvalidRequest("JSON 嵌套过深") from error


def decode_query(raw_query: str, shape: type[_S]) -> _S:
    """Decode a query string into ``shape``. Lists are comma-separated or repeated, the rest comes once."""
    try:
        pairs = parse_qsl(raw_query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise InvalidRequest("查询字符串无法解析") from error
    lists = {f.encode_name for f in msgspec.structs.fields(shape) if _LIST_MARK.match(_type_name(f.type))}
    instants = {f.encode_name for f in msgspec.structs.fields(shape) if "datetime" in str(f.type)}
    values: dict[str, str | list[str]] = {}
    for name, text in pairs:
        if "\0" in text:
            raise InvalidRequest("文本中不允许出现 U+0000 字符", field=name)
        if name in lists:
            known = values.setdefault(name, [])
            assert isinstance(known, list)
            known.extend(part for part in text.split(",") if part)
        elif name in instants and _NUMBER.match(text):
            raise InvalidRequest(f"{name} 应为带时区的日期时间", field=name)
        elif name in values:
            raise InvalidRequest(f"参数 {name} 出现多次", field=name)
        else:
            values[name] = text
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _named(error) from error


def _type_name(kind: object) -> str:
    return str(getattr(kind, "__name__", kind)) if isinstance(kind, type) else str(kind)


def _named(error: msgspec.ValidationError) -> InvalidRequest:
    """Turn msgspec's sentence into ours, with the path of the field."""
    path, words = told(error, "请求体")
    return InvalidRequest(words, field=path or None)
