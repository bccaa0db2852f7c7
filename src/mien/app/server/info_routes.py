"""What this server is."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

import mien
from mien.app.server.state import workspace_of
from mien.app.work.workspace import Workspace
from mien.exports.convert import TARGETS

__all__ = ["router"]

router = APIRouter(prefix="/api/info", tags=["info"])


class Info(BaseModel):
    """What this server is.

    Attributes:
        version: mien's version.
        workspace: The folder that holds all that it keeps.
        home: The user's home folder.
        formats: What recordings can be exported to.
    """

    version: str
    workspace: str
    home: str
    formats: list[str]


@router.get("")
def info(workspace: Annotated[Workspace, Depends(workspace_of)]) -> Info:
    """What this server is, and what it offers."""
    return Info(
        version=mien.__version__,
        workspace=str(workspace.root),
        home=str(Path.home()),
        formats=list(TARGETS),
    )
