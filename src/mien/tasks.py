"""What can be predicted: the label sets, their orders, kinds and ranges.

This is the one home of label order. Two sets are only ever matched by name (`Task.column_index`).

It is also the home of the ABAW challenges' editions. Protocols and submission formats are filed by
year (``abaw2024.mtl``), people speak of editions (ABAW7), and two years held two editions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Final, Literal, get_args
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from mien.errors import LabelMismatchError, UnknownNameError

__all__ = [
    "COMPOUNDS",
    "COMPOUND_SCORES",
    "EDITIONS",
    "LANDMARK_FAMILY",
    "MEANS",
    "QUALITY_FAMILIES",
    "TASKS",
    "Edition",
    "Floats",
    "Mean",
    "Task",
    "both_members",
    "challenge_key",
    "compound_scores",
    "task",
    "year_of",
]

Floats = NDArray[np.floating]
Kind = Literal["one_of", "any_of", "scalar"]
Mean = Literal["arithmetic", "geometric", "harmonic"]
MEANS: Final[tuple[Mean, ...]] = get_args(Mean)
"""How the probabilities of two expressions become one score of their compound."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one head predicts and how to read its numbers.

    It holds no data and no weights, so the same task can be written into a card, a network and a
    table header, and mean the same thing in all three.

    Attributes:
        key: ``family.set``; the family (``expr``, ``va``, ``au``, ``ce``, ``emi``, ``ah``, or one
            of `QUALITY_FAMILIES`, or `LANDMARK_FAMILY`) names the scores, the set fixes the order.
        names: Column i of every array of this task is ``names[i]``.
        kind: ``one_of`` (softmax), ``any_of`` (sigmoid) or ``scalar`` (already in its unit).
        low: The lowest score.
        high: The highest score.
        numbered: Label tables hold the number of the class in one column, in place of a column per
            class; for ``one_of`` tasks of thousands of classes, such as the people of a data set.
    """

    key: str
    names: tuple[str, ...]
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    numbered: bool = False

    @property
    def family(self) -> str:
        """The part of the key that scores are filed under.

        >>> TASKS["expr.ferplus8"].family
        'expr'
        """
        return self.key.partition(".")[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of this task in every table.

        >>> TASKS["va"].columns, TASKS["expr.lsd6"].columns[0], TASKS["au.abaw12"].columns[0]
        (('valence', 'arousal'), 'expr_anger', 'AU01')
        >>> Task("identity.two", ("n1", "n2"), "one_of", numbered=True).columns
        ('identity',)
        """
        if self.numbered:
            return (self.family,)
        # Words such as "anger" or "nose" need their family, "valence" and "AU01" do not.
        families = ("ce", "occlusion", "pose", "gaze", LANDMARK_FAMILY)
        prefixed = self.kind == "one_of" or self.family in families
        prefix = f"{self.family}_" if prefixed else ""
        return tuple(prefix + name for name in self.names)

    def decode(self, raw: Floats) -> Floats:
        """Turn raw network output into scores.

        Args:
            raw: Output of the head (N, K): logits, or values in their unit for ``scalar``.

        Returns:
            Scores (N, K) within [low, high].

        >>> TASKS["va"].decode(np.array([[1.5, -0.25]])).tolist()
        [[1.0, -0.25]]
        """
        if self.kind == "scalar":
            return np.clip(raw, self.low, self.high)
        if self.kind == "any_of":
            # The logistic function, written so that it never overflows.
            return np.asarray(0.5 * (1 + np.tanh(raw / 2)))
        # Subtracting the maximum changes no share and keeps exp from overflowing.
        odds = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def column_index(self, source: tuple[str, ...]) -> NDArray[np.intp]:
        """Find the columns of another label order that hold this task's names.

        Args:
            source: The names of the columns that there are, in their order.

        Returns:
            Index (K,) that puts them into this task's order.

        Raises:
            LabelMismatchError: When the source lacks one of the names.

        >>> TASKS["expr.lsd6"].column_index(TASKS["expr.affectnet8"].names).tolist()
        [0, 2, 3, 4, 6, 7]
        """
        missing = [name for name in self.names if name not in source]
        if missing:
            raise LabelMismatchError(
                f"{self.key} needs {', '.join(missing)}; the source only has {', '.join(source)}"
            )
        return np.array([source.index(name) for name in self.names], dtype=np.intp)

    def take_from(self, source: tuple[str, ...]) -> NDArray[np.intp]:
        """The former name of `column_index`, for one release.

        Args:
            source: As there.

        Returns:
            As there.
        """
        warn("Task.take_from is now Task.column_index", DeprecationWarning, stacklevel=2)
        return self.column_index(source)


def _expr(key: str, names: str) -> Task:
    return Task(f"expr.{key}", tuple(names.split()), "one_of")


def _au(key: str, *numbers: int) -> Task:
    names = tuple(f"AU{number:02d}" for number in numbers)
    return Task(f"au.{key}", names, "any_of")


# Du, Tao & Martinez (2014), in the order of the compound-expression tracks of ABAW6 and ABAW7
# (C-EXPR-DB).
COMPOUNDS: Final[dict[str, tuple[str, str]]] = {
    "fearfully_surprised": ("fear", "surprise"),
    "happily_surprised": ("happiness", "surprise"),
    "sadly_surprised": ("sadness", "surprise"),
    "disgustedly_surprised": ("disgust", "surprise"),
    "angrily_surprised": ("anger", "surprise"),
    "sadly_fearful": ("sadness", "fear"),
    "sadly_angry": ("sadness", "anger"),
}

_ALL_TASKS: Final = (
    _expr("ferplus8", "neutral happiness surprise sadness anger disgust fear contempt"),
    # Alphabetical: the order of the HSEmotion networks, not of AffectNet's own files.
    _expr("affectnet8", "anger contempt disgust fear happiness neutral sadness surprise"),
    _expr("affectnet7", "anger disgust fear happiness neutral sadness surprise"),
    _expr("abaw8", "neutral anger disgust fear happiness sadness surprise other"),
    _expr("abaw7", "neutral anger disgust fear happiness sadness surprise"),
    _expr("lsd6", "anger disgust fear happiness sadness surprise"),
    Task("va", ("valence", "arousal"), "scalar", low=-1.0),
    _au("abaw12", 1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26),
    Task("ce.abaw7", tuple(COMPOUNDS), "one_of"),
    # Of a whole clip: emotional reactions of ABAW5 (Hume-Reaction), emotional mimicry of ABAW6
    # and ABAW8 (Hume-Vidmimic2).
    Task(
        "emi.abaw5",
        ("adoration", "amusement", "anxiety", "disgust", "empathic_pain", "fear", "surprise"),
        "scalar",
    ),
    Task(
        "emi.abaw6",
        ("admiration", "amusement", "determination", "empathic_pain", "excitement", "joy"),
        "scalar",
    ),
    Task("ah.abaw8", ("ambivalence_hesitancy",), "any_of"),
    # How far a reading of a face can be trusted: the chance that an undisturbed picture would give
    # the same, how far each region is covered (left and right as in the picture), how the head is
    # turned, in degrees, and where in it the eyes look.
    Task("quality.reading", ("quality",), "any_of"),
    Task("occlusion.regions5", ("left_eye", "right_eye", "brows", "nose", "mouth"), "any_of"),
    Task("pose.angles", ("yaw", "pitch", "roll"), "scalar", low=-180.0, high=180.0),
    Task("gaze.eyes", ("x", "y"), "scalar", low=-1.0, high=1.0),
    # The 68 points of iBUG (300-W), from 0 as OpenFace counts them, in fractions of the crop.
    Task(
        "landmarks.ibug68",
        tuple(f"{number}_{axis}" for number in range(68) for axis in "xy"),
        "scalar",
        low=-1.0,
        high=2.0,
    ),
)
TASKS: Final[dict[str, Task]] = {task.key: task for task in _ALL_TASKS}
"""All tasks by key."""
QUALITY_FAMILIES: Final = ("quality", "occlusion", "pose", "gaze")
"""Families that say how far a reading can be trusted, and nothing of affect."""
LANDMARK_FAMILY: Final = "landmarks"
"""The family of points of a face."""


COMPOUND_SCORES: Final = Task("ce.pairs7", tuple(COMPOUNDS), "scalar", low=0.0, high=0.5)
"""The columns of `both_members`. No network has such a head, so it is not in `TASKS`."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of the challenge.

    Attributes:
        year: When it was held.
        tracks: Its tracks, as they are called in the keys of protocols and formats.
    """

    year: int
    tracks: tuple[str, ...]


EDITIONS: Final[dict[int, Edition]] = {
    2: Edition(2021, ("expr", "va", "au")),
    3: Edition(2022, ("expr", "va", "au", "mtl")),
    4: Edition(2022, ("mtl", "lsd")),
    5: Edition(2023, ("expr", "va", "au", "eri")),
    6: Edition(2024, ("expr", "va", "au", "ce", "emi")),
    7: Edition(2024, ("mtl", "ce")),
    8: Edition(2025, ("expr", "va", "au", "emi", "ah")),
    10: Edition(2026, ("ah",)),
    11: Edition(2026, ("ah",)),
}
"""By number: ABAW2 is of 2021, ABAW3 and ABAW4 of 2022, and so on. Of ABAW10 and ABAW11 only the
track whose files could be read; of ABAW9 none could."""

_PREFIX: Final = "abaw"


def year_of(name: str) -> int | None:
    """The year that ``abaw7`` or ``abaw2024`` stands for.

    Args:
        name: Of an edition or of a year.

    Returns:
        The year; None for anything else.

    >>> year_of("abaw7"), year_of("abaw2024"), year_of("abaw9")
    (2024, 2024, None)
    """
    number = _number(name)
    if number in EDITIONS:
        return EDITIONS[number].year
    years = {edition.year for edition in EDITIONS.values()}
    return number if number in years else None


def challenge_key(kind: str, name: str, known: Iterable[str]) -> str:
    """Find a track by the year or by the edition of its challenge.

    Args:
        kind: What is looked for, for the message, such as ``"protocol"``.
        name: ``abaw<year>.<track>`` or ``abaw<edition>.<track>``.
        known: Keys by year.

    Returns:
        The key by year.

    Raises:
        UnknownNameError: There is none; of a known year or edition the message names the tracks.

    >>> challenge_key("protocol", "abaw4.mtl", ["abaw2022.lsd", "abaw2022.mtl"])
    'abaw2022.mtl'
    """
    keys = list(known)
    challenge, _, track = name.partition(".")
    edition = EDITIONS.get(_number(challenge) or 0)
    # ABAW4 had fewer tracks than 2022: a name must not lead to the other edition's track.
    if edition is not None and track in edition.tracks:
        key = f"{_PREFIX}{edition.year}.{track}"
    else:
        key = name
    if key in keys:
        return key
    choices = _choices(challenge, keys)
    if choices:
        # A slip of the pen needs the nearest name only.
        is_near = get_close_matches(name, choices, n=1, cutoff=0.85)
        why = "" if is_near else f"{challenge} has {', '.join(choices)}"
        raise UnknownNameError(kind, name, choices, why)
    raise UnknownNameError(kind, name, keys)


def _number(name: str) -> int | None:
    """The number of ``abaw<number>``."""
    digits = name.removeprefix(_PREFIX)
    # Not `int` alone: it takes signs, spaces and digits of other scripts.
    if digits == name or not (digits.isascii() and digits.isdigit()) or len(digits) > 4:
        return None
    return int(digits)


def _choices(challenge: str, keys: Iterable[str]) -> list[str]:
    """All names of an edition's or a year's tracks."""
    year = year_of(challenge)
    edition = EDITIONS.get(_number(challenge) or 0)
    choices = []
    for key in keys:
        track = key.partition(".")[2]
        if key == f"{_PREFIX}{year}.{track}" and (edition is None or track in edition.tracks):
            choices.append(f"{challenge}.{track}")
    return sorted(choices)


_BY_CHALLENGE: Final[dict[str, str]] = {
    "expr.abaw2021": "expr.abaw7",
    **dict.fromkeys([f"expr.abaw{year}" for year in range(2022, 2026)], "expr.abaw8"),
    **dict.fromkeys([f"au.abaw{year}" for year in range(2021, 2026)], "au.abaw12"),
    "ce.abaw2024": "ce.abaw7",
    "emi.abaw2023": "emi.abaw5",
    **dict.fromkeys(("emi.abaw2024", "emi.abaw2025", "emi.abaw8"), "emi.abaw6"),
    "ah.abaw2025": "ah.abaw8",
    "ah.abaw2026": "ah.abaw8",
}
"""Keys by family and year of a challenge, and by the one edition that no key is called after."""


def task(key: str) -> Task:
    """Look up a task.

    In ``expr.abaw8``, ``au.abaw12`` and ``ce.abaw7`` the number counts classes or units, in
    ``emi.abaw6`` and ``ah.abaw8`` it is an edition of ABAW. A year is always a year: the challenges
    of 2022 had the expressions ``expr.abaw2022``, which is ``expr.abaw8``.

    Args:
        key: Its key, such as ``"expr.abaw8"``, or its family and the year of a challenge.

    Returns:
        The task.

    Raises:
        UnknownNameError: For an unknown key; the message names the nearest.
    """
    by_key = _BY_CHALLENGE.get(key, key)
    if by_key not in TASKS:
        raise UnknownNameError("task", key, TASKS)
    return TASKS[by_key]


def both_members(expr: Floats, names: tuple[str, ...]) -> Floats:
    """Score how far a face shows both members of each compound expression.

    These are the ``ce_`` columns of every table. The score is the harmonic mean of the two
    probabilities, 2pq / (p + q): near 0 where either member is missing, and at most .5, where the
    two share everything. It is no probability of the compound. Chosen by measurement
    (`bench/values.py`). The papers' zero-shot form is `compound_scores`, which gives .5 to a face
    that is only happy.

    Args:
        expr: Expression probabilities (N, K), 0..1, in the order of `names`.
        names: Names of the expressions; a bundle's own are in `Task.names`.

    Returns:
        Scores (N, 7), 0 to .5, in the order of `COMPOUND_SCORES`.

    Raises:
        LabelMismatchError: `names` lacks one of the members.

    >>> happy = [0, 0, 0, 0, 0.98, 0, 0, 0.02]
    >>> happily_surprised = [0, 0, 0, 0, 0.5, 0, 0, 0.5]
    >>> faces = np.array([happy, happily_surprised])
    >>> both_members(faces, TASKS["expr.affectnet8"].names)[:, 1].round(2).tolist()
    [0.04, 0.5]
    """
    return compound_scores(expr, names, "harmonic")


def compound_scores(expr: Floats, names: tuple[str, ...], mean: Mean = "arithmetic") -> Floats:
    """Score compound expressions as means of their members' probabilities.

    So HSEmotion did at ABAW7, zero-shot, which tried all three means. A row does not sum to 1. The
    geometric and the harmonic mean are 0 where one member is.

    Args:
        expr: Expression probabilities (N, K), 0..1, in the order of `names`.
        names: Names of the expressions.
        mean: How the probabilities of the two members become one score.

    Returns:
        Scores (N, 7), 0..1, in the order of ``ce.abaw7``.

    Raises:
        LabelMismatchError: `names` lacks one of the members.
        UnknownNameError: For another mean.

    >>> names = TASKS["expr.affectnet8"].names
    >>> face = np.array([[0, 0, 0, 0.1, 0.6, 0, 0, 0.3]])
    >>> compound_scores(face, names).round(2).tolist()
    [[0.2, 0.45, 0.15, 0.15, 0.15, 0.05, 0.0]]
    >>> compound_scores(face, names, "harmonic").round(2).tolist()
    [[0.15, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    # All members in one look-up, so that a missing one is an error that names all missing ones.
    members = tuple(dict.fromkeys(chain.from_iterable(COMPOUNDS.values())))
    columns = Task("ce.parts", members, "one_of").column_index(names)
    column_of = dict(zip(members, columns, strict=True))
    first = expr[:, [column_of[pair[0]] for pair in COMPOUNDS.values()]]
    second = expr[:, [column_of[pair[1]] for pair in COMPOUNDS.values()]]
    if mean == "arithmetic":
        return np.asarray((first + second) / 2)
    if mean == "geometric":
        # Roots before the product, which could underflow.
        return np.asarray(np.sqrt(first) * np.sqrt(second))
    if mean == "harmonic":
        total = first + second
        # 0 where both members are.
        share = np.divide(second, total, out=np.zeros_like(total), where=total > 0)
        return np.asarray(2 * first * share)
    raise UnknownNameError("mean", mean, MEANS)
