"""Which cached features heads read, and in which windows."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.bundles.card import AffectCard
from mien.bundles.store import open_bundle
from mien.errors import BundleError, DataError

__all__ = ["FeatureSettings", "WindowSettings"]


class WindowSettings(BaseModel):
    """How videos are cut into windows. In training they overlap by half; in judging one follows the other."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Frames of a window."""
    gap: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Frame numbers farther apart than this begin a new recording; with 1 no frame is missing inside a window."""


Place = Annotated[Path, Field(strict=False)]  # text in YAML and JSON


class FeatureSettings(BaseModel):
    """Which cache a run reads, and what of it. Pictures and their points decide the row, so both must be as when it was built."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    bundle: str
    """Whose features: a bundle's name or folder."""
    cache: Place
    """The folder that `mien.train.inputs.feature_cache.build` was given."""
    images: Place = Path()
    """Where paths of pictures start from in the cache; a settings file's own folder where it names none."""
    parts: Literal["features", "raw", "both"] = "both"
    """What heads read: the features (D), the bundle's raw outputs in task order (K), or one after the other (D + K)."""
    within: Annotated[tuple[int, int] | None, Field(strict=False)] = None
    """Of these, only the columns from the first number up to, not with, the second, such as one head's hidden layer out of several."""
    window: WindowSettings | None = None
    """Heads of kind ``sequence`` read windows of frames; other heads read single faces."""

    @model_validator(mode="after")
    def _some_columns_are_left(self) -> Self:
        if self.within is not None and not 0 <= self.within[0] < self.within[1]:
            raise ValueError(
                "within: give the first column, from 0, and the one behind the last, such as [0, 128]"
            )
        return self

    def card(self) -> AffectCard:
        """The card of the bundle; raises UnknownNameError or BundleError, also for a bundle that exposes no features."""
        card = open_bundle(self.bundle).card
        if not isinstance(card, AffectCard):
            raise BundleError(
                f"{card.name} finds faces and has no features; name a bundle that reads affect"
            )
        card.exposed()
        return card

    def columns(self) -> slice:
        """The columns of `FeatureCache.features_and_raw` that heads read; raises as `card`, and DataError for `within` beyond them."""
        card = self.card()
        ends = {
            "features": (0, card.exposed()),
            "raw": (card.exposed(), sum(card.widths)),
            "both": (0, sum(card.widths)),
        }
        first, end = ends[self.parts]
        if self.within is None:
            return slice(first, end)
        if self.within[1] > end - first:
            told = f"{self.within[0]} to {self.within[1]}"
            raise DataError(
                f"features.within: {told} reaches beyond the {end - first} numbers that parts: {self.parts} has of {card.name}"
            )
        return slice(first + self.within[0], first + self.within[1])

    @property
    def width(self) -> int:
        """How many numbers of a face heads read; raises as `card`."""
        columns = self.columns()
        return int(columns.stop - columns.start)
