"""A repeated call gets the first answer again; whether it ran is counted by the handler itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import pytest
from starlette.responses import Response
from starlette.testclient import TestClient

from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Forbidden, InvalidRequest, NotFound, PeerTimeout, Unavailable
from tongshi.testing.unlimited import NoQuotas
from tongshi.web.app import build
from tongshi.web.idempotency import MAX_ANSWER_BYTES
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Open,
    Operation,
    Quota,
    Reply,
    Request,
    RowsResponse,
)
from tongshi.web.ports import Attempt, Claim, Claimed, Head, Identity, Kept


class Right(StrEnum):
    ACT = "act"


class Tag(StrEnum):
    ACT = "act"
    ASK = "order_query"


class Order(Request, frozen=True):
    word: Annotated[str, msgspec.Meta(max_length=20)] = ""


class Where(Request, frozen=True):
    page: int = 1


class Told(Answer, frozen=True):
    number: int
    expires_at: datetime | None = None


class Shelf:
    """``Answers`` in memory; ``is_away`` makes it fail to keep."""

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[Claim, Kept | None, datetime]] = {}
        self.is_away = False

    async def claim(self, claim: Claim) -> Claimed | None:
        found = self.held.get(claim.id)
        if found is not None and found[2] > claim.at:
            return Claimed(found[0].asked, found[0].at, found[1])
        self.held[claim.id] = (claim, None, claim.until)
        return None

    async def keep(self, claim: Claim, kept: Kept, until: datetime) -> None:
        if self.is_away:
            raise Unavailable("数据库繁忙")
        self.held[claim.id] = (claim, kept, until)

    async def drop(self, claim: Claim) -> None:
        del self.held[claim.id]


class Stage:
    """An application whose handler counts its runs and fails as the test wants."""

    def __init__(self) -> None:
        self.clock, self.shelf = ManualClock(), Shelf()
        self.runs = 0
        self.barred: set[str] = set()
        self.error: Exception | None = None
        self.lives = timedelta(days=9)
        self.attempts: list[Attempt] = []
        self.during: Callable[[], None] = lambda: None
        app = build(
            self._table(), gate=self, recorder=self, clock=self.clock, answers=self.shelf, quotas=NoQuotas()
        )
        self.client = TestClient(app, raise_server_exceptions=False)

    async def authenticate(self, head: Head) -> Identity | None:
        name = head.headers.get("authorization")
        return None if name is None else Identity(name, f"user:{name}")

    async def authorise(self, identity: Identity, permission: StrEnum, head: Head) -> None:
        if identity.caller in self.barred:
            raise Forbidden("没有权限")

    async def record(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    async def act(self, call: Call[Any, Any]) -> Reply[Told]:
        self.runs += 1
        self.during()
        if self.error is not None:
            raise self.error
        told = Told(self.runs, self.clock.at() + self.lives)
        return Reply(told, status=201, headers={"Location": "/there"}, cookies=["a=1"])

    async def recite(self, call: Call[Order, Nothing]) -> Response:
        self.runs += 1
        return RowsResponse(b"x" * (MAX_ANSWER_BYTES + 1), "text/plain", {}, rows=3)

    def post(self, key: str | None = "k1", path: str = "/orders", **more: Any) -> Any:
        headers = {"authorization": "li", **more.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.client.post(path, json=more.pop("json", {"word": "go"}), headers=headers, **more)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={"authorization": "li", **headers})

    def _table(self) -> list[AnyOperation]:
        def made(name: str, method: str, path: str, **changes: Any) -> AnyOperation:
            fields: dict[str, Any] = {
                "permission": Right.ACT,
                "quota": Quota.QUERY,
                "audit": Tag.ACT,
                "body": Order if method == "POST" else Nothing,
                "query": Nothing,
                "response": Told,
                "handler": self.act,
                "statuses": (201,),
            }
            return Operation(name=name, method=method, path=path, summary=name, **{**fields, **changes})

        return [
            made("order", "POST", "/orders"),
            made("cancel", "DELETE", "/orders"),
            made("other", "POST", "/others"),
            made("ask", "POST", "/orders/query", audit=Tag.ASK),
            made("copy", "GET", "/copy", query=Where, has_side_effect=True),
            made("read", "GET", "/read", query=Where),
            made("open", "POST", "/open", permission=Open.PUBLIC),
            made("long", "POST", "/long", handler=self.recite, is_raw=True, media_types=("text/plain",)),
        ]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_repetition_gets_status_and_body_of_the_first_and_is_marked(stage: Stage) -> None:
    first, second = stage.post(), stage.post()
    assert (first.status_code, second.status_code, stage.runs) == (201, 201, 1)
    assert second.content == first.content
    assert second.headers["location"] == "/there"
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (
        None,
        "true",
    )
    assert second.headers["x-request-id"] != first.headers["x-request-id"] == first.json()["requestId"]
    # A cookie is for the browser that was answered.
    assert "set-cookie" in first.headers
    assert "set-cookie" not in second.headers
    assert [attempt.is_replayed for attempt in stage.attempts] == [False, True]


def test_a_call_without_key_runs_as_often_as_it_is_sent(stage: Stage) -> None:
    assert [stage.post(None).json()["data"]["number"] for _ in range(2)] == [1, 2]
    assert not stage.shelf.held


def test_a_question_is_asked_again_by_the_rights_of_that_moment(stage: Stage) -> None:
    answers = [stage.post(path="/orders/query") for _ in range(2)]
    assert [answer.json()["data"]["number"] for answer in answers] == [1, 2]
    assert not stage.shelf.held


def test_a_delete_is_repeated_like_a_post(stage: Stage) -> None:
    headers = {"authorization": "li", "Idempotency-Key": "k"}
    first, second = (stage.client.delete("/orders", headers=headers) for _ in range(2))
    assert (first.content, stage.runs) == (second.content, 1)


def test_the_same_key_with_another_body_or_query_is_a_conflict(stage: Stage) -> None:
    stage.post()
    refused = stage.post(json={"word": "stop"})
    assert (refused.status_code, refused.json()["code"], stage.runs) == (409, 40905, 1)
    assert refused.json()["data"]["field"] == "Idempotency-Key"


def test_another_caller_another_user_behind_it_and_another_operation_have_keys_of_their_own(
    stage: Stage,
) -> None:
    answers = [
        stage.post(),
        stage.post(headers={"authorization": "wang"}),
        stage.post(headers={"x-tongshi-onbehalf": "zhao"}),
        stage.post(path="/others"),
    ]
    assert [answer.json()["data"]["number"] for answer in answers] == [1, 2, 3, 4]


def test_while_the_first_runs_a_repetition_is_told_to_come_back(stage: Stage) -> None:
    seen = []

    def again() -> None:
        stage.during = lambda: None
        seen.append(stage.post())

    stage.during = again
    first = stage.post()
    (second,) = seen
    assert (first.status_code, second.status_code, second.json()["code"]) == (201, 409, 40902)
    assert second.headers["retry-after"] == "2"
    assert second.json()["data"]["details"]["state"] == "running"
    assert stage.post().content == first.content
    assert stage.runs == 1


def test_what_never_ended_is_not_run_again_under_its_key(stage: Stage) -> None:
    stage.post()
    ((claim, _, until),) = stage.shelf.held.values()
    stage.shelf.held[claim.id] = (claim, None, until)
    stage.clock.advance(601)
    refused = stage.post()
    assert (refused.status_code, refused.json()["data"]["details"]["state"]) == (409, "unknown")
    assert "retry-after" not in refused.headers
    assert stage.runs == 1


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (InvalidRequest("不行"), 1),
        (Conflict("版本不同"), 1),
        (Conflict("被占用", retry_after_s=3), 2),
        (NotFound("没有"), 2),
        (Forbidden("无权"), 2),
        (PeerTimeout("不答"), 2),
        (RuntimeError("defect"), 2),
    ],
)
def test_a_refusal_is_kept_unless_it_may_be_another_the_next_time(
    stage: Stage, error: Exception, runs: int
) -> None:
    stage.error = error
    first = stage.post()
    second = stage.post()
    assert (second.status_code, stage.runs) == (first.status_code, runs)
    codes = [attempt.code for attempt in stage.attempts]
    assert codes[0] == codes[1] == first.json()["code"]


def test_who_lost_the_permission_gets_no_kept_answer(stage: Stage) -> None:
    stage.post()
    stage.barred.add("li")
    assert stage.post().json()["code"] == 40301


def test_an_answer_is_kept_a_day_and_one_that_expires_no_longer_than_that(stage: Stage) -> None:
    stage.post("long")
    stage.lives = timedelta(seconds=300)
    stage.post("ticket")
    stage.clock.advance(299)
    assert [stage.post(key).headers.get("idempotency-replayed") for key in ("long", "ticket")] == ["true"] * 2
    stage.clock.advance(2)
    assert stage.post("ticket").json()["data"]["number"] == 3
    stage.clock.advance(86_100)
    assert stage.post("long").json()["data"]["number"] == 4


def test_a_get_that_acts_is_repeated_for_a_minute_without_a_key(stage: Stage) -> None:
    first, second, elsewhere = (stage.get(path) for path in ("/copy?page=1", "/copy?page=1", "/copy?page=2"))
    assert first.content == second.content != elsewhere.content
    assert (second.headers["idempotency-replayed"], stage.runs) == ("true", 2)
    stage.clock.advance(61)
    assert "idempotency-replayed" not in stage.get("/copy?page=1").headers
    assert stage.runs == 3
    keyed = [stage.get("/copy?page=1", **{"Idempotency-Key": key}) for key in ("a", "b", "a")]
    assert [answer.json()["data"]["number"] for answer in keyed] == [4, 5, 4]


def test_an_ordinary_get_and_a_public_operation_take_no_key(stage: Stage) -> None:
    for _ in range(2):
        stage.get("/read", **{"Idempotency-Key": "k"})
        stage.post(path="/open")
    assert (stage.runs, stage.shelf.held) == (4, {})


def test_an_answer_too_long_to_keep_says_so_and_the_call_runs_again(stage: Stage) -> None:
    plain = {"accept-encoding": "identity"}
    answers = [stage.post(path="/long", headers=plain) for _ in range(2)]
    assert [answer.headers["idempotency-kept"] for answer in answers] == ["false"] * 2
    assert stage.runs == 2


def test_what_was_done_and_could_not_be_kept_says_so_and_is_not_done_twice(stage: Stage) -> None:
    stage.shelf.is_away = True
    assert stage.post().headers["idempotency-kept"] == "false"
    assert stage.post().status_code == 409
    assert stage.runs == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "\u00e9".encode()])
def test_a_key_that_is_no_key_is_refused(stage: Stage, key: Any) -> None:
    refused = stage.post(key)
    assert (refused.status_code, refused.json()["data"]["field"], stage.runs) == (400, "Idempotency-Key", 0)


def test_of_the_request_only_digests_are_stored(stage: Stage) -> None:
    stage.post("my-key", json={"word": "very-secret"})
    ((claim, kept, _),) = stage.shelf.held.values()
    assert kept is not None
    stored = repr((claim, kept))
    assert "very-secret" not in stored
    assert "my-key" not in stored
