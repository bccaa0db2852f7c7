"""How faces are changed at random while training."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["AugmentSettings", "ColourSettings", "RandAugmentSettings"]

# A share of faces or of a crop, or a chance.
Share = Annotated[float, Field(ge=0, le=1)]


class RandAugmentSettings(BaseModel):
    """RandAugment (Cubuk et al. 2020) of the aligned crop, before light, camera and erasing.

    See `mien.train.inputs.randaugment`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ops: Annotated[int, Field(ge=1, le=100)] = 2
    """changes one after another"""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """how strong, of 30"""
    # With `fit.balance: class`, `rare` shows changed faces as often as if each class had been
    # filled up with changed copies beforehand, as HUST-ANT did at ABAW4 (there of whole pictures,
    # each copy once and for all; here anew every time).
    chance: Annotated[float, Field(gt=0, le=1)] | Literal["rare"] = 1.0
    """per face; or `rare`: 1 - count of its class / count of the most frequent class, which
    together with fit.balance: class shows changed faces as often as if each class had been filled
    up with changed copies; needs exactly one one_of task"""


class ColourSettings(BaseModel):
    """Colour jitter as torchvision's ColorJitter makes it, in a random order.

    See `mien.train.inputs.colour`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    brightness: Share = 0.0
    """factor up to 1 plus or minus this"""
    contrast: Share = 0.0
    """about the mean grey of the crop, by such a factor"""
    saturation: Share = 0.0
    """about each pixel's grey, by such a factor"""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """to either side, fractions of the colour circle"""
    chance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """per face"""


class AugmentSettings(BaseModel):
    """How faces are changed at random while training."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    turn: Annotated[float, Field(ge=0, le=180)] = 15.0
    """rotation, degrees to either side"""
    grow: Annotated[float, Field(ge=0, le=1)] = 0.15
    """change of size to either side, natural logarithm of the scale"""
    shift: Share = 0.06
    """to either side, fractions of the crop"""
    flip: Share = 0.5
    """chance of a mirror image"""
    whole: Share = 0.0
    """chance that the points of a picture that is framed like a crop are left unused, as if no
    face had been found in it"""
    light: Share = 0.0
    """chance that light, contrast and, rarely, noise change alone"""
    degrade: Share = 1.0
    """chance that light and camera make the picture worse: low resolution, blur, noise, JPEG"""
    erase: Share = 0.25
    """chance of a patch of noise over part of the face (random erasing, Zhong et al. 2020)"""
    occlude: Share = 0.0
    """chance that something drawn hides a part of the face: a mask, sunglasses, a hand, hair, text
    (mien.data.drawn.occluders)"""
    squeeze: Annotated[float, Field(ge=0, le=1)] = 0.0
    """change of the ratio of width to height to either side, natural logarithm"""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """alpha of the Beta distribution that two faces are mixed by (Zhang et al. 2018); 0 mixes
    none"""
    beside: bool = False
    """every mixed face comes with the real one beside it (MixAugment, Psaroudakis & Kollias 2022):
    a step has twice fit.batch faces, and its loss is the mean over them all, half mixed and half
    real wherever each row has a cost of its own"""
    randaugment: RandAugmentSettings | None = None
    """null for none"""
    colour: ColourSettings | None = None
    """null for none; after randaugment"""

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if self.beside and not self.mixup:
            raise ValueError(
                "beside: without mixup there is no mixed face to stand beside; "
                "set mixup as well, or leave it out"
            )
        return self
