"""The step that trains a network to tell people apart, before it learns expressions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from mien.data.registry import Set
from mien.data.sets.vggface2 import VggFace2
from mien.errors import DataError
from mien.recipes.steps.base import DATA, STEP, Step, StepContext
from mien.recipes.steps.runs import Quiet, keep_runs, run_settings, runs_of
from mien.train.loop import fit
from mien.train.settings.network import NetworkSettings

__all__ = ["Identify", "start_from"]

_ANY_PEOPLE: Final = {"set": "vggface2", "root": "."}
"""Stands for the data set until a step runs."""


class Identify(Step):
    """Train a network to tell the people of VGGFace2 apart; its backbone is what is wanted.

    It is trained with the first seed, and serves all seeds.

    Attributes:
        data: Key of a data set of kind vggface2.
        after: An earlier step of this kind whose weights the backbone starts from.
        weights: Face weights that take the place of all this: a file, or the name of published
            ones. Nothing is trained then, and the data set is not needed.
        settings: The rest, as mien train reads it (network, augment, optim, fit, pixels and so on).
    """

    do: Literal["identify"]
    data: Annotated[str, DATA]
    after: Annotated[str | None, STEP] = None
    weights: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        start = None if self.after is None else Path("best.pt")
        run_settings(self.settings, "check", [_ANY_PEOPLE], seed=0, start=start)
        if self.weights is not None:
            # The same check as for any other start.
            network = {**self.settings.get("network", {}), "start": self.weights}
            NetworkSettings.model_validate(network)
        return self

    @override
    def references(self, kind: str) -> tuple[str, ...]:
        # What takes the place of training needs no pictures.
        if kind == DATA and self.weights is not None:
            return ()
        return super().references(kind)

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        if self.after is not None and not isinstance(earlier[self.after], Identify):
            raise ValueError(
                f"after: {self.after} tells no people apart; name a step of kind identify"
            )

    @override
    def check_data(self, name: str, steps: Mapping[str, Step], data: Mapping[str, Set]) -> None:
        """Refuse data that name no people."""
        for key in self.references(DATA):
            if not isinstance(data[key], VggFace2):
                raise DataError(
                    f"{name}: people are told apart on a data set of kind vggface2, "
                    f"and {key} is {data[key].set}"
                )

    @override
    def run(self, context: StepContext) -> None:
        if self.weights is not None:
            context.note(f"{context.name}: not trained, {self.weights} takes its place")
            return
        seed = context.seeds[0]
        start = None if self.after is None else start_from(context, self.after, seed)
        name = context.name.replace("_", "-")
        settings = run_settings(
            self.settings, name, [context.set(self.data)], seed=seed, start=start
        )
        run = fit(settings, context.folder / f"seed-{seed}", Quiet(context, f"seed {seed}"))
        keep_runs(context.folder, {key: [run.folder] for key in context.seeds})
        best = run.load("best.pt")
        if best is not None:
            context.note(f"{context.name}: {best['score']:.1%} of held-out pictures are recognised")


def start_from(context: StepContext, step: str, seed: int) -> Path:
    """Return the weights that a network starts from after an earlier step.

    Args:
        context: Of the step that asks.
        step: The earlier step, of kind train or identify.
        seed: One of the recipe's.

    Returns:
        A file, or the name of published weights.

    Raises:
        DataError: That step trains nothing.
    """
    earlier = context.steps[step]
    if isinstance(earlier, Identify) and earlier.weights is not None:
        return earlier.weights
    return runs_of(context, step, seed)[0] / "best.pt"
