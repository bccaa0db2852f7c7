"""What the settings of all data sets share, and the facts that each data set must state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mien.data.label_table import Split
from mien.tasks import Task, task

__all__ = [
    "BY_AGREEMENT",
    "TERMS_NOT_STATED",
    "Cut",
    "DataSet",
    "DataSetInfo",
    "Place",
    "Spec",
    "find_task",
]

BY_AGREEMENT: Final = "non-commercial research, by agreement with its authors"
"""Terms of data that are given out to signatories only."""

TERMS_NOT_STATED: Final = "given by the maker of this bundle; terms not stated"
"""Terms of data of one's own, unless the settings state them under ``card.terms``."""

Place = Annotated[Path, Field(strict=False)]
"""A path; text in YAML and JSON."""


class Spec(BaseModel):
    """Settings: an unknown key is an error, and no value is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Cut(Spec):
    """How to split data that comes without splits; see `mien.data.label_table.split_by`."""

    by: Literal["subject", "video"] | None
    """What must not lie in two splits; null: single rows."""
    shares: Annotated[dict[Split, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    """Share of the rows of each split, summing to 1."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The same seed gives the same splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSetInfo:
    """The facts of a data set, for messages, notes and the cards of bundles trained on it.

    No fact has a default, so that none can be forgotten.

    Attributes:
        name: What people call it; None where it goes by the name of its folder or file.
        title: Its name on a card, with what a reader must know about it; None for its name.
        terms: The terms under which its data may be used.
        supervision: Where its labels come from, by key or family of the task, or by ``*`` for
            all tasks. ``{name}`` stands for the name of the folder or file.
        tasks: Keys of the tasks that it has labels of; empty where the files decide.
        source: Where to get it.
        paper: Authors, year and title of its paper; None where there is none.
    """

    name: str | None
    title: str | None
    terms: str
    supervision: Mapping[str, str]
    tasks: tuple[str, ...]
    source: str
    paper: str | None


class DataSet(Spec, ABC):
    """Settings of one data set; a subclass is the whole data set: its keys, facts and loader.

    A subclass begins with the key ``set``, a `Literal` of the name that settings files give it.
    """

    info: ClassVar[DataSetInfo]

    @abstractmethod
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table.

        Args:
            tasks: What is asked for. A set with labels of its own may ignore it.

        Returns:
            The label table, with what was left out in ``attrs["notes"]``, and the tasks that it
            has columns of.

        Raises:
            DataError: The files are absent, damaged, or of another data set.
        """

    @property
    def official_splits(self) -> bool:
        """Whether its splits are a challenge's, which may show a few people in several splits."""
        return False

    def supervision(self, task: Task) -> str | None:
        """Say where the labels of a task come from.

        Args:
            task: Any task.

        Returns:
            A phrase for a card; None where the set has no labels of the task.
        """
        sources = self.info.supervision
        for key in (task.key, task.family, "*"):
            if key in sources:
                return sources[key]
        return None


def find_task(key: str, tasks: Sequence[Task]) -> Task:
    """Find a task by its key: one of `tasks`, or one of mien's own.

    Raises:
        UnknownNameError: There is no task of that key.
    """
    for candidate in tasks:
        if candidate.key == key:
            return candidate
    return task(key)
