"""Which cached features heads read, and in which windows."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from mien.bundles.card import AffectCard
from mien.bundles.store import open_bundle
from mien.errors import BundleError, DataError
from mien.temporal.external import external_columns

__all__ = ["FeatureSettings", "WindowSettings"]


class WindowSettings(BaseModel):
    """How videos are cut into windows.

    In training they overlap by half; in evaluation one follows the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """frames of a window"""
    gap: Annotated[int, Field(ge=1, le=10_000)] = 1
    """frame numbers farther apart than this begin a new recording; with 1 no frame is missing
    inside a window"""


# Text in YAML and JSON, which strict models would refuse.
Folder = Annotated[Path, Field(strict=False)]


class FeatureSettings(BaseModel):
    """Which cache a run reads, and what of it.

    Pictures and their points decide the row, so both must be as when it was built.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    bundle: str
    """whose features: a bundle's name or folder"""
    cache: Folder
    """the folder that mien features wrote"""
    images: Folder = Path()
    """folder that paths of pictures in the cache are relative to; the settings file's own folder
    where it names none"""
    parts: Literal["features", "raw", "both"] = "both"
    """what heads read: the features (D), the bundle's raw outputs in task order (K), or one after
    the other (D + K)"""
    # A list in YAML and JSON.
    within: Annotated[tuple[int, int] | None, Field(strict=False)] = None
    """of these, only the columns from the first number up to, not including, the second, such as
    one head's hidden layer out of several"""
    window: WindowSettings | None = None
    """heads of kind sequence, transformer, tcn and minimal_gru read windows of frames; other heads
    read single faces"""
    external: Annotated[tuple[Folder, ...], Field(strict=False)] = ()
    """Parquet files of features that another program computed, of the sound for example: `video`,
    `frame`, and a column for each number; heads read them behind the rest, each file with one
    number more that is 1 where a frame has features and 0 where it has none"""
    hold: Annotated[int, Field(ge=0, le=10_000)] = 0
    """of `external`: a frame without a row reads that of the nearest earlier frame, at most so many
    frames before it; without one it reads zeros"""

    @model_validator(mode="after")
    def _some_columns_are_left(self) -> Self:
        if self.within is None:
            return self
        first, end = self.within
        if not 0 <= first < end:
            raise ValueError(
                "within: give the first column, from 0, and the one behind the last, "
                "such as [0, 128]"
            )
        return self

    @model_validator(mode="after")
    def _something_is_held(self) -> Self:
        if self.hold and not self.external:
            raise ValueError("hold: only external features are held; leave it out")
        return self

    def card(self) -> AffectCard:
        """Read the card of the bundle that made the features.

        Returns:
            The card.

        Raises:
            UnknownNameError: There is no bundle of that name.
            BundleError: The bundle cannot be used, or exposes no features.
        """
        card = open_bundle(self.bundle).card
        if not isinstance(card, AffectCard):
            raise BundleError(
                f"{card.name} {card.purpose} and has no features; name a bundle that reads affect"
            )
        # Raises where the network exposes none.
        card.exposed()
        return card

    def columns(self) -> slice:
        """Say which columns of `FeatureCache.features_and_raw` heads read.

        Returns:
            The columns.

        Raises:
            UnknownNameError: As `card`.
            BundleError: As `card`.
            DataError: `within` reaches beyond them.
        """
        card = self.card()
        # Features come first, raw outputs behind them.
        features = card.exposed()
        first, end = 0, sum(card.widths)
        if self.parts == "raw":
            first = features
        elif self.parts == "features":
            end = features
        if self.within is None:
            return slice(first, end)
        # `within` counts from the first column of `parts`.
        inner_first, inner_end = self.within
        if inner_end > end - first:
            raise DataError(
                f"features.within: {inner_first} to {inner_end} reaches beyond the "
                f"{end - first} numbers that parts: {self.parts} has of {card.name}"
            )
        return slice(first + inner_first, first + inner_end)

    @property
    def external_width(self) -> int:
        """How many of the numbers per face that heads read are external; raises DataError."""
        # Each file has one number more, which says whether there are any.
        return sum(1 + len(external_columns(path)) for path in self.external)

    @property
    def width(self) -> int:
        """How many numbers per face heads read; raises as `columns`."""
        columns = self.columns()
        return int(columns.stop - columns.start) + self.external_width
