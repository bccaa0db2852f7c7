"""The operations of pickles, except those that could build or call anything.

Each does what `pickletools` says of it, with `Name` and `Record` in place of classes and objects.
"""

from collections.abc import Callable
from io import BytesIO
from pickletools import genops
from typing import Any, Final

from mien.zoo.pickle_machine import PickleMachine

__all__ = ["run"]

Operation = Callable[[PickleMachine, Any], object]


def _from_mark(make: Callable[[list[Any]], Any]) -> Operation:
    """An operation that pushes what `make` gives for the values since the mark."""

    def operation(machine: PickleMachine, _: Any) -> None:
        items = machine.pop_mark()
        machine.stack.append(make(items))

    return operation


def _from_top(count: int, action: Callable[[PickleMachine, list[Any]], object]) -> Operation:
    """An operation that takes `count` values from the stack."""
    return lambda machine, _: action(machine, machine.pop(count))


def _push_tuple(machine: PickleMachine, items: list[Any]) -> None:
    machine.stack.append(tuple(items))


def _push_remembered(machine: PickleMachine, number: Any) -> None:
    machine.stack.append(machine.memo[number])


def _remember(machine: PickleMachine, number: Any) -> None:
    size = len(machine.memo)
    if number is None:
        number = size
    # In order, as all that write pickles number them, Python 2 from 1; freely chosen numbers could
    # be made to collide.
    if not 0 <= number <= size + 1:
        raise ValueError("it remembers out of order")
    machine.memo[number] = machine.stack[-1]


def _push_global(machine: PickleMachine, qualified: Any) -> None:
    module, _, name = qualified.partition(" ")
    machine.push_name(module, name)


def _instance(machine: PickleMachine, qualified: Any) -> None:
    args = tuple(machine.pop_mark())
    _push_global(machine, qualified)
    machine.push_made(machine.stack.pop(), args)


def _object(machine: PickleMachine, _: Any) -> None:
    maker, *args = machine.pop_mark()
    machine.push_made(maker, tuple(args))


def _new_with_keywords(machine: PickleMachine, items: list[Any]) -> None:
    maker, args, keywords = items
    if keywords:
        machine.spend(len(args))
        args = (*args, keywords)
    machine.push_made(maker, args)


def _push_dict(machine: PickleMachine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append({})
    machine.update_dict(items)


def _push_frozenset(machine: PickleMachine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(frozenset(map(machine.checked_key, items)))


def _drop(machine: PickleMachine, _: Any) -> None:
    # On an empty stack, POP closes a mark.
    if machine.stack:
        machine.pop(1)
    else:
        machine.pop_mark()


def _ignore(_machine: PickleMachine, _: Any) -> None:
    """Framing and the protocol's version change nothing."""


# Operations that push their argument.
_CONSTANTS: Final = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "FLOAT",
    "BINFLOAT",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_OPERATIONS: Final[dict[str, Operation]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "STOP": _ignore,
    "MARK": lambda machine, _: machine.mark(),
    "POP": _drop,
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "LIST": _from_mark(list),
    "TUPLE": _from_mark(tuple),
    "DICT": _push_dict,
    "FROZENSET": _push_frozenset,
    "TUPLE1": _from_top(1, _push_tuple),
    "TUPLE2": _from_top(2, _push_tuple),
    "TUPLE3": _from_top(3, _push_tuple),
    "APPEND": _from_top(1, PickleMachine.extend_list),
    "APPENDS": lambda machine, _: machine.extend_list(machine.pop_mark()),
    "SETITEM": _from_top(2, PickleMachine.update_dict),
    "SETITEMS": lambda machine, _: machine.update_dict(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.update_set(machine.pop_mark()),
    "GET": _push_remembered,
    "BINGET": _push_remembered,
    "LONG_BINGET": _push_remembered,
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GLOBAL": _push_global,
    "STACK_GLOBAL": _from_top(2, lambda machine, items: machine.push_name(*items)),
    "REDUCE": _from_top(2, lambda machine, items: machine.push_made(*items)),
    "NEWOBJ": _from_top(2, lambda machine, items: machine.push_made(*items)),
    "NEWOBJ_EX": _from_top(3, _new_with_keywords),
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _from_top(1, lambda machine, items: machine.set_state(items[0])),
    "BINPERSID": _from_top(1, lambda machine, items: machine.push_persistent(items[0])),
}


def run(program: BytesIO, machine: PickleMachine) -> Any:
    """Run a pickle.

    Args:
        program: The pickle; left at its end.
        machine: A new machine.

    Returns:
        Its value: lists, dicts, sets, texts, numbers, arrays, `Name` and `Record`.

    Raises:
        BundleError: It asks for something that no file of weights needs.
        ValueError: It is damaged. Depending on the damage, also other errors of Python.
    """
    for operation, argument, _ in genops(program):
        machine.spend(1)
        if operation.name in _CONSTANTS:
            machine.stack.append(argument)
        elif operation.name in _OPERATIONS:
            _OPERATIONS[operation.name](machine, argument)
        else:
            raise machine.refusal(f"the operation {operation.name}")
    if not machine.is_done:
        raise ValueError("it does not end with one value")
    return machine.stack[0]
