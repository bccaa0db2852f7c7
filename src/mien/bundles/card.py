"""The card: what is known of a network, as strict JSON."""

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import from_json

from mien.bundles.card_parts import (
    OWN_KEY,
    CommonCard,
    Strict,
    TaskCard,
    Temperature,
    Trust,
    check_families,
    check_uncertain,
    never_right,
)
from mien.bundles.plan import (
    CompoundStep,
    Hash,
    HeadsStep,
    Key,
    PlanStep,
    ScoreStep,
    families_of,
    inputs_of,
    tasks_of,
)
from mien.documents import check_json, read_bounded
from mien.errors import BundleError
from mien.faces.prepare import Pixels
from mien.files import atomic_write
from mien.text import printable

__all__ = [
    "MOST_CARD",
    "AffectCard",
    "AnyCard",
    "Card",
    "FaceCard",
    "IdentityCard",
    "NetworkCard",
    "Search",
    "SystemCard",
    "card_json",
    "hash_of_files",
    "head_path",
    "parse_card",
    "read_card",
    "write_card",
]

MOST_CARD: Final = 4 << 20
"""Largest size of a card, in bytes."""
_VERSION: Final = 1


Threshold = Annotated[float, Field(gt=0, lt=1)]
# Left out of the file while they are None: earlier versions refuse keys that they do not know.
_OPTIONAL: Final = ("version", "doubtful_below", "trust", "uncertain_below", "presence")


class Search(Strict):
    """Settings of a face detector; see `mien.faces.detect.Detector`."""

    least: Annotated[float, Field(gt=0, lt=1)]
    keep: Annotated[float, Field(gt=0, lt=1)]
    overlap: Annotated[float, Field(gt=0, lt=1)]
    side: Annotated[int, Field(ge=64, le=4096)]
    window: Annotated[int, Field(ge=64, le=1024, multiple_of=32)]
    smallest: Annotated[int, Field(ge=4, le=64)] = 32


class AffectCard(CommonCard):
    """Card of a network that reads affect from crops.

    Its outputs are the raw outputs of `tasks`, in their order, then the features if exposed.
    """

    reads: Literal["crops"]
    pixels: Pixels
    tasks: tuple[TaskCard, ...]
    """None for a network that gives features alone."""
    tolerance: Annotated[float, Field(ge=1e-9, lt=1)]
    """Largest difference of any score between the CPU's engines, for any batch size and threads."""
    temperature: dict[str, Temperature]
    """Divides the raw output of a task family before it is decoded (Guo et al. 2017)."""
    features: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    """Width of the features (pooled output before the heads); None if not exposed."""
    doubtful_below: Threshold | None = None
    """Of a bundle that judges readings: a reading whose `quality` is lower is doubtful."""
    trust: Trust | None = None
    """Of a bundle that judges readings: how its judgement and the likeliest expression's
    probability become `quality`; None: `quality` is its judgement alone."""
    uncertain_below: Threshold | None = None
    """The label of a face is ``uncertain`` where its highest probability is lower; None: never."""
    presence: dict[str, Threshold] | None = None
    """By action unit: the activation from which it counts as present; None: not known."""

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
    def _check_thresholds(self) -> "AffectCard":
        families = {spec.task.family for spec in self.tasks}
        if self.doubtful_below is not None and "quality" not in families:
            raise ValueError("doubtful_below: the network has no task quality.reading to compare")
        if self.trust is not None and "quality" not in families:
            raise ValueError("trust: the network has no task quality.reading to combine")
        check_uncertain(self.uncertain_below, self.tasks)
        units = {name for spec in self.tasks if spec.task.family == "au" for name in spec.names}
        if unknown := set(self.presence or ()) - units:
            raise ValueError(
                f"presence: {', '.join(sorted(unknown))} is no action unit of the network's task"
            )
        return self

    @model_validator(mode="after")
    def _check_families(self) -> "AffectCard":
        check_families(self.tasks)
        families = [spec.task.family for spec in self.tasks]
        # Of a misspelled family nothing would be calibrated, without a word.
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
        return never_right(self.tasks, self.scores)


class FaceCard(CommonCard):
    """Card of a network that finds faces in frames."""

    purpose: ClassVar = "finds faces"
    """For messages."""
    reads: Literal["frames"]
    search: Search

    @model_validator(mode="after")
    def _check_scores(self) -> "FaceCard":
        if not (self.scores or self.published):
            raise ValueError("scores: none, and none published either; measure them")
        return self


class IdentityCard(CommonCard):
    """Card of a network that tells the people of one film apart.

    Its one output, ``descriptor``, is biometric data. A kind of its own, so that nothing that
    writes the features of a network takes it.
    """

    purpose: ClassVar = "tells people apart"
    """For messages."""
    reads: Literal["people"]
    pixels: Pixels
    descriptor: Annotated[int, Field(ge=1, le=1 << 16)]
    """How many numbers it gives of a face."""
    tolerance: Annotated[float, Field(ge=1e-9, lt=1)]
    """Largest difference of any of them between the CPU's engines."""
    same_person: Annotated[float, Field(gt=0, le=1e6)]
    """Groups of tracks that are nearer than this on average (Euclidean distance) are joined."""

    @model_validator(mode="after")
    def _check_scores(self) -> "IdentityCard":
        if not (self.scores or self.published):
            raise ValueError("scores: none, and none published either; measure them")
        return self


class SystemCard(CommonCard):
    """Card of a system: several networks, and what becomes of their scores over a film.

    Its folder holds each member, a bundle that reads crops, in ``members/<name>``, and the networks
    of heads in ``heads/``. `sha256` is that of the lines that ``sha256sum`` prints of the members'
    cards and the heads' networks, sorted by path; members' cards hold the hashes of their networks.
    """

    reads: Literal["films"]
    tasks: Annotated[tuple[TaskCard, ...], Field(min_length=1)]
    tolerance: Annotated[float, Field(ge=1e-9, lt=1)]
    """As of `AffectCard`."""
    members: Annotated[dict[Key, Hash], Field(min_length=1, max_length=100)]
    """By name, the hash of the member's card."""
    steps: Annotated[dict[Key, PlanStep], Field(min_length=1, max_length=1000)]
    """The plan, see `mien.bundles.plan`; a step reads only steps before it."""
    answer: Key
    """The step whose scores are the system's."""
    uncertain_below: Threshold | None = None
    """As of `AffectCard`."""

    @property
    def files(self) -> dict[str, str]:
        """Hashes of the members' cards and the heads' networks, by path in the bundle's folder."""
        hashes = {f"members/{name}/card.json": sha256 for name, sha256 in self.members.items()}
        for name, step in self.steps.items():
            if isinstance(step, HeadsStep):
                for number, head in enumerate(step.heads):
                    hashes[head_path(name, number)] = head.sha256
        return hashes

    @model_validator(mode="after")
    def _check_hash(self) -> "SystemCard":
        # Over the members' cards, so that no member can be replaced by another.
        if self.sha256 != hash_of_files(self.files):
            raise ValueError("sha256: not that of the files which the card names")
        return self

    @model_validator(mode="after")
    def _check_plan(self) -> "SystemCard":
        check_families(self.tasks)
        check_uncertain(self.uncertain_below, self.tasks)
        # In order, so that no step can depend on itself.
        known: dict[str, PlanStep] = {}
        for name, step in self.steps.items():
            if isinstance(step, ScoreStep | HeadsStep) and step.member not in self.members:
                raise ValueError(f"steps.{name}: {step.member} is no member")
            if isinstance(step, CompoundStep) and name != self.answer:
                raise ValueError(f"steps.{name}: compounds of frames can only be the answer")
            for other in inputs_of(step):
                if other not in known:
                    raise ValueError(f"steps.{name}: {other} is no step before it")
                given = {task.family for task in tasks_of(known, other)}
                if missing := set(families_of(step)) - given:
                    raise ValueError(f"steps.{name}: {other} gives no {', '.join(sorted(missing))}")
            known[name] = step
        if self.answer not in known:
            raise ValueError(f"answer: {self.answer} is no step")
        if tasks_of(known, self.answer) != tuple(spec.task for spec in self.tasks):
            raise ValueError(f"answer: {self.answer} gives other tasks than the card's")
        return self

    def never_right(self) -> dict[str, str]:
        """Labels whose measured F1 is 0 on a whole data set, as of `AffectCard`.

        Returns:
            By label, the score and the data it was measured on.
        """
        return never_right(self.tasks, self.scores)


def head_path(step: str, number: int) -> str:
    """Where a system keeps the network of some heads.

    Args:
        step: The step of the plan.
        number: Which of its networks, from 0.

    Returns:
        A path in the bundle's folder.
    """
    return f"heads/{step}-{number}.onnx"


def hash_of_files(files: Mapping[str, str]) -> str:
    """Hash the hashes of some files.

    Args:
        files: Hashes by path.

    Returns:
        SHA-256 of what ``sha256sum`` prints of them in the order of their paths, in hexadecimal.
    """
    lines = [f"{sha256}  {path}\n" for path, sha256 in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


NetworkCard = AffectCard | FaceCard | IdentityCard
"""Card of a bundle with one network."""
AnyCard = NetworkCard | SystemCard
Card = Annotated[AnyCard, Field(discriminator="reads")]
_ANY_CARD: TypeAdapter[AnyCard] = TypeAdapter(Card)


def read_card(path: Path) -> AnyCard:
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


def parse_card(content: bytes, where: str) -> AnyCard:
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
    # One is enough: the others often follow from it.
    first = error.errors(include_url=False)[0]
    # The location of an error begins with the kind of card, which is no key of the file.
    key = ".".join(str(part) for part in first["loc"][1:]) or "the file"
    why = first["msg"].removeprefix("Value error, ")
    advice = "get the bundle again from where it came"
    if why.endswith(OWN_KEY):
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


def card_json(card: AnyCard) -> bytes:
    """The content of a card's file.

    Args:
        card: The card.

    Returns:
        Indented JSON with a line break at its end.
    """
    absent = {key for key in _OPTIONAL if getattr(card, key, None) is None}
    return (card.model_dump_json(indent=2, exclude=absent) + "\n").encode()


def write_card(card: AnyCard, path: Path) -> None:
    """Write a card as indented JSON; a reader never sees half of it.

    Args:
        card: The card.
        path: The file, usually ``card.json`` in the bundle's folder.

    Raises:
        OSError: It cannot be written; the caller knows which folder to name.
    """
    atomic_write(path, card_json(card), errors=nullcontext)
