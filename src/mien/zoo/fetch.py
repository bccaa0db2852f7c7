"""Get a file whose hash is known: aside, resumed where it broke off, and verified before anybody opens it."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mien.errors import BundleError, OutputError
from mien.files import move_into_place
from mien.progress import Progress, silent
from mien.zoo.http import BrokenError, RetryPolicy, ask, check_address, number, why
from mien.zoo.index import File

__all__ = ["RetryPolicy", "check", "fetch", "writing"]

_CHUNK: Final = 1 << 17
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_PAGE: Final = (b"<!doctype html", b"<html")
_PACKED: Final = {"gzip", "x-gzip", "deflate", "compress", "br", "zstd"}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fetch(
    file: File,
    folder: Path,
    source: str | Path | None = None,
    *,
    patience: RetryPolicy | None = None,
    progress: Progress = silent,
) -> Path:
    """The verified file, under its name in `folder`; half of it lies there as ``.part`` meanwhile, and is gone on from.

    source: a folder or an address (http, https) that holds a file of that name, in place of the index's own address.
    Proxies come from the environment, certificates from the system (SSL_CERT_FILE overrides).
    Raises BundleError for a file that cannot be had or is not what the index says, OutputError where it cannot be written.
    """
    done, part = folder / file.name, folder / (file.name + ".part")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (part, _tag(part)):
            if path.exists() and not path.is_file():
                raise OutputError(
                    f"{path}: something that is no file is in the way; move it elsewhere and pull again"
                )
    if _is_whole(done, file):
        return done
    if not _is_whole(part, file):
        _bring_whole(file, part, source, patience or RetryPolicy(), progress)
    with writing(done):
        move_into_place(part, done)
        _tag(part).unlink(missing_ok=True)
    return done


def _is_whole(path: Path, file: File) -> bool:
    try:
        if path.is_file():
            check(path, file)
            return True
    except BundleError:
        pass
    return False


def _bring_whole(
    file: File, part: Path, source: str | Path | None, patience: RetryPolicy, progress: Progress
) -> None:
    # What lay here may have been the half of something else, so that the whole deserves one try.
    tries = 2 if _size(part) else 1
    while True:
        _bring(file, part, source, patience, progress)
        try:
            check(part, file)
            return
        except BundleError:
            _forget(part)
            tries -= 1
            if not tries:
                raise


def _bring(
    file: File, part: Path, source: str | Path | None, patience: RetryPolicy, progress: Progress
) -> None:
    if source is not None and "://" not in str(source):
        _copy(Path(source) / file.name, part, file, progress)
        return
    address = file.url if source is None else str(source)
    check_address(address)
    if source is not None:
        address = f"{address.rstrip('/')}/{quote(file.name)}"
    _download(file, address, part, patience, progress)


def check(path: Path, file: File) -> None:
    """Raises BundleError unless the content of `path` is what the index says of `file`, OutputError where it cannot be read.

    It is read as bytes, and nothing is made of them.
    """
    size, sha256 = _size(path), hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    start = b""
    with writing(path), path.open("rb") as content:
        while chunk := content.read(1 << 20):
            start = start or chunk[:100]
            sha256.update(chunk)
            blob.update(chunk)
    if start.startswith(_POINTER):
        raise BundleError(
            f"{file.name}: a git LFS pointer came instead of the file; get the file itself elsewhere and name its folder with --from"
        )
    if start.lstrip().lower().startswith(_PAGE):
        raise BundleError(
            f"{file.name}: a web page came instead of the file, such as a network's page to log in; log in there and pull again,"
            " or get the file elsewhere and name its folder with --from"
        )
    if file.size is not None and size != file.size:
        raise BundleError(
            f"{file.name}: {size} bytes came, the index says {file.size}; it was thrown away unopened; pull again later"
        )
    for kind, found, wanted in (("sha256", sha256, file.sha256), ("git blob id", blob, file.blob)):
        if wanted is not None and found.hexdigest() != wanted:
            raise BundleError(
                f"{file.name}: not the file of the index: its {kind} is {found.hexdigest()[:12]}…, the index says {wanted[:12]}…;"
                " it was thrown away unopened; pull again, or from another place with --from"
            )


@contextmanager
def writing(
    where: Path, otherwise: str = "set MIEN_HOME to a folder that can be written to"
) -> Iterator[None]:
    """Turn what the disk refuses into one line that names `where`. otherwise: what to do if it cannot be made writable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"{where}: the disk is full, or what you may use of it; free some space and run it again; what was here before is untouched"
            ) from error
        told = error.strerror or error
        raise OutputError(f"{where}: {told}; make it writable, or {otherwise}") from error


def _write(
    chunks: Iterable[bytes],
    part: Path,
    start: int,
    file: File,
    *,
    where: object,
    total: int,
    progress: Progress,
) -> int:
    """Put what comes behind the first `start` bytes of `part`, as it comes, and return the size; BundleError for what does not end."""
    with writing(part), part.open("ab" if start else "wb") as out:
        try:
            for chunk in chunks:
                out.write(chunk)
                if out.tell() > file.most:
                    break
                progress(file.name, out.tell(), total)
        finally:
            out.flush()
            os.fsync(out.fileno())
        came = out.tell()
    if came > file.most:
        _forget(part)
        raise BundleError(
            f"{where}: more than the {file.most} bytes that {file.name} can have; it was thrown away unopened"
        )
    return came


def _copy(path: Path, part: Path, file: File, progress: Progress) -> None:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        source = path.open("rb")
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror}; --from needs a folder or an address that holds {file.name}"
        ) from error
    if found.st_size > file.most:
        raise BundleError(
            f"{path}: {found.st_size} bytes, more than {file.name} can have ({file.most}); it was not read"
        )

    def read() -> bytes:
        try:
            return source.read(_CHUNK)
        except OSError as error:
            raise BundleError(
                f"{path}: {error.strerror}; copy {file.name} anew, or name another place with --from"
            ) from error

    with source:
        _write(iter(read, b""), part, 0, file, where=path, total=found.st_size, progress=progress)


def _download(
    file: File, address: str, part: Path, patience: RetryPolicy, progress: Progress
) -> None:
    failed, had = 0, _size(part)
    while True:
        try:
            with ask(address, _rest(part), patience) as answer:
                _receive(answer, file, part, address, progress)
            return
        except BrokenError as error:
            grown = _size(part) - had
            had += max(
                grown, 0
            )  # the most there ever was: what begins anew again and again is no progress
            if error.anew:
                _forget(part)
            failed = 1 if grown >= patience.least else failed + 1
            if failed >= patience.tries:
                kept = (
                    f"; the {_size(part)} bytes that came are kept, and pulling again goes on from there"
                    if _size(part)
                    else ""
                )
                raise BundleError(
                    f"{address}: {error}, {failed} times in a row{kept or '; try again later'}"
                ) from error
            time.sleep(max(patience.pause * 2 ** (failed - 1), min(error.wait, patience.timeout)))


def _rest(part: Path) -> dict[str, str]:
    """How to ask for the rest of the file where there is a beginning."""
    headers = {}
    if had := _size(part):
        headers["Range"] = f"bytes={had}-"
        if _tag(part).is_file():
            headers["If-Range"] = _tag(part).read_text(encoding="utf-8")
    return headers


def _receive(answer: Any, file: File, part: Path, address: str, progress: Progress) -> None:
    """Write the answer to `part`, at its end where the server goes on there; raises BrokenError when it ends too early."""
    start = _size(part) if answer.status == 206 else 0
    if answer.status == 206 and not str(answer.headers.get("Content-Range", "")).startswith(
        f"bytes {start}-"
    ):
        raise BrokenError("the server goes on at another place than it was asked to", anew=True)
    packed = answer.headers.get("Content-Encoding", "").strip().lower()
    if packed in _PACKED:
        raise BundleError(
            f"{address}: it comes packed (Content-Encoding: {packed}), though it was asked for as it is; a proxy may do that;"
            " get the file elsewhere and name its folder with --from"
        )
    whole = None
    if (told := answer.headers.get("Content-Length")) is not None:
        length = number(told)
        if length is None:
            raise BrokenError("the server tells a length that is no number")
        whole = start + length
    if (whole or 0) > (file.size or file.most):
        _forget(part)
        raise BundleError(
            f"{address}: {whole} bytes are offered, more than {file.name} can have ({file.size or file.most}); nothing was read"
        )
    _remember(part, answer.headers)
    total = whole or file.size or file.most
    came = _write(_chunks(answer), part, start, file, where=address, total=total, progress=progress)
    if whole is not None and came < whole:
        raise BrokenError(f"cut off after {came} of {whole} bytes")


def _chunks(answer: Any) -> Iterator[bytes]:
    """What comes, as it comes: a connection that breaks loses nothing of it."""
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise BrokenError(why(error)) from error
        if not chunk:
            return
        yield chunk


def _tag(part: Path) -> Path:
    """Beside a half file: what the server called its version of it."""
    return part.with_name(part.name + ".tag")


def _remember(part: Path, headers: Any) -> None:
    """Keep the version's name. A weak one is of no use with If-Range; then the hash alone tells whether the halves fit."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    with writing(part):
        if tag and not tag.startswith("W/"):
            _tag(part).write_text(tag, encoding="utf-8")
        else:
            _tag(part).unlink(missing_ok=True)


def _forget(part: Path) -> None:
    with writing(part):
        part.unlink(missing_ok=True)
        _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
