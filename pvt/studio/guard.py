"""Checks of every request of the studio: Host, Origin and token; and the headers of every response."""

import hmac
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "pvt_token"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: checks Host, Origin and token of every request, and adds headers to every response.

    Args:
        app: the application behind it.
        names: accepted names in the Host header, in lower case and without port.
        token: required in the query or the cookie; empty if none is required.
    """

    def __init__(self, app: ASGIApp, names: set[str], token: str) -> None:
        self.app, self.names, self.token = app, names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, or answer 421 for a wrong Host, 403 for a wrong Origin or token.

        A request with the right token in its query also sets the cookie. Other connections than HTTP are passed on
        unchecked.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._refusal(request)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                if self.token and request.query_params.get("token") and refused is None:
                    cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        await (refused or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if len(request.headers.getlist("host")) != 1 or host_name(host) not in self.names:
            return problem(421, f"the studio does not serve the host {host!r:.80}")
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return problem(403, "requests of other pages are refused")
        given = request.query_params.get("token") or request.cookies.get(COOKIE) or ""
        if self.token and not hmac.compare_digest(given.encode(), self.token.encode()):
            return problem(403, "open the address that the studio printed; it holds the token")
        return None


def host_name(host: str) -> str:
    """Return the name in a Host header in lower case, without its port; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdecimal() else host.lower()


def problem(status: int, message: str) -> JSONResponse:
    """Return a response with a status and the JSON body `{"error": message}`."""
    return JSONResponse({"error": message}, status)
