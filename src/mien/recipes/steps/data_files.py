"""Steps from files to files: super-resolve or balance training pictures, write submissions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import pandas as pd
from pydantic import Field, field_validator
from typing_extensions import override

from mien.data.balance import balance
from mien.data.frame_lists import read_list
from mien.data.registry import Set, places
from mien.data.sets.lsd import LSD_TRAIN, Lsd
from mien.data.submissions.check import check
from mien.data.submissions.formats import format_named, video_lengths
from mien.data.submissions.write import write
from mien.data.superres import superresolve
from mien.errors import DataError, OutputError, UnknownNameError
from mien.recipes.predictions import Predicted
from mien.recipes.steps.base import DATA, STEP, Step, StepContext
from mien.train.inputs.randaugment import RandAugment
from mien.train.superres import Spandrel

__all__ = ["PICTURES", "SUBMISSION", "Balance", "Submit", "SuperResolve"]

SUBMISSION: Final = "submission-seed-{}.txt"
"""The name of a submission in the step's folder, by seed."""
PICTURES: Final = "pictures"
"""The folder of pictures in the step's own."""


class SuperResolve(Step):
    """Enlarge the training pictures of a data set by super-resolution (HSEmotion at ABAW4).

    Attributes:
        data: Key of a data set of kind lsd.
        scale: How much larger.
        weights: A network's file that replaces Real-ESRGAN x4plus, run by spandrel, on a GPU if
            there is one; see `mien.train.superres`.
    """

    do: Literal["super_resolve"]
    data: Annotated[str, DATA]
    scale: Annotated[int, Field(ge=1, le=4)] = 2
    weights: Path | None = None

    @override
    def run(self, context: StepContext) -> None:
        # None stands for the engine that comes with the extra ``sr``.
        engine = None if self.weights is None else Spandrel(self.weights)
        result = superresolve(
            _training_pictures(context, self.data),
            context.folder / PICTURES,
            scale=self.scale,
            engine=engine,
            progress=context.ahead("pictures"),
        )
        context.note(
            f"{context.name}: {result.done} pictures super-resolved, {result.skipped} done before"
        )


class Balance(Step):
    """Bring every class to as many training pictures as the largest has (HUST-ANT at ABAW4).

    Copies are changed by RandAugment.

    Attributes:
        data: Key of a data set of kind lsd.
        pictures: An earlier step whose pictures are balanced instead of the official ones.
        ops: Of RandAugment.
        magnitude: Of RandAugment.
        seed: Of the random changes.
        most: How many pictures each class gets, instead of the largest class' count.
    """

    do: Literal["balance"]
    data: Annotated[str, DATA]
    pictures: Annotated[str | None, STEP] = None
    ops: Annotated[int, Field(ge=1, le=100)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    most: Annotated[int, Field(ge=1, le=10**9)] | None = None

    @override
    def run(self, context: StepContext) -> None:
        if self.pictures is None:
            source = _training_pictures(context, self.data)
        else:
            source = context.earlier[self.pictures] / PICTURES
        result = balance(
            source,
            context.folder / PICTURES,
            RandAugment(self.ops, self.magnitude),
            seed=self.seed,
            most=self.most,
            progress=context.ahead("pictures"),
        )
        counts = []
        for name, count in result.before.items():
            counts.append(f"{name} {count} to {result.after[name]}")
        before = sum(result.before.values())
        after = sum(result.after.values())
        context.note(f"{context.name}: {', '.join(counts)}; in all {before} to {after}")


def _training_pictures(context: StepContext, key: str) -> Path:
    """The folder of official training pictures; raises DataError for another kind of data set."""
    spec = context.set(key)
    if not isinstance(spec, Lsd):
        raise DataError(
            f"{context.name}: works on the training pictures of a data set of kind lsd, "
            f"not {spec.set}"
        )
    return spec.root / LSD_TRAIN


class Submit(Step):
    """Write the scores of a split as a challenge expects them, and check the file.

    Attributes:
        of: The step whose predictions are written.
        data: Key of the data set.
        format: See `mien submit formats`.
        lists: Names of the challenge's official list; the first that exists is used.
        split: Whose faces the challenge asks for.
    """

    needs_val: ClassVar[bool] = False

    do: Literal["submit"]
    of: Annotated[str, STEP]
    data: Annotated[str, DATA]
    format: str
    lists: Annotated[tuple[str, ...], Field(min_length=1)]
    split: Literal["val", "test"] = "test"

    @field_validator("format")
    @classmethod
    def _format_by_year(cls, name: str) -> str:
        # The key of a finished step must not depend on how its format was spelled.
        try:
            return format_named(name).name
        except UnknownNameError as error:
            raise ValueError(str(error)) from error

    @override
    def check_data(self, name: str, steps: Mapping[str, Step], data: Mapping[str, Set]) -> None:
        """Refuse the list of another challenge, as far as the names in it tell."""
        official = self._official_list(data[self.data])
        if official is None:
            return
        listed = read_list(official)
        form = format_named(self.format)
        if form.folder is not None:
            video_lengths(listed)
            return
        clips = listed["image"][listed["frame"] < 0].to_list()
        if form.frames and clips:
            raise DataError(
                f"{name}: {official}: {clips[0]!r} is no frame such as {form.listed}, which "
                f"{form.name} asks for; this is the list of another challenge"
            )

    @override
    def run(self, context: StepContext) -> None:
        predicted = context.predicted(self.of)
        official = self._official_list(context.set(self.data))
        # Organisers publish the list of their test set late, or to participants only.
        if official is None or self.split not in predicted.parts:
            names = ", ".join(self.lists)
            root = places(context.set(self.data))[0]
            context.note(f"{context.name}: no submission, since none of {names} is in {root}")
            return
        listed = read_list(official)
        part = predicted.parts[self.split]
        for number in range(max(map(len, part.values.values()))):
            path = context.folder / SUBMISSION.format(context.seeds[number])
            scores = _scores(predicted, self.split, number)
            write(self.format, listed, scores, path)
            self._check(path, listed)
        context.note(
            f"{context.name}: {len(listed)} rows for {self.format}, no defect: {context.folder}"
        )

    def _official_list(self, spec: Set) -> Path | None:
        """The first of the lists that exists in the folder of the data."""
        root = places(spec)[0]
        for name in self.lists:
            if (root / name).is_file():
                return root / name
        return None

    def _check(self, path: Path, listed: pd.DataFrame) -> None:
        """Raises OutputError for a submission that the challenge would refuse."""
        defects = check(path, self.format, listed)
        if defects:
            defect = f"{defects[0].kind} {defects[0].examples[0]}"
            raise OutputError(f"{path}: {defect}; this is a defect of mien, please report it")


def _scores(predicted: Predicted, split: str, seed: int) -> pd.DataFrame:
    """One seed's scores, a row per face; scores of one seed serve all."""
    part = predicted.parts[split]
    # Checks and writers know faces by the name in the list.
    table = part.table[["name"]].rename(columns={"name": "image"})
    for task in predicted.tasks:
        values = part.values[task.family]
        # A submission is made with the choices of version 0, which saw all rows of split val.
        of_seed = values[min(seed, len(values) - 1)]
        table[list(task.columns)] = of_seed[0]
    return table
