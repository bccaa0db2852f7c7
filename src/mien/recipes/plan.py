"""What a recipe's networks cost before it is run: multiply-accumulates, pictures, epochs, hours.

Counted from the networks themselves, as in `mien.train.cost`, and the official sizes of the data
sets. Training on a picture counts as three forward passes (one forward, two's worth backward).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mien.data.standins.make import KINDS
from mien.errors import DataError
from mien.recipes.schema import Recipe
from mien.recipes.steps.data_files import SuperResolve
from mien.recipes.steps.features import Features
from mien.recipes.steps.heads import Heads
from mien.recipes.steps.training import Train
from mien.tasks import task
from mien.train.cost import macs, network_of_bundle, traced
from mien.train.networks.encoders.contract import fill_pixels
from mien.train.networks.network import MultiTaskNet

__all__ = ["StepWork", "markdown_plan", "plan"]

_FORWARD_AND_BACKWARD: Final = 3
_SECONDS_AN_HOUR: Final = 3600


@dataclass(frozen=True)
class StepWork:
    """The work of a step's networks.

    Attributes:
        step: Its name.
        forward: Multiply-accumulates of one network for one picture.
        pictures: How many pictures one network trains on in an epoch, or reads once.
        epochs: Of training; 0 where pictures are only read.
        networks: How many are trained.
        macs: Multiply-accumulates in all, evaluation of each epoch included.
    """

    step: str
    forward: int
    pictures: int
    epochs: int
    networks: int
    macs: float


def plan(recipe: Recipe) -> tuple[list[StepWork], list[str]]:
    """Count what the networks of a recipe do.

    Args:
        recipe: The recipe.

    Returns:
        The work of steps that train on pictures or cache features of them, and the names of steps
        whose work is not counted.

    Raises:
        DataError: The official size of a data set is not known.
        BundleError: A bundle is not on this machine.
    """
    known: dict[str, int] = {}
    works = []
    uncounted = []
    for name, step in recipe.steps.items():
        if isinstance(step, Train):
            works.append(_of_training(recipe, name, step, known))
        elif isinstance(step, Features) and step.bundle is not None:
            works.append(_of_features(recipe, name, step, step.bundle))
        elif isinstance(step, Heads | Features | SuperResolve) or step.do in _NOT_COUNTED:
            uncounted.append(name)
    return works, uncounted


_NOT_COUNTED: Final = ("identify", "refit", "score", "faces")
"""Further steps with networks."""


def _rows(recipe: Recipe, key: str) -> Mapping[str, int]:
    """Official rows by split of a data set of the recipe."""
    kind = recipe.data[key].set
    if kind not in KINDS:
        raise DataError(
            f"{key}: the official size of {kind} is not known, so the recipe's cost cannot be "
            "counted; run it on a stand-in (--standin), and read the times in its report"
        )
    return KINDS[kind].rows


def _of_features(recipe: Recipe, name: str, step: Features, bundle: str) -> StepWork:
    """Every picture is read once, with the first seed."""
    forward = macs(network_of_bundle(bundle))
    pictures = sum(_rows(recipe, step.data).values())
    return StepWork(name, forward, pictures, 0, 1, float(forward * pictures))


def _of_training(recipe: Recipe, name: str, step: Train, known: dict[str, int]) -> StepWork:
    forward = _forward(step, known)
    pictures = sum(_rows(recipe, key)["train"] for key in step.data)
    judged = step.data if step.judge is None else (step.judge,)
    held_out = sum(_rows(recipe, key).get("val", 0) for key in judged)
    settings = step.provisional_settings()
    fit = settings.fit
    # A frozen backbone only goes forward; a frozen copy of it does so besides.
    frozen = min(fit.frozen_epochs, fit.epochs)
    passes = float(frozen + _FORWARD_AND_BACKWARD * (fit.epochs - frozen))
    if settings.network.deviation:
        passes += fit.epochs
    # Sharpness-aware steps go both ways twice; MixAugment shows two faces for one.
    if settings.optim.sam:
        passes *= 2
    if settings.augment.beside:
        passes *= 2
    per_picture = passes * forward
    for teacher in step.teachers:
        teaching = recipe.steps[teacher]
        assert isinstance(teaching, Train)
        # A teacher reads a face and its mirror image in every epoch.
        count = teaching.students
        per_picture += 2 * fit.epochs * count * _forward(teaching, known)
    towers = 2 if settings.network.deviation else 1
    evaluation = (fit.epochs + 1) * held_out * towers * forward
    seeds = 1 if step.once else len(recipe.seeds)
    networks = seeds * step.students * step.generations
    total = networks * (pictures * per_picture + evaluation)
    return StepWork(name, forward, pictures, fit.epochs, networks, total)


def _forward(step: Train, known: dict[str, int]) -> int:
    """Multiply-accumulates of a network of a step for a picture; of a pair, one of the two."""
    settings = step.provisional_settings()
    # Weights cost nothing, and neither they nor a pair's need be at hand.
    changes: dict[str, Any] = {"start": None, "deviation": False}
    network = settings.network.model_copy(update=changes)
    pixels = fill_pixels(settings).filled_pixels
    key = f"{network.model_dump_json()} {pixels.channels} {pixels.size} {step.tasks}"
    if key not in known:
        tasks = [task(name) for name in step.tasks]
        net = MultiTaskNet(network, tasks, pixels.channels, pixels.size)
        shape = (pixels.channels, pixels.size, pixels.size)
        known[key] = macs(traced(net.exported(), shape))
    return known[key]


def markdown_plan(recipe: Recipe, tera_macs: float) -> str:
    """Write what a recipe's networks cost as a table.

    Args:
        recipe: The recipe.
        tera_macs: Multiply-accumulates that the machine sustains, 10^12 per second.

    Returns:
        Markdown.

    Raises:
        ValueError: `tera_macs` is not a positive number.
        DataError: As `plan`.
        BundleError: As `plan`.
    """
    if not 0 < tera_macs < float("inf"):
        raise ValueError(f"--throughput {tera_macs}: give a number above 0, in 10^12 MAC/s")
    works, uncounted = plan(recipe)
    lines = [
        "| step | GMAC per picture | pictures | epochs | networks | PMAC | hours |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(work, tera_macs) for work in works]
    total = sum(work.macs for work in works)
    lines.append(f"| all |  |  |  |  | {total / 1e15:.1f} | {_hours(total, tera_macs):.1f} |")
    lines += [
        "",
        f"Hours at {tera_macs:g} x 10^12 multiply-accumulates per second, which is an assumption "
        "(--throughput), not a measurement. Rows are the official ones, before thinning and "
        "balancing. Reading and cropping pictures is not counted.",
    ]
    if uncounted:
        lines.append(f"Not counted: {', '.join(uncounted)}.")
    return "\n".join(lines) + "\n"


def _line(work: StepWork, tera_macs: float) -> str:
    giga, peta = work.forward / 1e9, work.macs / 1e15
    counts = f"{work.pictures:,} | {work.epochs or '-'} | {work.networks}"
    hours = _hours(work.macs, tera_macs)
    return f"| {work.step} | {giga:.2f} | {counts} | {peta:.2f} | {hours:.1f} |"


def _hours(count: float, tera_macs: float) -> float:
    return count / (tera_macs * 1e12) / _SECONDS_AN_HOUR
