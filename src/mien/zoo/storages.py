"""The numbers in torch's .pt files: storages, flat and typed, in a zip archive or, before torch 1.6, one after the other."""

import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError

__all__ = ["Archive", "Plain", "Storages", "open_archive"]

Array = NDArray[Any]

_PROGRAM: Final = 64 * 2**20  # bytes of pickle that are read at most; the largest of the zoo has 0.2 million
_KINDS: Final = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "|i1",
        "Byte": "|u1", "Bool": "|u1",
    }.items()
}  # fmt: skip


class Storages(Protocol):
    """Where the numbers of a file are."""

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """The storage (count,) of that key. kind: ``torch.FloatStorage`` and the like; view: set in old files, for a part of one."""


def _dtype(path: str, kind: str, key: Any, count: Any, view: Any) -> np.dtype[Any]:
    if kind not in _KINDS:
        raise BundleError(f"{path}: holds numbers of a kind that mien does not read ({kind:.80}); save the network in float32")
    if type(key) is not str or not re.fullmatch(r"\w{1,40}", key, re.ASCII) or type(count) is not int or not 0 <= count < 2**40:
        raise ValueError("a storage without a proper key or length")
    if view is not None:
        raise BundleError(f"{path}: holds a storage that is part of another, as torch before 0.4 wrote them; save it again with torch")
    return np.dtype(_KINDS[kind])


def _numbers(kind: str, raw: Array) -> Array:
    """Bits as numbers of numpy's; those of bfloat16 are the upper half of a float32's."""
    if kind == "torch.BFloat16Storage":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw != 0 if kind == "torch.BoolStorage" else raw


class Archive:
    """A zip archive as torch.save writes it: nothing compressed, ``data.pkl`` and one entry for each storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self._path = str(path)
        self._archive = archive
        self._root = root
        self._read: dict[tuple[str, str], Array] = {}
        self.program = BytesIO(archive.read(f"{root}data.pkl"))

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """See `Storages`."""
        dtype = _dtype(self._path, kind, key, count, view)
        if (kind, key) not in self._read:
            name = f"{self._root}data/{key}"
            if (size := self._archive.getinfo(name).file_size) != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {size} bytes, not {count} x {dtype.itemsize}")
            self._read[kind, key] = _numbers(kind, np.frombuffer(self._archive.read(name), dtype))
        found = self._read[kind, key]
        if len(found) != count:
            raise ValueError(f"storage {key} has {len(found)} numbers, not {count}")
        return found


@contextmanager
def open_archive(path: Path, size: int) -> Iterator[Archive]:
    """A zip archive of torch.save, of `size` bytes, whose entries cannot be larger than it; raises BundleError for any other."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(path, archive, _checked(path, archive, size))
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise BundleError(f"{path}: damaged or cut off ({' '.join(str(error).split())[:120]}); get the file again") from error


def _checked(path: Path, archive: zipfile.ZipFile, size: int) -> str:
    """The folder in the archive where everything lies."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1]
    if packed or sum(entry.file_size for entry in entries) > size or len(set(names)) < len(names):
        why = f"{packed[0]:.80} is compressed" if packed else "its entries overlap"
        raise BundleError(f"{path}: {why}, which torch.save never does; do not trust this file")
    programs = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(programs) != 1:
        raise BundleError(f"{path}: holds no weights of torch.save (no data.pkl); name a .pt file")
    root = programs[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in names:
        raise BundleError(f"{path}: is a TorchScript program, not weights; save the network's state dict with torch.save")
    if archive.getinfo(programs[0]).file_size > _PROGRAM:
        raise BundleError(
            f"{path}: more than {_PROGRAM >> 20} MiB beside its tensors, which no file of weights needs; do not trust this file"
        )
    if f"{root}byteorder" in names and archive.getinfo(f"{root}byteorder").file_size < 20 and archive.read(f"{root}byteorder") != b"little":
        raise BundleError(f"{path}: was written on a big-endian machine; save it again on another")
    return root


class Plain:
    """Storages that follow the pickles: announced first, filled after."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._left = size
        self._raw: dict[str, tuple[str, Array]] = {}

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """See `Storages`; zeros until `fill`."""
        dtype = _dtype(self._path, kind, key, count, view)
        if kind in ("torch.BFloat16Storage", "torch.BoolStorage"):
            raise BundleError(f"{self._path}: holds numbers that mien reads in newer files only ({kind}); save it again with torch")
        if key not in self._raw:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise ValueError("its storages are larger than the file")
            self._raw[key] = kind, np.zeros(count, dtype)
        known, raw = self._raw[key]
        if known != kind or len(raw) != count:
            raise ValueError(f"storage {key} is announced twice, with different lengths or kinds")
        return raw

    def fill(self, keys: Any, content: bytes, start: int) -> None:
        """Read all storages, in the order of `keys`, from `content` at `start`: each its length (8 bytes), then its numbers."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(self._raw):
            raise BundleError(f"{self._path}: damaged or cut off (its list of storages is not that of its tensors); get the file again")
        for key in keys:
            _, raw = self._raw[key]
            end = start + 8 + raw.nbytes
            if len(content) < end or int.from_bytes(content[start : start + 8], "little") != len(raw):
                raise BundleError(f"{self._path}: damaged or cut off (storage {key} is not all there); get the file again")
            raw[:] = np.frombuffer(content, raw.dtype, len(raw), start + 8)
            start = end
