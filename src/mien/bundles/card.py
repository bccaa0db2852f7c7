"""The card: what is known of a network, as strict JSON."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from mien.documents import check_json, read_bounded
from mien.errors import BundleError
from mien.faces.prepare import Pixels
from mien.files import atomic_write
from mien.tasks import TASKS, Kind, Task
from mien.text import COMMANDS, printable

__all__ = [
    "MOST_CARD",
    "NAME",
    "NOT_FOR",
    "AffectCard",
    "Card",
    "FaceCard",
    "Made",
    "Published",
    "Score",
    "Search",
    "Strict",
    "TaskCard",
    "Terms",
    "check_task",
    "parse_card",
    "read_card",
    "write_card",
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
MOST_CARD: Final = 4 << 20
"""Largest size of a card, in bytes."""
_VERSION: Final = 1
Measure = Annotated[float, Field(ge=-1e6, le=1e6)]
Temperature = Annotated[float, Field(ge=0.01, le=100)]
_OWN_KEY: Final = "labels of one's own need a key of their own, such as expr.mine"


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
                f"{part}: {task.key} has {_listed(expected)}, not {_listed(value)}; {_OWN_KEY}"
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


class Search(Strict):
    """Settings of a face detector; see `mien.faces.detect.Detector`."""

    least: Annotated[float, Field(gt=0, lt=1)]
    keep: Annotated[float, Field(gt=0, lt=1)]
    overlap: Annotated[float, Field(gt=0, lt=1)]
    side: Annotated[int, Field(ge=64, le=4096)]
    window: Annotated[int, Field(ge=64, le=1024, multiple_of=32)]


class _Common(Strict):
    card: Literal[1]
    name: Annotated[str, Field(pattern=NAME, max_length=100)]
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


class AffectCard(_Common):
    """Card of a network that reads affect from crops.

    Its outputs are the raw outputs of `tasks`, in their order, then the features if exposed.
    """

    reads: Literal["crops"]
    pixels: Pixels
    tasks: tuple[TaskCard, ...]
    """None for a network that gives features alone."""
    tolerance: Annotated[float, Field(ge=1e-9, lt=1)]
    """Largest difference of any score between engines; batch size and threads change nothing."""
    temperature: dict[str, Temperature]
    """Divides the raw output of a task family before it is decoded (Guo et al. 2017)."""
    features: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    """Width of the features (pooled output before the heads); None if not exposed."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs, in their order."""
        families = tuple(spec.task.family for spec in self.tasks)
        return (*families, "features") if self.features else families

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per face in each output of the network, in their order."""
        widths = tuple(len(spec.names) for spec in self.tasks)
        return (*widths, self.features) if self.features else widths

    def exposed(self) -> int:
        """Width of the features, for callers that need them.

        Returns:
            The card's `features`.

        Raises:
            BundleError: The network exposes no features.
        """
        if self.features is None:
            raise BundleError(
                f"{self.name} exposes no features; use a bundle whose card has `features`, "
                "or export it with them"
            )
        return self.features

    @model_validator(mode="after")
    def _check_outputs_and_scores(self) -> "AffectCard":
        if not self.tasks and self.features is None:
            raise ValueError(
                "tasks: none, and no features either; a network gives one or the other"
            )
        if self.tasks and not (self.scores or self.published):
            raise ValueError(
                "scores: none, and none published either, though it has tasks; measure them"
            )
        return self

    @model_validator(mode="after")
    def _check_families(self) -> "AffectCard":
        families = [spec.task.family for spec in self.tasks]
        if len(set(families)) < len(families):
            raise ValueError(
                f"tasks: scores go by family, and one comes twice: {', '.join(families)}"
            )
        if unknown := set(self.temperature) - set(families):
            raise ValueError(
                f"temperature: {', '.join(sorted(unknown))} is no family of the tasks, "
                f"which are {', '.join(families)}"
            )
        return self

    def never_right(self) -> dict[str, str]:
        """Labels whose measured F1 is 0 on a whole data set, so that they are not to be trusted.

        Returns:
            By label, the score and the data it was measured on.
        """
        names: set[str] = set()
        for spec in self.tasks:
            if spec.kind == "one_of":
                names.update(spec.names)
        failed: dict[str, str] = {}
        for score in self.scores:
            # A metric of one label is called "task F1 label".
            _, f1, name = score.metric.rpartition(" F1 ")
            if f1 and name in names and score.value == 0 and not score.condition:
                failed.setdefault(name, f"F1 0 on {score.faces} faces, {score.data}")
        return failed


class FaceCard(_Common):
    """Card of a network that finds faces in frames."""

    reads: Literal["frames"]
    search: Search

    @model_validator(mode="after")
    def _check_scores(self) -> "FaceCard":
        if not (self.scores or self.published):
            raise ValueError("scores: none, and none published either; measure them")
        return self


Card = Annotated[AffectCard | FaceCard, Field(discriminator="reads")]
_ANY_CARD: TypeAdapter[AffectCard | FaceCard] = TypeAdapter(Card)


def read_card(path: Path) -> AffectCard | FaceCard:
    """Read a card.

    Args:
        path: ``card.json``.

    Returns:
        The card.

    Raises:
        BundleError: It cannot be read or is wrong; the message names the file and the key.
    """
    content = read_bounded(
        path, MOST_CARD, BundleError, "a bundle is a folder with card.json and model.onnx"
    )
    return parse_card(content, str(path))


def parse_card(content: bytes, where: str) -> AffectCard | FaceCard:
    """Parse a card.

    Args:
        content: JSON.
        where: Name of the file, for messages.

    Returns:
        The card.

    Raises:
        BundleError: It is wrong; the message names `where` and the key.
    """
    try:
        card = _ANY_CARD.validate_json(content, strict=True)
    except ValidationError as error:
        raise _card_error(error, content, where) from error
    # Of a key that comes twice, pydantic takes the last without a word.
    try:
        check_json(content)
    except ValueError as error:
        raise BundleError(
            printable(f"{where}: {error}; get the bundle again from where it came")
        ) from error
    return card


def _card_error(error: ValidationError, content: bytes, where: str) -> BundleError:
    # A newer version explains every other error.
    version = _version(content)
    if version > _VERSION:
        return BundleError(
            f"{where}: written for a newer mien (card {version}; this one reads {_VERSION}); "
            "update mien: pip install --upgrade mien"
        )
    first = error.errors(include_url=False)[0]
    # The location of an error begins with the kind of card, which is no key of the file.
    key = ".".join(str(part) for part in first["loc"][1:]) or "the file"
    why = first["msg"].removeprefix("Value error, ")
    advice = "get the bundle again from where it came"
    if why.endswith(_OWN_KEY):
        advice = "change it here if they are yours"
    return BundleError(printable(f"{where}: {key}: {why}; {advice}"))


def _version(content: bytes) -> int:
    """The version of a card; 0 where it has none."""
    try:
        document = from_json(content)
    except ValueError:
        return 0
    version = document.get("card") if isinstance(document, dict) else None
    return version if isinstance(version, int) else 0


def write_card(card: AffectCard | FaceCard, path: Path) -> None:
    """Write a card as indented JSON; a reader never sees half of it.

    Args:
        card: The card.
        path: The file, usually ``card.json`` in the bundle's folder.

    Raises:
        OSError: It cannot be written; the caller knows which folder to name.
    """
    content = (card.model_dump_json(indent=2) + "\n").encode()
    atomic_write(path, content, errors=nullcontext)
