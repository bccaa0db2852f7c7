"""A folder of results at an address, such as a bucket.

Results are made in a temporary folder by the same code as on disk, and put up when they are whole,
the data dictionary last: a table without one counts as not done. Dictionaries are brought to the
temporary folder before they are looked at, tables only where their rows are used again.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import override

from mien.batch.stores.remote_claims import RemoteClaim, remote_claims, take_over_stale
from mien.batch.stores.store import Store
from mien.errors import MissingExtraError, OutputError
from mien.files import has_ended, process_token, wrap_os_errors
from mien.outputs.claims import ClaimState
from mien.outputs.recorded import Recorded
from mien.outputs.tables import table_path
from mien.remote.address import has_lost_slash, is_address
from mien.remote.folder import RemoteFolder

__all__ = ["RemoteStore", "open_store"]

_PREFIX: Final = "mien-out-"
_OURS: Final = re.compile(rf"{_PREFIX}(?P<token>[0-9a-f]{{8}}-\d+-\d+)-.*")
# Dictionaries that are brought at once.
_AT_ONCE: Final = 16


def open_store(out: str | Path) -> Store:
    """Open the folder of a run's results; nothing is written yet.

    Args:
        out: Its path, or an address that fsspec opens.

    Returns:
        The folder, to be used in a ``with`` block.

    Raises:
        OutputError: The address cannot be opened.
        MissingExtraError: It takes fsspec, which is not installed.
    """
    if has_lost_slash(str(out)):
        raise OutputError(f"{out}: a Path takes a slash from an address; give it as text")
    if not is_address(str(out)):
        return Store(Path(out))
    try:
        import fsspec  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("remote", f"writing to {out}") from error
    return RemoteStore(str(out))


class RemoteStore(Store):
    """An output folder at an address; see `Store`."""

    is_elsewhere = True

    def __init__(self, address: str) -> None:
        """Open the folder and a temporary one.

        Args:
            address: The address.

        Raises:
            OutputError: It cannot be opened, or this computer has no room.
        """
        self._remote = RemoteFolder(address)
        base = Path(tempfile.gettempdir())
        _remove_leftovers(base)
        with wrap_os_errors(base):
            self._temporary = tempfile.TemporaryDirectory(
                prefix=f"{_PREFIX}{process_token()}-", ignore_cleanup_errors=True
            )
        super().__init__(Path(self._temporary.name).resolve())
        self.address = self._remote.address
        # What the listing at the beginning said; each is used once.
        self._known: set[str] = set()
        self._sizes: dict[str, int | None] = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the temporary folder."""
        self._temporary.cleanup()

    @override
    def begin(self) -> None:
        """Bring all dictionaries, by which names are known; see `Store.begin`."""
        self._remote.check_claims()
        files = self._remote.list()
        take_over_stale(self._remote, files, self.folder)
        names = [name for name in files if name.endswith(".dictionary.json")]
        # An object's name may lead anywhere.
        names = [name for name in names if ".." not in name.split("/")]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: self._remote.get(name, self.folder / name), names))
        self._known = {name.removesuffix(".dictionary.json") for name in names}
        self._sizes = {name: file.size for name, file in files.items()}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    @override
    def named(self, text: str) -> str:
        """Say a message with the address; see `Store.named`."""
        return text.replace(str(self.folder), self.address)

    @override
    def result(self, path: Path) -> str:
        """The address of a result; see `Store.result`."""
        return self._remote.at(self._name(path))

    @override
    def key(self, path: Path) -> str:
        """The address of a result; see `Store.key`."""
        return self._remote.at(self._name(path))

    @override
    def claim(self, name: str, source: str, shown: str = "") -> RemoteClaim:
        """A claim at the address; see `Store.claim`."""
        return RemoteClaim(self._remote, name, self.folder, source, self.named(shown))

    @override
    def look(self, name: str) -> None:
        """Bring a dictionary; see `Store.look`."""
        if name in self._known:
            self._known.discard(name)
            return
        path = self.folder / f"{name}.dictionary.json"
        data = self._remote.read(f"{name}.dictionary.json")
        with wrap_os_errors(path):
            if data is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    @override
    def exists(self, path: Path) -> bool:
        """Whether a result is at the address; see `Store.exists`."""
        return self._remote.look(self._name(path)) is not None

    @override
    def is_whole(self, record: Recorded, stem: Path, formats: Iterable[str]) -> bool:
        """Whether all files are there in their recorded size; see `Store.is_whole`.

        Stores keep what was put up whole, so nothing is fetched to be hashed.
        """
        tables = record.page.get("tables")
        names = {table_path(stem, name).name for name in formats}
        if not isinstance(tables, dict) or set(tables) != names:
            return False
        for name, facts in tables.items():
            size = facts.get("bytes") if isinstance(facts, dict) else None
            if size is None or self._size(stem.with_name(name)) != size:
                return False
        files = record.files_within(stem.parent, stem.name)
        return all(self._size(path) is not None for path in files if path.name not in tables)

    def _size(self, path: Path) -> int | None:
        name = self._name(path)
        if name in self._sizes:
            return self._sizes.pop(name)
        file = self._remote.look(name)
        return None if file is None else file.size

    @override
    def bring(self, paths: Iterable[Path]) -> None:
        """Fetch earlier results; see `Store.bring`."""
        for path in paths:
            self._remote.get(self._name(path), path)

    @override
    def publish(self, files: Sequence[Path], obsolete: Iterable[Path]) -> None:
        """Put new results up; see `Store.publish`."""
        for path in files:
            self._remote.put(path, self._name(path))
            self._sizes.pop(self._name(path), None)
        for path in obsolete:
            self._remote.remove(self._name(path))
        # The dictionary stays, by which names are known.
        for path in files[:-1]:
            path.unlink(missing_ok=True)

    @override
    def read(self, name: str) -> bytes | None:
        """Read a small file at the address; see `Store.read`."""
        return self._remote.read(name)

    @override
    def write(self, name: str, data: bytes) -> None:
        """Write a small file at the address; see `Store.write`."""
        self._remote.write(name, data)

    @override
    def claims(self) -> Mapping[str, ClaimState]:
        """Look at the claims at the address; see `Store.claims`."""
        return remote_claims(self._remote, self._remote.list())

    @override
    def sweep(self, folders: Iterable[Path]) -> None:
        """Let go of claims that count no longer; see `Store.sweep`."""
        take_over_stale(self._remote, self._remote.list(), self.folder)


def _remove_leftovers(base: Path) -> None:
    """Remove the temporary folders of processes of this machine that were killed."""
    for path in base.glob(f"{_PREFIX}*"):
        match = _OURS.fullmatch(path.name)
        if match and has_ended(match["token"]):
            shutil.rmtree(path, ignore_errors=True)
