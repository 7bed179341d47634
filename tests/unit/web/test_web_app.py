"""The application around the operation table, with a gate that the test holds in its hand."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Forbidden, Unauthenticated
from tongshi.testing.unlimited import NoAnswers, NoQuotas
from tongshi.web.app import build
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    BadTable,
    Call,
    Nothing,
    Open,
    Operation,
    Quota,
    Reply,
    Request,
    Unrecorded,
)
from tongshi.web.ports import Attempt, BodyDigest, Head, Identity


class Right(StrEnum):
    READ = "thing:read"
    WRITE = "thing:write"


class Tag(StrEnum):
    THING = "thing"


class Item(Request, frozen=True):
    name: Annotated[str, msgspec.Meta(max_length=5)]
    size: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0


class Thing(Request, frozen=True):
    items: tuple[Item, ...] = ()
    anything: msgspec.Raw = msgspec.Raw(b"null")


class Search(Request, frozen=True):
    page_no: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    codes: tuple[str, ...] = ()
    online: bool | None = None


class Seen(Answer, frozen=True):
    rows: list[str] = msgspec.field(name="list")
    page_no: int = 0
    caller: str = ""


class HandGate:
    """Knows ``Authorization: reader``, ``writer``; ``liar`` promises another body; ``thief`` is refused."""

    async def authenticate(self, head: Head) -> Identity | None:
        name = head.headers.get("authorization")
        if name is None:
            return None
        if name == "thief":
            raise Unauthenticated("签名不对", code=40102)
        digest = BodyDigest("sha256", hashlib.sha256(b"{}").digest()) if name == "liar" else None
        return Identity(name, f"user:{name}", is_cookie=name == "browser", body_digest=digest)

    async def authorise(self, identity: Identity, permission: StrEnum, head: Head) -> None:
        if permission is Right.WRITE and identity.caller == "reader":
            raise Forbidden("没有权限")


class Notebook:
    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    async def record(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)


async def search(call: Call[Nothing, Search]) -> Seen:
    return Seen(list(call.query.codes), call.query.page_no, str(call.caller))


async def put(call: Call[Thing, Nothing]) -> Reply[Seen]:
    seen = Seen([item.name for item in call.body.items], caller=call.path["thingId"])
    return Reply(seen, status=201, headers={"ETag": '"1"'}, cookies=["a=1", "b=2"])


async def conflict(call: Call[Nothing, Nothing]) -> Nothing:
    raise Conflict("云台被占用", code=40903, retry_after_s=2.4, details={"holder": "u1"})


async def crash(call: Call[Nothing, Nothing]) -> Nothing:
    raise RuntimeError("secret detail")


async def plain(call: Call[Nothing, Nothing]) -> PlainTextResponse:
    return PlainTextResponse("raw")


def operation(name: str, method: str, path: str, handler: Any, **changes: Any) -> AnyOperation:
    fields: dict[str, Any] = {
        "name": name,
        "method": method,
        "path": path,
        "summary": name,
        "permission": Right.READ,
        "quota": Quota.QUERY,
        "audit": Tag.THING,
        "body": Nothing,
        "query": Nothing,
        "response": Nothing,
        "handler": handler,
    }
    return Operation(**{**fields, **changes})


def table() -> list[AnyOperation]:
    return [
        operation("search", "GET", "/things", search, query=Search, response=Seen),
        operation("put", "POST", "/things/{thingId}", put, body=Thing, response=Seen, permission=Right.WRITE),
        operation("fixed", "GET", "/things/fixed", plain, is_raw=True, media_types=("text/plain",)),
        operation("conflict", "GET", "/things/{thingId}", conflict),
        operation("crash", "GET", "/crash", crash),
        operation(
            "ping",
            "GET",
            "/ping",
            plain,
            permission=Open.PUBLIC,
            audit=Unrecorded.NOTHING,
            is_raw=True,
            media_types=("text/plain",),
        ),
        operation(
            "later", "POST", "/later", crash, row="E.3-3", is_implemented=False, permission=Right.WRITE
        ),
        operation("run", "GET", "/run", search, response=Seen, query=Search, has_side_effect=True),
        operation("small", "POST", "/small", conflict, max_body_bytes=10),
        operation("exchange", "GET", "/exchange", search, response=Seen, query=Search, quota=Quota.EXCHANGE),
        operation("bulk", "GET", "/bulk", search, response=Seen, query=Search, quota=Quota.BULK),
    ]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client(notebook: Notebook, clock: ManualClock) -> TestClient:
    return TestClient(
        build(
            table(), gate=HandGate(), recorder=notebook, clock=clock, answers=NoAnswers(), quotas=NoQuotas()
        )
    )


READER = {"authorization": "reader"}
WRITER = {"authorization": "writer"}


def test_an_answer_comes_in_the_envelope_with_its_request_id(client: TestClient) -> None:
    answer = client.get("/things?pageNo=3&codes=a,b&codes=c", headers={**READER, "X-Request-Id": "abc-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "code": 0,
        "msg": "成功",
        "data": {"list": ["a", "b", "c"], "pageNo": 3, "caller": "reader"},
        "requestId": "abc-1",
        "serverTime": "2026-01-01T08:00:00.000+08:00",
    }
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-ratelimit-limit"] == "1200"


def test_a_hostile_request_id_is_replaced(client: TestClient) -> None:
    answer = client.get("/things", headers={**READER, "X-Request-Id": "a\tb" * 100})
    assert answer.json()["requestId"].isalnum()


def test_a_reply_carries_status_headers_and_both_cookies(client: TestClient) -> None:
    answer = client.post("/things/x1", json={"items": [{"name": "a"}]}, headers=WRITER)
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.json()["data"]["caller"] == "x1"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/things", {}, 401, 40101),
        ("GET", "/things", {"authorization": "thief"}, 401, 40102),
        ("POST", "/things/1", READER, 403, 40301),
        ("POST", "/later", {}, 401, 40101),
        ("POST", "/later", READER, 403, 40301),
        ("POST", "/later", WRITER, 501, 50100),
        ("GET", "/nowhere", READER, 404, 40400),
        ("DELETE", "/things", READER, 405, 40501),
        ("GET", "/things/7", READER, 409, 40903),
        ("GET", "/crash", READER, 500, 50000),
        ("GET", "/run", {"authorization": "browser"}, 403, 40301),
        ("GET", "/run", {**READER, "sec-purpose": "prefetch;prerender"}, 403, 40301),
    ],
)
def test_a_refusal_comes_in_the_envelope_with_its_true_status(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int, code: int
) -> None:
    answer = client.request(method, path, headers=headers)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert body["requestId"]
    assert "secret" not in answer.text


def test_a_conflict_tells_the_holder_and_when_to_try_again(client: TestClient) -> None:
    answer = client.get("/things/7", headers=READER)
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["data"] == {"retryAfterS": 2.4, "details": {"holder": "u1"}}


def test_an_unbuilt_operation_cites_its_row_even_with_a_body(client: TestClient) -> None:
    answer = client.post("/later", headers=WRITER, json={"whatever": 1})
    assert answer.json()["data"]["details"] == {"row": "E.3-3"}


def test_a_wrong_method_lists_the_right_ones(client: TestClient) -> None:
    assert client.put("/things/7", headers=READER).headers["allow"] == "GET, POST"


def test_a_fixed_word_wins_over_a_parameter(client: TestClient) -> None:
    assert client.get("/things/fixed", headers=READER).text == "raw"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"items":[{"name":"a"},{"name":"toolong"}]}', "items[1].name"),
        (b'{"items":[{"name":1}]}', "items[0].name"),
        (b'{"items":[{"size":1}]}', "items[0].name"),
        (b'{"items":[{"name":"a","colour":"red"}]}', "items[0].colour"),
        (b'{"nope":1}', "nope"),
        (b'{"items":[{"name":"a","size":10}]}', "items[0].size"),
        (b'{"items":[{"name":"a","size":1e99}]}', "items[0].size"),
        (b'{"items":[{"name":"\\u0000"}]}', None),
        (b'{"anything":' + b"[" * 200_000 + b"]" * 200_000 + b"}", None),
        (b"\xff\xfe", None),
        (b'{"items":[{"name":"\x80"}]}', None),
        (b'{"\x80":1}', None),
        (b"{", None),
        (b"[]", None),
        (b'{"items":[]}x', None),
        (b'{"items":[{"name":"\\ud800"}]}', None),
    ],
)
def test_hostile_json_is_refused_and_names_the_field(
    client: TestClient, body: bytes, field: str | None
) -> None:
    headers = {**WRITER, "content-type": "application/json"}
    answer = client.post("/things/1", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, 40001)
    assert answer.json()["data"].get("field") == field


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pageNo=0", "pageNo"),
        ("pageNo=x", "pageNo"),
        ("pageNo=1&pageNo=2", "pageNo"),
        ("colour=red", "colour"),
        ("online=maybe", "online"),
        ("codes=%00", "codes"),
        ("codes=%ff", None),
        ("&".join(f"a{i}=1" for i in range(200)), None),
    ],
)
def test_a_wrong_query_is_refused_and_names_the_field(
    client: TestClient, query: str, field: str | None
) -> None:
    answer = client.get(f"/things?{query}", headers=READER)
    assert (answer.status_code, answer.json()["code"]) == (400, 40001)
    assert answer.json()["data"].get("field") == field


def test_a_body_past_the_limit_is_refused_by_declared_and_by_real_length(client: TestClient) -> None:
    def dripping() -> Any:
        yield b"123456"
        yield b"7890123"

    assert client.post("/small", content=b"x" * 11, headers=WRITER).status_code == 413
    assert client.post("/small", content=dripping(), headers=WRITER).status_code == 413


def test_gzip_is_unpacked_within_the_limit_only(client: TestClient) -> None:
    headers = {**WRITER, "content-type": "application/json", "content-encoding": "gzip"}
    good = gzip.compress(b'{"items":[{"name":"a"}]}')
    assert client.post("/things/1", content=good, headers=headers).status_code == 201
    bomb = gzip.compress(b" " * 50_000_000)
    assert client.post("/things/1", content=bomb, headers=headers).status_code == 413
    for broken in (good[:-4], good + b"x", b"no gzip"):
        assert client.post("/things/1", content=broken, headers=headers).status_code == 400
    other = {**headers, "content-encoding": "br"}
    assert client.post("/things/1", content=good, headers=other).status_code == 415


def test_a_form_is_not_json(client: TestClient) -> None:
    assert client.post("/things/1", data={"a": "b"}, headers=WRITER).status_code == 415


def test_a_body_that_differs_from_the_signed_digest_is_refused(client: TestClient) -> None:
    headers = {"authorization": "liar", "content-type": "application/json"}
    assert client.post("/things/1", content=b"{}", headers=headers).status_code == 201
    answer = client.post("/things/1", content=b"{} ", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, 40102)


def test_a_flood_hears_429_with_the_time_to_wait_and_recovers(client: TestClient, clock: ManualClock) -> None:
    statuses = [client.get("/things", headers=READER).status_code for _ in range(Quota.QUERY.burst + 1)]
    assert statuses[-2:] == [200, 429]
    clock.advance(1.0)
    assert client.get("/things", headers=READER).status_code == 200


def test_each_class_of_operations_has_its_own_bucket(client: TestClient) -> None:
    assert len({quota.wire_name for quota in Quota}) == len(Quota) == 7
    for _ in range(Quota.QUERY.burst):
        client.get("/things", headers=READER)
    assert client.get("/things", headers=READER).status_code == 429
    assert client.get("/exchange", headers=READER).status_code == 200


def test_guessing_credentials_is_metered_by_address(client: TestClient) -> None:
    statuses = [
        client.get("/things", headers={"authorization": "thief"}).status_code
        for _ in range(Quota.PUBLIC.burst + 1)
    ]
    assert (statuses[0], statuses[-1]) == (401, 429)


def test_every_attempt_is_recorded_with_its_outcome(client: TestClient, notebook: Notebook) -> None:
    client.get("/things?codes=a,b", headers=READER)
    client.get("/things")
    client.get("/crash", headers=READER)
    seen = [(a.operation.name, a.status, a.code, a.rows, a.identity is not None) for a in notebook.attempts]
    assert seen == [
        ("search", 200, 0, 2, True),
        ("search", 401, 40101, 0, False),
        ("crash", 500, 50000, 0, True),
    ]


def test_large_answers_are_packed_when_the_caller_takes_it(client: TestClient) -> None:
    codes = ",".join(f"code{i}" for i in range(2000))
    answer = client.get("/bulk", params={"codes": codes}, headers={**READER, "accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["data"]["list"]) == 2000


def test_browsers_are_told_to_be_careful(client: TestClient) -> None:
    headers = client.get("/ping").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda t: [*t, operation("x", "GET", "/x", plain, permission=None)], "names no permission"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, permission="thing:read")], "names no permission"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, audit=None)], "names no audit tag"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, audit=Unrecorded.NOTHING)], "not recorded"),
        (lambda t: [*t, operation("search", "GET", "/x", plain)], "name search"),
        (lambda t: [*t, operation("x", "GET", "/things/{other}", plain)], "route"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, row="E.3-3")], "row E.3-3"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, row="E.9-3")], "no row|not a row"),
        (lambda t: [*t, operation("x", "GET", "/x", plain, body=Thing)], "takes no body"),
        (lambda t: [*t, operation("x", "BREW", "/x", plain)], "BREW"),
        (lambda t: [*t, operation("x", "POST", "/x", plain, body=Seen)], "unknown fields"),
    ],
)
def test_a_table_that_breaks_a_rule_does_not_start(
    spoil: Callable[[list[AnyOperation]], list[AnyOperation]], reason: str
) -> None:
    with pytest.raises(BadTable, match=reason):
        build(
            spoil(table()),
            gate=HandGate(),
            recorder=Notebook(),
            clock=ManualClock(),
            answers=NoAnswers(),
            quotas=NoQuotas(),
        )
