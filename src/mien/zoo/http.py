"""Ask a server for a file, within bounds of time, and say in one line why it does not come.

This is the only module of mien that reaches for the network, and only when somebody asks for a
file.
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
from urllib.parse import SplitResult, urlsplit

import mien
from mien.errors import BundleError
from mien.text import printable

__all__ = ["BrokenError", "RetryPolicy", "ask", "check_address", "number", "why"]

# Answers after which a later try may succeed: timeouts, rate limits, and servers in trouble.
_RETRY_CODES: Final = {408, 425, 429, 500, 502, 503, 504}
# Errors of the operating system that say that there is no network, or no such server.
_NO_CONNECTION: Final = {
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
}
_ELSEWHERE: Final = "get the file elsewhere and name its folder with --from"
# How http.client words what a proxy answers; there is no type of its own for it.
_TUNNEL: Final = re.compile(r"Tunnel connection failed: ((\d{3}).*)", re.DOTALL)
# Characters of a server's text that are shown: it may send any text.
_MOST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to bear a bad connection.

    Attributes:
        timeout: Seconds without a byte, and the longest wait that a busy server may ask for.
        tries: Failures in a row, each with fewer than `least` new bytes, before giving up.
        pause: Seconds before the second try; doubled before each further one.
        least: Bytes that must come in each `span`.
        span: Seconds for the header of an answer, then for each `least` bytes of it.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0
    least: int = 1 << 16
    span: float = 60.0


class BrokenError(Exception):
    """The connection broke; another try may succeed.

    Attributes:
        wait: Seconds to wait that the server asks for.
        anew: Whether the unfinished file that is here does not fit and must be dropped.
    """

    def __init__(self, problem: str, *, wait: int = 0, anew: bool = False) -> None:
        super().__init__(problem)
        self.wait = wait
        self.anew = anew


class _PacedStream(io.RawIOBase):
    """Bytes of a connection that raises BrokenError where they come too slowly.

    A timeout alone does not do: a server that sends a byte now and then never exceeds it.
    """

    def __init__(self, raw: io.RawIOBase, patience: RetryPolicy) -> None:
        self._raw = raw
        self._patience = patience
        self.expect(math.inf)

    def expect(self, least: float) -> None:
        """Start a span in which `least` bytes must come.

        Args:
            least: Number of bytes; infinite where reading must be over before the span ends.
        """
        self._least = least
        self._received = 0
        self._span_start = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._received += count or 0
        elapsed = time.monotonic() - self._span_start
        if not count or elapsed < self._patience.span:
            return count
        if self._received < self._least:
            raise BrokenError(f"too slow: {self._progress()} in {self._patience.span:g} s")
        self.expect(self._least)
        return count

    def _progress(self) -> str:
        return "no whole header" if self._least == math.inf else f"{self._received} bytes"

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(HTTPResponse):
    """An HTTP response that must keep pace from its first byte on."""

    def __init__(
        self, patience: RetryPolicy, sock: socket.socket, *args: Any, **options: Any
    ) -> None:
        super().__init__(sock, *args, **options)
        self._patience = patience
        self._stream = _PacedStream(self.fp.detach(), patience)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        # The header is complete: from here on, the pace of the body counts.
        self._stream.expect(self._patience.least)


class _PacedHandler(request.AbstractHTTPHandler):
    """Opens http and https addresses with `_PacedResponse`."""

    def __init__(self, patience: RetryPolicy) -> None:
        super().__init__()
        self._patience = patience

    def _connection(self, kind: Any, host: str, **options: Any) -> Any:
        connection = kind(host, **options)
        connection.response_class = partial(_PacedResponse, self._patience)
        return connection

    def http_open(self, req: request.Request) -> Any:
        return self.do_open(partial(self._connection, HTTPConnection), req)

    def https_open(self, req: request.Request) -> Any:
        context = ssl.create_default_context()
        return self.do_open(partial(self._connection, HTTPSConnection), req, context=context)

    http_request = https_request = request.AbstractHTTPHandler.do_request_


class _HeaderErrors(request.HTTPErrorProcessor):
    """Judges refusals and redirects by their header.

    urllib would read the body of each, which may have no end.
    """

    def http_response(self, request: request.Request, response: Any) -> Any:
        if not 200 <= response.status < 300:
            response.close()
        return super().http_response(request, response)

    https_response = http_response


def _opener(patience: RetryPolicy) -> request.OpenerDirector:
    """urllib's default opener without ftp, files and data.

    Neither an address nor a redirect gets to those.
    """
    opener = request.OpenerDirector()
    handlers = (
        request.ProxyHandler(),
        _PacedHandler(patience),
        request.HTTPDefaultErrorHandler(),
        request.HTTPRedirectHandler(),
        _HeaderErrors(),
        request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def ask(address: str, headers: dict[str, str], patience: RetryPolicy) -> Any:
    """Send a GET request.

    Args:
        address: An address that `check_address` permits.
        headers: Headers beside those that mien always sends.
        patience: How to treat a bad connection.

    Returns:
        The response of `http.client`, its body unread.

    Raises:
        BrokenError: Another try may succeed.
        BundleError: No other try will.
    """
    # Compressed bytes would not be those whose hash is known.
    defaults = {"User-Agent": f"mien/{mien.__version__}", "Accept-Encoding": "identity"}
    try:
        # Only the schemes that `check_address` permits come this far.
        query = request.Request(address, headers={**defaults, **headers})  # noqa: S310
        return _opener(patience).open(query, timeout=patience.timeout)
    except HTTPError as error:
        raise _refusal(address, error) from error
    except URLError as error:
        raise _connection_error(address, error.reason) from error
    except (InvalidURL, ValueError) as error:
        raise _wrong_address(address, error) from error
    except (HTTPException, OSError) as error:
        raise BrokenError(why(error)) from error


def check_address(address: str) -> None:
    """Check an address, and the proxy that the environment names for it.

    Args:
        address: The address.

    Raises:
        BundleError: It, or the proxy, cannot be asked.
    """
    try:
        valid = _is_web_address(urlsplit(address))
    except ValueError:
        valid = False
    if not valid:
        raise BundleError(
            f"{address}: no address of a file; "
            "give one that begins with http://HOST or https://HOST, or a folder"
        )
    _proxy(address)


def _is_web_address(parts: SplitResult) -> bool:
    """Whether an address is of http or https; ValueError for a port that is no number.

    A name or password in it would be shown in messages, so such addresses are refused.
    """
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return False
    return "@" not in parts.netloc and parts.port != 0


def _proxy(address: str) -> str | None:
    """Host of the proxy that the environment names for an address; None where there is none.

    Only the host: the rest of the variable may hold a password.
    """
    scheme = urlsplit(address).scheme
    proxy = request.getproxies().get(scheme)
    if not proxy or request.proxy_bypass(urlsplit(address).netloc):
        return None
    proxy_scheme, _, rest = proxy.rpartition("://")
    try:
        parts = urlsplit(f"//{rest.rpartition('@')[2]}")
        host = parts.hostname
        valid = proxy_scheme.lower() in {"", "http", "https"} and parts.port != 0
    except ValueError:
        host = None
        valid = False
    if not host or not valid:
        raise BundleError(
            f"{address}: {scheme.upper()}_PROXY names no proxy that can be asked; "
            "set it to http://HOST:PORT"
        )
    return host


def _refusal(address: str, error: HTTPError) -> Exception:
    """The error to raise for an answer whose status is no success."""
    answer = f"the server says {error.code} {_shown(error.reason)}"
    if error.code in _RETRY_CODES:
        wait = number(error.headers.get("Retry-After", "")) or 0
        if wait:
            answer = f"{answer}, and to wait {wait} s"
        return BrokenError(answer, wait=wait)
    # Range not satisfiable: the file there is shorter than what is here of it.
    if error.code == 416:
        return BrokenError(answer, anew=True)
    if error.code == 407:
        return _proxy_password_error(address)
    return BundleError(f"{address}: {answer}; {_ELSEWHERE}")


def _tunnel_error(address: str, answer: str, code: int) -> Exception:
    """The error to raise where a proxy does not connect to the server."""
    if code in _RETRY_CODES:
        return BrokenError(f"the proxy says {_shown(answer)}")
    if code == 407:
        return _proxy_password_error(address)
    return BundleError(
        f"{address}: the proxy refuses: {_shown(answer)}; "
        "ask who runs it, or bring bundles along: mien bundles add"
    )


def _proxy_password_error(address: str) -> BundleError:
    variable = f"{urlsplit(address).scheme.upper()}_PROXY"
    return BundleError(
        f"{address}: the proxy asks for a name and a password; "
        f"set them in {variable}: http://NAME:PASSWORD@HOST:PORT"
    )


def _connection_error(address: str, reason: object) -> Exception:
    """The error to raise where there is no answer at all."""
    # urllib gives a text for what it finds wrong itself, and an error for the connection's.
    if isinstance(reason, str):
        return _wrong_address(address, reason)
    if isinstance(reason, ssl.SSLEOFError):
        return BrokenError(why(reason))
    if isinstance(reason, ssl.SSLError):
        return _certificate_error(address, reason)
    tunnel = _TUNNEL.match(str(reason))
    if tunnel:
        return _tunnel_error(address, tunnel[1], int(tunnel[2]))
    unknown_host = isinstance(reason, socket.gaierror)
    if unknown_host or getattr(reason, "errno", None) in _NO_CONNECTION:
        proxy = _proxy(address)
        target = f"the proxy {proxy}" if proxy else str(urlsplit(address).hostname)
        return BundleError(
            f"{address}: no connection to {target}: {why(reason)}; "
            "without a network bring bundles along: mien bundles add"
        )
    return BrokenError(why(reason))


def _certificate_error(address: str, reason: ssl.SSLError) -> BundleError:
    host = urlsplit(address).hostname
    problem = getattr(reason, "verify_message", "") or reason.reason or reason
    return BundleError(
        f"{address}: no safe connection to {host}: {problem}; "
        "where a proxy stands between, name its CA file in SSL_CERT_FILE"
    )


def _wrong_address(address: str, problem: object) -> BundleError:
    return BundleError(
        f"{address}: it, or where it leads to, is no address that can be asked: "
        f"{_shown(problem)}; {_ELSEWHERE}"
    )


def why(error: object) -> str:
    """What went wrong with a connection, in a few words.

    Args:
        error: An error of the connection, or a text.

    Returns:
        One line.
    """
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return _shown(getattr(error, "strerror", None) or error or type(error).__name__)


def _shown(text: object) -> str:
    """The beginning of a server's text, on one line and safe for a terminal."""
    return printable(" ".join(str(text)[:_MOST_SHOWN].split()))


def number(text: str) -> int | None:
    """Read a count in a header.

    Args:
        text: The header's value.

    Returns:
        The count; None for anything else, and for one of more than 15 digits.
    """
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None
