"""Routes of the queue, and of the events that tell what happens to it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from starlette.responses import StreamingResponse

from mien.app.server.state import State, events_of, queue_of, state_of
from mien.app.work.events import Events
from mien.app.work.jobs import Job, JobRequest, new_job
from mien.app.work.places import check_inputs
from mien.app.work.presets import merged_options
from mien.app.work.queue import Queue

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["queue"])
JobId = Annotated[str, InPath(pattern=r"^[0-9a-f]{12}$", description="The id of a job.")]
# Without a word for so long, browsers and what is between may take the connection for dead.
_PAUSE_S: Final = 15.0


@router.get("/jobs")
def list_jobs(queue: Annotated[Queue, Depends(queue_of)]) -> list[Job]:
    """All jobs, in order."""
    return queue.jobs()


@router.post("/jobs")
def add_job(request: JobRequest, state: Annotated[State, Depends(state_of)]) -> Job:
    """Add films, photos and folders to the queue."""
    inputs = check_inputs(request.inputs, state.bases)
    options = merged_options(request.preset, request.options)
    # Checked now, rather than when its turn comes.
    options.options()
    name = Path(inputs[0]).name
    if len(inputs) > 1:
        name = f"{name} and {len(inputs) - 1} more"
    return state.queue.add(new_job(name, inputs, request.preset, options))


@router.post("/jobs/{job_id}/{step}")
def step_job(
    job_id: JobId,
    step: Literal["pause", "resume", "cancel", "retry"],
    queue: Annotated[Queue, Depends(queue_of)],
) -> Job:
    """Pause, resume, cancel or retry a job."""
    return queue.step(job_id, step)


@router.delete("/jobs/{job_id}", status_code=204)
def remove_job(job_id: JobId, queue: Annotated[Queue, Depends(queue_of)]) -> None:
    """Take a job off the queue; its recordings stay."""
    queue.remove(job_id)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(hub: Annotated[Events, Depends(events_of)]) -> StreamingResponse:
    """Server-sent events: `job`, `study`: how far one is; `jobs`, `recordings`: lists changed."""
    return StreamingResponse(_lines(hub), media_type="text/event-stream")


async def _lines(hub: Events) -> AsyncIterator[str]:
    # Lost connections are taken up again after a second.
    yield "retry: 1000\n\n"
    async for event in hub.listen(_PAUSE_S):
        # JSON has no line breaks of its own.
        yield (
            ": still here\n\n" if event is None else f"event: {event.name}\ndata: {event.data}\n\n"
        )
