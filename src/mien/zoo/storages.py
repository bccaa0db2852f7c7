"""The numbers in torch's .pt files: storages, flat and typed.

They are in a zip archive or, before torch 1.6, one after the other at the end of the file.
"""

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
"""What zipfile raises for bytes that are no archive, or one of a kind that it does not read."""
# Most bytes of pickle that are read; the largest in the zoo has 0.2 million.
_MOST_PROGRAM: Final = 64 * 2**20
_DTYPES: Final = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|u1",
}


class Storages(Protocol):
    """Where the numbers of a file are."""

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """One storage.

        Args:
            kind: Its class, such as ``torch.FloatStorage``.
            key: Its name in the file.
            count: Its length.
            view: None, but in old files for a storage that is part of another.

        Returns:
            Its numbers (count,).

        Raises:
            BundleError: It is of a kind that mien does not read.
            ValueError: The arguments are not those that torch writes, or do not fit the file.
            KeyError: There is no such storage in the file.
        """


def _dtype(path: str, kind: str, key: Any, count: Any, view: Any) -> np.dtype[Any]:
    """The dtype of a storage, once all its arguments are found to be what torch writes."""
    if kind not in _DTYPES:
        raise BundleError(
            f"{path}: holds numbers of a kind that mien does not read ({kind:.80}); "
            "save the network in float32"
        )
    # Compared by exact type, as True is an int, too.
    valid_key = type(key) is str and re.fullmatch(r"\w{1,40}", key, re.ASCII)
    valid_count = type(count) is int and 0 <= count < 2**40
    if not valid_key or not valid_count:
        raise ValueError("a storage without a proper key or length")
    if view is not None:
        raise BundleError(
            f"{path}: holds a storage that is part of another, as torch before 0.4 wrote them; "
            "save it again with torch"
        )
    return np.dtype(_DTYPES[kind])


def _decode(kind: str, raw: Array) -> Array:
    """Turn what numpy has no dtype for, bfloat16, into float32, and bytes of booleans into bool."""
    if kind == "torch.BFloat16Storage":
        # A bfloat16 is the upper half of a float32.
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if kind == "torch.BoolStorage":
        return np.not_equal(raw, 0)
    return raw


def _same_storage(known: tuple[str, Array], kind: str, key: str, count: int) -> Array:
    """A storage that was read before; ValueError where it is now said to be another."""
    known_kind, numbers = known
    if known_kind != kind or len(numbers) != count:
        raise ValueError(f"storage {key} is there twice, with different lengths or kinds")
    return numbers


def view(storage: Array, offset: Any, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Array:
    """A tensor in a storage.

    Args:
        storage: The storage (count,).
        offset: Index of the tensor's first number.
        size: The tensor's shape, at most 16 dimensions.
        stride: Numbers from one element to the next, along each dimension.

    Returns:
        A read-only view of that shape.

    Raises:
        ValueError: The tensor is not all in the storage.
    """
    integers = (offset, *size, *stride)
    proper = all(type(number) is int and 0 <= number < 2**48 for number in integers)
    if len(size) != len(stride) or len(size) > 16 or not proper:
        raise ValueError("a tensor with a strange offset, size or stride")
    last = offset
    for side, step in zip(size, stride, strict=True):
        last += (side - 1) * step
    count = math.prod(size)
    # A stride of 0 would let a small storage stand for a tensor of any size.
    if count and (last >= len(storage) or count > len(storage)):
        raise ValueError(f"a tensor of size {size} reaches beyond its storage of {len(storage)}")
    if not count and max(size) >= 2**20:
        raise ValueError("an empty tensor with huge sides")
    if not count:
        return np.zeros(size, storage.dtype)
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


class Archive:
    """A zip archive as torch.save writes it: ``data.pkl`` and a member per storage.

    Attributes:
        program: The pickle.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self._path = str(path)
        self._archive = archive
        self._root = root
        self._storages: dict[str, tuple[str, Array]] = {}
        self.program = BytesIO(archive.read(f"{root}data.pkl"))

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """One storage, read when it is first asked for.

        Arguments and errors are those of `Storages.storage`.

        Returns:
            Its numbers (count,).
        """
        dtype = _dtype(self._path, kind, key, count, view)
        if key not in self._storages:
            name = f"{self._root}data/{key}"
            # Compared before it is read, so that memory follows the file's size.
            size = self._archive.getinfo(name).file_size
            if size != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {size} bytes, not {count} x {dtype.itemsize}")
            raw = np.frombuffer(self._archive.read(name), dtype)
            self._storages[key] = (kind, _decode(kind, raw))
        return _same_storage(self._storages[key], kind, key, count)


@contextmanager
def open_archive(path: Path, size: int) -> Iterator[Archive]:
    """Open a zip archive of torch.save.

    Args:
        path: The file.
        size: Its size in bytes; no archive whose members are larger is opened.

    Yields:
        The archive.

    Raises:
        BundleError: It is another archive, or damaged; also where the body raises what damage
            raises.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(path, archive, _find_root(path, archive, size))
    except (KeyError, *BROKEN) as error:
        problem = printable(" ".join(str(error).split())[:120]) or type(error).__name__
        raise BundleError(f"{path}: damaged or cut off ({problem}); get the file again") from error


def _find_root(path: Path, archive: zipfile.ZipFile, size: int) -> str:
    """The folder in the archive that holds everything.

    Raises BundleError for an archive that torch.save did not write.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    # Before compression is looked at, as a TorchScript program has compressed members.
    if any(re.fullmatch(r"([^/]+/)?constants\.pkl", name) for name in names):
        raise BundleError(
            f"{path}: is a TorchScript program, not weights; "
            "save the network's state dict with torch.save"
        )
    _check_members(path, members, size)
    programs = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(programs) != 1:
        raise BundleError(f"{path}: holds no weights of torch.save (no data.pkl); name a .pt file")
    if archive.getinfo(programs[0]).file_size > _MOST_PROGRAM:
        raise BundleError(
            f"{path}: more than {_MOST_PROGRAM >> 20} MiB beside its tensors, "
            "which no file of weights needs; do not trust this file"
        )
    root = programs[0].removesuffix("data.pkl")
    _check_byte_order(path, archive, f"{root}byteorder")
    return root


def _check_members(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Raise BundleError where reading the members could take more than the file's size."""
    for member in members:
        encrypted = member.flag_bits & 0x1
        if member.compress_type != zipfile.ZIP_STORED or encrypted:
            raise _not_by_torch(path, f"{printable(member.filename[:80])} is compressed")
    total = sum(member.file_size for member in members)
    names = {member.filename for member in members}
    if total > size or len(names) < len(members):
        raise _not_by_torch(path, "its entries overlap")


def _not_by_torch(path: Path, problem: str) -> BundleError:
    return BundleError(f"{path}: {problem}, which torch.save never does; do not trust this file")


def _check_byte_order(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Raise BundleError for numbers in big-endian order; older files do not say theirs."""
    if name not in archive.namelist() or archive.getinfo(name).file_size >= 20:
        return
    if archive.read(name) != b"little":
        raise BundleError(f"{path}: was written on a big-endian machine; save it again on another")


class Plain:
    """Storages that follow the pickles of an old file: announced first, filled afterwards."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._bytes_left = size
        self._storages: dict[str, tuple[str, Array]] = {}

    def storage(self, kind: str, key: Any, count: Any, view: Any) -> Array:
        """One storage; zeros until `fill`.

        Arguments and errors are those of `Storages.storage`.

        Returns:
            Its numbers (count,).
        """
        dtype = _dtype(self._path, kind, key, count, view)
        # Views are made before the numbers are read, so nothing can be decoded afterwards.
        if kind in ("torch.BFloat16Storage", "torch.BoolStorage"):
            raise BundleError(
                f"{self._path}: holds numbers that mien reads in newer files only ({kind}); "
                "save it again with torch"
            )
        if key not in self._storages:
            # Checked before memory is taken: the announced length may be any number.
            self._bytes_left -= count * dtype.itemsize
            if self._bytes_left < 0:
                raise ValueError("its storages are larger than the file")
            self._storages[key] = (kind, np.zeros(count, dtype))
        return _same_storage(self._storages[key], kind, key, count)

    def fill(self, keys: Any, content: bytes, start: int) -> None:
        """Read all storages, each its length (8 bytes) and then its numbers.

        Args:
            keys: Keys of the storages, in the order of the file.
            content: The file.
            start: Where the first storage begins.

        Raises:
            BundleError: The keys are not those of the tensors, or numbers are missing.
        """
        if not self._are_all_keys(keys):
            raise BundleError(
                f"{self._path}: damaged or cut off (its list of storages is not that of its "
                "tensors); get the file again"
            )
        for key in keys:
            numbers = self._storages[key][1]
            length = int.from_bytes(content[start : start + 8], "little")
            end = start + 8 + numbers.nbytes
            if len(content) < end or length != len(numbers):
                raise BundleError(
                    f"{self._path}: damaged or cut off (storage {key} is not all there); "
                    "get the file again"
                )
            numbers[:] = np.frombuffer(content, numbers.dtype, len(numbers), start + 8)
            start = end

    def _are_all_keys(self, keys: Any) -> bool:
        """Whether a list holds the key of each announced storage exactly once."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            return False
        return len(keys) == len(self._storages) and set(keys) == set(self._storages)
