"""Fetch a file whose hash is known: resumed after an interruption, and verified before use.

Until it is whole, a file is kept under another name, so that nobody opens half of one.
"""

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
# What a repository serves in place of a large file that it stores elsewhere.
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE: Final = (b"<!doctype html", b"<html")
_COMPRESSIONS: Final = {"gzip", "x-gzip", "deflate", "compress", "br", "zstd"}
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fetch(
    file: File,
    folder: Path,
    source: str | Path | None = None,
    *,
    patience: RetryPolicy | None = None,
    progress: Progress = silent,
) -> Path:
    """Fetch a file and verify it.

    An unfinished download is kept beside it with the suffix ``.part``, and resumed next time.
    Proxies come from the environment, certificates from the system (SSL_CERT_FILE overrides).

    Args:
        file: The file's entry in the index.
        folder: Where it is stored, under its name; created where it is missing.
        source: A folder or an address (http, https) that holds a file of that name, in place of
            the index's address.
        patience: How to treat a bad connection.
        progress: Called with the file's name, the bytes that are here, and those of the whole
            file (an upper limit where unknown).

    Returns:
        Path of the verified file.

    Raises:
        BundleError: The file cannot be fetched, or is not what the index says.
        OutputError: It cannot be written.
    """
    done = folder / file.name
    part = folder / f"{file.name}.part"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (part, _tag(part)):
            if path.exists() and not path.is_file():
                raise OutputError(
                    f"{path}: something that is no file is in the way; "
                    "move it elsewhere and pull again"
                )
    if _is_whole(done, file):
        return done
    if not _is_whole(part, file):
        _fetch_whole(file, part, source, patience or RetryPolicy(), progress)
    with writing(done):
        move_into_place(part, done)
        _tag(part).unlink(missing_ok=True)
    return done


def _is_whole(path: Path, file: File) -> bool:
    if not path.is_file():
        return False
    try:
        check(path, file)
    except BundleError:
        return False
    return True


def _fetch_whole(
    file: File, part: Path, source: str | Path | None, patience: RetryPolicy, progress: Progress
) -> None:
    """Fetch until `part` passes `check`; otherwise remove it and raise BundleError."""
    # A beginning that is here may be of another version; then one start from zero is fair.
    tries = 2 if _size(part) else 1
    while True:
        _fetch_part(file, part, source, patience, progress)
        try:
            check(part, file)
            return
        except BundleError:
            _discard(part)
            tries -= 1
            if tries == 0:
                raise


def _fetch_part(
    file: File, part: Path, source: str | Path | None, patience: RetryPolicy, progress: Progress
) -> None:
    """Copy the file from a folder, or download it, without verifying it."""
    if source is not None and "://" not in str(source):
        _copy(Path(source) / file.name, part, file, progress)
        return
    address = file.url if source is None else str(source)
    check_address(address)
    if source is not None:
        address = f"{address.rstrip('/')}/{quote(file.name)}"
    _download(file, address, part, patience, progress)


def check(path: Path, file: File) -> None:
    """Compare a file's size and hashes with the index. Its content is only hashed, never parsed.

    Args:
        path: The file.
        file: Its entry in the index.

    Raises:
        BundleError: It is not the file of the index.
        OutputError: It cannot be read.
    """
    size = _size(path)
    sha256 = hashlib.sha256()
    # git's name of a file's content is the SHA-1 of a header and the content.
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    start = b""
    with writing(path), path.open("rb") as content:
        while chunk := content.read(1 << 20):
            start = start or chunk[:100]
            sha256.update(chunk)
            blob.update(chunk)
    # Named before the hashes are compared, as their messages say more than "another hash".
    _refuse_substitutes(start, file.name)
    if file.size is not None and size != file.size:
        raise BundleError(
            f"{file.name}: {size} bytes came, the index says {file.size}; "
            "it was thrown away unopened; pull again later"
        )
    _check_hash(file.name, "sha256", sha256.hexdigest(), file.sha256)
    _check_hash(file.name, "git blob id", blob.hexdigest(), file.blob)


def _refuse_substitutes(start: bytes, name: str) -> None:
    """Raise BundleError where the first bytes of a file are those of an LFS pointer or a page."""
    if start.startswith(_LFS_POINTER):
        raise BundleError(
            f"{name}: a git LFS pointer came instead of the file; "
            "get the file itself elsewhere and name its folder with --from"
        )
    if start.lstrip().lower().startswith(_WEB_PAGE):
        raise BundleError(
            f"{name}: a web page came instead of the file, such as a network's page to log in; "
            "log in there and pull again, or get the file elsewhere and name its folder with --from"
        )


def _check_hash(name: str, kind: str, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise BundleError(
            f"{name}: not the file of the index: its {kind} is {digest[:12]}…, "
            f"the index says {expected[:12]}…; it was thrown away unopened; "
            "pull again, or from another place with --from"
        )


@contextmanager
def writing(
    where: Path, otherwise: str = "set MIEN_HOME to a folder that can be written to"
) -> Iterator[None]:
    """Turn an OSError of the disk into an OutputError in one line.

    Args:
        where: The path that the message names.
        otherwise: What to do if the path cannot be made writable.

    Yields:
        Nothing.

    Raises:
        OutputError: The body raised an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OutputError(
                f"{where}: the disk is full, or your quota of it; free some space and "
                "run it again; what was there before is untouched"
            ) from error
        problem = error.strerror or error
        raise OutputError(f"{where}: {problem}; make it writable, or {otherwise}") from error


def _write(
    chunks: Iterable[bytes],
    part: Path,
    start: int,
    file: File,
    *,
    origin: object,
    total: int,
    progress: Progress,
) -> int:
    """Append chunks to the first `start` bytes of `part` as they come.

    Returns the size of `part`; raises BundleError, which names `origin`, for more than the file
    can have.
    """
    with writing(part), part.open("ab" if start else "wb") as output:
        try:
            for chunk in chunks:
                output.write(chunk)
                # A server may send without end.
                if output.tell() > file.most:
                    break
                progress(file.name, output.tell(), total)
        finally:
            # Also when the connection breaks: the next try resumes behind these bytes.
            output.flush()
            os.fsync(output.fileno())
        size = output.tell()
    if size > file.most:
        _discard(part)
        raise BundleError(
            f"{origin}: more than the {file.most} bytes that {file.name} can have; "
            "it was thrown away unopened"
        )
    return size


def _copy(path: Path, part: Path, file: File, progress: Progress) -> None:
    try:
        status = path.stat()
        # Opening a pipe would wait for somebody to write into it.
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        source = path.open("rb")
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror}; --from needs a folder or an address that holds {file.name}"
        ) from error
    size = status.st_size
    if size > file.most:
        raise BundleError(
            f"{path}: {size} bytes, more than {file.name} can have ({file.most}); it was not read"
        )

    # An error of reading is the source's; `_write` takes an OSError for one of the target.
    def read() -> bytes:
        try:
            return source.read(_CHUNK)
        except OSError as error:
            raise BundleError(
                f"{path}: {error.strerror}; "
                f"copy {file.name} again, or name another place with --from"
            ) from error

    with source:
        _write(iter(read, b""), part, 0, file, origin=path, total=size, progress=progress)


def _download(
    file: File, address: str, part: Path, patience: RetryPolicy, progress: Progress
) -> None:
    """Download into `part`, trying again after each interruption as `patience` says."""
    failures = 0
    largest = _size(part)
    while True:
        try:
            with ask(address, _range_headers(part), patience) as answer:
                _receive(answer, file, part, address, progress)
            return
        except BrokenError as error:
            growth = _size(part) - largest
            # Compared with the most there ever was: starting over again and again is no progress.
            largest += max(growth, 0)
            if error.anew:
                _discard(part)
            failures = 1 if growth >= patience.least else failures + 1
            if failures >= patience.tries:
                raise _gave_up(address, error, failures, _size(part)) from error
            pause = patience.pause * 2 ** (failures - 1)
            # A server may ask for any wait; it is granted up to the timeout.
            time.sleep(max(pause, min(error.wait, patience.timeout)))


def _gave_up(address: str, error: BrokenError, failures: int, size: int) -> BundleError:
    next_step = "try again later"
    if size:
        next_step = f"the {size} bytes that came are kept, and pulling again resumes there"
    return BundleError(f"{address}: {error}, {failures} times in a row; {next_step}")


def _range_headers(part: Path) -> dict[str, str]:
    """Headers that ask for the rest of the file; empty where nothing of it is here."""
    headers: dict[str, str] = {}
    size = _size(part)
    if size:
        headers["Range"] = f"bytes={size}-"
        # With it, a server whose file has changed sends the whole new one.
        if _tag(part).is_file():
            headers["If-Range"] = _tag(part).read_text(encoding="utf-8")
    return headers


def _receive(answer: Any, file: File, part: Path, address: str, progress: Progress) -> None:
    """Write an answer to `part`, behind what is there where the server resumes.

    Raises BrokenError where it ends too early.
    """
    start = 0
    if answer.status == 206:  # partial content
        start = _size(part)
        content_range = str(answer.headers.get("Content-Range", ""))
        if not content_range.startswith(f"bytes {start}-"):
            raise BrokenError("the server resumes elsewhere than asked", anew=True)
    _refuse_compression(answer, address)
    whole = _whole_size(answer, start)
    most = file.size or file.most
    if whole is not None and whole > most:
        _discard(part)
        raise BundleError(
            f"{address}: {whole} bytes are offered, more than {file.name} can have ({most}); "
            "nothing was read"
        )
    _store_tag(part, answer.headers)
    # An empty answer announces 0 bytes, of which there is no share.
    total = whole or most
    size = _write(
        _chunks(answer), part, start, file, origin=address, total=total, progress=progress
    )
    if whole is not None and size < whole:
        raise BrokenError(f"cut off after {size} of {whole} bytes")


def _refuse_compression(answer: Any, address: str) -> None:
    """Raise BundleError for a compressed answer.

    It would be the hash of another file, and decompressing it could take any amount of memory.
    """
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _COMPRESSIONS:
        raise BundleError(
            f"{address}: it comes compressed (Content-Encoding: {encoding}), though it was asked "
            "for as it is; a proxy may do that; "
            "get the file elsewhere and name its folder with --from"
        )


def _whole_size(answer: Any, start: int) -> int | None:
    """Bytes of the whole file, as the answer says; None where it does not."""
    header = answer.headers.get("Content-Length")
    if header is None:
        return None
    length = number(header)
    if length is None:
        raise BrokenError("the server gives a length that is no number")
    return start + length


def _chunks(answer: Any) -> Iterator[bytes]:
    """Chunks as they come, so that a connection that breaks loses nothing."""
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise BrokenError(why(error)) from error
        if not chunk:
            return
        yield chunk


def _tag(part: Path) -> Path:
    """Where the server's name for the version of an unfinished download is kept."""
    return part.with_name(part.name + ".tag")


def _store_tag(part: Path, headers: Any) -> None:
    """Keep the name of the version beside an unfinished download."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    with writing(part):
        # If-Range takes no weak tag; without one, the hash decides whether the halves fit.
        if tag and not tag.startswith("W/"):
            _tag(part).write_text(tag, encoding="utf-8")
        else:
            _tag(part).unlink(missing_ok=True)


def _discard(part: Path) -> None:
    """Remove an unfinished download and the name of its version."""
    with writing(part):
        part.unlink(missing_ok=True)
        _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Size of a file in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
