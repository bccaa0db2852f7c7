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
    """The cost of a row: the sum over the networks that read a face for it.

    Attributes:
        name: Of the row.
        parameters: Their number.
        macs: Multiply-accumulates per face.
        milliseconds: Per face, see `mien.train.cost.Cost`.
        seconds: That its steps took, over all seeds.
    """

    name: str
    parameters: int
    macs: int
    milliseconds: float
    seconds: float


def face_costs(recipe: Recipe, finished: Finished) -> tuple[FaceCost, ...]:
    """Measure the cost of the rows that name networks, all in one go.

    Args:
        recipe: Whose rows are meant.
        finished: Its steps, done.

    Returns:
        One cost per row that names networks.

    Raises:
        DataError: A step has trained nothing.
    """
    context = StepContext("rows", Path(), finished.folders, recipe.steps, {}, recipe.seeds)
    networks: dict[str, Network] = {}
    of_step: dict[str, list[str]] = {}
    for row in recipe.rows:
        for step in row.networks:
            if step in of_step:
                continue
            of_step[step] = []
            for number, network in enumerate(_networks(context, step)):
                key = f"{step} {number}"
                networks[key] = network
                of_step[step].append(key)
    measured = costs(networks)
    rows = []
    for row in recipe.rows:
        if not row.networks:
            continue
        parts = [measured[key] for step in dict.fromkeys(row.networks) for key in of_step[step]]
        rows.append(
            FaceCost(
                row.name,
                parameters=sum(part.parameters for part in parts),
                macs=sum(part.macs for part in parts),
                milliseconds=sum(part.milliseconds for part in parts),
                seconds=sum(finished.seconds[step] for step in recipe.behind(row.of)),
            )
        )
    return tuple(rows)


def _networks(context: StepContext, name: str) -> Iterator[Network]:
    """The networks of a step that read a face, of the first seed."""
    step = context.steps[name]
    seed = context.seeds[0]
    if isinstance(step, Train | Heads):
        for run in runs_of(context, name, seed):
            yield network_of_run(RunFolder(run))
    elif isinstance(step, Features):
        yield network_of_bundle(step.source(context, step.home(context.earlier[name], seed)))
    elif isinstance(step, Score):
        yield network_of_bundle(step.bundle or context.earlier[cast(str, step.exported)] / EXPORTED)
    else:
        kinds = "train, heads, features or score"
        raise DataError(
            f"rows: the step {name} has no network that reads faces; name one of kind {kinds}"
        )
