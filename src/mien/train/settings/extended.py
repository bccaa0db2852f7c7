"""What heads and losses of other distributions are made of; see `mien.extend`.

Their classes are settings, which are read without torch; methods that need it import it themselves.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mien.extensions.entry_points import LOSSES
from mien.extensions.settings import Extensible
from mien.tasks import Kind, Task
from mien.train.settings.losses import Distill, LossSettings

__all__ = ["AnyLoss", "HeadExtension", "LossExtension"]


class HeadExtension(BaseModel, ABC):
    """Settings of a head that another distribution brings.

    A subclass begins with ``kind``, a `Literal` of its name, and has fields for its options. It
    reads the features of single faces, not windows of frames.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @abstractmethod
    def make(self, width_in: int, task: Task) -> Any:
        """Make the head with its starting weights.

        Args:
            width_in: Number of features, D.
            task: What the head predicts, K names.

        Returns:
            A module of torch from features (N, D) to raw output (N, K), with the attributes of all
            heads (`mien.train.networks.heads`); `mien.extend.StackedHead` has them.

        Raises:
            ValueError: The head does not suit the task.
        """


class LossExtension(BaseModel, ABC):
    """Settings of a loss that another distribution brings.

    A subclass begins with ``kind``, a `Literal` of its name, says which kinds of tasks it is for in
    ``task_kinds``, and has fields for its options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task_kinds: ClassVar[tuple[Kind, ...]]

    kind: str
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """of this task in the sum over all tasks"""
    distill: Distill | None = None
    """what a teacher adds; null for none"""

    @abstractmethod
    def cost(self, raw: Any, target: Any, task: Task) -> Any:
        """Compute the cost of a batch.

        Args:
            raw: Raw output (N, K) of the network, a float32 tensor, before `Task.decode`.
            target: Labels (N, K), float32; NaN = not annotated. Of ``one_of`` tasks, shares.
            task: What is predicted.

        Returns:
            A scalar tensor: the mean over the batch, counting 0 where nothing is annotated, as
            `mien.extend.masked_mean` does.
        """

    def kind_for(self, task: Task) -> str:
        """Check that the loss is for a task.

        Args:
            task: The task.

        Returns:
            Its name.

        Raises:
            ValueError: It is for other kinds of tasks.
        """
        if task.kind not in self.task_kinds:
            raise ValueError(
                f"losses: {task.family} is a {task.kind} task, and {self.kind} is for "
                f"{' and '.join(self.task_kinds)} tasks; choose another kind"
            )
        return self.kind

    def counts_for(self, task: Task) -> tuple[str, ...]:
        """Say what has to be counted in the labels beforehand.

        Args:
            task: The task.

        Returns:
            Names as in `mien.train.objective.objective.Weights`.

        Raises:
            ValueError: As `kind_for`.
        """
        self.kind_for(task)
        # A teacher's numbers are compared in units of the labels' variance.
        return ("variance",) if task.kind == "scalar" and self.distill is not None else ()


AnyLoss = Annotated[LossSettings, Extensible("kind", LOSSES, LossExtension)]
"""Settings of a loss, mien's own or an extension's."""
