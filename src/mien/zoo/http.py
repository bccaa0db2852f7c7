"""Ask a server for a file, patiently but not for ever, and tell in one line why it does not come.

This is the only module of mien that reaches for the network, and only when somebody asks for a file.
"""

import errno
import io
import math
import re
import socket
import ssl
import time
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any, Final
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import mien
from mien.errors import BundleError
from mien.text import printable

__all__ = ["BrokenError", "RetryPolicy", "ask", "check_address", "number", "why"]

_LATER: Final = {408, 425, 429, 500, 502, 503, 504}
_AWAY: Final = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
_ELSEWHERE: Final = "get the file elsewhere and name its folder with --from"
_TUNNEL: Final = re.compile(
    r"Tunnel connection failed: ((\d{3}).*)", re.DOTALL
)  # the words of http.client for what a proxy answers
_TOLD: Final = 200  # characters of what a server says that are shown: it may say anything


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to bear a bad connection.

    timeout: seconds without a byte, and the longest wait that a busy server may ask for. span: seconds for the header of an answer,
    then for each `least` bytes of it. tries: how often in a row without `least` new bytes; pause: seconds before the second try, then
    doubled.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0
    least: int = 1 << 16
    span: float = 60.0


class BrokenError(Exception):
    """The connection broke; another try may do. wait: seconds that the server asks for; anew: the half that is here does not fit."""

    def __init__(self, told: str, *, wait: int = 0, anew: bool = False) -> None:
        super().__init__(told)
        self.wait, self.anew = wait, anew


class _Paced(io.RawIOBase):
    """What comes over a connection; BrokenError where it only drips: no single read would ever wait too long then."""

    def __init__(self, raw: io.RawIOBase, patience: RetryPolicy) -> None:
        self._raw, self._patience = raw, patience
        self.expect(math.inf)

    def expect(self, least: float) -> None:
        """So many bytes in the span that begins now; of no end: what is read must be over by then."""
        self._least, self._came, self._since = least, 0, time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        got: int | None = self._raw.readinto(buffer)
        self._came += got or 0
        if got and time.monotonic() - self._since >= self._patience.span:
            if self._came < self._least:
                came = "no whole header" if self._least == math.inf else f"{self._came} bytes"
                raise BrokenError(f"too slow: {came} in {self._patience.span:g} s")
            self.expect(self._least)
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer that must keep pace from its first byte on."""

    def __init__(
        self, patience: RetryPolicy, sock: socket.socket, *args: Any, **options: Any
    ) -> None:
        super().__init__(sock, *args, **options)
        self._patience, self._pace = patience, _Paced(self.fp.detach(), patience)
        self.fp = io.BufferedReader(self._pace)

    def begin(self) -> None:
        super().begin()
        self._pace.expect(self._patience.least)


class _Web(request.AbstractHTTPHandler):
    """Asks by http and by https."""

    def __init__(self, patience: RetryPolicy) -> None:
        super().__init__()
        self._patience = patience

    def _connection(self, kind: Any, host: str, **options: Any) -> Any:
        connection = kind(host, **options)
        connection.response_class = partial(_Answer, self._patience)
        return connection

    def http_open(self, asked: request.Request) -> Any:
        return self.do_open(partial(self._connection, HTTPConnection), asked)

    def https_open(self, asked: request.Request) -> Any:
        return self.do_open(
            partial(self._connection, HTTPSConnection), asked, context=ssl.create_default_context()
        )

    http_request = https_request = request.AbstractHTTPHandler.do_request_


class _Errors(request.HTTPErrorProcessor):
    """Refusals and redirections count by their header: urllib would read all that follows it, without end or measure."""

    def http_response(self, request: request.Request, response: Any) -> Any:
        if not 200 <= response.status < 300:
            response.close()
        return super().http_response(request, response)

    https_response = http_response


def _opener(patience: RetryPolicy) -> request.OpenerDirector:
    """What urllib opens by default, less ftp, files and data: neither an address nor a redirection gets there."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(), _Web(patience), request.HTTPDefaultErrorHandler(), request.HTTPRedirectHandler(), _Errors(),
        request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def ask(address: str, headers: dict[str, str], patience: RetryPolicy) -> Any:
    """The server's answer, its body unread; raises BrokenError where another try may do, BundleError where none will."""
    own = {"User-Agent": f"mien/{mien.__version__}", "Accept-Encoding": "identity"}
    try:
        # Only the schemes that `check_address` permits come this far.
        asked = request.Request(address, headers={**own, **headers})  # noqa: S310
        return _opener(patience).open(asked, timeout=patience.timeout)
    except HTTPError as error:
        raise _refused(address, error) from error
    except URLError as error:
        raise _unreachable(address, error.reason) from error
    except (InvalidURL, ValueError) as error:
        raise _astray(address, error) from error
    except (HTTPException, OSError) as error:
        raise BrokenError(why(error)) from error


def check_address(address: str) -> None:
    """Raises BundleError unless it can be asked, and the proxy that stands before it, if one does."""
    try:
        parts = urlsplit(address)
        good = (
            parts.scheme in {"http", "https"}
            and parts.hostname
            and "@" not in parts.netloc
            and parts.port != 0
        )
    except ValueError:
        good = False
    if not good:
        raise BundleError(
            f"{address}: no address of a file; give one that begins with http://HOST or https://HOST, or a folder"
        )
    _proxy(address)


def _proxy(address: str) -> str | None:
    """Host of the proxy that the environment names for an address; what else is there may be a password."""
    parts = urlsplit(address)
    proxy = request.getproxies().get(parts.scheme)
    if not proxy or request.proxy_bypass(parts.netloc):
        return None
    scheme, _, place = proxy.rpartition("://")
    try:
        found = urlsplit(f"//{place.rpartition('@')[2]}")
        good = scheme.lower() in {"", "http", "https"} and found.hostname and found.port != 0
    except ValueError:
        good = False
    if not good:
        raise BundleError(
            f"{address}: {parts.scheme.upper()}_PROXY names no proxy that can be asked; set it to http://HOST:PORT"
        )
    return found.hostname


def _refused(address: str, error: HTTPError) -> Exception:
    said = f"the server says {error.code} {_shown(error.reason)}"
    if error.code in _LATER:
        wait = number(error.headers.get("Retry-After", "")) or 0
        return BrokenError(f"{said}, and to wait {wait} s" if wait else said, wait=wait)
    if error.code == 416:
        return BrokenError(said, anew=True)
    if error.code == 407:
        return _no_password(address)
    return BundleError(f"{address}: {said}; {_ELSEWHERE}")


def _no_tunnel(address: str, said: str, code: int) -> Exception:
    if code in _LATER:
        return BrokenError(f"the proxy says {_shown(said)}")
    if code == 407:
        return _no_password(address)
    return BundleError(
        f"{address}: the proxy refuses: {_shown(said)}; ask who runs it, or bring bundles along: mien bundles add"
    )


def _no_password(address: str) -> BundleError:
    proxy = f"{urlsplit(address).scheme.upper()}_PROXY"
    return BundleError(
        f"{address}: the proxy asks for a name and a password; put them into {proxy}: http://NAME:PASSWORD@HOST:PORT"
    )


def _unreachable(address: str, reason: object) -> Exception:
    host = urlsplit(address).hostname
    if isinstance(reason, str):  # of urllib itself; what the connection says is an error
        return _astray(address, reason)
    if isinstance(reason, ssl.SSLEOFError):
        return BrokenError(why(reason))
    if isinstance(reason, ssl.SSLError):
        told = getattr(reason, "verify_message", "") or reason.reason or reason
        return BundleError(
            f"{address}: no safe connection to {host}: {told}; where a proxy stands between, name its CA file in SSL_CERT_FILE"
        )
    if tunnel := _TUNNEL.match(str(reason)):
        return _no_tunnel(address, tunnel[1], int(tunnel[2]))
    if isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _AWAY:
        proxy = _proxy(address)
        way = f"the proxy {proxy}" if proxy else str(host)
        return BundleError(
            f"{address}: no connection to {way}: {why(reason)}; without a network bring bundles along: mien bundles add"
        )
    return BrokenError(why(reason))


def _astray(address: str, told: object) -> BundleError:
    return BundleError(
        f"{address}: it, or where it leads to, is no address that can be asked: {_shown(told)}; {_ELSEWHERE}"
    )


def why(error: object) -> str:
    """What went wrong with a connection, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return _shown(getattr(error, "strerror", None) or error or type(error).__name__)


def _shown(told: object) -> str:
    return printable(" ".join(str(told)[:_TOLD].split()))


def number(told: str) -> int | None:
    """A count in a header; None for what is none, or longer than any that could be meant."""
    return int(told) if re.fullmatch("[0-9]{1,15}", told) else None
