"""The faces that stand-ins are made of: drawn ones with known labels, or those of a label table.

A face of a table shows what its labels say, with three rules for what they do not say:

- ``AU06`` and ``AU23``, which a face landmarker does not know, are the shares of happiness and of
  anger (EMFACS has them there);
- contempt counts as ``other`` in label sets that have ``other``, and so does half of every face
  that people disagree about: one whose largest share is 0.5 or less;
- valence and arousal are those of the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.drawn.acting import EXPRESSIONS, portray, valence_arousal
from mien.data.drawn.geometry import five_points
from mien.data.drawn.painter import draw
from mien.data.drawn.people import drawn_person
from mien.data.drawn.portrayal import UNITS, Person, Portrayal
from mien.data.label_table import labels, split_by
from mien.data.registry import File, Set, load_set, starting_from
from mien.errors import DataError
from mien.tasks import COMPOUNDS, TASKS, Floats

__all__ = ["UNSEEN_UNITS", "Faces", "abaw_shares", "drawn_faces", "faces_of", "read_faces"]

_EXPR: Final = TASKS["expr.ferplus8"]
_VA: Final = TASKS["va"]
_AU: Final = TASKS["au.abaw12"]
_ABAW: Final = TASKS["expr.abaw8"]
_DRAWN_SIZE: Final = 112
_FACES_OF_SUBJECT: Final = 20
_FEWEST: Final = 3
# Share of test among validation and test of s-Aff-Wild2.
_TEST: Final = 51_159 / (51_159 + 26_876)

UNSEEN_UNITS: Final = {"AU06": "happiness", "AU23": "anger"}
"""Units of ``au.abaw12`` that ``au.blendshapes`` lacks -> the expression whose share they are."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The N faces of one split.

    Attributes:
        images: Cells of the column `image` of a label table.
        points: (N, 10) in image pixels, NaN where there are none.
        expr: Shares (N, 9) in the order of `mien.data.drawn.acting.EXPRESSIONS`.
        va: Valence and arousal (N, 2), -1..1.
        units: Activations (N, 12), 0..1.
    """

    images: Sequence[object]
    points: Floats
    expr: Floats
    va: Floats
    units: Floats

    def __len__(self) -> int:
        return len(self.images)

    def showing(self, names: Sequence[str]) -> list[NDArray[np.intp]]:
        """The faces that show each expression clearly (share above 0.5).

        Args:
            names: Of `EXPRESSIONS`.

        Returns:
            For each name the numbers of the faces.

        Raises:
            DataError: Where an expression has fewer than three faces.
        """
        top = self.expr.argmax(axis=1)
        clear = self.expr.max(axis=1) > 0.5
        pools = [np.flatnonzero(clear & (top == EXPRESSIONS.index(name))) for name in names]
        check_enough(names, pools)
        return pools


def check_enough(names: Sequence[str], pools: Sequence[NDArray[np.intp]]) -> None:
    """Check that every expression has at least three faces.

    Args:
        names: Of the expressions.
        pools: Numbers of the faces that show each.

    Raises:
        DataError: Where one has fewer.
    """
    counts = [len(pool) for pool in pools]
    fewest = min(counts)
    if fewest < _FEWEST:
        name = names[counts.index(fewest)]
        raise DataError(
            f"{fewest} faces of one split show {name}; a stand-in needs at least {_FEWEST} there, "
            "so give more faces"
        )


def abaw_shares(expr: Floats) -> Floats:
    """Shares of ABAW's eight classes, by the rules of this module.

    Args:
        expr: Shares (N, 9) in the order of `EXPRESSIONS`.

    Returns:
        Shares (N, 8) in the order of ``expr.abaw8``.

    >>> split = np.zeros((1, 9))
    >>> split[0, [EXPRESSIONS.index("fear"), EXPRESSIONS.index("surprise")]] = 0.5
    >>> abaw_shares(split).tolist()
    [[0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.25, 0.5]]
    """
    shares = expr[:, _ABAW.column_index(EXPRESSIONS)].copy()
    other = _ABAW.names.index("other")
    shares[:, other] += expr[:, EXPRESSIONS.index("contempt")]
    unclear = shares.max(axis=1) <= 0.5
    shares[unclear] *= 0.5
    shares[unclear, other] += 0.5
    return np.asarray(shares)


def drawn_faces(count: int, seed: int, split: int, compounds: bool = False) -> Faces:
    """Draw faces, all expressions equally often, about 20 of a subject.

    Args:
        count: Number of faces.
        seed: Of everything drawn.
        split: Number of the split; two splits share no subject.
        compounds: Show the pairs of ``ce.abaw7`` instead, half and half.

    Returns:
        The faces, pictures of 112 px.
    """
    pairs = list(COMPOUNDS.values()) if compounds else [(name, name) for name in EXPRESSIONS]
    people = []
    for k in range(-(-count // _FACES_OF_SUBJECT)):
        people.append(drawn_person(np.random.default_rng((seed, split, 0, k))))
    portrayals = []
    shares = np.zeros((count, len(EXPRESSIONS)))
    for i in range(count):
        pair = pairs[i % len(pairs)]
        portrayals.append(_portrait(np.random.default_rng((seed, split, 1, i)), people, pair))
        for name in pair:
            shares[i, EXPRESSIONS.index(name)] += 0.5
    units = np.array([portrayal.units for portrayal in portrayals])
    alert = np.array([portrayal.alert for portrayal in portrayals])
    images = []
    points = []
    for portrayal in portrayals:
        images.append(draw(portrayal, _DRAWN_SIZE))
        points.append(_pixels(portrayal))
    return Faces(
        images=images,
        points=np.array(points),
        expr=shares,
        va=valence_arousal(units, alert),
        units=units[:, _AU.column_index(UNITS)],
    )


def _pixels(portrayal: Portrayal) -> Floats:
    """The five points (10,); pixel centres lie at whole numbers."""
    return (five_points(portrayal) * _DRAWN_SIZE - 0.5).ravel()


def _portrait(
    rng: np.random.Generator, people: Sequence[Person], pair: tuple[str, str]
) -> Portrayal:
    """Somebody with the units of both expressions."""
    person = people[int(rng.integers(len(people)))]
    portrayal = portray(rng, person, pair[0])
    if pair[0] == pair[1]:
        return portrayal
    other = portray(rng, person, pair[1])
    return replace(portrayal, units=tuple(map(max, portrayal.units, other.units)))


def read_faces(path: Path) -> pd.DataFrame:
    """The label table of real faces.

    Args:
        path: A file of labels in mien's own columns (CSV, TSV, Parquet), or a YAML file with sets
            under `data:`, whose relative paths start from its folder.

    Returns:
        A label table with the columns of ``expr.ferplus8``, ``va`` and ``au.blendshapes``.

    Raises:
        DataError: For what cannot be read.
        MissingExtraError: For YAML without the extra ``evaluate``.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        specs = _sets(path)
    else:
        specs = [File(set="file", path=path)]
    tables = [load_set(spec, (_EXPR, _VA, AU_BLENDSHAPES)) for spec in specs]
    return pd.concat(tables, ignore_index=True)


def _sets(path: Path) -> list[Set]:
    """The sets of a YAML file."""
    # pydantic's adapters and YAML are needed for this alone.
    from pydantic import TypeAdapter, ValidationError

    from mien.documents.yaml import read_yaml

    content = read_yaml(path, "give a YAML file with a list `data`, as `mien train --show` prints")
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list) or not data:
        raise DataError(
            f"{path}: has no list `data`; name at least one set there, "
            "as in settings for mien train"
        )
    specs = []
    for i, spec in enumerate(data):
        specs.append(starting_from(path.parent, spec, f"{path}: data.{i}"))
    try:
        return TypeAdapter(list[Set]).validate_python(specs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}: data.{place}: {first['msg']}; see docs/howto/standins.md"
        ) from error


def faces_of(
    table: pd.DataFrame, splits: Sequence[str], seed: int, where: str
) -> tuple[dict[str, Faces], int]:
    """The faces of a label table, by split.

    Args:
        table: As from `read_faces`.
        splits: The splits of the stand-in. Where test is one of them and the table has none, it
            gets a part of val, of other subjects.
        seed: Of the parting of val.
        where: Names the table in error messages.

    Returns:
        The faces of each split, and how many rows were left out because a label is not annotated.

    Raises:
        DataError: For a table without a label, or without a split.
    """
    values = {task.key: labels(table, task) for task in (_EXPR, _VA, AU_BLENDSHAPES)}
    for key, columns in values.items():
        if np.isnan(columns).any(axis=1).all():
            raise DataError(
                f"{where}: no face has all labels of {key}; stand-ins of real faces need "
                "expr.ferplus8, va and au.blendshapes"
            )
    complete = ~np.isnan(np.concatenate(list(values.values()), axis=1)).any(axis=1)
    split = table["split"].to_numpy(object).copy()
    if "test" in splits:
        split = _with_test(table, split, complete, seed)
    faces = {}
    for name in splits:
        # A val that is too small to be parted serves as test too.
        source = "val" if name == "test" and "test" not in split else name
        rows = complete & (split == source)
        if not rows.any():
            raise DataError(
                f"{where}: no face with all labels is in split {name}; "
                "give a table with the splits train and val"
            )
        chosen = {key: columns[rows] for key, columns in values.items()}
        faces[name] = _faces(table[rows], chosen)
    return faces, int((~complete).sum())


def _with_test(
    table: pd.DataFrame, split: NDArray[np.object_], complete: NDArray[np.bool_], seed: int
) -> NDArray[np.object_]:
    """Splits with about two thirds of val moved to test: whole subjects, as many of each class."""
    split[split == "test"] = None
    top = np.nan_to_num(labels(table, _EXPR)).argmax(axis=1)
    alone = table["subject"].isna().to_numpy()
    candidates = complete & (split == "val")
    # Faces without a subject are parted class by class, the others by subject.
    groups = [(alone & (top == k), None) for k in range(len(_EXPR.names))]
    for group, by in [*groups, (~alone, "subject")]:
        rows = np.flatnonzero(candidates & group)
        part = table.iloc[rows]
        if len(rows) > 1 and (by is None or part["subject"].nunique() > 1):
            parted = split_by(part, by, {"val": 1 - _TEST, "test": _TEST}, seed)
            split[rows] = parted["split"].to_numpy(object)
    return split


def _faces(table: pd.DataFrame, values: Mapping[str, NDArray[np.float32]]) -> Faces:
    """Faces of rows whose labels are complete."""
    shares = np.zeros((len(table), len(EXPRESSIONS)))
    shares[:, [EXPRESSIONS.index(name) for name in _EXPR.names]] = values[_EXPR.key]
    units = np.empty((len(table), len(_AU.names)))
    for k, name in enumerate(_AU.names):
        if name in UNSEEN_UNITS:
            units[:, k] = shares[:, EXPRESSIONS.index(UNSEEN_UNITS[name])]
        else:
            units[:, k] = values[AU_BLENDSHAPES.key][:, AU_BLENDSHAPES.names.index(name)]
    points = np.array([_points_or_nan(cell) for cell in table["points"]])
    va = values[_VA.key].astype(float)
    return Faces(table["image"].to_list(), points, shares, va, units)


def _points_or_nan(cell: object) -> Floats:
    if cell is None or np.ndim(cell) == 0:  # type: ignore[arg-type]
        return np.full(10, np.nan)
    return np.asarray(cell, float)
