"""The steps of a recipe: training, features and heads, postprocessing, compounds, data files."""

from typing import Annotated

from pydantic import Field

from mien.extensions.entry_points import STEPS
from mien.extensions.settings import Extensible
from mien.recipes.steps.base import Step
from mien.recipes.steps.compound import (
    ChooseCompounds,
    Compounds,
    Export,
    Faces,
    SupervisedCompounds,
)
from mien.recipes.steps.data_files import Balance, Submit, SuperResolve
from mien.recipes.steps.features import Features, Score
from mien.recipes.steps.heads import Heads
from mien.recipes.steps.identity import Identify
from mien.recipes.steps.postprocess import (
    AdaptiveRate,
    Blend,
    ClassBias,
    Override,
    Smooth,
    Threshold,
)
from mien.recipes.steps.refit import Folds, Refit
from mien.recipes.steps.systems.make import MakeSystem
from mien.recipes.steps.training import Train

__all__ = ["AnyStep"]

AnyStep = Annotated[
    Features
    | Heads
    | Train
    | Identify
    | Score
    | Blend
    | Smooth
    | Threshold
    | Override
    | ClassBias
    | Refit
    | Folds
    | AdaptiveRate
    | Submit
    | SuperResolve
    | Balance
    | Export
    | MakeSystem
    | Faces
    | Compounds
    | SupervisedCompounds
    | ChooseCompounds,
    Field(discriminator="do"),
    Extensible("do", STEPS, Step),
]
"""Settings of any step, told apart by `do`; also those that extensions bring."""
