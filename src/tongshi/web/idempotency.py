"""A repeated call gets the first answer again: by its Idempotency-Key, or as a GET that acts, for a minute.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
A caller whose line broke cannot know whether its call was carried out. It sends the same call with the same
key, and the call runs once: the second gets status and body of the first. Two rules keep that honest. What
was begun and never ended (the process was killed) is not run again under that key: its result is unknown,
and is said to be. And a refusal that may be another one the next time (rights, rate, a device that was away)
is not kept, since a refused call did nothing.

Of the request only a digest is stored, keyed by the caller's own key, which is itself stored as a digest.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from starlette.responses import Response

from tongshi.errors import Conflict, InvalidRequest, TongshiError
from tongshi.web.operations import AnyOperation, Open
from tongshi.web.ports import Answers, Claim, Claimed, Head, Identity, Kept

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
NOT_KEPT = "Idempotency-Kept"
# How long an answer is kept; one that says when it expires (a stream's ticket, a lock) no longer than that.
KEPT = timedelta(hours=24)
# A GET that acts is repeated by proxies and impatient people (Z001 Annex E, Table E.4).
GET_KEPT = timedelta(seconds=60)
# No operation runs so long: what did not end by then was ended by something else.
RUNS_AT_MOST = timedelta(minutes=10)
# Changes answer far less; what is longer is a reading, and may be read again.
MAX_ANSWER_BYTES = 256 * 1024
_RETRY_S = 2.0
_KEY = re.compile(r"[\x21-\x7e]{1,128}\Z")
_KEPT_REFUSALS = frozenset({400, 409, 410, 422})
# Of one answer only, or made anew.
_OWN_HEADERS = frozenset({"content-length", "set-cookie", "x-request-id"})


def takes_key(operation: AnyOperation) -> bool:
    """Whether a repeated call of this operation may be answered by the first one's answer.

    A question is asked again instead: what may be seen is decided anew, and nothing is done twice.
    """
    acts = operation.method in ("POST", "DELETE") or operation.has_side_effect
    return acts and not operation.is_reading and operation.permission is not Open.PUBLIC


def claim_of(
    operation: AnyOperation, identity: Identity | None, head: Head, body: bytes | None
) -> Claim | None:
    """What the call claims; None when it runs as often as it is sent.

    Args:
        body: as unpacked, or the digest of a file.

    Raises:
        InvalidRequest: the key is not 1 to 128 visible ASCII characters.
    """
    if identity is None or not takes_key(operation):
        return None
    key = head.headers.get(HEADER.lower())
    if key is None and operation.method != "GET":
        return None
    if key is not None and not _KEY.match(key):
        raise InvalidRequest(f"{HEADER} 应为 1 到 128 个可见 ASCII 字符", field=HEADER)
    asked = _digest(key or "", head, body)
    # Whom a caller speaks for is part of who calls: another user gets no answer of this one.
    caller = f"{identity.key} {head.headers.get('x-tongshi-onbehalf', '')[:256]}"
    named = "\0".join((caller, operation.name, asked.hex() if key is None else f"key {key}"))
    kept = GET_KEPT if key is None else KEPT
    return Claim(hashlib.sha256(named.encode()).digest(), identity.key, asked, head.at, head.at + kept)


def _digest(key: str, head: Head, body: bytes | None) -> bytes:
    query = "&".join(sorted(part for part in head.raw_query.split("&") if part))
    asked = "\n".join((head.method, head.path, query)).encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), asked + b"\n" + (body or b""), "sha256").digest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to. ``kept`` is the first answer when this is a repetition."""

    response: Response
    kept: Kept | None = None


async def run_once(
    answers: Answers,
    claim: Claim,
    work: Callable[[], Awaitable[tuple[Response, int, datetime | None]]],
    failure: Callable[[TongshiError], Response],
) -> Outcome:
    """Run the call unless it ran already.

    Args:
        work: the call itself; answers the response, its rows, and when what it tells expires, if it does.
        failure: renders a refusal, so that it can be kept.

    Raises:
        Conflict: the first call still runs (40902), ended nobody knows how (40902), or had another body
        (40905).
    """
    held = await answers.claim(claim)
    if held is not None:
        kept = _first_answer(held, claim)
        headers = {**kept.headers, REPLAYED: "true"}
        return Outcome(Response(kept.body, kept.status, headers), kept)
    try:
        response, rows, expires_at = await work()
    except TongshiError as error:
        if error.http_status in _KEPT_REFUSALS and error.retry_after_s is None:
            await _keep(answers, claim, failure(error), error.code, 0, None)
        else:
            await _drop(answers, claim)
        raise
    except BaseException:
        await _drop(answers, claim)
        raise
    await _keep(answers, claim, response, 0, rows, expires_at)
    return Outcome(response)


def _first_answer(held: Claimed, claim: Claim) -> Kept:
    if not hmac.compare_digest(held.asked, claim.asked):
        raise Conflict(f"该 {HEADER} 已用于内容不同的请求，请换一个", code=40905, field=HEADER)
    if held.kept is not None:
        return held.kept
    since = held.started_at.isoformat()
    if claim.at - held.started_at < RUNS_AT_MOST:
        raise Conflict(
            "同一请求正在处理，请稍后以同一键重试",
            code=40902,
            retry_after_s=_RETRY_S,
            details={"state": "running", "since": since},
        )
    raise Conflict(
        f"第一次请求中途中断，结果不明：请先查询现状，确需再做请换新的 {HEADER}",
        code=40902,
        details={"state": "unknown", "since": since},
    )


async def _keep(
    answers: Answers, claim: Claim, response: Response, code: int, rows: int, expires_at: datetime | None
) -> None:
    body = getattr(response, "body", None)
    if not isinstance(body, bytes) or len(body) > MAX_ANSWER_BYTES:
        # A file or a long reading: a repetition reads again, and the caller is told so.
        response.headers[NOT_KEPT] = "false"
        await _drop(answers, claim)
        return
    headers = {name: value for name, value in response.headers.items() if name not in _OWN_HEADERS}
    until = claim.until if expires_at is None else min(claim.until, expires_at)
    try:
        await answers.keep(claim, Kept(response.status_code, code, headers, body, rows), until)
    except TongshiError as error:
        # It was done and cannot be kept: a repetition will hear that the result is unknown.
        log.warning("answer_not_kept", error=error.message)
        response.headers[NOT_KEPT] = "false"


async def _drop(answers: Answers, claim: Claim) -> None:
    try:
        await answers.drop(claim)
    except TongshiError as error:
        log.warning("claim_not_dropped", error=error.message)
