"""The route of cameras of pages, a WebSocket: pictures in, readings out."""

import asyncio
import json
import struct
from contextlib import suppress
from threading import BoundedSemaphore
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from mien.app.errors import InvalidError
from mien.app.recordings.camera import LiveEnd, LiveStart, PageCamera
from mien.app.server.problems import Problem, ProblemText
from mien.app.server.state import State, state_of
from mien.app.work.events import RECORDINGS
from mien.errors import MienError
from mien.study.strict import first_problem

__all__ = ["router"]

router = APIRouter(tags=["live"])
# Cameras that are read at once; each takes a core or more.
_MOST: Final = 2
_CAMERAS: Final = BoundedSemaphore(_MOST)
# Messages that wait for a page that is slow; older ones make room, as for pictures.
_WAITING: Final = 8
_CLOCK: Final = struct.Struct("<d")


class _Message(BaseModel):
    """What a page says besides pictures: one of these."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    start: LiveStart | None = None
    marker: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    baseline: Annotated[float, Field(gt=0, le=600)] | None = None
    stop: bool = False


@router.websocket("/api/live")
async def live_camera(socket: WebSocket, state: Annotated[State, Depends(state_of)]) -> None:
    """Read the camera of a page until it stops or goes away."""
    await socket.accept()
    if not _CAMERAS.acquire(blocking=False):
        await _refuse(socket, f"{_MOST} cameras are read already; stop one of them first")
        return
    try:
        await _serve(socket, state)
    except (WebSocketDisconnect, RuntimeError):
        # The page went away; what it asked to keep has been kept.
        pass
    except (MienError, ValueError) as error:
        await _refuse(socket, str(error))
    finally:
        _CAMERAS.release()


async def _refuse(socket: WebSocket, message: str) -> None:
    """Say why, and end."""
    with suppress(WebSocketDisconnect, RuntimeError):
        problem = Problem(error=ProblemText(message=message))
        await socket.send_text(problem.model_dump_json())
        await socket.close()


async def _serve(socket: WebSocket, state: State) -> None:
    start = _parsed(await socket.receive()).start
    if start is None:
        raise InvalidError('begin with {"start": {…}}; see /docs for what it takes')
    outbox = _Outbox()
    folder = None if state.limits.is_service else state.workspace.results
    camera = PageCamera(start, folder, outbox.put)
    await run_in_threadpool(camera.begin)
    sender = asyncio.create_task(outbox.send_to(socket))
    has_stopped = False
    try:
        has_stopped = await _listen(socket, camera)
    finally:
        # Also where the page went away: the table is put in place.
        end = await run_in_threadpool(camera.finish)
        sender.cancel()
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await sender
        end = _with_recording(end, camera, state)
    if has_stopped:
        await socket.send_text(end.model_dump_json())
        await socket.close()


def _with_recording(end: LiveEnd, camera: PageCamera, state: State) -> LiveEnd:
    if camera.table is None:
        return end
    state.events.publish(RECORDINGS)
    return end.model_copy(update={"saved": state.library.id_of(camera.table)})


async def _listen(socket: WebSocket, camera: PageCamera) -> bool:
    """Take what the page sends; whether it said stop."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return False
        picture = message.get("bytes")
        if picture is not None:
            _take(picture, camera)
            continue
        said = _parsed(message)
        if said.marker is not None:
            camera.mark(said.marker)
        if said.baseline is not None:
            camera.measure_baseline(said.baseline)
        if said.stop:
            return True


def _take(picture: bytes, camera: PageCamera) -> None:
    if len(picture) <= _CLOCK.size:
        raise InvalidError("a picture is 8 bytes of time (float64, s) and then JPEG")
    (captured_s,) = _CLOCK.unpack_from(picture)
    if not -1e12 < captured_s < 1e12:
        raise InvalidError(f"a picture has the time {captured_s}; send seconds as float64")
    camera.put(captured_s, picture[_CLOCK.size :])


def _parsed(message: Any) -> _Message:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    try:
        return _Message.model_validate(json.loads(message.get("text") or "null"))
    except ValidationError as error:
        raise InvalidError(f"{first_problem(error)}; see /docs for what is taken") from error
    except (ValueError, RecursionError) as error:
        raise InvalidError("what was sent is no JSON; send JSON, or pictures as bytes") from error


class _Outbox:
    """Messages to the page, put in by any thread; the oldest make room where the page is slow."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING)

    def put(self, message: BaseModel) -> None:
        """Add a message.

        Args:
            message: The message.
        """
        text = message.model_dump_json()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, text)

    def _add(self, text: str) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(text)

    async def send_to(self, socket: WebSocket) -> None:
        """Send what comes, until cancelled.

        Args:
            socket: The page.
        """
        while True:
            await socket.send_text(await self._waiting.get())
