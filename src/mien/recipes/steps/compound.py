"""Steps for compound expressions: read every face of every frame of some videos, and go from faces to compounds.

C-EXPR-DB has no labels that one may use, so all its listed frames are split val here: what is told of them without labels is how far the
histogram of the answers lies from the published one.
"""

import json
from dataclasses import asdict
from typing import Annotated, Literal, cast

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.label_table import labels
from mien.data.registry import Set
from mien.data.sets.c_expr_db import CExprDb, listed_table
from mien.errors import DataError
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, tune, versions
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.metrics import macro_f1
from mien.recipes.compound import (
    AGGREGATIONS,
    BASES,
    SMOOTHINGS,
    Aggregation,
    Basis,
    Variant,
    best_variant,
    expression_scores,
    frame_compounds,
    listed_compounds,
    smoothed_compounds,
    supervised_compounds,
    variant_scores,
    variants,
)
from mien.recipes.faces_in_videos import read_faces
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext
from mien.recipes.steps.runs import EXPORTED, runs_of
from mien.tasks import MEANS, TASKS, Floats, Mean
from mien.train.bundle.make import make_bundle
from mien.train.runs.folder import RunFolder

__all__ = ["ChooseCompounds", "Compounds", "Export", "Faces", "SupervisedCompounds"]

_TASK = TASKS["ce.abaw7"]
_TABLE = "faces.parquet"
Smoothing = tuple[int, float | None]


class Export(Step):
    """Make a bundle of what a step learned with the first seed.

    of: that step, of kind train, or of kind heads with one run: heads are joined onto the bundle whose features they read. bits: as for
    mien export.
    """

    do: Literal["export"]
    of: Annotated[str, STEP]
    bits: Literal[8, 16] = 16

    @override
    def run(self, context: StepContext) -> None:
        make_bundle(
            self._run_of(context),
            context.folder / EXPORTED,
            bits=self.bits,
            features=True,
            note=context.note,
            progress=context.progress,
        )

    def _run_of(self, context: StepContext) -> RunFolder:
        runs = runs_of(context, self.of, context.seeds[0])
        if len(runs) > 1:
            raise DataError(
                f"{context.name}: the step {self.of} trains {len(runs)} networks, and a bundle holds one; give it one run"
            )
        return RunFolder(runs[0])


class Faces(Step):
    """Read all faces of all frames of the videos of a data set of kind c-expr-db, with a bundle's expressions.

    bundle: a name or folder; or exported: a step that made one. The videos are in ``videos/``, or extracted frames in its `images`.
    """

    do: Literal["faces"]
    data: Annotated[str, DATA]
    bundle: Annotated[str | None, BUNDLE] = None
    exported: Annotated[str | None, STEP] = None

    @override
    def relevant_settings(self, spec: Set) -> Set:
        return spec.model_copy(update={"labels": None}) if isinstance(spec, CExprDb) else spec

    @override
    def run(self, context: StepContext) -> None:
        if (self.bundle is None) == (self.exported is None):
            raise DataError(f"{context.name}: give either bundle or exported")
        spec = _spec(context, self.data)
        videos = spec.root / "videos"
        bundle = self.bundle or context.earlier[cast(str, self.exported)] / EXPORTED
        found = read_faces(
            videos if videos.is_dir() else spec.root / spec.images, context.folder / "videos", bundle, note=context.note,
            progress=context.ahead("videos"),
        )  # fmt: skip
        empty = frame_compounds(found, np.zeros((len(found), len(_TASK.names))))
        listed_compounds(
            empty, listed_table(spec.root), context.note
        )  # once for all the steps that will match the two
        with AtomicFile(context.folder / _TABLE) as aside, wrap_os_errors(context.folder):
            found.to_parquet(aside)


class _FromFaces(Step):
    """What the steps from faces to compounds share. of: the step that read the faces. data: key of the list."""

    of: Annotated[str, STEP]
    data: Annotated[str, DATA]

    def given(self, context: StepContext) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The faces, and the label table of the listed frames."""
        path = context.earlier[self.of] / _TABLE
        if not path.is_file():
            raise DataError(
                f"{context.name}: the step {self.of} reads no faces; name one that does"
            )
        spec = _spec(context, self.data)
        return pd.read_parquet(path), listed_table(spec.root, spec.labels)


class _OneWay(_FromFaces):
    """The choices that every way from faces to compounds makes; see `mien.recipes.compound.Variant`."""

    mean: Mean = "arithmetic"
    aggregation: Aggregation = "max"
    window: Annotated[int, Field(ge=0, le=100_000)] = 0
    sigma: Annotated[float, Field(gt=0, le=1e6)] | None = None


class Compounds(_OneWay):
    """Zero-shot compounds in one way."""

    do: Literal["compounds"]
    basis: Basis = "all"

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self.given(context)
        way = Variant(self.mean, self.basis, self.aggregation, self.window, self.sigma)
        _save(context, listed, variant_scores(faces, listed, way)[None])


class SupervisedCompounds(_OneWay):
    """Compounds from a bundle that knows the six basic expressions only, by their probabilities as they are."""

    do: Literal["supervised_compounds"]

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self.given(context)
        expressions, names = expression_scores(faces)
        scores = supervised_compounds(expressions, names, "one_of", self.mean)
        frames = frame_compounds(faces, scores, self.aggregation)
        _save(
            context,
            listed,
            smoothed_compounds(listed_compounds(frames, listed), listed, self.window, self.sigma)[
                None
            ],
        )


class ChooseCompounds(_FromFaces):
    """The best of many ways: without labels by the published frequencies, or by F1, chosen on some recordings and told on the others."""

    do: Literal["choose_compounds"]
    by: Literal["kl", "f1"] = "kl"
    means: tuple[Mean, ...] = MEANS
    bases: tuple[Basis, ...] = BASES
    aggregations: tuple[Aggregation, ...] = AGGREGATIONS
    smoothings: tuple[Smoothing, ...] = SMOOTHINGS

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self.given(context)
        known = listed[_TASK.columns[0]].notna().any()
        target = _classes(listed) if known else None
        table = variants(
            faces, listed, means=self.means, bases=self.bases, aggregations=self.aggregations, smoothings=self.smoothings,
            labels=target, progress=context.ahead("ways"),
        )  # fmt: skip
        with AtomicFile(context.folder / "ways.csv") as aside, wrap_os_errors(context.folder):
            table.to_csv(aside, index=False)
        if self.by == "kl":
            best = best_variant(table.sort_values("kl", kind="stable"))
            _tell(context, best)
            _save(context, listed, variant_scores(faces, listed, best)[None])
            return
        if target is None:
            raise DataError(
                f"{context.name}: to choose by f1 takes labels; give --set labels=FILE, or let `by` be kl"
            )
        _save(context, listed, self._by_f1(context, table, faces, listed, target))

    def _by_f1(
        self,
        context: StepContext,
        table: pd.DataFrame,
        faces: pd.DataFrame,
        listed: pd.DataFrame,
        target: Floats,
    ) -> Floats:
        """(V, N, 7): chosen on all, and without each fold."""
        part = part_of(listed, {}, (_TASK,))
        if not part.fold.any():
            raise DataError(
                f"{context.name}: to choose by f1 takes two videos with labels at least; let `by` be kl"
            )
        ways = [best_variant(table.iloc[[i]]) for i in range(len(table))]
        scores = {way: _filled(variant_scores(faces, listed, way)) for way in ways}

        def judge(pred: Floats, truth: Floats) -> float:
            return macro_f1(pred.argmax(axis=1), truth, range(len(_TASK.names)))

        start = versions(scores[ways[0]], int(part.fold.max()) + 1)
        tuned = tune(ways, lambda way, _: scores[way], judge, start, target=target, fold=part.fold)
        _tell(context, tuned.chosen[0])
        return tuned.values


def _tell(context: StepContext, way: Variant) -> None:
    atomic_write(
        context.folder / "chosen.json", json.dumps({"ce": [asdict(way)]}, indent=2).encode()
    )
    context.note(
        f"{context.name}: " + ", ".join(f"{name} {value}" for name, value in asdict(way).items())
    )


def _spec(context: StepContext, key: str) -> CExprDb:
    spec = context.set(key)
    if not isinstance(spec, CExprDb):
        raise DataError(f"{context.name}: takes a data set of kind c-expr-db, not {spec.set}")
    return spec


def _classes(listed: pd.DataFrame) -> Floats:
    """Class numbers (N,), NaN = not annotated."""
    shares = labels(listed, _TASK)
    return np.where(np.isnan(shares).any(axis=1), np.nan, np.nan_to_num(shares).argmax(axis=1))


def _filled(scores: Floats) -> Floats:
    """Scores with the published frequencies in videos without a single face: a list must be answered in full."""
    usual = np.array(COMPOUND_COUNTS) / sum(COMPOUND_COUNTS)
    return np.where(np.isnan(scores).any(axis=-1, keepdims=True), usual, scores)


def _save(context: StepContext, listed: pd.DataFrame, values: Floats) -> None:
    part = part_of(listed, {_TASK.family: _filled(values)[None]}, (_TASK,))
    Predicted((_TASK,), {"val": part}).save(context.folder)
