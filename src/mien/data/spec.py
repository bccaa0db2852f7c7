"""What the settings of all data sets share."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mien.data.label_table import Split

__all__ = ["Cut", "Place", "Spec"]

Place = Annotated[Path, Field(strict=False)]
"""A path; text in YAML and JSON."""


class Spec(BaseModel):
    """Settings: an unknown key is an error, and nothing is converted on the quiet."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Cut(Spec):
    """How to split data that comes without splits; see `mien.data.label_table.split_by`."""

    by: Literal["subject", "video"] | None
    """What must not lie in two splits; null: single rows."""
    shares: Annotated[dict[Split, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    """Share of the rows of each split, summing to 1."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The same seed gives the same splits."""
