"""Routes of studies."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from starlette.responses import FileResponse, HTMLResponse

from mien.app.recordings import studies
from mien.app.recordings.exporting import exported_file, files_of
from mien.app.recordings.library import Library
from mien.app.recordings.models import Exported, ExportRequest, Grid
from mien.app.recordings.study_runs import StudyProgress, StudyRuns
from mien.app.server.security import REPORT_POLICY
from mien.app.server.state import library_of, study_runs_of, workspace_of
from mien.app.work.workspace import Workspace

__all__ = ["router"]

router = APIRouter(prefix="/api/studies", tags=["studies"])
StudyId = Annotated[
    str, InPath(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$", description="The id of a study.")
]
Home = Annotated[Workspace, Depends(workspace_of)]
InLibrary = Annotated[Library, Depends(library_of)]
Runs = Annotated[StudyRuns, Depends(study_runs_of)]


@router.get("")
def list_studies(workspace: Home) -> list[studies.Study]:
    """All studies, the newest first."""
    return studies.list_studies(workspace.studies)


@router.post("")
def create_study(new: studies.NewStudy, workspace: Home, library: InLibrary) -> studies.Study:
    """Make a study of recordings."""
    return studies.create_study(workspace.studies, new, library.table)


@router.get("/{study_id}")
def study(study_id: StudyId, workspace: Home) -> studies.Study:
    """A study."""
    return studies.read_study(workspace.studies, study_id)


@router.delete("/{study_id}", status_code=204)
def delete_study(study_id: StudyId, runs: Runs) -> None:
    """Remove a study; its recordings stay."""
    runs.delete(study_id)


@router.post("/{study_id}/run")
def run_study(study_id: StudyId, runs: Runs) -> studies.Study:
    """Run a study on its recordings as they are now, and answer once it is done."""
    return runs.run(study_id)


@router.get("/{study_id}/progress")
def progress(study_id: StudyId, runs: Runs) -> StudyProgress | None:
    """How far the run of a study is; null where it is not being run here."""
    return runs.progress(study_id)


@router.get("/{study_id}/summary")
def summary(study_id: StudyId, workspace: Home) -> Grid:
    """The summaries: a row per person, condition and session."""
    return studies.study_summary(workspace.studies, study_id)


@router.get("/{study_id}/plots")
def plots(study_id: StudyId, workspace: Home) -> studies.Plots:
    """Means over people with intervals, and the values of each person."""
    return studies.study_plots(workspace.studies, study_id)


@router.get("/{study_id}/report", response_class=HTMLResponse)
def report(study_id: StudyId, workspace: Home) -> HTMLResponse:
    """The report, a page that brings all it needs."""
    page = studies.study_report(workspace.studies, study_id)
    return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})


@router.post("/{study_id}/export")
def export(study_id: StudyId, request: ExportRequest, workspace: Home) -> Exported:
    """Write the study in a format: its tables, or who shows what in each recording."""
    paths = studies.export_study(workspace.studies, study_id, request.format)
    return Exported(files=files_of(paths, f"/api/studies/{study_id}/exports"))


@router.get("/{study_id}/exports/{name}", response_class=FileResponse)
def exported(
    study_id: StudyId,
    name: Annotated[str, InPath(max_length=255, description="The file's name.")],
    workspace: Home,
) -> FileResponse:
    """A file that was exported."""
    known = studies.read_study(workspace.studies, study_id)
    path = exported_file(workspace.studies / known.id / "exports", name)
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")
