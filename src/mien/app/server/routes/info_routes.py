"""What this server is."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

import mien
from mien.app.server.state import State, state_of
from mien.app.work.presets import PRESETS, Preset
from mien.exports.convert import TARGETS

__all__ = ["router"]

router = APIRouter(prefix="/api/info", tags=["info"])


class Info(BaseModel):
    """What this server is.

    Attributes:
        version: mien's version.
        workspace: The folder that holds all that it keeps; empty where files cannot be seen.
        home: The user's home folder; empty likewise.
        presets: How recordings can be read.
        formats: What recordings can be exported to.
        limits: What is taken: bytes of pictures and films, requests a minute, seconds.
    """

    version: str
    workspace: str
    home: str
    presets: list[Preset]
    formats: list[str]
    limits: dict[str, float]


@router.get("")
def info(state: Annotated[State, Depends(state_of)]) -> Info:
    """What this server is, and what it offers."""
    limits: dict[str, float] = {
        "picture_bytes": state.limits.picture_bytes,
        "seconds": state.limits.seconds,
    }
    if state.limits.film_bytes is not None:
        limits["film_bytes"] = state.limits.film_bytes
    if state.limits.requests_per_minute is not None:
        limits["requests_per_minute"] = state.limits.requests_per_minute
    information = Info(
        version=mien.__version__,
        workspace=str(state.workspace.root),
        home=str(Path.home()),
        presets=list(PRESETS),
        formats=list(TARGETS),
        limits=limits,
    )
    if state.limits.is_service:
        # Where this computer keeps what is nothing to its clients.
        information.workspace = information.home = ""
    return information
