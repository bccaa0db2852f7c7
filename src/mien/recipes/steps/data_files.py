"""Steps from files to files: super-resolve or balance training pictures, write what a challenge wants to be sent."""

from pathlib import Path
from typing import Annotated, Final, Literal

import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.balance import balance
from mien.data.frame_lists import read_list
from mien.data.registry import places
from mien.data.sets.lsd import LSD_TRAIN, Lsd
from mien.data.submissions.check import check
from mien.data.submissions.write import write
from mien.data.superres import superresolve
from mien.errors import DataError, OutputError
from mien.recipes.predictions import Predicted
from mien.recipes.steps.base import DATA, STEP, Step, StepContext
from mien.train.inputs.randaugment import RandAugment
from mien.train.superres import Spandrel

__all__ = ["PICTURES", "SUBMISSION", "Balance", "Submit", "SuperResolve"]

SUBMISSION: Final = "submission-seed-{}.txt"

PICTURES: Final = "pictures"
"""Where in its folder the step puts them."""


class SuperResolve(Step):
    """Make the training pictures of a data set larger and sharper by Real-ESRGAN x4plus (HSEmotion at ABAW4).

    data: key of a data set of kind lsd. scale: how much larger. weights: another network's file, run by spandrel, on a GPU where there is
    one; see `mien.train.superres`.
    """

    do: Literal["super_resolve"]
    data: Annotated[str, DATA]
    scale: Annotated[int, Field(ge=1, le=4)] = 2
    weights: Path | None = None

    @override
    def run(self, place: StepContext) -> None:
        source = _lsd(place, self.data).root / LSD_TRAIN
        engine = None if self.weights is None else Spandrel(self.weights)
        found = superresolve(
            source,
            place.folder / PICTURES,
            scale=self.scale,
            engine=engine,
            progress=place.ahead("pictures"),
        )
        place.note(
            f"{place.name}: {found.done} pictures super-resolved, {found.skipped} done before"
        )


class Balance(Step):
    """Bring every class of the training pictures to as many as the most frequent one has, by RandAugment copies (HUST-ANT at ABAW4).

    data: key of a data set of kind lsd. pictures: an earlier step whose pictures are balanced in the place of the official ones. ops,
    magnitude: of RandAugment. most: pictures that a class is filled up to, in the place of the most frequent one's count.
    """

    do: Literal["balance"]
    data: Annotated[str, DATA]
    pictures: Annotated[str | None, STEP] = None
    ops: Annotated[int, Field(ge=1, le=100)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    most: Annotated[int, Field(ge=1, le=10**9)] | None = None

    @override
    def run(self, place: StepContext) -> None:
        source = (
            _lsd(place, self.data).root / LSD_TRAIN
            if self.pictures is None
            else place.earlier[self.pictures] / PICTURES
        )
        change = RandAugment(self.ops, self.magnitude)
        found = balance(
            source,
            place.folder / PICTURES,
            change,
            seed=self.seed,
            most=self.most,
            progress=place.ahead("pictures"),
        )
        counts = ", ".join(
            f"{name} {before} to {found.after[name]}" for name, before in found.before.items()
        )
        place.note(
            f"{place.name}: {counts}; in all {sum(found.before.values())} to {sum(found.after.values())}"
        )


def _lsd(place: StepContext, key: str) -> Lsd:
    spec = place.set(key)
    if not isinstance(spec, Lsd):
        raise DataError(
            f"{place.name}: works on the training pictures of a data set of kind lsd, not {spec.set}"
        )
    return spec


class Submit(Step):
    """Write the scores of a split as a challenge wants them, and check the file as `mien submit check` does.

    split: whose faces the challenge asks about. format: see `mien submit formats`. data: key of the data; lists: names of its official
    list, the first that is there is taken.
    """

    do: Literal["submit"]
    of: Annotated[str, STEP]
    data: Annotated[str, DATA]
    format: str
    lists: Annotated[tuple[str, ...], Field(min_length=1)]
    split: Literal["val", "test"] = "test"

    @override
    def run(self, place: StepContext) -> None:
        root = places(place.set(self.data))[0]
        official = next((root / name for name in self.lists if (root / name).is_file()), None)
        predicted = place.predicted(self.of)
        if official is None or self.split not in predicted.parts:
            place.note(
                f"{place.name}: no submission, since none of {', '.join(self.lists)} is in {root}"
            )
            return
        listed = read_list(official)
        for seed in range(
            max(len(values) for values in predicted.parts[self.split].values.values())
        ):
            path = place.folder / SUBMISSION.format(place.seeds[seed])
            write(self.format, listed, _scores(predicted, self.split, seed), path)
            if defects := check(path, self.format, listed):
                raise OutputError(
                    f"{path}: {defects[0].kind} {defects[0].examples[0]}; this is a defect of mien, please report it"
                )
        place.note(f"{place.name}: {len(listed)} rows for {self.format}, no defect: {place.folder}")


def _scores(predicted: Predicted, split: str, seed: int) -> pd.DataFrame:
    part = predicted.parts[split]
    table = part.table[["name"]].rename(columns={"name": "image"})
    for each in predicted.tasks:
        values = part.values[each.family]
        table[list(each.columns)] = values[min(seed, len(values) - 1), 0]
    return table
