"""Routes of the user's files, and of films and photos that are sent."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool

from mien.app.errors import NotAllowedError
from mien.app.server.bodies import BINARY, announced_size, chunks_of
from mien.app.server.state import State, state_of
from mien.app.work.places import Listing, list_folder
from mien.app.work.uploads import Upload, Uploaded

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["files"])


@router.get("/files")
def files(
    state: Annotated[State, Depends(state_of)],
    path: Annotated[str, Query(max_length=4096, description="A folder; empty for your home.")] = "",
) -> Listing:
    """What is in a folder of your home or the workspace."""
    if state.limits.is_service:
        raise NotAllowedError(
            "files of this computer cannot be seen here; send them to /api/uploads"
        )
    return list_folder(path, state.bases)


@router.put("/uploads/{name}", openapi_extra=BINARY)
async def upload(
    request: Request,
    name: Annotated[str, InPath(min_length=1, max_length=255, description="The file's name.")],
    state: Annotated[State, Depends(state_of)],
) -> Uploaded:
    """Send a film or a photo: the body is the file as it is."""
    folder, most = state.workspace.films, state.limits.film_bytes
    size = announced_size(request)
    target = await run_in_threadpool(Upload, folder, name, size, most)
    with target:
        await run_in_threadpool(target.begin)
        async for chunk in chunks_of(request, state.limits):
            await run_in_threadpool(target.write, chunk)
        return await run_in_threadpool(target.finish)
