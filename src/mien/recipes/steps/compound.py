"""Steps for compound expressions: read all faces of some videos, and go from faces to compounds.

C-EXPR-DB has no labels that may be used, so all its listed frames are split val here: without
labels its score is how far the histogram of the decisions is from the published one.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.bundles.plan import Aggregation, Basis
from mien.data.label_table import labels
from mien.data.registry import Set
from mien.data.sets.c_expr_db import CExprDb, listed_table
from mien.errors import DataError
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, tune, versions
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.metrics import macro_f1
from mien.recipes.compounds.compound import (
    expression_scores,
    frame_compounds,
    listed_compounds,
    smoothed_compounds,
)
from mien.recipes.compounds.faces_in_videos import read_faces
from mien.recipes.compounds.variants import (
    SMOOTHINGS,
    Variant,
    best_variant,
    variant_scores,
    variants,
)
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext
from mien.recipes.steps.runs import EXPORTED, keep_exported_run, runs_of
from mien.systems.compounds import AGGREGATIONS, BASES, supervised_compounds
from mien.tasks import MEANS, TASKS, Floats, Mean
from mien.train.bundle.make import make_bundle
from mien.train.runs.folder import RunFolder

__all__ = [
    "ChooseCompounds",
    "Compounds",
    "Export",
    "Faces",
    "SupervisedCompounds",
    "read_face_table",
]

_TASK: Final = TASKS["ce.abaw7"]
_FACES: Final = "faces.parquet"
"""The table of faces in the folder of the step that read them."""

Smoothing = tuple[int, float | None]


class Export(Step):
    """Make a bundle of what a step learned with the first seed.

    Attributes:
        of: That step, of kind train, or of kind heads with one run: heads are merged with the
            bundle whose features they read.
        bits: As for mien export.
    """

    do: Literal["export"]
    of: Annotated[str, STEP]
    bits: Literal[8, 16] = 16

    @override
    def run(self, context: StepContext) -> None:
        run = self._run_of(context)
        make_bundle(
            run,
            context.folder / EXPORTED,
            bits=self.bits,
            features=True,
            note=context.note,
            progress=context.progress,
        )
        keep_exported_run(context.folder, run.folder)

    def _run_of(self, context: StepContext) -> RunFolder:
        runs = runs_of(context, self.of, context.seeds[0])
        if len(runs) > 1:
            raise DataError(
                f"{context.name}: the step {self.of} trains {len(runs)} networks, and a bundle "
                "holds one; give it one run"
            )
        return RunFolder(runs[0])


class Faces(Step):
    """Read the expressions of all faces of all frames of some videos.

    Attributes:
        data: Key of a data set of kind c-expr-db, with videos in ``videos/``, or extracted frames
            in its `images`.
        bundle: Name or folder of the bundle that reads them; or `exported`.
        exported: A step that made one.
    """

    do: Literal["faces"]
    data: Annotated[str, DATA]
    bundle: Annotated[str | None, BUNDLE] = None
    exported: Annotated[str | None, STEP] = None

    @override
    def relevant_settings(self, spec: Set) -> Set:
        # Faces are not read again because labels were given.
        if isinstance(spec, CExprDb):
            return spec.model_copy(update={"labels": None})
        return spec

    @override
    def run(self, context: StepContext) -> None:
        if (self.bundle is None) == (self.exported is None):
            raise DataError(f"{context.name}: give either bundle or exported")
        spec = _c_expr_db(context, self.data)
        videos = spec.root / "videos"
        if not videos.is_dir():
            videos = spec.root / spec.images
        faces = read_faces(
            videos,
            context.folder / "videos",
            self._bundle(context),
            note=context.note,
            progress=context.ahead("videos"),
        )
        # Matched once without scores, for the notes on what of the list has no face.
        no_scores = np.zeros((len(faces), len(_TASK.names)))
        listed_compounds(frame_compounds(faces, no_scores), listed_table(spec.root), context.note)
        with AtomicFile(context.folder / _FACES) as path, wrap_os_errors(context.folder):
            faces.to_parquet(path)

    def _bundle(self, context: StepContext) -> str | Path:
        if self.bundle is not None:
            return self.bundle
        step = cast(str, self.exported)
        return context.earlier[step] / EXPORTED


def read_face_table(context: StepContext, step: str) -> pd.DataFrame:
    """Read the table of faces that an earlier step wrote.

    Args:
        context: Of the step that asks.
        step: Name of the earlier one.

    Returns:
        A row per face per frame, see `mien.recipes.compounds.faces_in_videos.read_faces`.

    Raises:
        DataError: That step reads no faces.
    """
    path = context.earlier[step] / _FACES
    # Any earlier step can be named; only those of kind faces write this.
    if not path.is_file():
        raise DataError(f"{context.name}: the step {step} reads no faces; name one that does")
    return pd.read_parquet(path)


class _FromFaces(Step):
    """What all steps from faces to compounds share.

    Attributes:
        of: The step that read the faces.
        data: Key of the data set whose list is answered.
    """

    of: Annotated[str, STEP]
    data: Annotated[str, DATA]

    def _read(self, context: StepContext) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The faces, and the label table of the listed frames."""
        spec = _c_expr_db(context, self.data)
        return read_face_table(context, self.of), listed_table(spec.root, spec.labels)


class _OneWay(_FromFaces):
    """The choices that every way from faces to compounds makes.

    Attributes:
        mean: See `mien.recipes.compounds.variants.Variant`.
        aggregation: The same.
        window: The same.
        sigma: The same.
    """

    mean: Mean = "arithmetic"
    aggregation: Aggregation = "max"
    window: Annotated[int, Field(ge=0, le=100_000)] = 0
    sigma: Annotated[float, Field(gt=0, le=1e6)] | None = None


class Compounds(_OneWay):
    """Zero-shot compounds in one way.

    Attributes:
        basis: See `mien.recipes.compounds.variants.Variant`.
    """

    do: Literal["compounds"]
    basis: Basis = "all"

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self._read(context)
        variant = Variant(self.mean, self.basis, self.aggregation, self.window, self.sigma)
        # Nothing was tuned, so there is one version.
        _save(context, listed, variant_scores(faces, listed, variant)[None])


class SupervisedCompounds(_OneWay):
    """Compounds from a bundle that knows the six basic expressions only."""

    do: Literal["supervised_compounds"]

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self._read(context)
        expressions, names = expression_scores(faces)
        scores = supervised_compounds(expressions, names, "one_of", self.mean)
        frames = frame_compounds(faces, scores, self.aggregation)
        unsmoothed = listed_compounds(frames, listed)
        smoothed = smoothed_compounds(unsmoothed, listed, self.window, self.sigma)
        # Nothing was tuned, so there is one version.
        _save(context, listed, smoothed[None])


class ChooseCompounds(_FromFaces):
    """Zero-shot compounds in the best of many ways.

    Attributes:
        by: ``kl``: without labels, by the published frequencies. ``f1``: chosen on some recordings,
            and scored on the others.
        means: Candidates, see `mien.recipes.compounds.variants.variants`.
        bases: The same.
        aggregations: The same.
        smoothings: The same.
    """

    do: Literal["choose_compounds"]
    by: Literal["kl", "f1"] = "kl"
    means: tuple[Mean, ...] = MEANS
    bases: tuple[Basis, ...] = BASES
    aggregations: tuple[Aggregation, ...] = AGGREGATIONS
    smoothings: tuple[Smoothing, ...] = SMOOTHINGS

    @override
    def run(self, context: StepContext) -> None:
        faces, listed = self._read(context)
        is_labelled = listed[_TASK.columns[0]].notna().any()
        target = _classes(listed) if is_labelled else None
        table = self._compare(context, faces, listed, target)
        if self.by == "kl":
            # With labels the table is in order of f1.
            best = best_variant(table.sort_values("kl", kind="stable"))
            _record_choice(context, best)
            _save(context, listed, variant_scores(faces, listed, best)[None])
            return
        if target is None:
            raise DataError(
                f"{context.name}: to choose by f1 takes labels; give --set labels=FILE, "
                "or let `by` be kl"
            )
        _save(context, listed, self._tuned(context, table, faces, listed, target))

    def _compare(
        self,
        context: StepContext,
        faces: pd.DataFrame,
        listed: pd.DataFrame,
        target: Floats | None,
    ) -> pd.DataFrame:
        """All ways, the best first; also written to ``ways.csv``."""
        table = variants(
            faces,
            listed,
            means=self.means,
            bases=self.bases,
            aggregations=self.aggregations,
            smoothings=self.smoothings,
            labels=target,
            progress=context.ahead("ways"),
        )
        with AtomicFile(context.folder / "ways.csv") as path, wrap_os_errors(context.folder):
            table.to_csv(path, index=False)
        return table

    def _tuned(
        self,
        context: StepContext,
        table: pd.DataFrame,
        faces: pd.DataFrame,
        listed: pd.DataFrame,
        target: Floats,
    ) -> Floats:
        """Scores (V, N, 7) in the way of the highest F1: on all rows, and without each fold."""
        part = part_of(listed, {}, (_TASK,))
        # All rows are in fold 0 if there is one recording.
        if not part.fold.any():
            raise DataError(
                f"{context.name}: to choose by f1 takes two videos with labels at least; "
                "let `by` be kl"
            )
        candidates = [best_variant(table.iloc[[i]]) for i in range(len(table))]
        scores: dict[Variant, Floats] = {}
        for variant in candidates:
            scores[variant] = _filled(variant_scores(faces, listed, variant))
        # A way is computed from the faces, so the input that it changes is any of the right shape.
        start = versions(scores[candidates[0]], int(part.fold.max()) + 1)
        tuned = tune(
            candidates,
            lambda variant, _: scores[variant],
            _macro_f1,
            start,
            target=target,
            fold=part.fold,
        )
        _record_choice(context, tuned.chosen[0])
        return tuned.values


def _macro_f1(scores: Floats, target: Floats) -> float:
    decided = scores.argmax(axis=1)
    classes = range(len(_TASK.names))
    return macro_f1(decided, target, classes)


def _record_choice(context: StepContext, variant: Variant) -> None:
    """Write and note the way that was chosen."""
    settings = asdict(variant)
    content = json.dumps({"ce": [settings]}, indent=2)
    atomic_write(context.folder / "chosen.json", content.encode())
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    context.note(f"{context.name}: {listed}")


def _c_expr_db(context: StepContext, key: str) -> CExprDb:
    """The settings of a data set; raises DataError if it is of another kind."""
    spec = context.set(key)
    if not isinstance(spec, CExprDb):
        raise DataError(f"{context.name}: takes a data set of kind c-expr-db, not {spec.set}")
    return spec


def _classes(listed: pd.DataFrame) -> Floats:
    """Class numbers (N,); NaN means not annotated."""
    shares = labels(listed, _TASK)
    is_missing = np.isnan(shares).any(axis=1)
    classes = np.nan_to_num(shares).argmax(axis=1)
    return np.where(is_missing, np.nan, classes)


def _filled(scores: Floats) -> Floats:
    """Scores with the published frequencies in place of NaN: a list must be answered in full."""
    # Nothing but the frequencies is known of a video without a face.
    frequencies = np.array(COMPOUND_COUNTS) / sum(COMPOUND_COUNTS)
    is_missing = np.isnan(scores).any(axis=-1, keepdims=True)
    return np.where(is_missing, frequencies, scores)


def _save(context: StepContext, listed: pd.DataFrame, values: Floats) -> None:
    """Save scores (V, N, 7) as those of the step's only seed."""
    scores = {_TASK.family: _filled(values)[None]}
    part = part_of(listed, scores, (_TASK,))
    predicted = Predicted((_TASK,), {"val": part})
    predicted.save(context.folder)
