"""The app: all routes, errors in one shape, the page, and the walls around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

import mien
from mien.app.recordings.library import Library
from mien.app.recordings.study_runs import StudyRuns
from mien.app.server import docs_page
from mien.app.server.problems import Problem, handle_problems
from mien.app.server.rates import RateMiddleware
from mien.app.server.routes import (
    file_routes,
    info_routes,
    live_routes,
    network_routes,
    queue_routes,
    read_routes,
    recording_routes,
    study_routes,
)
from mien.app.server.security import Security, SecurityMiddleware
from mien.app.server.state import APP, Limits, State
from mien.app.work.events import STUDY, Events
from mien.app.work.pictures import Pictures
from mien.app.work.queue import Queue
from mien.app.work.workspace import Workspace

__all__ = ["create_app"]

# Built from packages/app by `npm run build`.
_STATIC: Final = Path(__file__).parents[1] / "static"
_DESCRIPTION: Final = (
    "Reads expressions, valence and arousal, and action units from faces. Every request needs the "
    "token that was printed at start, in the header Authorization: Bearer TOKEN. What fails is "
    'answered with {"error": {"message": …}}: what is wrong, where, and the next step.'
)
# Also of addresses whose answers are no JSON where all is well.
_PROBLEM: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {
        "model": Problem,
        "content": _PROBLEM,
        "description": "The request cannot be fulfilled.",
    },
    "5XX": {"model": Problem, "content": _PROBLEM, "description": "The server cannot do it."},
}
_ROUTES: Final = (
    info_routes,
    file_routes,
    queue_routes,
    read_routes,
    network_routes,
    recording_routes,
    study_routes,
    live_routes,
    docs_page,
)


def create_app(workspace: Workspace, security: Security, limits: Limits = APP) -> FastAPI:
    """Make the app of a workspace.

    Args:
        workspace: Its folders.
        security: Who may ask.
        limits: What is taken of clients, and whether these are programs.

    Returns:
        The app, to be served by an ASGI server; its queue is open while it is served.

    Raises:
        InvalidError: The workspace's file of the queue cannot be read.
    """
    events = Events()
    when_read = _Remover(workspace.films) if limits.is_service else None
    queue = Queue(workspace, events, when_read)
    library = Library(workspace.root, workspace.results)
    study_runs = StudyRuns(workspace.studies, library.table, partial(events.publish, STUDY))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(queue.open)
        yield
        await run_in_threadpool(queue.close)
        await run_in_threadpool(library.close)

    app = FastAPI(
        title="mien",
        version=mien.__version__,
        description=_DESCRIPTION,
        responses=_ANSWERS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Nothing leaves this computer.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    pictures = Pictures(limits.seconds)
    State(workspace, limits, events, queue, pictures, library, study_runs).attach(app)
    handle_problems(app)
    for module in _ROUTES:
        app.include_router(module.router)
    if not limits.is_service:
        app.mount("/", StaticFiles(directory=_STATIC, html=True, check_dir=False))
    app.add_middleware(SecurityMiddleware, security=security)
    if limits.requests_per_minute is not None:
        # Outermost, so that guesses of the token count as well.
        app.add_middleware(RateMiddleware, per_minute=limits.requests_per_minute)
    return app


class _Remover:
    """Removes what was uploaded, once it has been read.

    Args:
        films: Where uploads go.
    """

    def __init__(self, films: Path) -> None:
        self._films = films

    def __call__(self, path: Path) -> None:
        """Remove a file, if it was uploaded.

        Args:
            path: The file.
        """
        if path.parent == self._films:
            with suppress(OSError):
                path.unlink()
