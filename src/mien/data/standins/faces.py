"""The faces that stand-ins are made of: drawn ones with known labels, or those of a label table.

A face of a table shows what its labels say, with three rules for what they do not say:

- ``AU06`` and ``AU23``, which a face landmarker does not know, are the shares of happiness and of anger (EMFACS has them there);
- contempt counts as ``other`` in label sets that have ``other``, and so does half of every face that people disagree about:
  one whose largest share is 0.5 or less;
- valence and arousal are those of the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.drawn.acting import EXPRESSIONS, portray, valence_arousal
from mien.data.drawn.geometry import five_points
from mien.data.drawn.painter import draw
from mien.data.drawn.people import drawn_person
from mien.data.drawn.portrayal import UNITS, Portrayal
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
_FEWEST: Final = 3
_TEST: Final = 51_159 / (51_159 + 26_876)

UNSEEN_UNITS: Final = {"AU06": "happiness", "AU23": "anger"}
"""Units of ``au.abaw12`` that ``au.blendshapes`` lacks -> the expression whose share they are taken to be."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The N faces of one split.

    images: cells of the column `image` of a label table. points: (N, 10) in image pixels, NaN where there are none.
    expr: shares (N, 9) in the order of `mien.data.drawn.acting.EXPRESSIONS`. va: (N, 2), -1..1. units: activations (N, 12), 0..1.
    """

    images: Sequence[object]
    points: Floats
    expr: Floats
    va: Floats
    units: Floats

    def __len__(self) -> int:
        return len(self.images)

    def showing(self, names: Sequence[str]) -> list[NDArray[np.intp]]:
        """For each expression, the faces that show it more than any other and not in doubt (share above 0.5).

        Raises DataError where one has fewer than three.
        """
        top, clear = self.expr.argmax(axis=1), self.expr.max(axis=1) > 0.5
        found = [np.flatnonzero(clear & (top == EXPRESSIONS.index(name))) for name in names]
        enough(dict(zip(names, map(len, found), strict=True)))
        return found


def enough(counts: Mapping[str, int]) -> None:
    """Raises DataError for an expression with fewer than three faces."""
    name = min(counts, key=lambda each: counts[each])
    if counts[name] < _FEWEST:
        raise DataError(
            f"{counts[name]} faces of one split show {name}; a stand-in needs at least {_FEWEST} there, so give more faces"
        )


def abaw_shares(expr: Floats) -> Floats:
    """Shares (N, 8) in the order of ``expr.abaw8`` of shares (N, 9) of `EXPRESSIONS`; see the rules above.

    >>> split = np.zeros((1, 9)); split[0, [EXPRESSIONS.index("fear"), EXPRESSIONS.index("surprise")]] = 0.5
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
    """`count` drawn faces (112 px), all expressions equally often, 20 of a subject; two splits share no subject.

    compounds: they show the pairs of ``ce.abaw7`` instead, half and half.
    """
    pairs = list(COMPOUNDS.values()) if compounds else [(name, name) for name in EXPRESSIONS]
    people = [
        drawn_person(np.random.default_rng((seed, split, 0, k))) for k in range(-(-count // 20))
    ]
    played = [
        _portrait(np.random.default_rng((seed, split, 1, i)), people, pairs[i % len(pairs)])
        for i in range(count)
    ]
    units = np.array([face.units for face in played])
    shares = np.zeros((count, len(EXPRESSIONS)))
    for i in range(count):
        for name in pairs[i % len(pairs)]:
            shares[i, EXPRESSIONS.index(name)] += 0.5
    return Faces(
        images=[draw(face, _DRAWN_SIZE) for face in played],
        points=np.array([(five_points(face) * _DRAWN_SIZE - 0.5).ravel() for face in played]),
        expr=shares,
        va=valence_arousal(units, np.array([face.alert for face in played])),
        units=units[:, _AU.column_index(UNITS)],
    )


def _portrait(rng: np.random.Generator, people: list[Any], pair: tuple[str, str]) -> Portrayal:
    """Somebody with the units of both expressions."""
    person = people[rng.integers(len(people))]
    face = portray(rng, person, pair[0])
    if pair[0] == pair[1]:
        return face
    other = portray(rng, person, pair[1])
    return replace(
        face, units=tuple(max(a, b) for a, b in zip(face.units, other.units, strict=True))
    )


def read_faces(path: Path) -> pd.DataFrame:
    """The label table of a file of labels (CSV, TSV, Parquet, in our own columns) or of the sets under `data:` in a YAML file.

    It has the columns of ``expr.ferplus8``, ``va`` and ``au.blendshapes``. Relative paths in a YAML file start from its folder.
    Raises DataError for what cannot be read, and MissingExtraError for YAML without the extra ``evaluate``.
    """
    specs = (
        _sets(path) if path.suffix.lower() in (".yaml", ".yml") else [File(set="file", path=path)]
    )
    return pd.concat(
        [load_set(spec, (_EXPR, _VA, AU_BLENDSHAPES)) for spec in specs], ignore_index=True
    )


def _sets(path: Path) -> list[Set]:
    from pydantic import TypeAdapter, ValidationError

    from mien.documents.yaml import read_yaml

    content = read_yaml(path, "give a YAML file with a list `data`")
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list) or not data:
        raise DataError(
            f"{path}: has no list `data`; name at least one set there, as in settings for mien train"
        )
    try:
        specs = [
            starting_from(path.parent, spec, f"{path}: data.{i}") for i, spec in enumerate(data)
        ]
        return TypeAdapter(list[Set]).validate_python(specs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(
            f"{path}: data.{'.'.join(map(str, first['loc']))}: {first['msg']}; see docs/howto/standins.md"
        ) from error


def faces_of(
    table: pd.DataFrame, splits: Sequence[str], seed: int, where: str
) -> tuple[dict[str, Faces], int]:
    """The faces of each of `splits`, and how many rows were left out because a label is not annotated.

    train: the rows in split train. val: those in split val; where test is asked for too, it gets a part of these, of other subjects.
    Raises DataError for a table without a label, or without a split.
    """
    values = {task.key: labels(table, task) for task in (_EXPR, _VA, AU_BLENDSHAPES)}
    for key, found in values.items():
        if np.isnan(found).any(axis=1).all():
            raise DataError(
                f"{where}: no face has all labels of {key}; stand-ins of real faces need expr.ferplus8, va and au.blendshapes"
            )
    whole = ~np.isnan(np.concatenate(list(values.values()), axis=1)).any(axis=1)
    part = table["split"].to_numpy(object).copy()
    if "test" in splits:
        part = _with_test(table, part, whole, seed)
    made = {}
    for name in splits:
        rows = whole & (part == ("val" if name == "test" and "test" not in part else name))
        if not rows.any():
            raise DataError(
                f"{where}: no face with all labels is in split {name}; give a table with the splits train and val"
            )
        made[name] = _faces(table[rows], {key: found[rows] for key, found in values.items()})
    return made, int((~whole).sum())


def _with_test(
    table: pd.DataFrame, part: NDArray[np.object_], whole: NDArray[np.bool_], seed: int
) -> NDArray[np.object_]:
    """Splits with about two thirds of val moved to test: whole subjects, and as many of each expression."""
    part[part == "test"] = None
    top = np.nan_to_num(labels(table, _EXPR)).argmax(axis=1)
    lone = table["subject"].isna().to_numpy()
    groups = [lone & (top == k) for k in range(len(_EXPR.names))] + [~lone]
    for group in groups:
        rows = np.flatnonzero(whole & (part == "val") & group)
        by = None if group is not groups[-1] else "subject"
        held = table.iloc[rows]
        if len(rows) > 1 and (by is None or held["subject"].nunique() > 1):
            part[rows] = split_by(held, by, {"val": 1 - _TEST, "test": _TEST}, seed)[
                "split"
            ].to_numpy(object)
    return part


def _faces(table: pd.DataFrame, values: Mapping[str, NDArray[np.float32]]) -> Faces:
    shares = np.zeros((len(table), len(EXPRESSIONS)))
    shares[:, [EXPRESSIONS.index(name) for name in _EXPR.names]] = values[_EXPR.key]
    units = np.empty((len(table), len(_AU.names)))
    for k, name in enumerate(_AU.names):
        if name in UNSEEN_UNITS:
            units[:, k] = shares[:, EXPRESSIONS.index(UNSEEN_UNITS[name])]
        else:
            units[:, k] = values[AU_BLENDSHAPES.key][:, AU_BLENDSHAPES.names.index(name)]
    points = [
        np.full(10, np.nan) if each is None or np.ndim(each) == 0 else np.asarray(each, float)
        for each in table["points"]
    ]
    return Faces(
        table["image"].to_list(), np.array(points), shares, values[_VA.key].astype(float), units
    )
