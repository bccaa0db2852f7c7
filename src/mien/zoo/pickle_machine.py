"""Reads the values in a pickle without running anything that it names.

A pickle is a program for a small stack machine that may name any function and have it called. This
machine imports nothing, looks up no name, and calls nothing that a file names. What weight files
never need is refused by name.
"""

import re
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError
from mien.zoo.storages import Storages, view

__all__ = ["LONGEST_NAME", "Name", "PickleMachine", "Record"]

LONGEST_NAME: Final = 500
"""Characters of a key or name; longer ones, compared again and again, would take hours."""
# Operations of one pickle, and the items that they copy; the largest network in the zoo needs
# 100,000.
_MOST_STEPS: Final = 2_000_000
# Steps charged for each tensor, and for each number as a key: hashes of numbers, unlike those of
# strings, can be chosen to collide.
_COSTLY: Final = 50

# Standard modules of Python 2, whose names older pickles keep; today's Python lists its own.
_PYTHON_2: Final = {
    "__builtin__",
    "cPickle",
    "commands",
    "copy_reg",
    "exceptions",
    "popen2",
    "urllib2",
    "UserDict",
}
# Packages whose functions could do harm, and from which no network needs anything.
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
_REFUSED_MODULES: Final = sys.stdlib_module_names | _PYTHON_2 | _TOOLS
_CONTAINERS: Final = {
    "builtins.set",
    "builtins.frozenset",
    "__builtin__.set",
    "__builtin__.frozenset",
    "collections.OrderedDict",
}
# Functions in a network's own attributes: devices, and single numbers of numpy. They become records
# like classes, and are not called either.
_FUNCTIONS: Final = {
    "torch.device",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
}
_TORCH: Final = re.compile(
    r"torch\.(nn\..+|_C\._nn\.\w+|_utils\._rebuild_\w+|_tensor\._rebuild_from_type_v2"
    r"|torch_version\.TorchVersion|Size|device|Tensor|storage\.\w+Storage|[A-Z]\w*Storage"
    r"|b?float\d+|u?int\d+|bool)"
)
_DOTTED_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a file names; never looked up.

    Attributes:
        name: ``module.name``.
    """

    name: str


@dataclass(slots=True, eq=False)
class Record:
    """What stands for an object that a file would have had built. Inert.

    Attributes:
        name: ``module.name`` of its class.
        args: The arguments for the class.
        state: The state that the object would have been given; None where there is none.
    """

    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)


class PickleMachine:
    """Stack and memo of a pickle, and what its operations (`pickle_operations`) do to them.

    It is the stack machine of `pickletools`, without what builds or calls things.

    Attributes:
        stack: The values since the last open mark.
        memo: Values that the program remembers, by number.
    """

    def __init__(self, path: str, storages: Storages) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._path = path
        self._steps_left = _MOST_STEPS
        self._storages = storages
        # One for each open mark.
        self._stacks_below: list[list[Any]] = []

    def spend(self, steps: int) -> None:
        """Count steps, so that a small program cannot keep the machine busy for hours.

        Args:
            steps: One for each operation, and one for each item that it copies from the memo.

        Raises:
            BundleError: There are too many.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise BundleError(
                f"{self._path}: more than {_MOST_STEPS:,} steps, which no file of weights needs; "
                "do not trust this file"
            )

    def refusal(self, subject: str) -> BundleError:
        """The error to raise for what no file of weights needs.

        Args:
            subject: What the file asks for.

        Returns:
            The error.
        """
        return BundleError(
            f"{self._path}: asks for {subject}, which no file of weights needs; "
            "do not trust this file"
        )

    @property
    def is_done(self) -> bool:
        """Whether there is one value and no open mark, as at the end of a pickle."""
        return len(self.stack) == 1 and not self._stacks_below

    def mark(self) -> None:
        """Open a mark: what follows goes to a stack of its own."""
        self._stacks_below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Close the last mark.

        Returns:
            The values since it.
        """
        items = self.stack
        self.stack = self._stacks_below.pop()
        return items

    def pop(self, count: int) -> list[Any]:
        """Take values from the stack.

        Args:
            count: How many.

        Returns:
            The values, the topmost last.

        Raises:
            IndexError: There are fewer.
        """
        if len(self.stack) < count:
            raise IndexError("its stack is empty")
        start = len(self.stack) - count
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push_name(self, module: str, name: str) -> None:
        """Push the name of a class or function.

        Args:
            module: Its module.
            name: Its name there.

        Raises:
            BundleError: No file of weights needs it.
        """
        if type(module) is not str or type(name) is not str:
            raise self.refusal("a name that is no text")
        if len(module) + len(name) > LONGEST_NAME:
            raise self.refusal(f"a name of more than {LONGEST_NAME:,} letters")
        qualified = f"{module}.{name}"
        # A dot in the name itself would reach for an attribute of a class.
        if "." in name or not _is_plain_name(qualified) or _is_refused_name(qualified):
            raise self.refusal(repr(qualified[:80])[1:-1])
        self.stack.append(Name(qualified))

    def push_made(self, maker: Any, args: Any) -> None:
        """Push what stands for the result of a call: a tensor, a plain container, or a record.

        Args:
            maker: The `Name` of what would be called.
            args: A tuple of the arguments.

        Raises:
            BundleError: No file of weights needs that call.
        """
        if not isinstance(maker, Name) or not isinstance(args, tuple):
            raise self.refusal(f"a call of a {type(maker).__name__}")
        last_part = maker.name.rpartition(".")[2]
        if maker.name in _CONTAINERS:
            self.stack.append(self._container(last_part, args))
        elif maker.name.startswith(("torch._utils.", "torch._tensor.")):
            self.stack.append(self._tensor(last_part, args))
        # A class is known by its capital. No network needs a call of a function.
        elif last_part.lstrip("_")[:1].isupper() or maker.name in _FUNCTIONS:
            self.stack.append(Record(maker.name, args))
        else:
            raise self.refusal(f"a call of {maker.name}")

    def _container(self, kind: str, args: tuple[Any, ...]) -> Any:
        """A set, frozenset or OrderedDict, the last one as a dict."""
        items = args[0] if args else []
        if len(args) > 1 or not isinstance(items, list):
            raise self.refusal(f"{kind} of something that is not a list")
        self.spend(len(items))
        if kind == "OrderedDict":
            return {self.checked_key(key): value for key, value in items}
        keys = map(self.checked_key, items)
        return set(keys) if kind == "set" else frozenset(keys)

    def _tensor(self, kind: str, args: tuple[Any, ...]) -> Array:
        """The tensor that a function of torch would have rebuilt, as a read-only array."""
        if kind == "_rebuild_from_type_v2":
            maker, _, args, _ = args
            kind = maker.name.removeprefix("torch._utils.")
        if kind in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            if not isinstance(args[0], np.ndarray):
                raise ValueError("a parameter that is not a tensor")
            return args[0]
        if kind not in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            raise BundleError(
                f"{self._path}: holds a tensor of a kind that mien does not read ({kind}); "
                "save dense float tensors"
            )
        storage, offset, size, stride = args[:4]
        is_storage = isinstance(storage, np.ndarray) and storage.ndim == 1
        if not is_storage or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise ValueError("a tensor without a storage, a size or strides")
        self.spend(_COSTLY)
        return view(storage, offset, size, stride)

    def push_persistent(self, pid: Any) -> None:
        """Push what a persistent id stands for.

        Args:
            pid: ``("storage", class, key, device, count)``; in older files also ``("module",
                class, …)``, a class with its source beside it.

        Raises:
            BundleError: It is any other id, or a storage that mien does not read.
        """
        kind = None
        if isinstance(pid, tuple) and len(pid) > 1 and isinstance(pid[1], Name):
            kind = pid[0]
        # An array in its place could not be compared with a string.
        if not isinstance(kind, str) or kind not in ("storage", "module"):
            raise self.refusal(f"the persistent id {_describe_id(pid)}")
        if kind == "module":
            self.stack.append(pid[1])
            return
        part_of = pid[5] if len(pid) > 5 else None
        self.stack.append(self._storages.storage(pid[1].name, pid[2], pid[4], part_of))

    def set_state(self, state: Any) -> None:
        """Keep the state of the record on top.

        Args:
            state: The state.

        Raises:
            BundleError: There is something else on top, or a record with a state.
        """
        target = self.stack[-1]
        if isinstance(target, Record) and target.state is None:
            target.state = state
            return
        # torch keeps versions of modules as an attribute of a state dict; nothing needs them.
        is_metadata = isinstance(state, dict) and state.keys() <= {"_metadata"}
        if not isinstance(target, dict) or not is_metadata:
            kind = target.name if isinstance(target, Record) else type(target).__name__
            raise self.refusal(f"a state for a {kind}")

    def checked_key(self, key: Any) -> Any:
        """Check what is to be a key of a dict or an item of a set.

        Only short keys of simple types, and a limited number of numbers, are taken: others could
        take forever to hash or compare.

        Args:
            key: The key.

        Returns:
            The key.

        Raises:
            BundleError: It is of another type, or too large.
        """
        if not isinstance(key, str | int | float | bytes | Name | None):
            raise self.refusal(f"a {type(key).__name__} as a key")
        if isinstance(key, int | float):
            self.spend(_COSTLY)
        huge = False
        if isinstance(key, int):
            huge = not -(2**63) <= key < 2**64
        elif isinstance(key, str | bytes):
            huge = len(key) > LONGEST_NAME
        if huge:
            raise self.refusal(f"a huge {type(key).__name__} as a key")
        return key

    def update_dict(self, items: list[Any]) -> None:
        """Put pairs into the dict on top.

        Args:
            items: Keys and values in turn.

        Raises:
            BundleError: No dict is on top, or a key is refused.
        """
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise self.refusal(f"items for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.checked_key(key)] = value

    def extend_list(self, items: list[Any]) -> None:
        """Append to the list on top.

        Args:
            items: What is appended.

        Raises:
            BundleError: No list is on top.
        """
        target = self.stack[-1]
        if not isinstance(target, list):
            raise self.refusal(f"items for a {type(target).__name__}")
        target.extend(items)

    def update_set(self, items: list[Any]) -> None:
        """Add to the set on top.

        Args:
            items: What is added.

        Raises:
            BundleError: No set is on top, or an item is refused.
        """
        target = self.stack[-1]
        if not isinstance(target, set):
            raise self.refusal(f"items for a {type(target).__name__}")
        target.update(map(self.checked_key, items))


def _is_plain_name(qualified: str) -> bool:
    """Whether a name is a plain dotted Python name, without double underscores.

    Those lead to what every object has, such as ``__class__``.
    """
    rest = qualified.replace("__builtin__.", "").replace("__main__.", "")
    return _DOTTED_NAME.fullmatch(qualified) is not None and "__" not in rest


def _is_refused_name(qualified: str) -> bool:
    """Whether a name is in a module that no network needs, or in torch but not a known one."""
    package = qualified.partition(".")[0]
    if package in _REFUSED_MODULES:
        return qualified not in _CONTAINERS and qualified not in _FUNCTIONS
    return package == "torch" and not _TORCH.fullmatch(qualified)


def _describe_id(pid: Any) -> str:
    """A persistent id in a few letters; whatever else it may hold could be endless."""
    first = pid[0] if isinstance(pid, tuple) and pid else pid
    if isinstance(first, str):
        return repr(first[:40])
    return f"of a {type(first).__name__}"
