"""What the app says of recordings, in JSON; times are seconds from the film's first frame."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, TypeAdapter

from mien.study.edits.beside import EditHistory
from mien.study.edits.operations import (
    Code,
    Coding,
    Exclude,
    Exclusion,
    Include,
    Merge,
    Name,
    Operation,
    Split,
    Uncode,
)
from mien.study.strict import StrictSettings

__all__ = [
    "Boxes",
    "ColumnFacts",
    "Detail",
    "EditRequest",
    "EditState",
    "ExportRequest",
    "Exported",
    "ExportedFile",
    "FaceBox",
    "Grid",
    "Item",
    "ProxyState",
    "Segment",
    "Segments",
    "Series",
    "SplitFacts",
    "TrackFacts",
    "TrackSeries",
    "VersionRequest",
    "operation_of",
]

Group = Literal["expression", "affect", "action unit", "pose", "quality", "other"]


class Item(BaseModel):
    """A recording in the list.

    Attributes:
        id: What it is called in addresses.
        name: The table's path below the results, without suffix.
        film: Path of the film or photo; None where it is gone.
        owns_film: Whether mien recorded the film, which then goes when the recording is deleted.
        kind: What was read.
        seconds: Length of the film; 0 for photos.
        rows: Rows of the table.
        faces: How many different faces; of photos, how many in all.
        width: Of the upright frames, pixels; 0 where unknown.
        height: Of the upright frames, pixels; 0 where unknown.
        created: When the table was written, seconds since 1970.
        doubtful: Share of readings that are not to be trusted.
        has_edits: Whether it was edited by hand.
    """

    id: str
    name: str
    film: str | None
    owns_film: bool
    kind: Literal["film", "photos"]
    seconds: float
    rows: int
    faces: int
    width: int
    height: int
    created: float
    doubtful: float
    has_edits: bool


class ColumnFacts(BaseModel):
    """A column of numbers."""

    name: str
    title: str
    unit: str
    low: float | None
    high: float | None
    description: str
    group: Group


class TrackFacts(BaseModel):
    """A face through a film, after merges and splits.

    Attributes:
        track: Its number.
        name: The name given by hand; else such as ``face 3``.
        first: When it is first seen.
        last: When it is last seen.
        seconds: How long it is seen.
        doubtful: Share of its readings that are not to be trusted.
    """

    track: int
    name: str
    first: float
    last: float
    seconds: float
    doubtful: float


class SplitFacts(BaseModel):
    """A track that was parted.

    Attributes:
        track: Its number, which the earlier part keeps.
        at: When the later part begins.
        into: Number of the later part.
    """

    track: int
    at: float
    into: int


class EditState(BaseModel):
    """The edits of a recording.

    Attributes:
        version: Grows with each change.
        names: Names by track.
        merged: Pairs: the track that was merged, and the one it is part of now.
        splits: Tracks that were parted.
        excluded: Spans that are not to be used.
        codes: Spans in which somebody saw something.
        can_undo: Whether there is an edit to undo.
        can_redo: Whether there is an undone edit.
        problem: Why the edits beside the table do not apply; None where they do.
    """

    version: int = 0
    names: dict[int, str] = Field(default_factory=dict)
    merged: list[tuple[int, int]] = Field(default_factory=list)
    splits: list[SplitFacts] = Field(default_factory=list)
    excluded: list[Exclusion] = Field(default_factory=list)
    codes: list[Coding] = Field(default_factory=list)
    can_undo: bool = False
    can_redo: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, history: EditHistory) -> "EditState":
        """Say what a history comes to.

        Args:
            history: The edits of a table.

        Returns:
            The state.
        """
        edits = history.edits
        merged = [(step.track, step.into) for step in edits.steps if isinstance(step, Merge)]
        splits = []
        for step in edits.steps:
            if isinstance(step, Split):
                splits.append(SplitFacts(track=step.track, at=step.at, into=step.into or 0))
        return cls(
            version=history.version,
            names=edits.names,
            merged=merged,
            splits=splits,
            excluded=list(edits.excluded),
            codes=list(edits.codes),
            can_undo=history.can_undo,
            can_redo=history.can_redo,
        )


class _Versioned(BaseModel):
    version: int | None = Field(None, description="The version that is edited; null for any.")


class NameRequest(Name, _Versioned):
    """Name a track; an empty name takes the name away."""


class MergeRequest(Merge, _Versioned):
    """Make a track part of another one, which is the same person."""


class SplitRequest(StrictSettings, _Versioned):
    """Part a track in two, the later one beginning at a time."""

    op: Literal["split"]
    track: Annotated[int, Field(ge=0)]
    at: Annotated[float, Field(ge=0)]


class ExcludeRequest(Exclude, _Versioned):
    """Exclude a span of a track, or of everybody."""


class IncludeRequest(Include, _Versioned):
    """Take back an exclusion, by its position in the list."""


class CodeRequest(Code, _Versioned):
    """Add a code to a span of a track, or of everybody."""


class UncodeRequest(Uncode, _Versioned):
    """Take back a code, by its position in the list."""


EditRequest = Annotated[
    NameRequest
    | MergeRequest
    | SplitRequest
    | ExcludeRequest
    | IncludeRequest
    | CodeRequest
    | UncodeRequest,
    Field(discriminator="op"),
]
"""An edit, and the version of the edits that it was made on."""
_OPERATION: Final[TypeAdapter[Operation]] = TypeAdapter(Operation)


def operation_of(request: EditRequest) -> Operation:
    """The edit that a request asks for.

    Args:
        request: The request.

    Returns:
        The operation.
    """
    return _OPERATION.validate_python(request.model_dump(exclude={"version"}))


class VersionRequest(BaseModel):
    """The version of the edits that is to be changed.

    Attributes:
        version: The version; None for any.
    """

    version: int | None = None


class Detail(Item):
    """A recording with all that a page needs to show it.

    Attributes:
        fps: Frames read per second; 0 for photos.
        playable: Whether browsers play the film itself; else there is the proxy.
        film_offset: What to add to times for the film's own clock in a browser, seconds.
        columns: The columns of numbers.
        tracks: The faces through the film.
        edits: The edits.
        expressions: Names of the expressions, as in ``expr_NAME``.
        formats: What it can be exported to.
    """

    fps: float
    playable: bool
    film_offset: float
    columns: list[ColumnFacts]
    tracks: list[TrackFacts]
    edits: EditState
    expressions: list[str]
    formats: list[str]


class TrackSeries(BaseModel):
    """Scores of a track over time, one value per time; None where missing."""

    track: int
    name: str
    time: list[float]
    columns: dict[str, list[float | None]]
    status: list[int]


class Series(BaseModel):
    """Scores over time.

    Attributes:
        tracks: The tracks that are seen in the span.
        status_names: What the numbers of ``status`` stand for.
    """

    tracks: list[TrackSeries]
    status_names: list[str]


class FaceBox(BaseModel):
    """A face in a frame, in pixels of the upright frame.

    Attributes:
        track: Number of the face.
        name: Its name.
        box: x, y, width, height.
        roll: How far the head is tilted, degrees clockwise; None where not measured.
        points: Five points (x, y); None where the table has none.
        expression: The label; None where there is none.
        probability: Of that label.
        status: Of the reading.
        excluded: Whether the time was excluded by hand.
    """

    track: int
    name: str
    box: list[float]
    roll: float | None
    points: list[list[float]] | None
    expression: str | None
    probability: float | None
    status: str
    excluded: bool


class Boxes(BaseModel):
    """The faces of each frame that was read; of photos, the times are their numbers from 0."""

    times: list[float]
    faces: list[list[FaceBox]]


class Segment(BaseModel):
    """A segment of what a track shows.

    Attributes:
        track: The track.
        kind: As in segments of a study: expression, action_unit, smile, blink, code.
        label: The expression, action unit or code.
        onset: When it begins.
        apex: When the score is highest.
        offset: When it ends.
        peak: The highest score; None for codes.
    """

    track: int
    kind: str
    label: str
    onset: float
    apex: float
    offset: float
    peak: float | None


class ExportedFile(BaseModel):
    """A file that was exported, and where to get it."""

    name: str
    size: int
    url: str


class Exported(BaseModel):
    """What an export gave."""

    files: list[ExportedFile]


class ExportRequest(BaseModel):
    """What to export to.

    Attributes:
        format: One of the formats of the recording or study.
    """

    format: Annotated[str, Field(max_length=40)]


class Segments(BaseModel):
    """All segments of a film."""

    segments: list[Segment]


class ProxyState(BaseModel):
    """How a copy of a film is getting on.

    Attributes:
        state: Whether it can be had.
        share: How much is done, 0..1.
        problem: Why there is none; None where it did not fail.
    """

    state: Literal["making", "ready", "failed"]
    share: float
    problem: str | None = None


class Grid(BaseModel):
    """A table: names of columns, and rows of values in their order."""

    columns: list[str]
    rows: list[list[Any]]
