"""Claims at an address, for machines that share nothing but an object store or a server.

The store makes a file at most once under one name, and its clock says how old a claim is. Taking
over a claim that counts no longer is not exclusive there: whoever writes last has it, and the other
learns of it by `Claim.check` before it puts anything up.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from mien.errors import OutputError
from mien.files import has_ended
from mien.outputs.claims import (
    STALE_S,
    SUFFIX,
    Claim,
    ClaimState,
    Holder,
    holder_bytes,
    parsed_holder,
)
from mien.remote.folder import RemoteFolder

__all__ = ["RemoteClaim", "remote_claims", "take_over_stale"]


class RemoteClaim(Claim):
    """The right to write the tables of one name at an address; see `Claim`."""

    def __init__(
        self, folder: RemoteFolder, name: str, local: Path, source: str, shown: str = ""
    ) -> None:
        """Prepare a claim; nothing is written yet.

        Args:
            folder: The output folder.
            name: The name of the tables, without suffix.
            local: The folder on this disk in which results are made before they are put up.
            source: Absolute path or address of what is read, for others to see.
            shown: What messages call it; the address where nothing is given.
        """
        super().__init__(local / name, source, shown or folder.at(name))
        self._folder = folder
        self._table = name
        self._parent = name.rpartition("/")[0]
        self._name = self._beside(self._path.name)
        self._announced = False

    def _beside(self, name: str) -> str:
        return f"{self._parent}/{name}" if self._parent else name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        try:
            # Who has taken it over meanwhile may have put the same files up.
            if kind is not None and self._announced and self._now() == self._content:
                self._finish_for(parsed_holder(self._content))
        except OutputError:
            # The claim stays and becomes stale: who takes it over finds in it what to remove.
            return
        self._let_go()

    def announce(self, files: Iterable[Path]) -> None:
        """Note which files are being put up; see `Claim.announce`.

        Args:
            files: Their paths on this disk.

        Raises:
            ClaimedError: Where the claim was taken over.
            OutputError: Where it cannot be written.
        """
        super().announce(files)
        self._announced = True

    def _let_go(self) -> None:
        with suppress(OutputError):
            if self._content and self._folder.read(self._name) == self._content:
                self._folder.remove(self._name)

    def _now(self) -> bytes:
        return self._folder.read(self._name) or b""

    def _take(self) -> bool:
        old = self._folder.read(self._name)
        before = parsed_holder(old or b"")
        if old is not None and not _is_stale(self._folder, self._name, old):
            raise self._held(old)
        content = holder_bytes(replace(self._mine, files=before.files if before else ()))
        if old is None:
            if not self._folder.create(self._name, content):
                return False
        elif self._folder.read(self._name) == old:
            self._folder.write(self._name, content)
        else:
            return False
        self._content = content
        return True

    def _write(self, holder: Holder) -> None:
        content = holder_bytes(holder)
        if content != self._content:
            self._folder.write(self._name, content)
            self._content = content

    def _finish_for(self, holder: Holder | None) -> None:
        if holder is None or not holder.files:
            return
        if self._folder.look(f"{self._table}.dictionary.json") is None:
            for path in self._own_files(holder):
                self._folder.remove(self._beside(Path(path).as_posix()))

    def _show_life(self) -> None:
        with suppress(OutputError):
            if self._now() == self._content:
                self._folder.write(self._name, self._content)


def _is_stale(folder: RemoteFolder, name: str, content: bytes) -> bool:
    holder = parsed_holder(content)
    if holder is not None and has_ended(holder.token):
        return True
    age_s = folder.age_s(name)
    return age_s is not None and age_s > STALE_S


def remote_claims(folder: RemoteFolder, names: Iterable[str]) -> dict[str, ClaimState]:
    """Look at the claims at an address; see `mien.outputs.claims.claims_in`.

    Args:
        folder: The output folder.
        names: The names of its files.

    Returns:
        The claims by the key of the name that is claimed.

    Raises:
        OutputError: The store does not answer.
    """
    states: dict[str, ClaimState] = {}
    for name in names:
        if not _is_claim(name) or "/" in name:
            continue
        content = folder.read(name)
        if content is not None:
            holder = parsed_holder(content)
            shown = str(holder) if holder else "another process"
            is_stale = _is_stale(folder, name, content)
            states[name[1 : -len(SUFFIX)]] = ClaimState(shown, is_stale)
    return states


def take_over_stale(folder: RemoteFolder, names: Iterable[str], local: Path) -> None:
    """Remove what killed processes left at an address; nothing of one that may be alive.

    Args:
        folder: The output folder.
        names: The names of its files.
        local: The folder on this disk in which results are made.
    """
    for name in filter(_is_claim, names):
        with suppress(OutputError):
            content = folder.read(name)
            holder = parsed_holder(content or b"")
            if holder is None or not _is_stale(folder, name, content or b""):
                continue
            parent, _, claim = name.rpartition("/")
            stem = _stem_in(holder) or claim[1 : -len(SUFFIX)]
            table = f"{parent}/{stem}" if parent else stem
            # Whoever enters finishes what the one before had begun, and leaves nothing.
            with RemoteClaim(folder, table, local, holder.source):
                pass


def _stem_in(holder: Holder) -> str | None:
    """The name of the table that was being put in place, with its case."""
    ending = ".dictionary.json"
    for name in holder.files:
        if name.endswith(ending) and "/" not in name and "\\" not in name:
            return name.removesuffix(ending)
    return None


def _is_claim(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.startswith(".") and base.endswith(SUFFIX)
