"""Who may ask: this computer's own pages and programs, with the token, and nobody else.

Three walls. The ``Host`` must be the address that is served, or else a name of an attacker's may
lead here (DNS rebinding). An ``Origin`` must be that same address, so that no other page's scripts
and forms are heard. And every request needs the token: as a cookie, which only this server's page
may use, or as ``Authorization: Bearer``.
"""

import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.app.errors import AppError, NotAllowedError, UnauthorizedError
from mien.app.server.problems import problem_response

__all__ = [
    "PAGE_POLICY",
    "REPORT_POLICY",
    "OneTimeCode",
    "Security",
    "SecurityMiddleware",
    "in_address",
    "new_token",
]

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
"""The ``Content-Security-Policy`` of all answers that set no other."""
REPORT_POLICY: Final = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; img-src data: blob:; "
    "media-src data:; font-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
"""The policy for pages that bring their own scripts: they run, and can reach nothing here."""

_HEADERS: Final = {
    "content-security-policy": PAGE_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
}
_READING: Final = frozenset({"GET", "HEAD"})
# What a WebSocket is closed with before it is accepted, which the client sees as 403.
_POLICY_VIOLATION: Final = 1008


def new_token() -> str:
    """Make a token that nobody can guess.

    Returns:
        32 random bytes as text that fits an address.
    """
    return secrets.token_urlsafe(32)


def in_address(host: str) -> str:
    """A host as it stands in addresses.

    Args:
        host: A name or an IP address.

    Returns:
        The same, in brackets if it has colons.

    >>> in_address("127.0.0.1"), in_address("::1")
    ('127.0.0.1', '[::1]')
    """
    return f"[{host}]" if ":" in host else host


class OneTimeCode:
    """Opens the page once, in place of the token.

    It is for a browser that mien starts: whoever uses this computer can see with which address, for
    as long as the browser runs.

    Attributes:
        text: The code, which fits an address.
    """

    def __init__(self) -> None:
        self.text = new_token()
        self._is_used = False

    def redeem(self, given: str) -> bool:
        """Use the code.

        Args:
            given: What a client gives for it.

        Returns:
            True for the code, the first time.
        """
        if self._is_used or not _is_same(given, self.text):
            return False
        self._is_used = True
        return True


@dataclass(frozen=True, slots=True)
class Security:
    """The address that is served, and the token.

    Attributes:
        port: The port, which the name of the cookie has: several apps may run at once.
        token: What a client must know.
        scheme: ``http`` or ``https``.
        hosts: What ``Host`` may be, in lower case; empty where any name may lead here.
        has_pages: Whether pages are served, whose cookie is taken for the token.
        code: What opens the page once.
    """

    port: int
    token: str = field(repr=False)
    scheme: str = "http"
    hosts: frozenset[str] = frozenset()
    has_pages: bool = True
    code: OneTimeCode = field(default_factory=OneTimeCode, repr=False)

    @classmethod
    def loopback(
        cls,
        port: int,
        token: str,
        scheme: str = "http",
        *,
        host: str = "127.0.0.1",
        has_pages: bool = True,
    ) -> "Security":
        """The security of a server for this computer alone.

        Args:
            port: The port.
            token: What a client must know.
            scheme: ``http`` or ``https``.
            host: The address that is listened on, one of this computer's own.
            has_pages: Whether pages are served.

        Returns:
            A security that takes this address and localhost with this port as hosts.
        """
        hosts = frozenset({f"{in_address(host)}:{port}".lower(), f"localhost:{port}"})
        return cls(port, token, scheme, hosts, has_pages)

    @property
    def cookie(self) -> str:
        """The name of the cookie that holds the token."""
        return f"mien_{self.port}"

    def check_address(self, headers: Headers) -> None:
        """Refuse what another page, or another name for this computer, sends.

        Args:
            headers: The headers of the request.

        Raises:
            NotAllowedError: The host or the origin is another one.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (self.hosts and hosts[0].lower() not in self.hosts):
            raise NotAllowedError(
                "this server answers only under its own address; open the one it printed at start"
            )
        for origin in headers.getlist("origin"):
            if origin.lower() != f"{self.scheme}://{hosts[0].lower()}":
                raise NotAllowedError(
                    "a page of another origin may not ask this server; use its own page, or a "
                    "program with its token"
                )

    def check_token(self, scope: Scope, headers: Headers) -> None:
        """Refuse who does not know the token.

        Args:
            scope: The request.
            headers: Its headers.

        Raises:
            UnauthorizedError: No token, or a wrong one.
            NotAllowedError: The cookie comes from a page that need not be this server's.
        """
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return
        if not (self.has_pages and self.is_token(_cookie(headers, self.cookie))):
            raise UnauthorizedError(
                "the token is missing or wrong; open the address that was printed at start, or "
                "send the header Authorization: Bearer TOKEN"
            )
        # Ports do not separate sites: another server of this computer could make the browser send
        # the cookie, too. It says who asks; a page may be opened from anywhere, but not read.
        asker = headers.get("sec-fetch-site", "none")
        is_opened = headers.get("sec-fetch-mode") == "navigate" and not _is_api(scope)
        is_changing = scope["type"] == "websocket" or scope["method"] not in _READING
        is_foreign = asker not in ("same-origin", "none") and not is_opened
        if is_foreign or (is_changing and "origin" not in headers):
            raise NotAllowedError(
                "the cookie is for this server's own page; a program sends the header "
                "Authorization: Bearer TOKEN"
            )

    def is_token(self, given: str) -> bool:
        """Whether a text is the token.

        Args:
            given: The text.

        Returns:
            True for the token alone.
        """
        return _is_same(given, self.token)

    def with_cookie(self) -> Response:
        """The answer to who opens the address with the token: the page, and a cookie for it.

        Returns:
            A redirect to the address without the token, which would stay in the history.
        """
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            self.cookie, self.token, httponly=True, samesite="strict", secure=self.scheme == "https"
        )
        return answer


class SecurityMiddleware:
    """Lets through what `Security` permits, and adds the headers that browsers heed.

    Args:
        app: What answers.
        security: Who may ask.
    """

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app = app
        self._security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it.

        Args:
            scope: The request.
            receive: Gives what the client sends.
            send: Takes what the client is sent.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            answer = self._answer(scope)
        except AppError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return
            answer = problem_response(error.status, str(error))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await (answer or self._app)(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """The answer where it is known already.

        Raises:
            AppError: The request is refused.
        """
        headers = Headers(scope=scope)
        self._security.check_address(headers)
        is_start = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        if is_start and self._security.has_pages:
            answer = self._opened(parse_qs(scope["query_string"].decode("latin-1")))
            if answer is not None:
                return answer
        self._security.check_token(scope, headers)
        return None

    def _opened(self, query: dict[str, list[str]]) -> Response | None:
        """The answer to an address with a token or a code; None where it has neither."""
        token, code = query.get("token"), query.get("code")
        if token and self._security.is_token(token[-1]):
            return self._security.with_cookie()
        if code and self._security.code.redeem(code[-1]):
            return self._security.with_cookie()
        if token or code:
            raise UnauthorizedError(
                "the address is not of this server's last start, or opens the page once and was "
                "used; open the address that was printed at its last start"
            )
        return None


def _is_same(given: str, secret: str) -> bool:
    # In a time that does not depend on how much of it is right.
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


def _is_api(scope: Scope) -> bool:
    return str(scope["path"]).startswith("/api/")


def _cookie(headers: Headers, name: str) -> str:
    cookies = SimpleCookie()
    for line in headers.getlist("cookie"):
        try:
            cookies.load(line)
        except CookieError:
            return ""
    return cookies[name].value if name in cookies else ""
