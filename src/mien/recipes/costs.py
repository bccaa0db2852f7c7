"""What reading a face costs by each row of a recipe's table, and what training it cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mien.errors import DataError
from mien.recipes.engine import Finished
from mien.recipes.schema import Recipe, Row
from mien.recipes.steps.base import StepContext
from mien.recipes.steps.features import Features, Score
from mien.recipes.steps.heads import Heads
from mien.recipes.steps.runs import EXPORTED, runs_of
from mien.recipes.steps.training import Train
from mien.train.cost import Cost, Network, costs, network_of_bundle, network_of_run
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
    # What looks for networks takes the context of a step; it needs no folder, and no data.
    context = StepContext("rows", Path(), finished.folders, recipe.steps, {}, recipe.seeds)
    steps: list[str] = []
    for row in recipe.rows:
        steps += row.networks
    networks: dict[str, Network] = {}
    keys_of: dict[str, list[str]] = {}
    for step in dict.fromkeys(steps):
        keys_of[step] = []
        for number, network in enumerate(_networks(context, step)):
            key = f"{step} {number}"
            networks[key] = network
            keys_of[step].append(key)
    # All take turns, so that what else the machine does slows all of them alike.
    measured = costs(networks)
    rows = []
    for row in recipe.rows:
        if row.networks:
            seconds = finished.seconds_of(recipe.behind(row.of))
            rows.append(_total(row, keys_of, measured, seconds))
    return tuple(rows)


def _total(
    row: Row, keys_of: Mapping[str, list[str]], measured: Mapping[str, Cost], seconds: float
) -> FaceCost:
    """The sum over a row's networks."""
    parameters = macs = 0
    milliseconds = 0.0
    # A step that is named twice reads a face once.
    for step in dict.fromkeys(row.networks):
        for key in keys_of[step]:
            cost = measured[key]
            parameters += cost.parameters
            macs += cost.macs
            milliseconds += cost.milliseconds
    return FaceCost(row.name, parameters, macs, milliseconds, seconds)


def _networks(context: StepContext, name: str) -> Iterator[Network]:
    """The networks of a step that read a face, of the first seed."""
    step = context.steps[name]
    seed = context.seeds[0]
    if isinstance(step, Train | Heads):
        for run in runs_of(context, name, seed):
            yield network_of_run(RunFolder(run))
    elif isinstance(step, Features):
        home = step.home(context.earlier[name], seed)
        yield network_of_bundle(step.source(context, home))
    elif isinstance(step, Score):
        exported = context.earlier[step.exported] / EXPORTED if step.exported else Path()
        yield network_of_bundle(step.bundle or exported)
    else:
        kinds = "train, heads, features or score"
        raise DataError(
            f"rows: the step {name} has no network that reads faces; name one of kind {kinds}"
        )
