"""Routes of finished recordings."""

from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Query
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, HTMLResponse, Response

from mien.app.errors import InvalidError
from mien.app.recordings.detail import detail_of
from mien.app.recordings.editing import change, redo, undo
from mien.app.recordings.exporting import (
    export_recording,
    exported_file,
    files_of,
    report_page,
    summary_of,
)
from mien.app.recordings.films import MEDIA_TYPES, film_file, photo_jpeg
from mien.app.recordings.library import Library
from mien.app.recordings.models import (
    Boxes,
    Detail,
    EditRequest,
    EditState,
    Exported,
    ExportRequest,
    Grid,
    Item,
    ProxyState,
    Segments,
    Series,
    VersionRequest,
)
from mien.app.recordings.opened import Opened
from mien.app.recordings.series import boxes_of, segments_of_tracks, series_of
from mien.app.server.ranges import FilmResponse
from mien.app.server.security import REPORT_POLICY
from mien.app.server.state import events_of, library_of
from mien.app.work.events import RECORDINGS, Events

__all__ = ["router"]

router = APIRouter(prefix="/api/recordings", tags=["recordings"])
RecordingId = Annotated[
    str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a recording.")
]
InLibrary = Annotated[Library, Depends(library_of)]


def opened_of(recording_id: RecordingId, library: InLibrary) -> Opened:
    """Find the recording that an address names.

    Args:
        recording_id: Its id.
        library: The recordings.

    Returns:
        The recording.
    """
    return library.open(recording_id)


InRecording = Annotated[Opened, Depends(opened_of)]
Hub = Annotated[Events, Depends(events_of)]
Second = Annotated[float | None, Query(allow_inf_nan=False, description="Seconds.")]
# How long a browser waits for a copy of a film before it asks again, seconds.
_PATIENCE_S: Final = 600.0
_WITH_BYTES: Final = {"description": "The file, in ranges if asked for."}


@router.get("")
def list_recordings(library: InLibrary) -> list[Item]:
    """All recordings, the newest first."""
    return library.items()


@router.get("/{recording_id}")
def recording(recording_id: RecordingId, opened: InRecording, library: InLibrary) -> Detail:
    """A recording with its columns, tracks and edits."""
    return detail_of(opened, library.item(recording_id))


@router.delete("/{recording_id}", status_code=204)
def delete(recording_id: RecordingId, library: InLibrary, events: Hub) -> None:
    """Remove a table with what was written beside it; of films, only one that mien recorded."""
    library.delete(recording_id)
    events.publish(RECORDINGS)


class SeriesQuery(BaseModel):
    """What scores over time are asked for."""

    model_config = ConfigDict(allow_inf_nan=False)

    columns: str = Field(max_length=4000, description="Names, parted by commas.")
    tracks: str | None = Field(
        None, max_length=4000, description="Numbers, parted by commas; none for all."
    )
    points: int = Field(4000, ge=2, le=200_000, description="Values per track, about.")
    start: float | None = Field(None, description="First second.")
    end: float | None = Field(None, description="Last second.")


@router.get("/{recording_id}/series")
def series(opened: InRecording, query: Annotated[SeriesQuery, Query()]) -> Response:
    """Scores over time; of long films the least and greatest value of each stretch of time."""
    names = list(dict.fromkeys(filter(None, map(str.strip, query.columns.split(",")))))
    tracks = None if query.tracks is None else _numbers(query.tracks)
    result = series_of(opened, names, tracks, query.points, start=query.start, end=query.end)
    return _json(result)


@router.get("/{recording_id}/boxes")
def boxes(opened: InRecording, start: Second = None, end: Second = None) -> Response:
    """The faces of each frame in a span, to be drawn over the film."""
    return _json(boxes_of(opened, start, end))


@router.get("/{recording_id}/segments")
def segments(opened: InRecording) -> Segments:
    """When who shows what."""
    return Segments(segments=segments_of_tracks(opened))


@router.head("/{recording_id}/film", include_in_schema=False)
@router.get(
    "/{recording_id}/film",
    response_class=FileResponse,
    responses={200: _WITH_BYTES, 206: _WITH_BYTES},
)
def film(opened: InRecording) -> FilmResponse:
    """The film as it is; of a range 2 MB at most, and the rest when it is asked for."""
    path = film_file(opened)
    return _inline(path, MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream"))


@router.head("/{recording_id}/proxy", include_in_schema=False)
@router.get(
    "/{recording_id}/proxy",
    response_class=FileResponse,
    responses={200: _WITH_BYTES, 206: _WITH_BYTES},
)
def proxy(opened: InRecording, library: InLibrary) -> FilmResponse:
    """A small copy of the film that browsers play, made when it is first asked for."""
    return _inline(library.proxies.wait(opened, _PATIENCE_S), "video/mp4")


@router.get("/{recording_id}/proxy/state")
def proxy_state(opened: InRecording, library: InLibrary) -> ProxyState:
    """How far the copy is; makes it if it is not there."""
    return library.proxies.state(opened)


@router.get("/{recording_id}/photo/{index}")
def photo(
    opened: InRecording,
    index: Annotated[int, InPath(ge=0, le=2**31, description="Number of the photo, from 0.")],
) -> Response:
    """A photo, upright, as JPEG."""
    return Response(photo_jpeg(opened, index), media_type="image/jpeg")


@router.post("/{recording_id}/edits")
def edit(
    recording_id: RecordingId,
    request: Annotated[EditRequest, Body()],
    library: InLibrary,
    events: Hub,
) -> EditState:
    """Make an edit."""
    state = change(library.shelf, library.table(recording_id), request)
    events.publish(RECORDINGS)
    return state


@router.post("/{recording_id}/undo")
def undo_edit(
    recording_id: RecordingId,
    library: InLibrary,
    events: Hub,
    request: VersionRequest | None = None,
) -> EditState:
    """Undo the last edit."""
    version = None if request is None else request.version
    state = undo(library.shelf, library.table(recording_id), version)
    events.publish(RECORDINGS)
    return state


@router.post("/{recording_id}/redo")
def redo_edit(
    recording_id: RecordingId,
    library: InLibrary,
    events: Hub,
    request: VersionRequest | None = None,
) -> EditState:
    """Make an undone edit again."""
    version = None if request is None else request.version
    state = redo(library.shelf, library.table(recording_id), version)
    events.publish(RECORDINGS)
    return state


@router.post("/{recording_id}/export")
def export(recording_id: RecordingId, request: ExportRequest, library: InLibrary) -> Exported:
    """Write the recording in a format, with its edits."""
    folder = library.exports(recording_id)
    paths = export_recording(library.table(recording_id), request.format, folder)
    return Exported(files=files_of(paths, f"/api/recordings/{recording_id}/exports"))


@router.get("/{recording_id}/exports/{name}", response_class=FileResponse)
def exported(
    recording_id: RecordingId,
    name: Annotated[str, InPath(max_length=255, description="The file's name.")],
    library: InLibrary,
) -> FileResponse:
    """A file that was exported."""
    path = exported_file(library.exports(recording_id), name)
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")


@router.get("/{recording_id}/report", response_class=HTMLResponse)
def report(recording_id: RecordingId, library: InLibrary) -> HTMLResponse:
    """The report, a page that brings all it needs."""
    page = report_page(library.table(recording_id))
    return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})


@router.get("/{recording_id}/summary")
def summary(opened: InRecording) -> Grid:
    """The numbers of each person, as of a study."""
    return summary_of(opened)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InvalidError(
            f"tracks: {text[:40]!r} are no numbers; write such as tracks=0,2"
        ) from error


def _json(model: Series | Boxes) -> Response:
    # Not checked again by the framework, as there may be many numbers.
    return Response(model.model_dump_json(), media_type="application/json")


def _inline(path: Path, media_type: str) -> FilmResponse:
    return FilmResponse(
        path, media_type=media_type, filename=path.name, content_disposition_type="inline"
    )
