"""Parameters as MXNet saves them (``.params``): a plain list of arrays, then their names."""

import struct
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["read_params"]

# A list of arrays in MXNet's format begins with this number; each array with one of the next.
_LIST: Final = 0x112
_ARRAY_V2: Final = 0xF993FAC9
_ARRAY_V3: Final = 0xF993FACA
_FLOAT32: Final = 0
_MAX_AXES: Final = 4


class _Bytes:
    """Reads numbers from bytes, one after the other; raises ValueError at their end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.content):
            raise ValueError("the file ends too early")
        piece = self.content[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)


def read_params(path: Path) -> dict[str, Tensor]:
    """Read a file of parameters.

    Args:
        path: The ``.params`` file.

    Returns:
        Tensors by name, such as ``arg:conv1_weight``.

    Raises:
        ValueError: The file is none, is cut off, or holds anything but float32 on the CPU.
    """
    stream = _Bytes(path.read_bytes())
    if stream.number("<Q") != _LIST:
        raise ValueError("does not begin as a list of arrays")
    stream.take(8)
    arrays = [_read_array(stream) for _ in range(stream.number("<Q"))]
    names = []
    for _ in range(stream.number("<Q")):
        names.append(stream.take(stream.number("<Q")).decode())
    if len(names) != len(arrays):
        raise ValueError(f"{len(arrays)} arrays and {len(names)} names")
    return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


def _read_array(stream: _Bytes) -> NDArray[np.float32]:
    if stream.number("<I") not in (_ARRAY_V2, _ARRAY_V3) or stream.number("<i") != 0:
        raise ValueError("an array is not of a form that is read here")
    axes = stream.number("<I")
    if axes > _MAX_AXES:
        raise ValueError(f"an array of {axes} axes")
    shape = [stream.number("<q") for _ in range(axes)]
    # The device that it was saved from, and its number.
    stream.take(8)
    if stream.number("<i") != _FLOAT32:
        raise ValueError("an array is not of float32")
    count = int(np.prod(shape, dtype=object))
    values = np.frombuffer(stream.take(4 * count), "<f4").copy()
    return values.reshape(shape)
