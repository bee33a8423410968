"""What stands before the service: who may ask, how much, how long; each answer says by which weights it was made."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = "/health"  # needs no token: what watches a container asks there
HERE = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the page's address holds the token
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Guard:
    """An ASGI application around another one, which it lets read whole and small bodies only.

    Attributes:
        app: the other one.
        about: `run` and `weights`, which each answer carries: in its headers, too.
        token: that has to be given; None: whoever reaches the address may ask, by one of its own names.
        most_bytes: of a request's body.
        seconds: in which it has to be here.
        most_requests: at the same time.
    """

    app: ASGIApp
    about: Mapping[str, str]
    token: str | None = None
    most_bytes: int = 10_000_000
    seconds: float = 30
    most_requests: int = 64
    now: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the other application do it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                for name, value in self.about.items():
                    headers[f"X-{name.title()}"] = value
            await send(message)

        refused = self.refused(scope["method"], scope["path"], scope["query_string"], Headers(scope=scope))
        if not refused and self.now >= self.most_requests:
            refused = (503, f"{self.now} others are being answered: ask again later.")
        if refused:
            return await self.refuse(*refused)(scope, receive, marked)
        self.now += 1
        try:
            body = await self.read(receive)
            if body is None:
                return None
            if isinstance(body, tuple):
                return await self.refuse(*body)(scope, receive, marked)
            whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def again() -> Message:
                return whole.pop() if whole else await receive()

            await self.app(scope, again, marked)
        finally:
            self.now -= 1

    def refused(self, method: str, path: str, query: bytes, headers: Headers) -> tuple[int, str] | None:
        """Say why a request is refused, status and sentence, or None."""
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "a page from elsewhere may not ask here: open this one's."
        if self.token is None:
            if _name(host) not in HERE:
                return 403, "this is asked for by another name than its own: use 127.0.0.1 or localhost."
        elif path != OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer":
                given = parse_qs(query.decode("latin-1")).get("token", [""])[0] if method == "GET" else ""
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return 401, "the token is missing, or another one: send the header Authorization: Bearer <token>."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > self.most_bytes:
            return 413, self.too_large
        return None

    @property
    def too_large(self) -> str:
        """Say how large a request may be."""
        return f"this has more than the {self.most_bytes:,} bytes that are read: send less at a time."

    async def read(self, receive: Receive) -> bytes | tuple[int, str] | None:
        """Read a body whole; return why not, or None where nobody waits for the answer any more."""
        body = b""
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self.most_bytes:
                        return 413, self.too_large
                    if not message.get("more_body"):
                        return body
        except TimeoutError:
            return 408, f"this was not sent within {self.seconds:g} seconds: send less at a time."

    def refuse(self, status: int, sentence: str) -> JSONResponse:
        """Make the answer that says why there is none."""
        headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status, {})
        return JSONResponse({"error": sentence, **self.about}, status, headers)


def _name(host: str) -> str:
    """Read the name in a header Host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
