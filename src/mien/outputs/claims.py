"""Who writes a table: one process at a time, also where several machines share a folder.

A claim is a small hidden file beside the table that says who writes what since when. It is made by
a hard link, which every file system that can be shared makes at most once under one name. Its owner
writes it again every few seconds. A claim that has not been written for `STALE_S` seconds, by the
file system's own clock, or whose process has ended on this machine, is taken over.
"""

import json
import os
import socket
import threading
import time
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from mien.errors import OutputError
from mien.files import PART, atomic_write, has_ended, part_of, process_token, wrap_os_errors

__all__ = [
    "STALE_S",
    "SUFFIX",
    "Claim",
    "ClaimState",
    "ClaimedError",
    "Holder",
    "claims_in",
    "holder_bytes",
    "parsed_holder",
    "sweep",
]

STALE_S: Final = 120.0
"""Seconds without a sign of life after which a claim counts no longer."""
BEAT_S: Final = 10.0
"""Seconds between signs of life."""
_TRIES: Final = 20
SUFFIX: Final = ".claim"
"""What the name of a claim ends with; it begins with a dot."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes a table.

    Attributes:
        token: The process, as `process_token` says it.
        host: Name of its machine.
        since: When it began, with the machine's offset from UTC.
        source: Absolute path of what it reads.
        files: Files it is putting in place, as paths from the claim's folder.
        claim: What tells two claims of one process apart.
    """

    token: str
    host: str
    since: str
    source: str
    files: tuple[str, ...] = ()
    claim: str = ""

    def __str__(self) -> str:
        return f"{self.host}, process {self.token.split('-')[1]}, since {self.since}"


class ClaimedError(OutputError):
    """Another process writes the table, or has taken it over.

    Attributes:
        holder: That process; None where the claim does not say.
    """

    def __init__(self, message: str, holder: Holder | None) -> None:
        """Keep the holder beside the message.

        Args:
            message: What is wrong, where, and the next step.
            holder: The other process; None where the claim does not say.
        """
        super().__init__(message)
        self.holder = holder


class Claim:
    """The right to write the tables of one name, held while the ``with`` block runs.

    Entering the block raises ClaimedError when another process holds it, and OutputError when the
    folder cannot be written to.
    """

    def __init__(self, stem: Path, source: str, shown: str = "") -> None:
        """Prepare a claim; nothing is written yet.

        Args:
            stem: Path of the tables, without suffix. Names that differ in case or in Unicode form
                alone are the same.
            source: Absolute path of what is read, for others to see.
            shown: What messages call it; the stem where nothing is given.
        """
        # Some file systems take names that differ in case or Unicode form for one name.
        key = unicodedata.normalize("NFC", stem.name).casefold()
        self._stem, self._shown = stem, shown or str(stem)
        self._path = stem.with_name(f".{key}{SUFFIX}")
        since = time.strftime("%Y-%m-%d %H:%M:%S%z")
        self._mine = Holder(
            process_token(), socket.gethostname(), since, source, claim=uuid4().hex[:8]
        )
        self._content = b""
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        for _ in range(_TRIES):
            try:
                if self._take():
                    self._finish_for(parsed_holder(self._content))
                    self._write(self._mine)
                    threading.Thread(target=self._beat, name="mien-claim", daemon=True).start()
                    return self
            except ClaimedError:
                raise
            except BaseException:
                # Such as a full disk, or Ctrl-C: a claim that was not entered is not left either.
                self._let_go()
                raise
        raise ClaimedError(
            f"{self._shown}: several runs want to write this table at once; run this again", None
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._let_go()

    def _let_go(self) -> None:
        with suppress(OSError):
            if self._path.read_bytes() == self._content:
                self._path.unlink()

    def _now(self) -> bytes:
        """What the claim says at this moment; empty where it is gone."""
        with wrap_os_errors(self._path):
            return self._path.read_bytes() if self._path.exists() else b""

    def check(self) -> None:
        """Check that the claim still holds.

        Raises:
            ClaimedError: Where it was taken over, as after this process slept for minutes.
            OutputError: Where it cannot be read.
        """
        content = self._now()
        if content != self._content:
            holder = parsed_holder(content)
            raise ClaimedError(
                f"{self._shown}: taken over meanwhile ({holder or 'nobody says by whom'}); "
                "left to it",
                holder,
            )

    def announce(self, files: Iterable[Path]) -> None:
        """Note which files are being put in place.

        Should this process be killed meanwhile, the next one can remove them.

        Args:
            files: Their final paths.

        Raises:
            ClaimedError: Where the claim was taken over.
            OutputError: Where it cannot be written.
        """
        self.check()
        names = tuple(os.path.relpath(path, self._path.parent) for path in files)
        self._write(replace(self._mine, files=names))

    def _take(self) -> bool:
        """Try once to make the claim, out of the way of one that counts no longer."""
        new = part_of(self._path)
        with wrap_os_errors(self._stem):
            try:
                old = _read(self._path)
                if old is not None and not _is_stale(self._path, old):
                    raise self._held(old)
                before = parsed_holder(old or b"")
                files = before.files if before else ()
                self._content = holder_bytes(replace(self._mine, files=files))
                new.write_bytes(self._content)
                if old is not None and not _moved_away(self._path, old):
                    return False
                return _link(new, self._path)
            finally:
                new.unlink(missing_ok=True)

    def _held(self, content: bytes) -> ClaimedError:
        """The error for a claim that another process holds."""
        holder = parsed_holder(content)
        return ClaimedError(
            f"{self._shown}: being written by {holder or 'another process'}", holder
        )

    def _write(self, holder: Holder) -> None:
        content = holder_bytes(holder)
        atomic_write(self._path, content)
        # Not before: where writing fails, the file still holds the old content.
        self._content = content

    def _finish_for(self, holder: Holder | None) -> None:
        """Remove what a killed process had put in place before its dictionary."""
        page = self._stem.with_name(f"{self._stem.name}.dictionary.json")
        if holder is None or os.path.lexists(page):
            return
        for path in self._own_files(holder):
            with suppress(OSError):
                (self._path.parent / path).unlink()

    def _own_files(self, holder: Holder) -> list[str]:
        """The files it was putting in place, as far as they can be those of this table."""
        allowed = (f"{self._stem.name}.", f"{self._stem.name}{os.sep}")
        return [path for path in map(os.path.normpath, holder.files) if path.startswith(allowed)]

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._show_life()

    def _show_life(self) -> None:
        with suppress(OSError), self._path.open("r+b") as file:
            if file.read() == self._content:
                file.seek(0)
                # The same content: what counts is the time of the change.
                file.write(self._content)


@dataclass(frozen=True, slots=True)
class ClaimState:
    """A claim as others see it.

    Attributes:
        holder: Who holds it, in words.
        is_stale: Whether it counts no longer.
    """

    holder: str
    is_stale: bool


def claims_in(folder: Path) -> dict[str, ClaimState]:
    """Look at the claims in a folder; nothing is changed.

    Args:
        folder: The folder.

    Returns:
        The claims by the key of the name that is claimed.
    """
    states: dict[str, ClaimState] = {}
    for path in folder.glob(f".*{SUFFIX}"):
        content = _read(path)
        if content is not None:
            holder = parsed_holder(content)
            shown = str(holder) if holder else "another process"
            states[path.name[1 : -len(SUFFIX)]] = ClaimState(shown, _is_stale(path, content))
    return states


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder.

    That is claims, the files they were putting in place, and temporary files. Nothing of a process
    that may be alive is touched.

    Args:
        folder: The folder.
    """
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]
        alive: set[str] = set()
        for name in names:
            path = folder / name
            if not name.endswith(SUFFIX) or (content := _read(path)) is None:
                continue
            if holder := parsed_holder(content):
                if _is_stale(path, content):
                    _finish_stale(path, holder)
                else:
                    alive.add(holder.token)
        for name in names:
            part = PART.fullmatch(name)
            if part and (
                has_ended(part["token"]) or (part["token"] not in alive and _is_old(folder / name))
            ):
                (folder / name).unlink(missing_ok=True)


def _finish_stale(path: Path, holder: Holder) -> None:
    """Take over a claim that counts no longer, and let go of it."""
    stem = next(
        (
            name[: -len(".dictionary.json")]
            for name in holder.files
            if name.endswith(".dictionary.json")
        ),
        None,
    )
    name = stem if stem and os.sep not in stem else path.name[1 : -len(SUFFIX)]
    with suppress(OutputError), Claim(path.with_name(name), holder.source):
        pass


def holder_bytes(holder: Holder) -> bytes:
    """The content of a claim.

    Args:
        holder: Who holds it.

    Returns:
        JSON, UTF-8.
    """
    return json.dumps({name: getattr(holder, name) for name in Holder.__slots__}).encode()


def parsed_holder(content: bytes) -> Holder | None:
    """Read a claim.

    Args:
        content: What its file holds.

    Returns:
        Who holds it; None where it does not say.
    """
    try:
        facts = json.loads(content)
        texts = {name: facts[name] for name in ("token", "host", "since", "source")}
        files = facts["files"]
        # Earlier versions did not write it.
        texts["claim"] = facts.get("claim", "")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    good = (
        all(isinstance(text, str) for text in [*texts.values(), *files])
        if isinstance(files, list)
        else False
    )
    return (
        Holder(**texts, files=tuple(files))
        if good and PART.fullmatch(f"..{texts['token']}-0.part")
        else None
    )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_stale(path: Path, content: bytes) -> bool:
    holder = parsed_holder(content)
    return (holder is not None and has_ended(holder.token)) or _is_old(path)


def _is_old(path: Path) -> bool:
    """Whether a file was last written longer than `STALE_S` ago."""
    # A new file gives the time by the file system's clock, which this machine's may not agree with.
    probe = part_of(path)
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_S
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _moved_away(path: Path, judged: bytes) -> bool:
    """Take away a claim that counts no longer; False where another process was quicker."""
    away = part_of(path)
    try:
        os.rename(path, away)
    except FileNotFoundError:
        return False
    try:
        if away.read_bytes() == judged:
            return True
        _link(away, path)  # a fresh one had taken its place: give it back
        return False
    finally:
        away.unlink(missing_ok=True)


def _link(new: Path, path: Path) -> bool:
    """Give a file a second name unless that is taken."""
    try:
        os.link(new, path)
    except FileExistsError:
        return os.path.samefile(
            new, path
        )  # made after all, where a server's answer was lost and the call sent again
    except OSError:  # a file system without hard links, such as exFAT
        try:
            with path.open("xb") as file:
                file.write(new.read_bytes())
        except FileExistsError:
            return False
    return True
