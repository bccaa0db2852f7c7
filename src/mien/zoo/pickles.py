"""Read torch's .pt files without running anything in them.

A .pt file is a pickle, which may name any function and have it called. Nothing of that kind can
happen here (`mien.zoo.pickle_machine`): a class becomes a `Record` of what it was to be made of, a
tensor becomes a numpy array, and what files of weights never need is refused by name.
"""

import struct
import warnings
from collections.abc import Iterator, Set
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError
from mien.zoo.pickle_machine import LONGEST_NAME, Name, PickleMachine, Record
from mien.zoo.pickle_operations import run
from mien.zoo.storages import Plain, Storages, open_archive

__all__ = ["Name", "Record", "read_pt", "tensors"]

# Modules, tensors and empty places of one network.
_MOST_PARTS: Final = 100_000
_DEEPEST: Final = 100
# Where torch.nn.Module keeps its parts, in the order of its state dict.
_SECTIONS: Final = ("_parameters", "_buffers", "_modules")
# The first bytes of files from before torch 1.6: a pickle of a magic number.
_OLD_MAGIC: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_OLD_VERSION: Final = 1001
# What a damaged pickle makes the machine raise.
_DAMAGE: Final = (
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    AttributeError,
    RecursionError,
    struct.error,
)

Array = NDArray[Any]


def read_pt(path: Path) -> Any:
    """Read what torch.save wrote, in today's zip format or the older one.

    Args:
        path: The file.

    Returns:
        Nested lists, dicts, texts, numbers and `Record`s. Tensors are read-only numpy arrays, views
        of the file's storages with their strides; bfloat16, which numpy lacks, comes as float32.

    Raises:
        BundleError: It cannot be read, is damaged, or asks for something that no file of weights
            needs; the message names it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_MAGIC))
            if start.startswith(b"PK"):
                with open_archive(path, path.stat().st_size) as archive:
                    return _run(path, archive.program, archive)
            if start == _OLD_MAGIC:
                file.seek(0)
                return _read_old(path, file.read())
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; name a .pt file that can be read"
        ) from error
    except MemoryError as error:
        raise BundleError(
            f"{path}: needs more memory than there is; free some, "
            "and do not trust this file if it is small"
        ) from error
    raise BundleError(
        f"{path}: is no file of torch.save, or one from before torch 0.2; "
        "name a .pt file, or save it again with torch"
    )


def tensors(content: Any) -> dict[str, Array]:
    """Tensors of a state dict, or of a whole network: its parameters and persistent buffers.

    Args:
        content: What `read_pt` gave.

    Returns:
        Tensors by the names that torch gives them.

    Raises:
        BundleError: It is neither.
    """
    if _is_state_dict(content):
        return dict(content)
    if not isinstance(content, Record):
        raise BundleError(
            f"a {type(content).__name__} where a network or a table of tensors was looked for; "
            "name a file of weights"
        )
    named_tensors: dict[str, Array] = {}
    for count, (name, tensor) in enumerate(_walk(content, "", 0)):
        # A module may be listed in another many times, which makes small files endless networks.
        if count > _MOST_PARTS:
            raise BundleError(
                f"a {content.name:.80} of more than {_MOST_PARTS:,} parts, which no network has; "
                "do not trust this file"
            )
        if tensor is not None:
            named_tensors[name] = tensor
    return named_tensors


def _is_state_dict(content: Any) -> bool:
    """Whether it is a dict of tensors by name, with one at least."""
    if not isinstance(content, dict) or not content:
        return False
    for name, tensor in content.items():
        if not _is_proper_name(name) or not isinstance(tensor, np.ndarray):
            return False
    return True


def _walk(module: Record, prefix: str, depth: int) -> Iterator[tuple[str, Array | None]]:
    """Tensors of a module and those inside it, with their names, in torch's order.

    A None is given for everything else that was looked at, so that the caller can count it.
    """
    yield prefix, None
    sections = _sections(module, prefix, depth)
    transient = _transient_buffers(module)
    for kind, section in sections.items():
        for name, value in section.items():
            if not _is_proper_name(name, prefix):
                raise BundleError(
                    f"{_location(prefix)}: a part of a {module.name:.80} has no proper name; "
                    "name a file of weights"
                )
            if value is None or (kind == "_buffers" and name in transient):
                yield prefix, None
            elif kind == "_modules" and isinstance(value, Record):
                yield from _walk(value, f"{prefix}{name}.", depth + 1)
            elif kind != "_modules" and isinstance(value, np.ndarray):
                yield f"{prefix}{name}", value
            else:
                raise BundleError(
                    f"{_location(prefix)}: a {type(value).__name__} among the {kind[1:]}; "
                    "name a file of weights"
                )


def _sections(module: Record, prefix: str, depth: int) -> dict[str, dict[Any, Any]]:
    """Parameters, buffers and modules of a module, by the attribute that holds them."""
    sections: dict[str, dict[Any, Any]] = {}
    state = module.state if isinstance(module.state, dict) else {}
    for kind in _SECTIONS:
        section = state.get(kind)
        # A module may also hold itself.
        if not isinstance(section, dict) or depth > _DEEPEST:
            raise BundleError(
                f"{_location(prefix)}: a {module.name:.80} is no part of a network that mien can "
                "read; name a file of weights"
            )
        sections[kind] = section
    return sections


def _transient_buffers(module: Record) -> Set[Any]:
    """Names of the buffers that torch leaves out of a state dict."""
    names = module.state.get("_non_persistent_buffers_set")
    return names if isinstance(names, set | frozenset) else frozenset()


def _location(prefix: str) -> str:
    return prefix[:80] or "the file"


def _is_proper_name(name: Any, prefix: str = "") -> bool:
    """Whether messages, and files that are written, can hold a name."""
    if not isinstance(name, str):
        return False
    return len(prefix) + len(name) < LONGEST_NAME and name.isprintable()


def _read_old(path: Path, content: bytes) -> Any:
    """Read the format from before torch 1.6: five pickles, and then the storages."""
    stream = BytesIO(content)
    storages = Plain(str(path), len(content))
    _magic = _run(path, stream, storages)
    version = _run(path, stream, storages)
    system = _run(path, stream, storages)
    is_little_endian = isinstance(system, dict) and system.get("little_endian") is True
    if version != _OLD_VERSION or not is_little_endian:
        raise BundleError(
            f"{path}: was written by another version of this format, or on a big-endian machine; "
            "save it again with torch"
        )
    value = _run(path, stream, storages)
    keys = _run(path, stream, storages)
    storages.fill(keys, content, stream.tell())
    return value


def _run(path: Path, program: BytesIO, storages: Storages) -> Any:
    """Run one pickle; raises BundleError also for one that is damaged."""
    try:
        with warnings.catch_warnings():
            # Of odd escapes in texts, which `genops` decodes.
            warnings.simplefilter("ignore")
            return run(program, PickleMachine(str(path), storages))
    except _DAMAGE as error:
        problem = " ".join(str(error).split())[:120] or type(error).__name__
        raise BundleError(f"{path}: damaged or cut off ({problem}); get the file again") from error
