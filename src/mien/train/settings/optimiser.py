"""How weights move: optimiser, rate over time, sharpness-aware steps, averaging."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["OptimSettings"]


class OptimSettings(BaseModel):
    """How weights move.

    An option that the optimiser does not have is refused, not ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    """the algorithm"""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """the highest learning rate"""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """of matrices and kernels only, not of biases and norms"""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """for sgd; null means 0.9"""
    betas: (
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] | None
    ) = None
    """for adam and adamw; null means [0.9, 0.999]"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """after the warm-up: half a cosine that ends at zero, or the same rate to the end"""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of all steps in which the rate rises"""
    backbone_lr: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    """the backbone's rate as a factor of `lr`"""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """the rate of each group of layers of timm's backbone as a factor of the next one's (BEiT, Bao
    et al. 2022); the last has the backbone's whole rate"""
    sam: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """how far sharpness-aware minimisation (Foret et al. 2021) steps up, in units of the weights;
    0 for plain steps. The paper's choice is 0.05"""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """decay of the running average of the weights; 0 for none"""
    clip: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """largest norm of the gradient; 0 for any"""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.optimiser == "sgd" and self.betas is not None:
            raise ValueError("betas: sgd has none; it has momentum")
        if self.optimiser != "sgd" and self.momentum is not None:
            raise ValueError(f"momentum: {self.optimiser} has none; it has betas")
        return self
