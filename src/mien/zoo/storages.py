"""The numbers in torch's .pt files: storages, flat and typed, in a zip archive or, before torch 1.6, one after the other."""

import math
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
from mien.text import printable

__all__ = ["BROKEN", "Archive", "Plain", "Storages", "open_archive", "view"]

Array = NDArray[Any]

BROKEN: Final = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What zipfile raises for bytes that are no archive, or one of a kind that nobody here reads."""
_PROGRAM: Final = (
    64 * 2**20
)  # bytes of pickle that are read at most; the largest of the zoo has 0.2 million
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
        raise BundleError(
            f"{path}: holds numbers of a kind that mien does not read ({kind:.80}); save the network in float32"
        )
    if (
        type(key) is not str
        or not re.fullmatch(r"\w{1,40}", key, re.ASCII)
        or type(count) is not int
        or not 0 <= count < 2**40
    ):
        raise ValueError("a storage without a proper key or length")
    if view is not None:
        raise BundleError(
            f"{path}: holds a storage that is part of another, as torch before 0.4 wrote them; save it again with torch"
        )
    return np.dtype(_KINDS[kind])


def _numbers(kind: str, raw: Array) -> Array:
    """Bits as numbers of numpy's; those of bfloat16 are the upper half of a float32's."""
    if kind == "torch.BFloat16Storage":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw != 0 if kind == "torch.BoolStorage" else raw


def _agreed(known: tuple[str, Array], kind: str, key: str, count: int) -> Array:
    """The numbers of a storage that was read or announced before; torch never has one of two kinds."""
    if known[0] != kind or len(known[1]) != count:
        raise ValueError(f"storage {key} is there twice, with different lengths or kinds")
    return known[1]


def view(storage: Array, offset: Any, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Array:
    """A tensor: the part of a storage (count,) from `offset`, `stride` numbers from one to the next along each side; not to be written to.

    Raises ValueError for one that is not all in the storage.
    """
    if (
        len(size) != len(stride)
        or len(size) > 16
        or not all(type(one) is int and 0 <= one < 2**48 for one in (offset, *size, *stride))
    ):
        raise ValueError("a tensor with a strange offset, size or stride")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and (last >= len(storage) or count > len(storage)):
        raise ValueError(f"a tensor of size {size} reaches beyond its storage of {len(storage)}")
    if not count and max(size) >= 2**20:
        raise ValueError("an empty tensor with huge sides")
    if not count:
        return np.zeros(size, storage.dtype)
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, [step * storage.itemsize for step in stride], writeable=False
    )


class Archive:
    """A zip archive as torch.save writes it: nothing compressed, ``data.pkl`` and one entry for each storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self._path = str(path)
        self._archive = archive
        self._root = root
        self._read: dict[str, tuple[str, Array]] = {}
        self.program = BytesIO(archive.read(f"{root}data.pkl"))

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """See `Storages`."""
        dtype = _dtype(self._path, kind, key, count, view)
        if key not in self._read:
            name = f"{self._root}data/{key}"
            if (size := self._archive.getinfo(name).file_size) != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {size} bytes, not {count} x {dtype.itemsize}")
            self._read[key] = kind, _numbers(kind, np.frombuffer(self._archive.read(name), dtype))
        return _agreed(self._read[key], kind, key, count)


@contextmanager
def open_archive(path: Path, size: int) -> Iterator[Archive]:
    """A zip archive of torch.save, of `size` bytes, whose entries cannot be larger than it; raises BundleError for any other."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(path, archive, _checked(path, archive, size))
    except (KeyError, *BROKEN) as error:
        raise BundleError(
            f"{path}: damaged or cut off ({printable(' '.join(str(error).split())[:120]) or type(error).__name__}); get the file again"
        ) from error


def _checked(path: Path, archive: zipfile.ZipFile, size: int) -> str:
    """The folder in the archive where everything lies."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(
        re.fullmatch(r"([^/]+/)?constants\.pkl", name) for name in names
    ):  # its program is compressed, too
        raise BundleError(
            f"{path}: is a TorchScript program, not weights; save the network's state dict with torch.save"
        )
    packed = [
        entry.filename
        for entry in entries
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1
    ]
    if packed or sum(entry.file_size for entry in entries) > size or len(set(names)) < len(names):
        why = f"{printable(packed[0][:80])} is compressed" if packed else "its entries overlap"
        raise BundleError(f"{path}: {why}, which torch.save never does; do not trust this file")
    programs = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(programs) != 1:
        raise BundleError(f"{path}: holds no weights of torch.save (no data.pkl); name a .pt file")
    root = programs[0].removesuffix("data.pkl")
    if archive.getinfo(programs[0]).file_size > _PROGRAM:
        raise BundleError(
            f"{path}: more than {_PROGRAM >> 20} MiB beside its tensors, which no file of weights needs; do not trust this file"
        )
    if (
        f"{root}byteorder" in names
        and archive.getinfo(f"{root}byteorder").file_size < 20
        and archive.read(f"{root}byteorder") != b"little"
    ):
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
            raise BundleError(
                f"{self._path}: holds numbers that mien reads in newer files only ({kind}); save it again with torch"
            )
        if key not in self._raw:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise ValueError("its storages are larger than the file")
            self._raw[key] = kind, np.zeros(count, dtype)
        return _agreed(self._raw[key], kind, key, count)

    def fill(self, keys: Any, content: bytes, start: int) -> None:
        """Read all storages, in the order of `keys`, from `content` at `start`: each its length (8 bytes), then its numbers."""
        known = isinstance(keys, list) and all(
            isinstance(key, str) and key in self._raw for key in keys
        )
        if not known or not len(keys) == len(set(keys)) == len(self._raw):
            raise BundleError(
                f"{self._path}: damaged or cut off (its list of storages is not that of its tensors); get the file again"
            )
        for key in keys:
            _, raw = self._raw[key]
            end = start + 8 + raw.nbytes
            if len(content) < end or int.from_bytes(content[start : start + 8], "little") != len(
                raw
            ):
                raise BundleError(
                    f"{self._path}: damaged or cut off (storage {key} is not all there); get the file again"
                )
            raw[:] = np.frombuffer(content, raw.dtype, len(raw), start + 8)
            start = end
