"""Edits of a film's table: single operations, and what they come to together."""

import unicodedata
from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from mien.errors import StudyError
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = [
    "CODE_SEPARATOR",
    "TOLERANCE_S",
    "Code",
    "Coding",
    "Edits",
    "Exclude",
    "Exclusion",
    "Include",
    "Merge",
    "Name",
    "Operation",
    "Split",
    "Uncode",
    "inside",
]

CODE_SEPARATOR: Final = "; "
"""Between the codes of a row that has several."""
TOLERANCE_S: Final = 1e-5
"""Times may be rounded to a millionth of a second, as tables of text and pages have them."""


def _one_line(text: str) -> str:
    """Text in one line, as it is written; refuses what no line holds."""
    text = unicodedata.normalize("NFC", text).strip()
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise ValueError("holds a line break or another control character; write one line")
    return text


def _code(text: str) -> str:
    if not text:
        raise ValueError("is empty; say what is seen")
    if ";" in text:
        raise ValueError("holds a semicolon, which stands between codes; leave it out")
    return text


_Track = Annotated[int, Field(ge=0, le=2**53)]
_Seconds = Annotated[float, Field(ge=0)]
_Line = Annotated[str, Field(max_length=100), AfterValidator(_one_line)]
_CodeText = Annotated[_Line, AfterValidator(_code)]


class _Spanned(StrictSettings):
    """A span of time of one track or of the whole film.

    Attributes:
        start: Its first second, from the film's first frame.
        end: Its last one; the frame at this time is in it.
        track: Number of the face; None for everybody.
    """

    start: _Seconds
    end: _Seconds
    track: _Track | None = None

    @model_validator(mode="after")
    def _has_a_length(self) -> "_Spanned":
        if self.end < self.start:
            raise ValueError(f"ends at {self.end:g} s, before it starts; turn it")
        return self


S = TypeVar("S", bound=_Spanned)


class Exclusion(_Spanned):
    """A span that is not to be used.

    Attributes:
        note: Why, in a line.
    """

    note: _Line = ""


class Coding(_Spanned):
    """A span in which somebody saw something.

    Attributes:
        code: What, in a line.
    """

    code: _CodeText


class Name(StrictSettings):
    """Name a track; an empty name takes the name away."""

    op: Literal["name"] = "name"
    track: _Track
    name: _Line


class Merge(StrictSettings):
    """Make a track part of another one, which is the same person."""

    op: Literal["merge"] = "merge"
    track: _Track
    into: _Track


class Split(StrictSettings):
    """Part a track in two, the later one beginning at a time.

    Attributes:
        at: The first second of the later one.
        into: Number of the later one; found by `mien.study.edits.checks.checked_operation`.
    """

    op: Literal["split"] = "split"
    track: _Track
    at: _Seconds
    into: _Track | None = None


class Exclude(Exclusion):
    """Exclude a span."""

    op: Literal["exclude"] = "exclude"


class Include(StrictSettings):
    """Take back an exclusion, by its position in the list."""

    op: Literal["include"] = "include"
    index: Annotated[int, Field(ge=0)]


class Code(Coding):
    """Add a code to a span."""

    op: Literal["code"] = "code"


class Uncode(StrictSettings):
    """Take back a code, by its position in the list."""

    op: Literal["uncode"] = "uncode"
    index: Annotated[int, Field(ge=0)]


Operation = Annotated[
    Name | Merge | Split | Exclude | Include | Code | Uncode, Field(discriminator="op")
]
"""One edit."""


class Edits(StrictSettings):
    """What the operations on a table come to.

    Attributes:
        steps: Merges and splits, in the order in which they were made.
        names: Names by track, as it is numbered after all steps.
        excluded: Spans that are not to be used.
        codes: Spans in which somebody saw something.
    """

    steps: tuple[Merge | Split, ...] = ()
    names: dict[int, str] = Field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    codes: tuple[Coding, ...] = ()

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> "Edits":
        """Put operations together.

        Args:
            operations: The operations in order.

        Returns:
            What they come to.

        Raises:
            StudyError: One of them takes back what is not there.

        >>> edits = Edits.of([Name(track=3, name="Anna"), Merge(track=3, into=7)])
        >>> edits.names, len(edits.steps)
        ({7: 'Anna'}, 1)
        """
        return reduce(cls.then, operations, cls())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return self == Edits()

    def then(self, operation: Operation) -> "Edits":
        """Add an operation.

        Args:
            operation: The operation.

        Returns:
            The edits with it.

        Raises:
            StudyError: It takes back what is not there.
        """
        if isinstance(operation, Name):
            names = {**self.names, operation.track: operation.name}
            return self._with(names={track: name for track, name in names.items() if name})
        if isinstance(operation, Merge):
            return self._merged(operation)
        if isinstance(operation, Split):
            return self._split(operation)
        if isinstance(operation, Exclude | Include):
            return self._with(excluded=self._exclusions_with(operation))
        return self._with(codes=self._codes_with(operation))

    def _exclusions_with(self, operation: Exclude | Include) -> tuple[Exclusion, ...]:
        if isinstance(operation, Include):
            return _without(self.excluded, operation.index, "excluded span")
        return (*self.excluded, Exclusion(**operation.model_dump(exclude={"op"})))

    def _codes_with(self, operation: Code | Uncode) -> tuple[Coding, ...]:
        if isinstance(operation, Uncode):
            return _without(self.codes, operation.index, "code")
        return (*self.codes, Coding(**operation.model_dump(exclude={"op"})))

    def _with(self, **changes: Any) -> "Edits":
        return self.model_copy(update=changes)

    def _merged(self, step: Merge) -> "Edits":
        """The later number is no track any more, so what was said of it is said of the other."""
        names = dict(self.names)
        former = names.pop(step.track, "")
        if former:
            names.setdefault(step.into, former)

        def moved(span: Any) -> Any:
            if span.track != step.track:
                return span
            return span.model_copy(update={"track": step.into})

        return self._with(
            steps=(*self.steps, step),
            names=names,
            excluded=tuple(map(moved, self.excluded)),
            codes=tuple(map(moved, self.codes)),
        )

    def _split(self, step: Split) -> "Edits":
        """Spans of the track go to the part that they are in; some are in both."""
        excluded: list[Exclusion] = []
        codes: list[Coding] = []
        for exclusion in self.excluded:
            excluded += _parts(exclusion, step)
        for coding in self.codes:
            codes += _parts(coding, step)
        steps = (*self.steps, step)
        return self._with(steps=steps, excluded=tuple(excluded), codes=tuple(codes))

    def to_json(self) -> dict[str, Any]:
        """For files.

        Returns:
            What `model_validate` reads.
        """
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        merges = sum(isinstance(step, Merge) for step in self.steps)
        counts = {
            "name": len(self.names),
            "merge": merges,
            "split": len(self.steps) - merges,
            "excluded span": len(self.excluded),
            "code": len(self.codes),
        }
        parts = []
        for what, count in counts.items():
            if count:
                parts.append(f"{count} {what}{'s' if count > 1 else ''}")
        return ", ".join(parts) or "none"


def _without(spans: tuple[S, ...], index: int, what: str) -> tuple[S, ...]:
    if index >= len(spans):
        raise StudyError(f"edits: there is no {what} {index}, only {len(spans)}; read them again")
    return (*spans[:index], *spans[index + 1 :])


def _parts(span: S, step: Split) -> list[S]:
    if span.track != step.track or span.end < step.at:
        return [span]
    later = span.model_copy(update={"track": step.into})
    # Too short before the split to hold a frame.
    if span.start > step.at - 2 * TOLERANCE_S:
        return [later]
    return [
        span.model_copy(update={"end": step.at - 2 * TOLERANCE_S}),
        later.model_copy(update={"start": step.at}),
    ]


def inside(span: Exclusion | Coding, from_start_s: Floats, track: Floats) -> Any:
    """Which rows a span holds of.

    Args:
        span: The span.
        from_start_s: Times of rows from the film's first frame, seconds (N,).
        track: Their tracks, NaN without a face (N,).

    Returns:
        Whether it does, (N,).
    """
    is_inside = (from_start_s >= span.start - TOLERANCE_S) & (
        from_start_s <= span.end + TOLERANCE_S
    )
    if span.track is not None:
        is_inside &= track == span.track
    return np.asarray(is_inside)
