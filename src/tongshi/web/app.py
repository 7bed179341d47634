"""The ASGI application made from an operation table: routes, checks in their order, one renderer of errors.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
The order of checks is fixed: credential, permission, rate, call quota, then the body is read, its digest
compared and its JSON decoded; a call that ran already is answered as it was (``idempotency``); data scope is
the service's, through the one access decision of ``sharing``; at last the rows of the answer are counted
against the quota of rows, after everything that could refuse the question itself.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan

from tongshi.clock import Clock
from tongshi.errors import (
    Forbidden,
    InvalidRequest,
    LocalViolation,
    MethodNotAllowed,
    NotFound,
    TongshiError,
    Unauthenticated,
    Unsupported,
)
from tongshi.web import envelope, idempotency, reading, uploads
from tongshi.web.headers import SafetyHeaders
from tongshi.web.limits import Allowance, Meter
from tongshi.web.operations import AnyOperation, Call, Open, Quota, Reply, RowsFile, RowsResponse, check_table
from tongshi.web.ports import Answers, Attempt, Gate, Head, Identity, Kept, Quotas, Recorder

log = structlog.get_logger(__name__)

# Below this, packing costs more than it saves.
_PACK_FROM_BYTES = 8192
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_NAME = re.compile(r"\{[A-Za-z]+\}")


def build(
    operations: Sequence[AnyOperation],
    *,
    gate: Gate,
    recorder: Recorder,
    clock: Clock,
    answers: Answers,
    quotas: Quotas,
    static: Path | None = None,
    connect_sources: Sequence[str] = (),
    lifespan: Lifespan[Starlette] | None = None,
    new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> Starlette:
    """Make the application.

    Args:
        operations: the whole table; it is checked first.
        answers: where the answers of calls that are to run once are kept.
        quotas: what callers may have in a day or a month.
        static: folder of the built console, served at ``/``; None when there is none.
        connect_sources: further origins that the console may fetch media from (Content-Security-Policy).

    Raises:
        BadTable: an operation without permission or audit tag, or two of one name, row or route.
    """
    check_table(operations)
    server = _Server(gate, recorder, clock, Meter(), new_request_id, answers, quotas)
    by_path: dict[str, dict[str, AnyOperation]] = defaultdict(dict)
    for operation in operations:
        by_path[operation.path][operation.method] = operation
    # A fixed word wins over a parameter in the same place: /plans/shared before /plans/{planCode}.
    paths = sorted(by_path, key=lambda path: [_NAME.fullmatch(part) is not None for part in path.split("/")])
    routes: list[BaseRoute] = [_route(path, by_path[path], server) for path in paths]
    if static is not None:
        routes.append(Mount("/", StaticFiles(directory=static, html=True, check_dir=False)))
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(SafetyHeaders, connect_sources=tuple(connect_sources))],
        exception_handlers={HTTPException: server.on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


def _route(path: str, methods: dict[str, AnyOperation], server: _Server) -> Route:
    async def endpoint(request: Request) -> Response:
        operation = methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            error = MethodNotAllowed(f"{path} 不支持 {request.method}")
            return server.refuse(request, error, {"Allow": ", ".join(sorted(methods))})
        return await server.serve(operation, request)

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Route(path, endpoint, methods=every, include_in_schema=False)


@dataclass(slots=True)
class _Progress:
    """What is known of a request while it is served."""

    head: Head
    identity: Identity | None = None
    allowance: Allowance | None = None
    calls_left: int | None = None
    rows_left: int | None = None
    rows: int = 0
    expires_at: datetime | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class _Server:
    gate: Gate
    recorder: Recorder
    clock: Clock
    meter: Meter
    new_request_id: Callable[[], str]
    answers: Answers
    quotas: Quotas

    async def serve(self, operation: AnyOperation, request: Request) -> Response:
        started_now = self.clock.now()
        progress = _Progress(self._head(request))
        status, code, message = 500, 50000, "内部错误，请凭 requestId 查日志"
        try:
            response = await self._run(operation, request, progress)
            await self._count_rows(progress)
            status, code, message = response.status_code, progress.kept.code if progress.kept else 0, ""
        except TongshiError as error:
            status, code, message = error.http_status, error.code, error.message
            if isinstance(error, LocalViolation):
                log.exception("request_broke_an_invariant", request_id=progress.head.request_id)
            response = self._failure(error, progress.head)
        except Exception:
            log.exception("request_crashed", operation=operation.name, request_id=progress.head.request_id)
            response = self._failure(TongshiError(message), progress.head)
        attempt = Attempt(
            operation=operation,
            head=progress.head,
            identity=progress.identity,
            status=status,
            code=code,
            message=message,
            rows=progress.rows,
            duration_s=self.clock.now() - started_now,
            is_replayed=progress.kept is not None,
        )
        try:
            await self.recorder.record(attempt)
        except TongshiError as error:
            # What cannot be recorded is not answered.
            response = self._failure(error, progress.head)
        response.headers.update(_what_is_left(progress))
        return response

    async def _count_rows(self, progress: _Progress) -> None:
        rows, identity = progress.rows, progress.identity
        if rows and identity is not None:
            # Until they are counted they are not given: a refusal is recorded with none.
            progress.rows = 0
            progress.rows_left = await self.quotas.take_rows(identity.key, rows)
            progress.rows = rows

    async def _run(self, operation: AnyOperation, request: Request, progress: _Progress) -> Response:
        await self._admit(operation, progress)
        identity = progress.identity
        promised = identity.body_digest if identity is not None else None
        if operation.file_folder is not None:
            file = await uploads.receive(request, operation.file_folder, operation.max_body_bytes, promised)
            try:
                is_keyed = idempotency.HEADER.lower() in progress.head.headers
                digest = await asyncio.to_thread(uploads.digest_of, file) if is_keyed else None
                return await self._once(operation, request, progress, operation.body(), digest, file)
            finally:
                file.unlink(missing_ok=True)
        raw = await reading.read_body(request, operation.max_body_bytes)
        if promised is not None:
            reading.check_digest(raw, promised)
        if not operation.is_implemented:
            details: dict[str, object] = {"row": operation.row or operation.name}
            raise Unsupported(f"尚未实现：{operation.summary}（{details['row']}）", details=details)
        headers = progress.head.headers
        plain = await asyncio.to_thread(reading.unpack, raw, headers, operation.max_body_bytes)
        body = reading.decode_body(plain, headers.get("content-type", ""), operation.body)
        return await self._once(operation, request, progress, body, plain, None)

    async def _once(
        self,
        operation: AnyOperation,
        request: Request,
        progress: _Progress,
        body: msgspec.Struct,
        sent: bytes | None,
        file: Path | None,
    ) -> Response:
        """The call, or the first answer when it is a repetition."""
        claim = idempotency.claim_of(operation, progress.identity, progress.head, sent)
        if claim is None:
            return await self._handle(operation, request, progress, body, file)

        async def work() -> tuple[Response, int, datetime | None]:
            response = await self._handle(operation, request, progress, body, file)
            return response, progress.rows, progress.expires_at

        def failure(error: TongshiError) -> Response:
            return self._failure(error, progress.head)

        outcome = await idempotency.run_once(self.answers, claim, work, failure)
        if outcome.kept is not None:
            progress.kept, progress.rows = outcome.kept, outcome.kept.rows
            outcome.response.headers["X-Request-Id"] = progress.head.request_id
        return outcome.response

    async def _handle(
        self,
        operation: AnyOperation,
        request: Request,
        progress: _Progress,
        body: msgspec.Struct,
        file: Path | None,
    ) -> Response:
        head = progress.head
        call = Call(
            caller=progress.identity.caller if progress.identity else None,
            body=body,
            query=reading.decode_query(head.raw_query, operation.query),
            path=_path_values(request),
            headers=head.headers,
            request_id=head.request_id,
            client_host=head.client_host,
            at=head.at,
            file=file,
            left=lambda: reading.until_left(request),
        )
        return await self._render(operation, await operation.handler(call), progress)

    async def _admit(self, operation: AnyOperation, progress: _Progress) -> None:
        """Credential, permission, rate, call quota: everything that can be told from the head."""
        head = progress.head
        now = self.clock.now()
        address = f"address:{head.client_host}"
        if operation.permission is Open.PUBLIC:
            progress.allowance = self.meter.admit(address, operation.quota, now)
            return
        try:
            progress.identity = identity = await self.gate.authenticate(head)
            if identity is None:
                raise Unauthenticated("请先登录，或用密钥签名")
        except (Unauthenticated, Forbidden):
            # Guessing is metered by address; one that guesses too often hears 429 and costs no more look-ups.
            self.meter.admit(address, Quota.PUBLIC, now)
            raise
        if operation.has_side_effect and operation.method == "GET":
            _refuse_replay(identity, head)
        if operation.permission is not Open.SIGNED_IN:
            await self.gate.authorise(identity, operation.permission, head)
        progress.allowance = self.meter.admit(identity.key, operation.quota, now)
        progress.calls_left = await self.quotas.take_call(identity.key, operation.quota)

    async def _render(self, operation: AnyOperation, answer: Any, progress: _Progress) -> Response:
        if isinstance(answer, Response):
            is_said = operation.is_raw or operation.other_kinds
            assert is_said, f"{operation.name} answers a raw response without saying so"
            answer.headers.setdefault("X-Request-Id", progress.head.request_id)
            if isinstance(answer, RowsResponse | RowsFile):
                progress.rows = answer.rows
            if isinstance(answer, RowsResponse):
                await _pack(answer, progress.head, answer.compress)
            return answer
        reply: Reply[Any] = answer if isinstance(answer, Reply) else Reply(answer)
        if reply.status == 304:
            # What the caller holds is still true: no body may follow (RFC 9110 15.4.5).
            fresh = {
                "Cache-Control": envelope.NO_STORE,
                **reply.headers,
                "X-Request-Id": progress.head.request_id,
            }
            return Response(status_code=304, headers=fresh)
        rows = getattr(reply.data, "rows", None)
        progress.rows = len(rows) if isinstance(rows, list | tuple) else reply.rows
        expires_at = getattr(reply.data, "expires_at", None)
        progress.expires_at = expires_at if isinstance(expires_at, datetime) else None
        response = envelope.success(
            reply.data,
            request_id=progress.head.request_id,
            at=self.clock.at(),
            status=reply.status,
            headers=reply.headers,
        )
        for cookie in reply.cookies:
            response.headers.append("Set-Cookie", cookie)
        if operation.quota in (Quota.QUERY, Quota.BULK, Quota.EXCHANGE):
            await _pack(response, progress.head, reply.compress)
        return response

    def refuse(
        self, request: Request, error: TongshiError, headers: dict[str, str] | None = None
    ) -> Response:
        """Render an error of a request that reached no operation."""
        return self._failure(error, self._head(request), headers)

    def _failure(self, error: TongshiError, head: Head, headers: dict[str, str] | None = None) -> Response:
        return envelope.failure(error, request_id=head.request_id, at=self.clock.at(), headers=headers)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return self.refuse(request, MethodNotAllowed("不支持该方法"), dict(error.headers or {}))
        if error.status_code == 404:
            return self.refuse(request, NotFound("没有这个地址", code=40400))
        return self.refuse(request, InvalidRequest(str(error.detail)))

    def _head(self, request: Request) -> Head:
        given = request.headers.get("x-request-id", "")
        if not hasattr(request.state, "request_id"):
            request.state.request_id = given if _REQUEST_ID.match(given) else self.new_request_id()
        return Head(
            request_id=request.state.request_id,
            method=request.method,
            path=request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0],
            raw_query=request.scope.get("query_string", b"").decode("latin-1"),
            headers=request.headers,
            cookies=request.cookies,
            client_host=request.client.host if request.client else "",
            at=self.clock.at(),
        )


def _what_is_left(progress: _Progress) -> dict[str, str]:
    headers = progress.allowance.headers() if progress.allowance is not None else {}
    if progress.calls_left is not None:
        headers["X-Quota-Remaining"] = str(progress.calls_left)
    if progress.rows_left is not None:
        headers["X-Rows-Remaining"] = str(progress.rows_left)
    return headers


def _refuse_replay(identity: Identity, head: Head) -> None:
    """A GET that changes state takes signed headers only: browsers, proxies and prefetchers repeat GETs."""
    if identity.is_cookie:
        raise Forbidden("该操作有副作用，请用签名调用或改用 POST")
    if "prefetch" in head.headers.get("sec-purpose", ""):
        raise Forbidden("该操作有副作用，不接受预取")


def _path_values(request: Request) -> dict[str, str]:
    values = {name: unquote(str(value)) for name, value in request.path_params.items()}
    for name, value in values.items():
        if "\0" in value or len(value) > 256:
            raise InvalidRequest(f"路径参数 {name} 不合法", field=name)
    return values


async def _pack(response: Response, head: Head, wanted: bool | None) -> None:
    """gzip as the caller wants it; who says nothing gets it for long answers when its client takes it."""
    body = bytes(response.body)
    is_worth_it = len(body) >= _PACK_FROM_BYTES and "gzip" in head.headers.get("accept-encoding", "")
    if not (is_worth_it if wanted is None else wanted):
        return
    response.body = await asyncio.to_thread(gzip.compress, body, 1)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Content-Length"] = str(len(response.body))
