"""Label orders, written out a second time by hand from the challenges' and papers' tables."""

import numpy as np
import pytest

from mien.errors import LabelMismatchError, UnknownNameError
from mien.tasks import COMPOUND_SCORES, COMPOUNDS, TASKS, Task, both_members, task

ORDERS = {
    "expr.ferplus8": [
        "neutral",
        "happiness",
        "surprise",
        "sadness",
        "anger",
        "disgust",
        "fear",
        "contempt",
    ],
    "expr.affectnet8": [
        "anger",
        "contempt",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
        "surprise",
    ],
    "expr.abaw8": [
        "neutral",
        "anger",
        "disgust",
        "fear",
        "happiness",
        "sadness",
        "surprise",
        "other",
    ],
    "expr.abaw7": ["neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"],
    "expr.lsd6": ["anger", "disgust", "fear", "happiness", "sadness", "surprise"],
    "expr.affectnet7": ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"],
    "va": ["valence", "arousal"],
    "au.abaw12": [
        "AU01",
        "AU02",
        "AU04",
        "AU06",
        "AU07",
        "AU10",
        "AU12",
        "AU15",
        "AU23",
        "AU24",
        "AU25",
        "AU26",
    ],
    "ce.abaw7": [
        "fearfully_surprised",
        "happily_surprised",
        "sadly_surprised",
        "disgustedly_surprised",
        "angrily_surprised",
        "sadly_fearful",
        "sadly_angry",
    ],
    "emi.abaw5": [
        "adoration",
        "amusement",
        "anxiety",
        "disgust",
        "empathic_pain",
        "fear",
        "surprise",
    ],
    "emi.abaw6": ["admiration", "amusement", "determination", "empathic_pain", "excitement", "joy"],
    "ah.abaw8": ["ambivalence_hesitancy"],
    "quality.reading": ["quality"],
    "occlusion.regions5": ["left_eye", "right_eye", "brows", "nose", "mouth"],
    "pose.angles": ["yaw", "pitch", "roll"],
    "gaze.eyes": ["x", "y"],
    # x and y of each of the 68 points in turn.
    "landmarks.ibug68": [f"{number // 2}_{'xy'[number % 2]}" for number in range(136)],
}
KINDS = {
    "expr": "one_of",
    "ce": "one_of",
    "au": "any_of",
    "ah": "any_of",
    "va": "scalar",
    "emi": "scalar",
    "quality": "any_of",
    "occlusion": "any_of",
    "pose": "scalar",
    "gaze": "scalar",
    "landmarks": "scalar",
}
RANGES = {"va": (-1, 1), "pose": (-180, 180), "gaze": (-1, 1), "landmarks": (-1, 2)}
HSE8 = TASKS["expr.affectnet8"].names
AFFECTNET_NATIVE = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
EXPW = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


@pytest.mark.parametrize("key", ORDERS)
def test_order(key: str) -> None:
    assert list(task(key).names) == ORDERS[key]


def test_every_set_has_its_order_tested() -> None:
    assert set(ORDERS) == set(TASKS)


@pytest.mark.parametrize("one", TASKS.values(), ids=TASKS)
def test_a_task_is_sound(one: Task) -> None:
    assert TASKS[one.key] is one
    assert len(set(one.names)) == len(one.names) == len(one.columns) == len(set(one.columns))
    assert one.kind == KINDS[one.family]
    assert (one.low, one.high) == RANGES.get(one.family, (0, 1))


@pytest.mark.parametrize("one", TASKS.values(), ids=TASKS)
def test_decode_stays_in_range(one: Task) -> None:
    raw = np.random.default_rng(0).normal(scale=50, size=(200, len(one.names)))
    raw[0] = 1e4
    raw[1] = -1e4
    raw[2, 0] = 1e4
    scores = one.decode(raw)
    assert scores.shape == raw.shape
    assert scores.min() >= one.low
    assert scores.max() <= one.high
    if one.kind == "one_of":
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
    inside = (raw > one.low) & (raw < one.high)
    np.testing.assert_array_equal(scores[inside], raw[inside]) if one.kind == "scalar" else None


def test_decode_against_the_plain_formulas() -> None:
    raw = np.random.default_rng(1).normal(size=(20, 12))
    np.testing.assert_allclose(task("au.abaw12").decode(raw), 1 / (1 + np.exp(-raw)), atol=1e-12)
    odds = np.exp(raw[:, :8])
    np.testing.assert_allclose(
        task("expr.abaw8").decode(raw[:, :8]), odds / odds.sum(axis=1)[:, None], atol=1e-12
    )


def test_decode_is_row_by_row() -> None:
    raw = np.random.default_rng(2).normal(size=(9, 8))
    whole = task("expr.abaw8").decode(raw)
    np.testing.assert_array_equal(
        whole, np.concatenate([task("expr.abaw8").decode(raw[i : i + 1]) for i in range(9)])
    )


@pytest.mark.parametrize("one", TASKS.values(), ids=TASKS)
def test_a_remap_goes_there_and_back(one: Task) -> None:
    shuffled = tuple(np.random.default_rng(3).permutation(one.names).tolist())
    index = one.column_index(shuffled)
    assert [shuffled[i] for i in index] == list(one.names)
    assert one.column_index(one.names).tolist() == list(range(len(one.names)))


def test_lsd_slots_from_the_alphabetical_eight() -> None:
    assert task("expr.lsd6").column_index(HSE8).tolist() == [0, 2, 3, 4, 6, 7]


def test_contempt_standing_in_for_other() -> None:
    stand_in = tuple("other" if name == "contempt" else name for name in HSE8)
    to_abaw = task("expr.abaw8").column_index(stand_in)
    assert to_abaw.tolist() == [5, 0, 2, 3, 4, 6, 7, 1]
    assert np.argsort(to_abaw).tolist() == [1, 7, 2, 3, 4, 0, 5, 6]


def test_alphabetical_seven_leave_contempt_out() -> None:
    seven = tuple(name for name in HSE8 if name != "contempt")
    assert seven == ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert task("expr.abaw7").column_index(seven).tolist() == [4, 0, 1, 2, 3, 5, 6]


def test_affectnet_files_are_not_in_the_order_of_the_networks() -> None:
    assert task("expr.affectnet8").column_index(AFFECTNET_NATIVE).tolist() == [
        6,
        7,
        5,
        4,
        1,
        0,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("source", "codes"),
    [(AFFECTNET_NATIVE[:7], [0, 4, 5, 6, 3, 2, 1]), (EXPW, [1, 2, 3, 4, 5, 6, 0])],
)
def test_source_codes_to_abaw7(source: tuple[str, ...], codes: list[int]) -> None:
    assert np.argsort(task("expr.abaw7").column_index(source)).tolist() == codes


def test_compounds_pair_the_alphabetical_eight() -> None:
    pairs = [tuple(HSE8.index(part) for part in parts) for parts in COMPOUNDS.values()]
    assert pairs == [(3, 7), (4, 7), (6, 7), (2, 7), (0, 7), (6, 3), (6, 0)]
    assert tuple(COMPOUNDS) == task("ce.abaw7").names


def test_labels_that_cannot_be_matched() -> None:
    with pytest.raises(
        LabelMismatchError, match=r"expr\.abaw8 needs other; the source only has anger"
    ):
        task("expr.abaw8").column_index(HSE8)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no task named 'expr\.abaw9'; did you mean expr\.abaw[78]"
    ):
        task("expr.abaw9")


def test_tasks_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        task("va").low = 0.0  # type: ignore[misc]


def test_both_members_is_the_harmonic_mean_and_needs_both() -> None:
    names = TASKS["expr.ferplus8"].names
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(8), 50)
    scores = both_members(shares, names)
    for k, pair in enumerate(COMPOUNDS.values()):
        p, q = (shares[:, names.index(part)] for part in pair)
        np.testing.assert_allclose(scores[:, k], 2 / (1 / p + 1 / q), atol=1e-12)
    happy = np.eye(8)[[names.index("happiness")]]
    assert not both_members(happy, names).any()
    assert 0 <= scores.min() <= scores.max() <= COMPOUND_SCORES.high
    assert COMPOUND_SCORES.columns[1] == "ce_happily_surprised"


def test_former_name_warns():
    with pytest.warns(DeprecationWarning, match="column_index"):
        assert TASKS["expr.lsd6"].take_from(TASKS["expr.affectnet8"].names).tolist() == [
            0,
            2,
            3,
            4,
            6,
            7,
        ]
