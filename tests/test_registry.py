"""Every data set states its facts, and follows from one list."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.registry import DATA_SETS, Set, places, set_name, starting_from
from mien.data.spec import DataSet, DataSetInfo
from mien.data.standins import KINDS
from mien.tasks import TASKS, Task

# The least that settings of each set must say, and the name that people call it by then.
SETTINGS = {
    "ferplus": ({"folder": "x"}, "FER+"),
    "portraits": ({"folder": "x"}, "portraits"),
    "folder": ({"root": "faces/mine"}, "mine"),
    "file": ({"path": "faces/mine.csv"}, "mine.csv"),
    "drawn": ({"count": 1, "seed": 0, "size": 32}, "drawn faces"),
    "rendered": ({"count": 1, "seed": 0, "size": 32}, "rendered heads"),
    "s-aff-wild2": ({"root": "x"}, "s-Aff-Wild2"),
    "aff-wild2": ({"root": "x", "tracks": ["va", "expr", "au"]}, "Aff-Wild2"),
    "lsd": ({"root": "x"}, "LSD"),
    "c-expr-db": ({"root": "x"}, "C-EXPR-DB"),
    "affectnet": ({"root": "x"}, "AffectNet"),
    "raf-db": ({"root": "x"}, "RAF-DB"),
    "expw": ({"root": "x"}, "ExpW"),
    "afew-va": ({"root": "x"}, "AFEW-VA"),
    "vggface2": ({"root": "x"}, "VGGFace2"),
}
# Sets whose labels are whatever the user's files, or the drawing, have.
WITHOUT_TASKS = {"folder", "file", "drawn", "rendered", "vggface2"}

SPEC = TypeAdapter(Set)
KNOWN = {**TASKS, AU_BLENDSHAPES.key: AU_BLENDSHAPES}


def spec(name):
    return SPEC.validate_python({"set": name, **SETTINGS[name][0]})


def test_every_data_set_has_a_row_here():
    assert set(SETTINGS) == set(DATA_SETS)
    assert len(set(DATA_SETS.values())) == len(DATA_SETS)


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_states_every_fact(name):
    kind = DATA_SETS[name]
    assert issubclass(kind, DataSet)
    assert isinstance(kind.info, DataSetInfo)
    info = kind.info
    for fact in (info.terms, info.source, *info.supervision.values()):
        assert fact.strip() == fact
        assert fact
    # None is an answer where people's own files decide; an empty text is none.
    assert info.name != ""
    assert info.title != ""
    assert info.paper is None or any(letter.isdigit() for letter in info.paper)
    assert info.supervision
    assert bool(info.tasks) == (name not in WITHOUT_TASKS)
    assert next(iter(kind.model_fields)) == "set"
    assert kind.__doc__


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_says_who_labelled_each_of_its_tasks(name):
    given = spec(name)
    for key in given.info.tasks:
        assert given.supervision(KNOWN[key]), key
    if given.info.tasks:
        strange = Task("gender.two", ("a", "b"), "one_of")
        assert given.supervision(strange) is None


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_is_called_by_its_name_and_found_from_a_folder(name, tmp_path):
    given = spec(name)
    assert set_name(given) == SETTINGS[name][1]
    moved = SPEC.validate_python(starting_from(tmp_path, {"set": name, **SETTINGS[name][0]}))
    relative = [tmp_path / path for path in places(given)]
    assert list(places(moved)) == relative
    assert all(isinstance(path, Path) for path in places(given))


def test_labels_that_are_loaded_are_those_that_are_credited():
    va_only = SPEC.validate_python({"set": "aff-wild2", "root": "x", "tracks": "va"})
    assert va_only.supervision(TASKS["va"])
    assert va_only.supervision(TASKS["expr.abaw8"]) is None
    # Activations of a face landmarker are no codes of FACS.
    assert spec("ferplus").supervision(TASKS["au.abaw12"]) is None
    assert spec("folder").supervision(TASKS["va"]) is None


def test_a_stand_in_goes_by_the_name_of_its_data_set():
    for name, kind in KINDS.items():
        assert kind.data_set is DATA_SETS[name]
        assert kind.name == DATA_SETS[name].info.name
