"""Files that are complete or absent: written aside, flushed to the disk, then renamed into place.

All writing of results goes through here. A temporary file is hidden, and its name says which
process writes it, so that no two processes share one and the leftovers of a killed process can be
told from the files of a running one.
"""

import errno
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mien.errors import OutputError

__all__ = [
    "LOST_WORKER",
    "PART",
    "AtomicFile",
    "ErrorWrapper",
    "Transaction",
    "atomic_write",
    "flush",
    "has_ended",
    "move_into_place",
    "part_of",
    "process_token",
    "remove_leftovers",
    "rename_folder",
    "replace_folder",
    "wrap_os_errors",
]

LOST_WORKER: Final = (
    "a worker process ended by itself, perhaps for lack of memory; what is finished is kept; "
    'use fewer workers, and in a script call this under `if __name__ == "__main__":`'
)
"""The error message when a worker process that makes files has died."""

PART: Final = re.compile(r"\..*\.(?P<token>[0-9a-f]{8}-\d+-\d+)-\d+\.part", re.DOTALL)
"""Names of temporary files; the token is their process's."""

ErrorWrapper = Callable[[Path], AbstractContextManager[object]]
"""Turns an OSError raised inside into an error that names the path and the next step."""

# Bytes of a file's name that its temporary name repeats; 255 is what file systems take.
_LONGEST: Final = 160
# Further attempts to rename a folder: Windows refuses while another process reads in it.
_RENAME_RETRIES: Final = 20 if os.name == "nt" else 0
_RETRY_PAUSE_S: Final = 0.05
_numbers = count()
_cleaned: set[str] = set()

_CHOOSE = "choose a folder you may write to"
_STEPS: Final[dict[int | None, str]] = {
    errno.ENOSPC: "free some space there or choose another folder",
    errno.EDQUOT: "free some space there or choose another folder",
    errno.EFBIG: "choose a folder that takes files of this size",
    errno.EACCES: _CHOOSE,
    errno.EPERM: _CHOOSE,
    errno.EROFS: _CHOOSE,
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose another folder",
    errno.EEXIST: "move that file away or choose another folder",
    errno.EISDIR: "move that folder away or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def wrap_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside into an OutputError that says what, where, and the next step.

    Args:
        path: The file or folder that the message names.

    Yields:
        Nothing.

    Raises:
        OutputError: In place of the OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        step = _STEPS.get(error.errno, "check the folder and the disk")
        raise OutputError(f"{path}: cannot be written ({reason}); {step}") from error


@lru_cache(maxsize=1)
def _machine() -> str:
    """Identify this machine since its last start, and this container within it."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    # Each PID namespace counts processes on its own, so that a number alone says nothing.
    with suppress(OSError):
        facts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _process(pid: int) -> tuple[str, int] | None:
    """State letter and start time (clock ticks since boot) of a process; None where unknown."""
    try:
        # The second field, the command in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def process_token() -> str:
    """Identify this process among all others on any machine.

    Returns:
        Machine, process number and start time, joined by dashes.
    """
    process = _process(os.getpid())
    started = process[1] if process else 0
    return f"{_machine()}-{os.getpid()}-{started}"


def has_ended(token: str) -> bool:
    """Whether the process of a token has surely ended.

    Args:
        token: What `process_token` returned in that process.

    Returns:
        False also where this cannot be known: on Windows, and for processes of other machines.
    """
    machine, pid, started = token.split("-")
    if machine != _machine() or os.name == "nt":
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it runs as another user
        return False
    # The number may have been given to a newer process.
    process = _process(int(pid))
    if process is None:
        return False
    state, start = process
    return state in "ZX" or start != int(started)


def part_of(path: Path) -> Path:
    """A new temporary name for a file.

    Args:
        path: The file's final path.

    Returns:
        A hidden path in the same folder that no other process uses.
    """
    name = path.name.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{process_token()}-{next(_numbers)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended.

    Args:
        folder: Where to look; folders inside it are left alone.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = PART.fullmatch(entry.name)
            if match and has_ended(match["token"]):
                with suppress(OSError):
                    os.unlink(entry.path)


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, so that they survive a power cut.

    Args:
        path: The file or folder. On Windows, which opens no folders, a folder is passed over.

    Raises:
        OSError: Where the disk refuses.
    """
    is_folder = path.is_dir()
    if is_folder and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network drives cannot flush a folder.
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


class AtomicFile:
    """An output file under a temporary name in its final folder.

    As a context manager it gives the temporary path; it flushes and renames the file at the end of
    the block, and removes it after an exception. What a killed process leaves behind is removed by
    the next one that writes to the folder. `keep` and `place` are the two halves of the renaming,
    for files that must appear together (`Transaction`).

    Attributes:
        path: The file's final path.
        part: Its temporary path.
    """

    def __init__(self, path: Path, errors: ErrorWrapper = wrap_os_errors) -> None:
        """Choose the temporary name; nothing is written yet.

        Args:
            path: The file's final path.
            errors: How an OSError becomes an error with the advice that fits this file.
        """
        self.path = path
        self.part = part_of(path)
        self._errors = errors

    def __enter__(self) -> Path:
        self.begin()
        return self.part

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.keep()
                self.place()
        finally:
            self.drop()

    def begin(self) -> None:
        """Make an empty temporary file, to learn early whether the folder can be written to.

        Raises:
            OutputError: Where it cannot.
        """
        folder = os.path.abspath(self.path.parent)
        # Once for each folder: one with very many files would be listed very often.
        if folder not in _cleaned:
            remove_leftovers(Path(folder))
            _cleaned.add(folder)
        with self._errors(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self.part.open("xb").close()

    def keep(self) -> None:
        """Wait until what was written is on the disk.

        Raises:
            OutputError: Where the disk refuses.
        """
        with self._errors(self.path):
            flush(self.part)

    def place(self) -> None:
        """Give the file its final name, in place of an older one.

        Raises:
            OutputError: Where the folder refuses.
        """
        with self._errors(self.path):
            os.replace(self.part, self.path)

    def drop(self) -> None:
        """Remove the temporary file; nothing happens once it is in place."""
        with suppress(OSError):
            self.part.unlink(missing_ok=True)


class Transaction:
    """Files that appear together or not at all, the one that was added last after all others.

    As a context manager it removes whatever `commit` did not put in place.
    """

    def __init__(self) -> None:
        self._files: list[AtomicFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()

    def drop(self) -> None:
        """Remove what is not in place."""
        for file in self._files:
            file.drop()

    @property
    def paths(self) -> list[Path]:
        """The final paths of the files."""
        return [file.path for file in self._files]

    def add(self, path: Path) -> AtomicFile:
        """Begin a further file under its temporary name.

        Args:
            path: Its final path.

        Returns:
            The file, to be written at its `part`.

        Raises:
            OutputError: Where the folder cannot be written to.
        """
        file = AtomicFile(path)
        file.begin()
        self._files.append(file)
        return file

    def write(self, path: Path, data: bytes) -> None:
        """Add a small file with all of its content.

        Args:
            path: Its final path.
            data: Its content.

        Raises:
            OutputError: Where it cannot be written.
        """
        file = self.add(path)
        with wrap_os_errors(path):
            file.part.write_bytes(data)

    def leave_out(self, file: AtomicFile) -> None:
        """Take back a file that was added.

        Args:
            file: What `add` returned.
        """
        file.drop()
        self._files.remove(file)

    def commit(self, obsolete: Iterable[Path] = ()) -> None:
        """Flush all files to the disk, then put them in place of older ones.

        Args:
            obsolete: Older files that are removed with the ones that are replaced.

        Raises:
            OutputError: Where that fails in the middle; what was there before is there again.
        """
        for file in self._files:
            file.keep()
        moved: list[tuple[Path, Path]] = []
        placed: list[Path] = []
        try:
            # The last one vouches for the others: it goes first and comes last.
            for path in [*reversed(self.paths), *obsolete]:
                if os.path.lexists(path):
                    older = part_of(path)
                    with wrap_os_errors(path):
                        os.rename(path, older)
                    moved.append((path, older))
            for file in self._files:
                file.place()
                placed.append(file.path)
        except BaseException:
            _roll_back(placed, moved)
            raise
        for _, older in moved:
            with suppress(OSError):
                older.unlink()
        # The files are whole already; where a folder cannot be flushed, they only appear later.
        for folder in {path.parent for path in placed}:
            with suppress(OSError):
                flush(folder)


def _roll_back(placed: Iterable[Path], moved: list[tuple[Path, Path]]) -> None:
    """Remove new files, and give older ones their names back."""
    for path in placed:
        with suppress(OSError):
            path.unlink()
    for path, older in reversed(moved):
        with suppress(OSError):
            os.rename(older, path)


def atomic_write(path: Path, data: bytes, errors: ErrorWrapper = wrap_os_errors) -> None:
    """Write a small file in one go, complete or not at all.

    Args:
        path: The file.
        data: Its content.
        errors: How an OSError becomes an error with the advice that fits this file.

    Raises:
        OutputError: Where it cannot be written.
    """
    with AtomicFile(path, errors) as part, errors(path):
        part.write_bytes(data)


def move_into_place(source: Path, path: Path) -> None:
    """Give a finished file on the same disk its final name, flushed before and after.

    Args:
        source: The file as it is now.
        path: Its final path; an older file there is replaced.

    Raises:
        OSError: Where the disk refuses; the caller says what that means.
    """
    flush(source)
    os.replace(source, path)
    flush(path.parent)


@contextmanager
def replace_folder(folder: Path, errors: ErrorWrapper = wrap_os_errors) -> Iterator[Path]:
    """Write a folder aside and put it in place of an older one at the end of the block.

    Only one process at a time may replace a folder. After an exception, and after a power cut
    between the two renamings, the older folder is kept.

    Args:
        folder: The folder's final path; parents are made as needed.
        errors: How an OSError becomes an error with the advice that fits this folder.

    Yields:
        An empty folder beside it, to be filled.

    Raises:
        OutputError: Where the disk refuses.
    """
    new = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    try:
        with errors(folder):
            _restore_folder(folder, old)
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
        yield new
        with errors(folder):
            for path in (*new.rglob("*"), new):
                flush(path)
            if folder.exists():
                rename_folder(folder, old)
            try:
                rename_folder(new, folder)
                flush(folder.parent)
            finally:
                _restore_folder(folder, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def rename_folder(source: Path, path: Path) -> None:
    """Rename a folder, with patience for processes that read in it on Windows.

    Args:
        source: The folder as it is now.
        path: Its new path.

    Raises:
        OSError: Where the system refuses to the end.
    """
    for _ in range(_RENAME_RETRIES):
        with suppress(PermissionError):
            source.rename(path)
            return
        time.sleep(_RETRY_PAUSE_S)
    source.rename(path)


def _restore_folder(folder: Path, old: Path) -> None:
    """Give the older folder its name back where nothing took its place; otherwise remove it."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
