"""The route that reads one picture at once."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from mien.app.server.bodies import BINARY, body_of
from mien.app.server.state import State, state_of
from mien.app.work.pictures import Faces

__all__ = ["router"]

router = APIRouter(prefix="/api/read", tags=["read"])


@router.post("", openapi_extra=BINARY)
async def read(
    request: Request,
    state: Annotated[State, Depends(state_of)],
    name: Annotated[str, Query(max_length=255, description="What messages call it.")] = "picture",
) -> Faces:
    """Read the faces of a picture; the body is its file. Nothing of it is kept."""
    data = await body_of(request, state.limits)
    return await run_in_threadpool(state.pictures.read, data, name)
