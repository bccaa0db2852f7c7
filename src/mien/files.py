"""Files that are complete or absent: written aside, flushed to the disk, then renamed into place.

A temporary file is hidden, and its name says which process writes it, so that no two processes share one and what a
killed process left can be told from what a living one is writing.
"""

import errno
import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
    "Transaction",
    "atomic_write",
    "has_ended",
    "part_of",
    "process_token",
    "remove_leftovers",
    "wrap_os_errors",
]  # fmt: skip

LOST_WORKER: Final = (
    "a worker process ended by itself, perhaps for want of memory; what is finished is kept; use fewer workers, and in a "
    'script call this under `if __name__ == "__main__":`'
)
"""What to say where a process that makes files is gone."""

PART: Final = re.compile(r"\..*\.(?P<token>[0-9a-f]{8}-\d+-\d+)-\d+\.part", re.DOTALL)
"""Names of temporary files; the token is their process's."""

_LONGEST: Final = (
    160  # bytes of a file's name that its temporary name repeats; 255 is what file systems take
)
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
    """Turn an OSError inside into an OutputError that says what, where, and the next step."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error).partition("\n")[0]
        raise OutputError(
            f"{path}: cannot be written ({why}); {_STEPS.get(error.errno, 'check the folder and the disk')}"
        ) from error


@lru_cache(maxsize=1)
def _machine() -> str:
    """This machine since it was started, and this container where process numbers have a meaning of their own."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        facts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _process(pid: int) -> tuple[str, int] | None:
    """State letter and start (in ticks since the machine was) of a process; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def process_token() -> str:
    """What tells this process from all others, on any machine: machine, process number and start, with dashes."""
    process = _process(os.getpid())
    return f"{_machine()}-{os.getpid()}-{process[1] if process else 0}"


def has_ended(token: str) -> bool:
    """Whether the process of a token has surely ended; False where that cannot be seen from here.

    On Windows, and for processes of other machines, it cannot.
    """
    machine, pid, started = token.split("-")
    if machine != _machine() or os.name == "nt":
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        return False
    process = _process(int(pid))
    return process is not None and (process[0] in "ZX" or process[1] != int(started))


def part_of(path: Path) -> Path:
    """A new temporary name for a file, in the same folder."""
    name = path.name.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{process_token()}-{next(_numbers)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = PART.fullmatch(entry.name)
            if match and has_ended(match["token"]):
                with suppress(OSError):
                    os.unlink(entry.path)


class AtomicFile:
    """An output file under a temporary name in its final folder.

    As a context manager it gives the temporary path, renames the file when left in peace and removes it otherwise; what a
    killed process leaves is removed by the next one that writes to the folder. `keep` and `place` are the two halves of
    the renaming, for files that must appear together (`Transaction`). `begin`, `keep` and `place` raise OutputError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_of(path)

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
        """Make an empty temporary file, to learn early whether the folder can be written to."""
        folder = os.path.abspath(self.path.parent)
        if folder not in _cleaned:  # once: a folder may hold very many files
            remove_leftovers(Path(folder))
            _cleaned.add(folder)
        with wrap_os_errors(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self.part.open("xb").close()

    def keep(self) -> None:
        """Wait until what was written is on the disk."""
        with wrap_os_errors(self.path), self.part.open("rb+") as file:
            os.fsync(file.fileno())

    def place(self) -> None:
        """Give the file its final name, in place of an older one."""
        with wrap_os_errors(self.path):
            os.replace(self.part, self.path)

    def drop(self) -> None:
        """Remove the temporary file; nothing happens once it is in place."""
        with suppress(OSError):
            self.part.unlink(missing_ok=True)


class Transaction:
    """Files that appear together or not at all, the one that was added last after all others.

    As a context manager it removes whatever `commit` did not put in place. All methods raise OutputError.
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
        """Where the files will lie."""
        return [file.path for file in self._files]

    def add(self, path: Path) -> AtomicFile:
        """A further file, begun under its temporary name."""
        file = AtomicFile(path)
        file.begin()
        self._files.append(file)
        return file

    def write(self, path: Path, data: bytes) -> None:
        """A further, small file with all that is in it."""
        file = self.add(path)
        with wrap_os_errors(path):
            file.part.write_bytes(data)

    def leave_out(self, file: AtomicFile) -> None:
        """Take back a file that was added."""
        file.drop()
        self._files.remove(file)

    def commit(self, obsolete: Iterable[Path] = ()) -> None:
        """Bring all files to the disk, then put them in place of older ones; `obsolete` files go.

        Where that fails in the middle, what was there before is there again.
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
            for path in placed:
                with suppress(OSError):
                    path.unlink()
            for path, older in reversed(moved):
                with suppress(OSError):
                    os.rename(older, path)
            raise
        for _, older in moved:
            with suppress(OSError):
                older.unlink()
        for folder in {path.parent for path in placed}:
            _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a small file in one go, complete or not at all; raises OutputError."""
    with AtomicFile(path) as part, wrap_os_errors(path):
        part.write_bytes(data)
