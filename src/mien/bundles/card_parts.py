"""What all cards have in common: strict JSON, tasks, terms, scores."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mien.tasks import TASKS, Floats, Kind, Task
from mien.text import COMMANDS, printable

__all__ = [
    "NAME",
    "NOT_FOR",
    "OWN_KEY",
    "CommonCard",
    "Made",
    "Measure",
    "Published",
    "Score",
    "Strict",
    "TaskCard",
    "Temperature",
    "Terms",
    "check_families",
    "check_task",
    "check_uncertain",
    "never_right",
]

NAME: Final = r"^[a-z0-9][a-z0-9._-]*$"
"""Pattern of a bundle's name."""
NOT_FOR: Final = (
    "inferring emotions of people at work or in education, "
    "which Article 5(1)(f) of the EU AI Act forbids",
    "deciding about a person: hiring, marking, insurance, policing, border control, diagnosis",
    "reading people who have not been told (Article 50(3) of the EU AI Act)",
)
"""What no bundle may be used for."""
Measure = Annotated[float, Field(ge=-1e6, le=1e6)]
# A share nearer to 0 or 1 counts as this far from it.
_CERTAIN: Final = 1e-6
Temperature = Annotated[float, Field(ge=0.01, le=100)]
OWN_KEY: Final = "labels of one's own need a key of their own, such as expr.mine"


class Strict(BaseModel):
    """What others may have written: no unknown keys, no infinite numbers, no control characters."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _printable(cls, value: object) -> object:
        """Turn line breaks and tabs into spaces; refuse other control characters.

        Texts are shown in a terminal, where control characters are commands and some characters
        reverse the direction of writing.
        """
        if isinstance(value, tuple):
            return tuple(map(cls._printable, value))
        if isinstance(value, dict):
            return {key: cls._printable(item) for key, item in value.items()}
        if not isinstance(value, str) or not COMMANDS.search(value):
            return value
        text = " ".join(value.split())
        if COMMANDS.search(text):
            raise ValueError(f"holds characters that cannot be shown: {printable(text)[:60]}")
        return text


def check_task(task: Task) -> None:
    """Refuse a task whose key is one of mien's tasks but whose labels are not.

    Args:
        task: A task that others defined; a key unknown to mien may have any labels.

    Raises:
        ValueError: It differs from mien's task of that key, or has a label twice.
    """
    if len(set(task.names)) < len(task.names):
        raise ValueError(f"names: one comes twice: {', '.join(task.names)}")
    known = TASKS.get(task.key, task)
    for part in ("names", "kind", "low", "high"):
        value = getattr(task, part)
        expected = getattr(known, part)
        if value != expected:
            raise ValueError(
                f"{part}: {task.key} has {_listed(expected)}, not {_listed(value)}; {OWN_KEY}"
            )


def _listed(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


class TaskCard(Strict):
    """A `Task` written out in full, so that the card can be read without mien."""

    key: str
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]
    kind: Kind
    low: Measure
    high: Measure
    supervised_by: str

    @property
    def task(self) -> Task:
        """The task itself."""
        return Task(self.key, self.names, self.kind, self.low, self.high)

    @model_validator(mode="after")
    def _check_labels(self) -> "TaskCard":
        check_task(self.task)
        return self


class Terms(Strict):
    """A data set that the network has seen, what for, and on which terms it is available."""

    data: str
    used_for: Literal["training", "selection", "teacher"]
    terms: str


class Trust(Strict):
    """How a network's judgement and the reading's own probability become `quality`.

    Both count as log-odds: quality is the logistic function of offset + network * n + probability *
    p, with n those of the network's ``quality.reading`` and p those of the likeliest expression.
    """

    offset: Measure
    network: Measure
    probability: Measure

    def quality(self, judged: ArrayLike, probability: ArrayLike) -> Floats:
        """Combine the two.

        Args:
            judged: The network's ``quality.reading`` (N,), 0..1.
            probability: Of the likeliest expression (N,), 0..1.

        Returns:
            Quality (N,), 0..1.

        >>> Trust(offset=0, network=1, probability=1).quality([0.5, 0.9], [0.9, 0.9]).round(3)
        array([0.9  , 0.988])
        """
        odds = self.offset + self.network * _log_odds(judged)
        odds = odds + self.probability * _log_odds(probability)
        # The logistic function, written so that it never overflows.
        return np.asarray(0.5 * (1 + np.tanh(odds / 2)))


def _log_odds(shares: ArrayLike) -> Floats:
    # Certainty would be infinite odds.
    bounded = np.clip(np.asarray(shares, float), _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(bounded / (1 - bounded)))


class Score(Strict):
    """A measured score with its 95 % bootstrap interval, `low` to `high`, and its data."""

    metric: str
    value: Measure
    low: Measure
    high: Measure
    data: str
    faces: Annotated[int, Field(ge=0, le=10**12)]
    condition: str = ""
    """How the pictures were degraded: a word, a colon, what was done; empty for pictures as is."""


class Published(Strict):
    """A score that a network's authors published; mien did not measure it."""

    metric: str
    value: Measure
    data: str
    protocol: str
    """How it was measured, as far as it is known."""
    source: str


class Made(Strict):
    """How to make it again.

    Attributes:
        recipe: The command.
        seed: None where it is not known.
        commit: Commit of the code.
        cost: What making it took.
    """

    recipe: str
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    commit: str
    cost: str


class CommonCard(Strict):
    """What every card says, whatever its network reads."""

    card: Literal[1]
    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    version: Annotated[int, Field(ge=1)] | None = None
    """Of a bundle that comes with mien: which network of its name it is, from 1; else None."""
    summary: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    trained_on: Annotated[tuple[Terms, ...], Field(min_length=1)]
    scores: tuple[Score, ...]
    published: tuple[Published, ...] = ()
    limits: Annotated[tuple[str, ...], Field(min_length=1)]
    not_for: Annotated[tuple[str, ...], Field(min_length=1)]
    made: Made

    def __repr__(self) -> str:
        facts = f"sha256 {self.sha256[:12]}…, {len(self.scores)} scores"
        return f"{type(self).__name__}({self.name!r}: {self.summary}; {facts})"

    __str__ = __repr__


def check_families(tasks: Sequence[TaskCard]) -> None:
    """Refuse tasks of which two are of one family, since scores go by family.

    Args:
        tasks: The tasks of a card.

    Raises:
        ValueError: A family comes twice.
    """
    families = [spec.task.family for spec in tasks]
    if len(set(families)) < len(families):
        raise ValueError(f"tasks: scores go by family, and one comes twice: {', '.join(families)}")


def check_uncertain(threshold: float | None, tasks: Sequence[TaskCard]) -> None:
    """Refuse a threshold of expressions on a card that has none.

    Args:
        threshold: `uncertain_below` of a card.
        tasks: Its tasks.

    Raises:
        ValueError: There is a threshold, and no task of expressions.
    """
    if threshold is not None and all(spec.task.family != "expr" for spec in tasks):
        raise ValueError("uncertain_below: no task of expressions, whose labels it is for")


def never_right(tasks: Sequence[TaskCard], scores: Sequence[Score]) -> dict[str, str]:
    """Find labels whose measured F1 is 0 on a whole data set, so that they are not to be trusted.

    Args:
        tasks: The tasks of a card.
        scores: Its scores.

    Returns:
        By label, the score and the data it was measured on.
    """
    names: set[str] = set()
    for spec in tasks:
        if spec.kind == "one_of":
            names.update(spec.names)
    failed: dict[str, str] = {}
    for score in scores:
        # A metric of one label is called "task F1 label".
        _, f1, name = score.metric.rpartition(" F1 ")
        if f1 and name in names and score.value == 0 and not score.condition:
            failed.setdefault(name, f"F1 0 on {score.faces} faces, {score.data}")
    return failed
