"""Get a file whose hash is known: aside, resumed where it broke off, and verified before anybody opens it.

This is the only module of mien that reaches for the network, and only when somebody asks for a file.
"""

import errno
import hashlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any, Final
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

import mien
from mien.errors import BundleError, OutputError
from mien.zoo.index import File

__all__ = ["Patience", "Progress", "check", "fetch", "writing"]

Progress = Callable[[str, int, int], None]
"""Called with what is fetched, bytes that are here, and bytes in all (at most so many where nobody knows)."""
_CHUNK: Final = 1 << 17
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_LATER: Final = {408, 425, 429, 500, 502, 503, 504}
_AWAY: Final = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear a bad connection.

    timeout: seconds without a byte; tries: how often in a row without a new byte; pause: seconds before the second try, then doubled.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0


class _BrokenError(Exception):
    """The connection broke; another try may do."""


def _quiet(_what: str, _done: int, _total: int) -> None:
    pass


def fetch(
    file: File, folder: Path, source: str | Path | None = None, *, patience: Patience | None = None, progress: Progress = _quiet
) -> Path:
    """The verified file, under its name in `folder`; half of it lies there as ``.part`` meanwhile, and is gone on from.

    source: a folder or an address (http, https) that holds a file of that name, in place of the index's own address.
    Proxies come from the environment, certificates from the system (SSL_CERT_FILE overrides).
    Raises BundleError for a file that cannot be had or is not what the index says, OutputError where it cannot be written.
    """
    patience = patience or Patience()
    done, part = folder / file.name, folder / (file.name + ".part")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if done.is_file():
        with suppress(BundleError):
            check(done, file)
            return done
    went_on = _size(part) > 0
    while True:
        _bring(file, part, source, patience, progress)
        try:
            check(part, file)
            break
        except BundleError:
            _forget(part)
            # What lay here may have been the half of something else, so that the whole deserves one try.
            if not went_on:
                raise
            went_on = False
    with writing(done):
        part.replace(done)
        _tag(part).unlink(missing_ok=True)
    return done


def _bring(file: File, part: Path, source: str | Path | None, patience: Patience, progress: Progress) -> None:
    if source is not None and not str(source).startswith(("http://", "https://")):
        _copy(Path(source) / file.name, part, file, progress)
    elif source is not None:
        _download(file, f"{str(source).rstrip('/')}/{quote(file.name)}", part, patience, progress)
    else:
        _download(file, file.url, part, patience, progress)


def check(path: Path, file: File) -> None:
    """Raises BundleError unless the content of `path` is what the index says of `file`; it is read as bytes and never opened."""
    size, sha256 = _size(path), hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    start = b""
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            start = start or chunk[:100]
            sha256.update(chunk)
            blob.update(chunk)
    if start.startswith(_POINTER):
        raise BundleError(
            f"{file.name}: a git LFS pointer came instead of the file; get the file itself elsewhere and name its folder with --from"
        )
    if file.size is not None and size != file.size:
        raise BundleError(f"{file.name}: {size} bytes came, the index says {file.size}; it was thrown away unopened; pull again later")
    for kind, found, wanted in (("sha256", sha256, file.sha256), ("git blob id", blob, file.blob)):
        if wanted is not None and found.hexdigest() != wanted:
            raise BundleError(
                f"{file.name}: not the file of the index: its {kind} is {found.hexdigest()[:12]}…, the index says {wanted[:12]}…;"
                " it was thrown away unopened; pull again, or from another place with --from"
            )


@contextmanager
def writing(where: Path, otherwise: str = "set MIEN_HOME to a folder that can be written to") -> Iterator[None]:
    """Turn what the disk refuses into one line that names `where`. otherwise: what to do if it cannot be made writable."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{where}: the disk is full; free some space and run it again; what was here before is untouched") from error
        why = error.strerror or error
        raise OutputError(f"{where}: {why}; make it writable, or {otherwise}") from error


def _copy(path: Path, part: Path, file: File, progress: Progress) -> None:
    try:
        source = path.open("rb")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; --from needs a folder or an address that holds {file.name}") from error
    with source:
        total = os.fstat(source.fileno()).st_size
        if total > file.most:
            raise BundleError(f"{path}: {total} bytes, more than {file.name} can have ({file.most}); it was not read")
        with writing(part), part.open("wb") as out:
            while chunk := source.read(_CHUNK):
                out.write(chunk)
                progress(file.name, out.tell(), total)
            _settle(out)


def _download(file: File, address: str, part: Path, patience: Patience, progress: Progress) -> None:
    failed = 0
    while True:
        had = _size(part)
        try:
            with _ask(address, part, patience.timeout) as answer:
                _receive(answer, file, part, address, progress)
            return
        except _BrokenError as error:
            failed = 1 if _size(part) > had else failed + 1
            if failed >= patience.tries:
                kept = f"; the {_size(part)} bytes that came are kept, and pulling again goes on from there" if _size(part) else ""
                raise BundleError(f"{address}: {error}, {failed} times in a row{kept or '; try again later'}") from error
            time.sleep(patience.pause * 2 ** (failed - 1))


def _opener() -> request.OpenerDirector:
    """What urllib opens by default, less ftp, files and data: neither an address nor a redirection gets there."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(), request.HTTPHandler(), request.HTTPSHandler(context=ssl.create_default_context()),
        request.HTTPDefaultErrorHandler(), request.HTTPRedirectHandler(), request.HTTPErrorProcessor(), request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _ask(address: str, part: Path, timeout: float) -> Any:
    """The server's answer, to the rest of the file where there is a beginning."""
    asked = request.Request(address, headers={"User-Agent": f"mien/{mien.__version__}", "Accept-Encoding": "identity"})  # noqa: S310
    if had := _size(part):
        asked.add_header("Range", f"bytes={had}-")
        if _tag(part).is_file():
            asked.add_header("If-Range", _tag(part).read_text(encoding="utf-8"))
    try:
        return _opener().open(asked, timeout=timeout)
    except HTTPError as error:
        error.close()
        raise _refused(address, error.code, error.reason, part) from error
    except InvalidURL as error:
        raise BundleError(f"{address}: {error}; give an address that begins with http:// or https://") from error
    except URLError as error:
        raise _unreachable(address, error.reason) from error
    except (HTTPException, OSError) as error:
        raise _BrokenError(_why(error)) from error


def _refused(address: str, code: int, told: object, part: Path) -> Exception:
    reason = " ".join("".join(char if char.isprintable() else " " for char in str(told)).split())  # a server may say anything
    if code == 416:
        _forget(part)
    if code == 416 or code in _LATER:
        return _BrokenError(f"the server says {code} {reason}")
    if code == 407:
        return BundleError(
            f"{address}: the proxy asks for a name and a password; put them into HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT"
        )
    return BundleError(f"{address}: the server says {code} {reason}; get the file elsewhere and name its folder with --from")


def _unreachable(address: str, reason: object) -> Exception:
    host = urlsplit(address).hostname
    if isinstance(reason, ssl.SSLEOFError):
        return _BrokenError(_why(reason))
    if isinstance(reason, ssl.SSLError):
        told = getattr(reason, "verify_message", "") or reason.reason or reason
        return BundleError(
            f"{address}: no safe connection to {host}: {told}; where a proxy stands between, name its CA file in SSL_CERT_FILE"
        )
    if "Tunnel connection failed" in str(reason):
        return BundleError(f"{address}: the proxy refuses: {reason}; ask who runs it, or bring bundles along: mien bundles add")
    if isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _AWAY:
        proxies = request.getproxies()
        proxy = proxies.get(urlsplit(address).scheme)
        way = f"the proxy {urlsplit(proxy).hostname or proxy}" if proxy else str(host)  # it may hold a password
        return BundleError(f"{address}: no connection to {way}: {_why(reason)}; without a network bring bundles along: mien bundles add")
    return _BrokenError(_why(reason))


def _why(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _receive(answer: Any, file: File, part: Path, address: str, progress: Progress) -> None:
    """Write the answer to `part`, at its end where the server goes on there; raises _BrokenError when it ends too early."""
    start = _size(part) if answer.status == 206 else 0
    if answer.status == 206 and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
        _forget(part)
        raise _BrokenError("the server goes on at another place than it was asked to")
    length = answer.headers.get("Content-Length", "")
    whole = start + int(length) if length.isdecimal() else None
    if (whole or 0) > (file.size or file.most):
        _forget(part)
        raise BundleError(
            f"{address}: {whole} bytes are offered, more than {file.name} can have ({file.size or file.most}); nothing was read"
        )
    with writing(part), part.open("ab" if start else "wb") as out:
        _remember(part, answer.headers)
        try:
            for chunk in _chunks(answer):
                out.write(chunk)
                if out.tell() > file.most:
                    break
                progress(file.name, out.tell(), whole or file.size or file.most)
        finally:
            _settle(out)
        came = out.tell()
    if came > file.most:
        _forget(part)
        raise BundleError(f"{address}: more than the {file.most} bytes that {file.name} can have; it was thrown away unopened")
    if whole is not None and came < whole:
        raise _BrokenError(f"cut off after {came} of {whole} bytes")


def _chunks(answer: Any) -> Iterator[bytes]:
    """What comes, as it comes: a connection that breaks loses nothing of it."""
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _BrokenError(_why(error)) from error
        if not chunk:
            return
        yield chunk


def _settle(out: Any) -> None:
    out.flush()
    os.fsync(out.fileno())


def _tag(part: Path) -> Path:
    """Beside a half file: what the server called its version of it."""
    return part.with_name(part.name + ".tag")


def _remember(part: Path, headers: Any) -> None:
    """Keep the version's name. A weak one is of no use with If-Range; then the hash alone tells whether the halves fit."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    if tag and not tag.startswith("W/"):
        _tag(part).write_text(tag, encoding="utf-8")
    else:
        _tag(part).unlink(missing_ok=True)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
