"""What reading a face costs by each row of a recipe's table, and what training it cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mien.errors import DataError
from mien.recipes.engine import Finished
from mien.recipes.schema import Recipe
from mien.recipes.steps.base import StepContext
from mien.recipes.steps.features_heads import Features, Heads, Score
from mien.recipes.steps.runs import EXPORTED, runs_of
from mien.recipes.steps.training import Train
from mien.train.cost import Network, costs, network_of_bundle, network_of_run
from mien.train.runs.folder import RunFolder

__all__ = ["FaceCost", "face_costs"]


@dataclass(frozen=True)
class FaceCost:
    """Of a row: the sum over the networks that read a face for it, see `mien.train.cost.Cost`; seconds: that its steps took."""

    name: str
    parameters: int
    macs: int
    milliseconds: float
    seconds: float


def face_costs(recipe: Recipe, finished: Finished) -> tuple[FaceCost, ...]:
    """The costs of the rows that name networks; all are measured in one go. Raises DataError for a step that trained nothing."""
    place = StepContext("rows", Path(), finished.folders, recipe.steps, {}, recipe.seeds)
    named = dict.fromkeys(step for row in recipe.rows for step in row.networks)
    networks = {
        f"{step} {i}": one for step in named for i, one in enumerate(_networks(place, step))
    }
    found = costs(networks)
    made = []
    for row in recipe.rows:
        own = [found[key] for key in networks if key.rpartition(" ")[0] in row.networks]
        if row.networks:
            seconds = sum(finished.seconds[step] for step in recipe.behind(row.of))
            sums = (
                sum(one.parameters for one in own),
                sum(one.macs for one in own),
                sum(one.milliseconds for one in own),
            )
            made.append(FaceCost(row.name, *sums, seconds))
    return tuple(made)


def _networks(place: StepContext, name: str) -> Iterator[Network]:
    """Those of a step that read a face, of the first seed."""
    step, seed = place.steps[name], place.seeds[0]
    if isinstance(step, Train | Heads):
        yield from (network_of_run(RunFolder(run)) for run in runs_of(place, name, seed))
    elif isinstance(step, Features):
        yield network_of_bundle(step.source(place, step.home(place.earlier[name], seed)))
    elif isinstance(step, Score):
        yield network_of_bundle(step.bundle or place.earlier[cast(str, step.exported)] / EXPORTED)
    else:
        raise DataError(
            f"rows: the step {name} has no network that reads faces; name one of kind train, heads, features or score"
        )
