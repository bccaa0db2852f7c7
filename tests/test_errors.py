"""Errors travel: between processes, through copies, and say what is wrong wherever they arrive."""

import copy
import importlib
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import mien
from mien.errors import MienError, MissingExtraError, UnknownNameError, UnknownOptionError
from mien.outputs.claims import ClaimedError

# What the constructor of a class asks for, where that is not one message.
ARGUMENTS = {
    ClaimedError: ("table.csv is being written; wait for it", None),
    UnknownNameError: ("bundle", "mien-z", ["mien-s", "mien-face"]),
    UnknownOptionError: ("option", "smothing", ["smoothing", "every"]),
    MissingExtraError: ("openvino", "the openvino engine"),
}


def every_error() -> list[type[Exception]]:
    """All exceptions that modules of the package define."""
    root = Path(mien.__file__).parent
    found: list[type[Exception]] = []
    for path in sorted(root.rglob("*.py")):
        names = re.findall(
            r"^class (\w+)\(.*(?:Error|Exception)\)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        module = ".".join(("mien", *path.relative_to(root).with_suffix("").parts))
        found += [getattr(importlib.import_module(module), name) for name in names]
    return found


KINDS = every_error()


def made(kind: type[Exception]) -> Exception:
    error = kind(*ARGUMENTS.get(kind, ("clip.mp4: is empty; copy it again",)))
    error.add_note("seen in a batch")
    return error


def test_the_battery_knows_every_error():
    assert {MienError, UnknownNameError, MissingExtraError} < set(KINDS)
    assert len(KINDS) >= 9


def through_pickle(error: Exception) -> Exception:
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", [through_pickle, copy.copy, copy.deepcopy])
def test_an_error_survives_travel(kind, way):
    error = made(kind)
    back = way(error)
    assert type(back) is kind
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert back.__notes__ == ["seen in a batch"]


def fail(kind: type[Exception]) -> None:
    raise made(kind)


def test_every_error_comes_back_from_another_process():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        raised = [pool.submit(fail, kind).exception(timeout=60) for kind in KINDS]
    assert [type(error) for error in raised] == KINDS
    assert [str(error) for error in raised] == [str(made(kind)) for kind in KINDS]


def test_an_unknown_option_is_a_type_error_too():
    with pytest.raises(TypeError, match=r"no option named 'smothing'; did you mean smoothing\?"):
        raise made(UnknownOptionError)
