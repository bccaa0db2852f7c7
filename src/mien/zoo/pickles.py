"""Read torch's .pt files without running anything that lies in them.

A .pt file is a program for a small stack machine that may name any function and have it called. Nothing of that kind can
happen here: this machine is our own, it imports nothing, looks no name up and calls nothing that a file names. A class becomes a
`Record` that holds what it was to be made of; a tensor becomes a numpy array; what files of weights never need is refused by name.
"""

import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from pickletools import genops
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError
from mien.zoo.storages import Plain, Storages, open_archive, view

__all__ = ["Name", "Record", "read_pt", "tensors"]

_STEPS: Final = 2_000_000  # of one pickle: its operations, and the items that they copy; the largest network of the zoo needs 100,000
_DEAR: Final = 50  # steps that a tensor counts for, and a number as a key: hashes of numbers, unlike texts', can be chosen to collide
_LONGEST: Final = (
    500  # characters of a key or name; longer ones, compared again and again, would take hours
)
_PARTS: Final = 100_000  # modules, tensors, and places left empty of one network
_DEPTH: Final = 100

# From Python 2, whose names older pickles keep; today's standard library names itself.
_OLD: Final = {
    "__builtin__",
    "cPickle",
    "commands",
    "copy_reg",
    "exceptions",
    "popen2",
    "urllib2",
    "UserDict",
}
_TOOLS: Final = {
    "pip",
    "setuptools",
    "pkg_resources",
    "distutils",
    "joblib",
    "dill",
    "cloudpickle",
    "numpy",
    "pandas",
    "scipy",
}
_STANDARD: Final = sys.stdlib_module_names | _OLD | _TOOLS
_PLAIN: Final = {
    f"{home}.{kind}" for home in ("builtins", "__builtin__") for kind in ("set", "frozenset")
} | {"collections.OrderedDict"}
# Functions that a network's own attributes may go through: devices, and single numbers of numpy's. They are not called either.
_NOTED: Final = {
    "torch.device",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
}
_TORCH: Final = re.compile(
    r"torch\.(nn\..+|_C\._nn\.\w+|_utils\._rebuild_\w+|_tensor\._rebuild_from_type_v2|torch_version\.TorchVersion"
    r"|Size|device|Tensor|storage\.\w+Storage|[A-Z]\w*Storage|b?float\d+|u?int\d+|bool)"
)
_KINDS: Final = (
    "_parameters",
    "_buffers",
    "_modules",
)  # what torch.nn.Module keeps its parts in, in the order of its state dict
_OLDER: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # how files of before torch 1.6 start
_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a file names, as ``module.name``; never looked up."""

    name: str


@dataclass(slots=True, eq=False)
class Record:
    """What a file would have made an object of: its class's name, the arguments and, later, the state. Inert."""

    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)


def read_pt(path: Path) -> Any:
    """What torch.save wrote, in today's zip format or the older one: nested lists, dicts, texts, numbers and `Record`s.

    Tensors are numpy arrays that cannot be written to, views of the file's storages with their strides; bfloat16, which numpy
    lacks, comes as float32. Raises BundleError for a file that asks for anything else, by name, or is damaged or cut off.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLDER))
            if start.startswith(b"PK"):
                with open_archive(path, path.stat().st_size) as archive:
                    return _run(path, archive.program, archive)
            if start == _OLDER:
                file.seek(0)
                return _read_plain(path, file.read())
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; name a .pt file that can be read"
        ) from error
    except MemoryError as error:
        raise BundleError(
            f"{path}: needs more memory than there is; free some, and do not trust this file if it is small"
        ) from error
    raise BundleError(
        f"{path}: is no file of torch.save, or one from before torch 0.2; name a .pt file, or save it again with torch"
    )


def tensors(found: Any) -> dict[str, Array]:
    """Tensors by name, as torch names them: those of a state dict, or of a whole network with its parameters and lasting buffers.

    found: what `read_pt` gave. Raises BundleError for anything else.
    """
    if (
        isinstance(found, dict)
        and found
        and all(_proper(k) and isinstance(v, np.ndarray) for k, v in found.items())
    ):
        return dict(found)
    if not isinstance(found, Record):
        raise BundleError(
            f"a {type(found).__name__} where a network or a table of tensors was looked for; name a file of weights"
        )
    named: dict[str, Array] = {}
    for count, (name, tensor) in enumerate(_walked(found, "", 0)):
        if count > _PARTS:
            raise BundleError(
                f"a {found.name:.80} of more than {_PARTS:,} parts, which no network has; do not trust this file"
            )
        if tensor is not None:
            named[name] = tensor
    return named


def _walked(module: Record, prefix: str, depth: int) -> Iterator[tuple[str, Array | None]]:
    """Tensors with their names, in torch's order; a None for all else that was looked at, so that whoever counts sees it."""
    yield prefix, None
    state, place = module.state, prefix[:80] or "the file"
    parts: list[Any] = [state.get(kind) for kind in _KINDS] if isinstance(state, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or depth > _DEPTH:
        raise BundleError(
            f"{place}: a {module.name:.80} is no part of a network that mien can read; name a file of weights"
        )
    passing = state.get("_non_persistent_buffers_set")
    for kind, part in zip(_KINDS, parts, strict=True):
        for name, value in part.items():
            if not _proper(name, prefix):
                raise BundleError(
                    f"{place}: a part of a {module.name:.80} has no proper name; name a file of weights"
                )
            if value is None or (
                kind == "_buffers" and isinstance(passing, set | frozenset) and name in passing
            ):
                yield prefix, None
            elif kind == "_modules" and isinstance(value, Record):
                yield from _walked(value, f"{prefix}{name}.", depth + 1)
            elif kind != "_modules" and isinstance(value, np.ndarray):
                yield f"{prefix}{name}", value
            else:
                raise BundleError(
                    f"{place}: a {type(value).__name__} among the {kind[1:]}; name a file of weights"
                )


def _proper(name: Any, prefix: str = "") -> bool:
    """Whether messages, and files that are written, can hold it."""
    return isinstance(name, str) and len(prefix) + len(name) < _LONGEST and name.isprintable()


def _read_plain(path: Path, content: bytes) -> Any:
    """The format before torch 1.6: five pickles one after the other, and then the storages."""
    stream, storages = BytesIO(content), Plain(str(path), len(content))
    _, version, system = (_run(path, stream, storages) for _ in range(3))
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise BundleError(
            f"{path}: was written by another version of this format, or on a big-endian machine; save it again with torch"
        )
    found = _run(path, stream, storages)
    storages.fill(_run(path, stream, storages), content, stream.tell())
    return found


def _run(path: Path, program: BytesIO, storages: Storages) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts, which `genops` decodes
            return _Machine(str(path), storages).run(program)
    except (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise BundleError(
            f"{path}: damaged or cut off ({' '.join(str(error).split())[:120] or type(error).__name__}); get the file again"
        ) from error


class _Machine:
    """The stack machine of `pickletools`, without the operations that make or call things."""

    def __init__(self, path: str, storages: Storages) -> None:
        self.path = path
        self.left = _STEPS
        self.storages = storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # one stack for each open mark
        self.memo: dict[int, Any] = {}

    def run(self, program: BytesIO) -> Any:
        for op, arg, _ in genops(program):
            self.spend(1)
            if op.name in _PUSH:
                self.stack.append(arg)
            elif op.name in _DO:
                _DO[op.name](self, arg)
            else:
                raise self.refusal(f"the operation {op.name}")
        if len(self.stack) != 1 or self.below:
            raise ValueError("it does not end with one value")
        return self.stack[0]

    def spend(self, steps: int) -> None:
        """Take from the steps that are left: one for each operation, and one for each item of what it copies from the memo."""
        self.left -= steps
        if self.left < 0:
            raise BundleError(
                f"{self.path}: more than {_STEPS:,} steps, which no file of weights needs; do not trust this file"
            )

    def refusal(self, what: str) -> BundleError:
        return BundleError(
            f"{self.path}: asks for {what}, which no file of weights needs; do not trust this file"
        )

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def named(self, module: str, name: str) -> None:
        """A class or function: its name, if a file of weights may hold it at all."""
        if type(module) is not str or type(name) is not str:
            raise self.refusal("a name that is no text")
        if len(module) + len(name) > _LONGEST:
            raise self.refusal(f"a name of more than {_LONGEST:,} letters")
        whole = f"{module}.{name}"
        top = module.partition(".")[0]
        odd = (
            not _NAME.fullmatch(whole)
            or "." in name
            or "__" in whole.replace("__builtin__.", "").replace("__main__.", "")
        )
        strange = (top in _STANDARD and whole not in _PLAIN | _NOTED) or (
            top == "torch" and not _TORCH.fullmatch(whole)
        )
        if odd or strange:
            raise self.refusal(repr(whole[:80])[1:-1])
        self.stack.append(Name(whole))

    def made(self, maker: Any, args: Any) -> Any:
        """What calling `maker` would have given: a tensor, a plain container, or a record."""
        if not isinstance(maker, Name) or not isinstance(args, tuple):
            raise self.refusal(f"a call of a {type(maker).__name__}")
        if maker.name in _PLAIN:
            return self.container(maker.name.rpartition(".")[2], args)
        if maker.name.startswith(("torch._utils.", "torch._tensor.")):
            return self.tensor(maker.name.rpartition(".")[2], args)
        # A class is known by its capital. That a function be called is no part of any network.
        if not maker.name.rpartition(".")[2].lstrip("_")[:1].isupper() and maker.name not in _NOTED:
            raise self.refusal(f"a call of {maker.name}")
        return Record(maker.name, args)

    def container(self, kind: str, args: tuple[Any, ...]) -> Any:
        items = args[0] if args else []
        if len(args) > 1 or not isinstance(items, list):
            raise self.refusal(f"{kind} of something that is no list")
        self.spend(len(items))
        if kind == "OrderedDict":
            return {self.key(key): value for key, value in items}
        return (set if kind == "set" else frozenset)(self.key(item) for item in items)

    def tensor(self, kind: str, args: tuple[Any, ...]) -> Array:
        if kind == "_rebuild_from_type_v2":
            maker, _, args, _ = args
            kind = maker.name.removeprefix("torch._utils.")
        if kind in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            if not isinstance(args[0], np.ndarray):
                raise ValueError("a parameter that is no tensor")
            return args[0]
        if kind not in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            raise BundleError(
                f"{self.path}: holds a tensor of a kind that mien does not read ({kind}); save dense float tensors"
            )
        storage, offset, size, stride = args[:4]
        if (
            not isinstance(storage, np.ndarray)
            or storage.ndim != 1
            or not isinstance(size, tuple)
            or not isinstance(stride, tuple)
        ):
            raise ValueError("a tensor without a storage, a size or strides")
        self.spend(_DEAR)
        return view(storage, offset, size, stride)

    def stored(self, pid: Any) -> Any:
        """What a persistent id stands for: a storage; in older files also a class, with its source beside it."""
        kind = (
            pid[0] if isinstance(pid, tuple) and len(pid) > 1 and isinstance(pid[1], Name) else None
        )
        if not isinstance(kind, str) or kind not in ("storage", "module"):
            raise self.refusal(f"the persistent id {_shown(pid)}")
        if kind == "module":
            return pid[1]
        return self.storages.storage(pid[1].name, pid[2], pid[4], pid[5] if len(pid) > 5 else None)

    def build(self, state: Any) -> None:
        made = self.stack[-1]
        if isinstance(made, Record) and made.state is None:
            made.state = state
        elif not (
            isinstance(made, dict) and isinstance(state, dict) and state.keys() <= {"_metadata"}
        ):
            raise self.refusal(
                f"a state for a {made.name if isinstance(made, Record) else type(made).__name__}"
            )

    def key(self, key: Any) -> Any:
        """A key; of simple kinds, short, and few numbers, since others may take forever to hash or compare."""
        if not isinstance(key, str | int | float | bytes | Name | None):
            raise self.refusal(f"a {type(key).__name__} as a key")
        if isinstance(key, int | float):
            self.spend(_DEAR)
        if (isinstance(key, int) and not -(2**63) <= key < 2**64) or (
            isinstance(key, str | bytes) and len(key) > _LONGEST
        ):
            raise self.refusal(f"a huge {type(key).__name__} as a key")
        return key

    def put(self, items: list[Any]) -> None:
        """Pairs into the dict on top."""
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise self.refusal(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(
            (self.key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)
        )

    def extend(self, items: list[Any]) -> None:
        """Items into the list on top."""
        if not isinstance(self.stack[-1], list):
            raise self.refusal(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def add(self, items: list[Any]) -> None:
        """Items into the set on top."""
        if not isinstance(self.stack[-1], set):
            raise self.refusal(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(self.key(item) for item in items)

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("its stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def _shown(pid: Any) -> str:
    """A persistent id in a few letters; whatever else it may hold could be endless."""
    first = pid[0] if isinstance(pid, tuple) and pid else pid
    return repr(first[:40]) if isinstance(first, str) else f"of a {type(first).__name__}"


def _unmarked(make: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    """Put what `make` makes of all that came since the mark."""

    def do(m: _Machine, _: Any) -> None:
        items = m.since_mark()
        m.stack.append(make(items))

    return do


def _taken(
    count: int, put: Callable[[_Machine, list[Any]], None]
) -> Callable[[_Machine, Any], None]:
    return lambda m, _: put(m, m.pop(count))


def _made_of(m: _Machine, maker: Any, args: Any) -> None:
    m.stack.append(m.made(maker, args))


def _inst(m: _Machine, arg: Any) -> None:
    args = tuple(m.since_mark())
    _global(m, arg)
    _made_of(m, m.stack.pop(), args)


def _obj(m: _Machine, _: Any) -> None:
    maker, *args = m.since_mark()
    _made_of(m, maker, tuple(args))


def _newobj_ex(m: _Machine, items: list[Any]) -> None:
    maker, args, named = items
    if named:
        m.spend(len(args))
        args = (*args, named)
    _made_of(m, maker, args)


def _global(m: _Machine, arg: Any) -> None:
    module, _, name = arg.partition(" ")
    m.named(module, name)


def _memoize(m: _Machine, arg: Any) -> None:
    place = len(m.memo) if arg is None else arg
    # In order, as all that write pickles number them, Python 2 from 1; numbers of any other choice could be made to collide.
    if not 0 <= place <= len(m.memo) + 1:
        raise ValueError("it remembers out of order")
    m.memo[place] = m.stack[-1]


def _dict(m: _Machine, _: Any) -> None:
    items = m.since_mark()
    m.stack.append({})
    m.put(items)


def _pop(m: _Machine, _: Any) -> None:
    m.pop(1) if m.stack else m.since_mark()


def _pop_mark(m: _Machine, _: Any) -> None:
    m.since_mark()


def _same(_m: _Machine, _: Any) -> None:
    """Nothing to do."""


_PUSH: Final = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_DO: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "PROTO": _same, "FRAME": _same, "STOP": _same,
    "MARK": lambda m, _: m.mark(), "POP": _pop, "POP_MARK": _pop_mark, "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "NONE": lambda m, _: m.stack.append(None), "NEWTRUE": lambda m, _: m.stack.append(True), "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append([]), "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()), "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "LIST": _unmarked(list), "TUPLE": _unmarked(tuple), "DICT": _dict,
    "TUPLE1": _taken(1, lambda m, items: m.stack.append(tuple(items))), "TUPLE2": _taken(2, lambda m, items: m.stack.append(tuple(items))),
    "TUPLE3": _taken(3, lambda m, items: m.stack.append(tuple(items))),
    "APPEND": _taken(1, lambda m, items: m.extend(items)), "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": _taken(2, lambda m, items: m.put(items)), "SETITEMS": lambda m, _: m.put(m.since_mark()),
    "ADDITEMS": lambda m, _: m.add(m.since_mark()),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(m.key(item) for item in m.since_mark())),
    "GET": lambda m, arg: m.stack.append(m.memo[arg]), "BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "LONG_BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "PUT": _memoize, "BINPUT": _memoize, "LONG_BINPUT": _memoize, "MEMOIZE": _memoize,
    "GLOBAL": _global, "STACK_GLOBAL": _taken(2, lambda m, items: m.named(*items)),
    "REDUCE": _taken(2, lambda m, items: _made_of(m, *items)), "NEWOBJ": _taken(2, lambda m, items: _made_of(m, *items)),
    "NEWOBJ_EX": _taken(3, _newobj_ex), "INST": _inst, "OBJ": _obj,
    "BUILD": _taken(1, lambda m, items: m.build(items[0])),
    "BINPERSID": _taken(1, lambda m, items: m.stack.append(m.stored(items[0]))),
}  # fmt: skip
