"""Headers of every HTTP answer that keep a browser from being turned against its user."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SafetyHeaders:
    """ASGI middleware. ``connect_sources`` are the origins of media nodes that the console may fetch from."""

    def __init__(self, app: ASGIApp, connect_sources: Sequence[str] = ()) -> None:
        self._app = app
        sources = " ".join(("'self'", *connect_sources))
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'self'; connect-src {sources}; media-src 'self' blob:; "
                "img-src 'self' data: blob:; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
                "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
