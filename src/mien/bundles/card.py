"""The card: what is known of a network. Strict JSON: an unknown or missing key is an error that names it."""

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
    "MOST_CARD", "NAME", "NOT_FOR", "AffectCard", "Card", "FaceCard", "Made", "Published", "Score", "Search", "Strict", "TaskCard", "Terms",
    "check_task", "parse_card", "read_card", "write_card",
]  # fmt: skip

NAME: Final = r"^[a-z0-9][a-z0-9._-]*$"
"""What a bundle may be called."""
NOT_FOR: Final = (
    "inferring emotions of people at work or in education, which Article 5(1)(f) of the EU AI Act forbids",
    "deciding about a person: hiring, marking, insurance, policing, border control, diagnosis",
    "reading people who have not been told (Article 50(3) of the EU AI Act)",
)
"""What no bundle must be used for."""
MOST_CARD: Final = 4 << 20
"""Bytes that a card may have."""
_VERSION: Final = 1
Measure = Annotated[float, Field(ge=-1e6, le=1e6)]
Heat = Annotated[float, Field(ge=0.01, le=100)]
_OWN: Final = "labels of one's own need a key of their own, such as expr.mine"


class Strict(BaseModel):
    """What others may have written: no unknown key, no infinite number, and texts that can be shown on one line of a terminal."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _can_be_shown(cls, value: object) -> object:
        """Line breaks and tabs become plain spaces; what would command a terminal, or turn its text around, is refused."""
        if isinstance(value, tuple):
            return tuple(map(cls._can_be_shown, value))
        if isinstance(value, dict):
            return {key: cls._can_be_shown(one) for key, one in value.items()}
        if not isinstance(value, str) or not COMMANDS.search(value):
            return value
        text = " ".join(value.split())
        if COMMANDS.search(text):
            raise ValueError(f"holds characters that cannot be shown: {printable(text)[:60]}")
        return text


def check_task(task: Task) -> None:
    """Raises ValueError for names that come twice, and for a task that has a key of mien's own but is not that task."""
    if len(set(task.names)) < len(task.names):
        raise ValueError(f"names: one comes twice: {', '.join(task.names)}")
    known = TASKS.get(task.key, task)
    for part in ("names", "kind", "low", "high"):
        if (found := getattr(task, part)) != (right := getattr(known, part)):
            told = [", ".join(one) if isinstance(one, tuple) else one for one in (right, found)]
            raise ValueError(f"{part}: {task.key} has {told[0]}, not {told[1]}; {_OWN}")


class TaskCard(Strict):
    """A `Task` as the card spells it out, so that the card can be read without mien."""

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
    def _is_the_task_of_its_key(self) -> "TaskCard":
        check_task(self.task)
        return self


class Terms(Strict):
    """A data set that the network has seen, how, and on which terms it was to be had."""

    data: str
    used_for: Literal["training", "selection", "teacher"]
    terms: str


class Score(Strict):
    """A measured score with its 95 % bootstrap interval, and what it was measured on."""

    metric: str
    value: Measure
    low: Measure
    high: Measure
    data: str
    faces: Annotated[int, Field(ge=0, le=10**12)]
    condition: str = ""
    """How the pictures were made worse first: a word, a colon, what was done; empty for pictures as they are."""


class Published(Strict):
    """A score that the makers of a network published; nobody measured it here, and it has no interval."""

    metric: str
    value: Measure
    data: str
    protocol: str
    """What was done to get it, as far as it is known."""
    source: str


class Made(Strict):
    """How to make it again: the command, the seed (None where it is not known), the commit of the code and what it cost."""

    recipe: str
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    commit: str
    cost: str


class Search(Strict):
    """How a face finder is used; see `mien.faces.detect.Detector`."""

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
        return f"{type(self).__name__}({self.name!r}: {self.summary}; sha256 {self.sha256[:12]}…, {len(self.scores)} scores)"

    __str__ = __repr__


class AffectCard(_Common):
    """Card of a network that reads affect from crops. Outputs come in the order of `tasks`, raw; `features`, where exposed, come last."""

    reads: Literal["crops"]
    pixels: Pixels
    tasks: tuple[TaskCard, ...]
    """None for a network that gives features alone."""
    tolerance: Annotated[float, Field(ge=1e-9, lt=1)]
    """Largest difference of any score between engines. Within one engine, batch size and threads change nothing."""
    temperature: dict[str, Heat]
    """Raw output of a task family is divided by this before it is decoded (Guo et al. 2017)."""
    features: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    """Width of the features (pooled backbone output, before the heads) that the network gives as well; None where it gives none."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs, in their order."""
        return (
            *(spec.task.family for spec in self.tasks),
            *(("features",) if self.features else ()),
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers a face in each output of the network, in their order."""
        return (
            *(len(spec.names) for spec in self.tasks),
            *((self.features,) if self.features else ()),
        )

    def exposed(self) -> int:
        """Width of the features; raises BundleError where the network exposes none."""
        if self.features is None:
            raise BundleError(
                f"{self.name} exposes no features; use a bundle whose card has `features`, or export it with them"
            )
        return self.features

    @model_validator(mode="after")
    def _something_is_given_and_measured(self) -> "AffectCard":
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
    def _families_are_told_apart(self) -> "AffectCard":
        families = [spec.task.family for spec in self.tasks]
        if len(set(families)) < len(families):
            raise ValueError(
                f"tasks: scores go by family, and one comes twice: {', '.join(families)}"
            )
        if strange := set(self.temperature) - set(families):
            raise ValueError(
                f"temperature: {', '.join(sorted(strange))} is no family of the tasks, which are {', '.join(families)}"
            )
        return self

    def never_right(self) -> dict[str, str]:
        """Names of a task whose measured F1 is 0 on a whole data set, and on which: the label cannot be trusted to call them."""
        names = {name for spec in self.tasks if spec.kind == "one_of" for name in spec.names}
        found: dict[str, str] = {}
        for score in self.scores:
            name = score.metric.rpartition(" F1 ")[2]
            if name in names and score.metric != name and score.value == 0 and not score.condition:
                found.setdefault(name, f"F1 0 on {score.faces} faces, {score.data}")
        return found


class FaceCard(_Common):
    """Card of a network that finds faces in frames."""

    reads: Literal["frames"]
    search: Search

    @model_validator(mode="after")
    def _something_is_measured(self) -> "FaceCard":
        if not (self.scores or self.published):
            raise ValueError("scores: none, and none published either; measure them")
        return self


Card = Annotated[AffectCard | FaceCard, Field(discriminator="reads")]
_ANY_CARD: TypeAdapter[AffectCard | FaceCard] = TypeAdapter(Card)


def read_card(path: Path) -> AffectCard | FaceCard:
    """Read ``card.json``; raises BundleError naming the file and the key that is wrong."""
    content = read_bounded(
        path, MOST_CARD, BundleError, "a bundle is a folder with card.json and model.onnx"
    )
    return parse_card(content, str(path))


def parse_card(content: bytes, where: str) -> AffectCard | FaceCard:
    """The card that is the content of a file; raises BundleError naming `where` and the key that is wrong."""
    try:
        card = _ANY_CARD.validate_json(content, strict=True)
    except ValidationError as error:
        if (version := _version(content)) > _VERSION:
            raise BundleError(
                f"{where}: written for a newer mien (card {version}; this one reads {_VERSION}); update mien: pip install --upgrade mien"
            ) from error
        first = error.errors(include_url=False)[0]
        # The kind of card comes first in the place of an error, but it is no key of the file.
        key = ".".join(str(part) for part in first["loc"][1:]) or "the file"
        why = first["msg"].removeprefix("Value error, ")
        then = (
            "change it here if they are yours"
            if why.endswith(_OWN)
            else "get the bundle again from where it came"
        )
        raise BundleError(printable(f"{where}: {key}: {why}; {then}")) from error
    try:
        check_json(content)  # of a key that comes twice, pydantic takes the last
    except ValueError as error:
        raise BundleError(
            printable(f"{where}: {error}; get the bundle again from where it came")
        ) from error
    return card


def _version(content: bytes) -> int:
    """The version that a card says it has; 0 where it says none."""
    try:
        found = from_json(content)
    except ValueError:
        return 0
    version = found.get("card") if isinstance(found, dict) else None
    return version if isinstance(version, int) else 0


def write_card(card: AffectCard | FaceCard, path: Path) -> None:
    """Write ``card.json``, readable by people and by `read_card`; a reader never sees half of it.

    Args:
        card: The card.
        path: The file, usually ``card.json`` in the bundle's folder.

    Raises:
        OSError: Where it cannot be written; the caller knows which folder to name.
    """
    content = (card.model_dump_json(indent=2) + "\n").encode()
    atomic_write(path, content, errors=nullcontext)
