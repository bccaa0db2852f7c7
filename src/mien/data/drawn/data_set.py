"""Faces drawn by mien, with known labels; see `mien.data.drawn`."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.drawn.faces import load_drawn
from mien.data.label_table import Split
from mien.data.spec import DataSet, DataSetInfo
from mien.tasks import Task

__all__ = ["Drawn"]


class Drawn(DataSet):
    """Drawn faces with known labels of the families ``expr``, ``va`` and ``au``; see
    `mien.data.drawn.faces.load_drawn`."""

    info: ClassVar = DataSetInfo(
        name="drawn faces",
        title=None,
        terms="made by mien; no person is in them",
        supervision=dict.fromkeys(("expr", "va", "au"), "what the faces were drawn from"),
        tasks=(),
        source="drawn by mien when they are loaded",
        paper=None,
    )

    set: Literal["drawn"]
    count: Annotated[int, Field(gt=0, le=10**7)]
    """How many faces."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The same seed draws the same faces."""
    size: Annotated[int, Field(ge=16, le=4096)]
    """Height and width, px."""
    split: Split | None = None
    """The split all of them are in; null: four fifths train, one fifth val."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        has = [task for task in tasks if task.family in ("expr", "va", "au")]
        table = load_drawn(
            count=self.count, seed=self.seed, split=self.split, size=self.size, tasks=has
        )
        return table, has
