"""Every operation of docs/openapi.json meets what its description allows and what it forbids.

schemathesis makes the requests from the document alone: borders of each rule, then random data, right and
wrong. They go over a socket to the real composition. No answer may be a 5xx, and each must be one that the
document describes: status, media type, shape. ``TONGSHI_FUZZ_EXAMPLES`` asks for a longer run.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from requests.auth import AuthBase

from tongshi.app.composition import Platform, build
from tongshi.clock import ManualClock
from tongshi.config.sections import (
    Config,
    FilesSection,
    MediaSection,
    NeighbourSection,
    PlatformSection,
    SignallingSection,
    StorageSection,
)
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.sharing.accounts import SignedIn
from tongshi.sharing.gate import cookie_name
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.testing.rest_platform import PASSWORD, sample_archives

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"
EXAMPLES = int(os.environ.get("TONGSHI_FUZZ_EXAMPLES", "12"))
HOME, BELOW = "31010400002000000001", "31010600002000000001"
DEVICE = "31010400001310000001"
SECRET = "s" * 32
# Attempts to sign in are counted for a quarter of an hour.
LONG_ENOUGH_S, SIGN_IN_S = 1.0, 901.0
LONGEST_WAIT_S = 30
# What asks a camera, or the platform before it.
OVER_THE_LINE = (
    "liveUrl",
    "controlPtz",
    "devicePresets",
    "deviceHomePosition",
    "deviceCruises",
    "deviceCruise",
    "devicePtzPosition",
    "deviceStorage",
    "deviceConfig",
    "configureDevice",
    "commandDevice",
    "orderSnapshot",
    "captureLive",
    "askDeviceInfo",
)
# What exists is named now and then where the document knows no more than "a text".
KNOWN = {
    "deviceId": DEVICE,
    "deviceIds": [DEVICE, "31010600001310000001"],
    "platformId": BELOW,
    "serviceId": "listDevices",
    "kind": "civil",
    "owner": BELOW,
    "feed": "feed-1",
    "civilCodes": ["3101"],
}

described = schemathesis.openapi.from_path(FILE)
described.config.checks.update(
    # A question may be well-formed and still wrong: a polygon that crosses itself. Callers without credential
    # are the battery's to test; they are metered by address.
    excluded_check_names=["positive_data_acceptance", "ignored_auth"]
)
UNBUILT = [
    operation["operationId"]
    for methods in json.loads(FILE.read_text(encoding="utf-8"))["paths"].values()
    for operation in methods.values()
    if operation["x-state"] == "not-implemented"
]
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
T = TypeVar("T")


class Town:
    """The served platform, and the callers it admits."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.clock = ManualClock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served-platform")
        self._stack = AsyncExitStack()
        self._config = Config(
            platform=PlatformSection(id=HOME, name="测试平台"),
            storage=StorageSection(url=database_url),
            signalling=SignallingSection(port=0),
            media=MediaSection(http_port=0),
            files=FilesSection(folder=str(folder)),
            neighbours=(
                NeighbourSection(
                    id=BELOW,
                    name="下级",
                    relation="lower",
                    rest_key="below",
                    rest_secret=SECRET,
                    share=("*",),
                ),
            ),
        )
        self.session = requests.Session()
        self.session.trust_env = False
        self._signer = Signer("below", SECRET, HOME, self.clock)
        self.base_url = ""

    def start(self) -> None:
        self._thread.start()
        self.run(self._start())
        self._person = self.sign_in()

    def stop(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.session.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def sign_in(self) -> SignedIn:
        return self.run(self._platform.accounts.sign_in("admin", PASSWORD, "127.0.0.1"))

    def headers(self, operation: dict[str, Any], method: str, url: str, body: bytes) -> dict[str, str]:
        """The credential of a person, or of the neighbour where one platform speaks to another."""
        parts = urlsplit(url)
        is_persons = any("session" in way for way in operation["security"])
        if not is_persons or operation["x-permission"].startswith("exchange:"):
            return self._signer.headers(method, parts.path, parts.query, body)
        if operation["operationId"] == "signOut" and method == "DELETE":
            person = self.sign_in()
        elif self._person.expires_at - self.clock.at() < timedelta(hours=11, minutes=40):
            person = self._person = self.sign_in()
        else:
            person = self._person
        cookie = f"{cookie_name(self._config.platform.id)}={person.token}"
        return {"Cookie": cookie, "X-CSRF-Token": person.csrf_token}

    async def _start(self) -> None:
        self._platform = platform = await build(self._config, self.clock)
        code = await platform.start(self._stack)
        await platform.accounts.redeem(code or "", "admin", PASSWORD)
        await self._fill(platform)
        server = uvicorn.Server(
            uvicorn.Config(platform.asgi, host="127.0.0.1", port=0, log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn tells by this flag only
            await asyncio.sleep(0.01)
        self.base_url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        async def end() -> None:
            server.should_exit = True
            await serving

        self._stack.push_async_callback(end)

    async def _fill(self, platform: Platform) -> None:
        at = self.clock.at()
        for owner in (HOME, BELOW):
            await platform.database.write(devices.upsert_many, sample_archives(owner, 30), owner, at)
        await platform.grants.put_key("below", "below", SECRET, set(Permission), BELOW)
        admin = Subject(SubjectKind.USER, "1", "admin")
        for kind, who in ((SubjectKind.USER, "1"), (SubjectKind.API_KEY, "below")):
            grant = Grant("", kind, who, frozenset(DEVICE_ACTIONS), ScopeKind.ALL)
            await platform.grants.give(admin, grant, Context(at))


class Admitted(AuthBase):
    """Lets each request in, and lets enough time pass that no quota hides an operation."""

    def __init__(self, town: Town, operation: dict[str, Any]) -> None:
        self._town = town
        self._operation = operation

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        is_guess = self._operation["x-quota"] == "public"
        self._town.clock.advance(SIGN_IN_S if is_guess else LONG_ENOUGH_S)
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else body
        assert isinstance(content, bytes)
        head = request.method or "", request.url or "", content
        request.headers.update(self._town.headers(self._operation, *head))
        return request


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(request.getfixturevalue(f"lasting_{request.param}_url"), tmp_path_factory.mktemp("files"))
    made.start()
    yield made
    made.stop()


def _aimed(value: Any) -> Any:
    """Half of the names of things become names of things that exist; the same ones each time."""
    if isinstance(value, list):
        return [_aimed(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: KNOWN[name]
        if name in KNOWN and isinstance(part, type(KNOWN[name])) and zlib.crc32(repr(part).encode()) % 2
        else _aimed(part)
        for name, part in value.items()
    }


def _answer(town: Town, case: schemathesis.Case[Any]) -> schemathesis.Response:
    if case.path_parameters:
        case.path_parameters = _aimed(case.path_parameters)
    if isinstance(case.body, dict):
        body: dict[str, Any] = _aimed(case.body)
        if body.get("waitSec") in range(1, LONGEST_WAIT_S + 1):
            # A long poll may wait; tests of the exchange see it do so.
            body["waitSec"] = 0
        case.body = body
    admitted = Admitted(town, case.operation.definition.raw)
    return case.call(base_url=town.base_url, session=town.session, auth=admitted)


@described.exclude(operation_id=UNBUILT).parametrize()
@bounded
def test_each_answer_is_one_that_the_document_describes(town: Town, case: schemathesis.Case[Any]) -> None:
    answer = _answer(town, case)
    if answer.status_code == 503 and case.operation.definition.raw["operationId"] in OVER_THE_LINE:
        # No camera is registered here.
        assert answer.json()["code"] == 50301
        return
    case.validate_response(answer)


@described.include(operation_id=UNBUILT).parametrize()
@bounded
def test_what_is_not_built_answers_501_whatever_it_is_asked(town: Town, case: schemathesis.Case[Any]) -> None:
    answer = _answer(town, case)
    if case.method.lower() == case.operation.method.lower():
        assert answer.status_code == 501
        assert answer.json()["data"]["details"]["row"] == case.operation.definition.raw["x-db31"]
