"""The app: all routes, errors in one shape, the page, and the walls around it."""

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

import mien
from mien.app.server import info_routes, live_routes, recording_routes, study_routes
from mien.app.server.problems import Problem, handle_problems
from mien.app.server.security import Security, SecurityMiddleware
from mien.app.server.state import State
from mien.app.work.events import Events
from mien.app.work.workspace import Workspace

__all__ = ["create_app"]

# Built from packages/app by `npm run build`.
_STATIC: Final = Path(__file__).parents[1] / "static"
_DESCRIPTION: Final = (
    "Reads expressions, valence and arousal, and action units from faces. Every request needs the "
    "token that was printed at start: `Authorization: Bearer TOKEN`. Errors are "
    '`{"error": {"message": …}}`.'
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": Problem, "description": "The request cannot be fulfilled."},
    "5XX": {"model": Problem, "description": "The server cannot do it."},
}


def create_app(workspace: Workspace, security: Security) -> FastAPI:
    """Make the app of a workspace.

    Args:
        workspace: Its folders.
        security: Who may ask.

    Returns:
        The app, to be served by an ASGI server.
    """
    app = FastAPI(
        title="mien",
        version=mien.__version__,
        description=_DESCRIPTION,
        responses=_ANSWERS,
        docs_url=None,
        redoc_url=None,
        # Nothing leaves this computer.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    State(workspace, Events()).attach(app)
    handle_problems(app)
    for module in (info_routes, recording_routes, study_routes, live_routes):
        app.include_router(module.router)
    app.mount("/", StaticFiles(directory=_STATIC, html=True, check_dir=False))
    app.add_middleware(SecurityMiddleware, security=security)
    return app
