"""A person's or program's way to one platform's REST face, as the console uses it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx2

from tongshi.errors import PeerFailed


class Console:
    """A signed-in session."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.AsyncClient(base_url=url, timeout=40.0, trust_env=False)
        self._csrf = ""

    async def __aenter__(self) -> Console:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def is_up(self) -> bool:
        """Whether the platform answers."""
        try:
            return (await self._http.get("/healthz", timeout=2.0)).status_code == 200
        except httpx2.HTTPError:
            return False

    async def set_up(self, code: str, user: str, password: str) -> None:
        """Create the first administrator with the one-time code, and sign in."""
        await self.call("POST", "/api/v1/setup", {"code": code, "user": user, "password": password})
        await self.sign_in(user, password)

    async def sign_in(self, user: str, password: str) -> None:
        """Begin a session."""
        session = await self.call("POST", "/api/v1/session", {"user": user, "password": password})
        self._csrf = session["csrfToken"]

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """One call; the envelope's data.

        Raises:
            PeerFailed: a refusal; the message carries number and words, details the envelope's data.
        """
        headers = {"X-CSRF-Token": self._csrf} if self._csrf and method != "GET" else {}
        response = await self._http.request(method, path, json=body, headers=headers)
        envelope = response.json()
        if envelope["code"] != 0:
            raise PeerFailed(f"{method} {path}: {envelope['code']} {envelope['msg']}", code=envelope["code"])
        return envelope["data"]
