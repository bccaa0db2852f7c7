"""What the routes share, and how they get it: ``Depends(workspace_of)`` and the like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from mien.app.recordings.library import Library
from mien.app.recordings.study_runs import StudyRuns
from mien.app.work.events import Events
from mien.app.work.pictures import Pictures
from mien.app.work.places import bases_of
from mien.app.work.queue import Queue
from mien.app.work.workspace import Workspace

__all__ = [
    "APP",
    "Limits",
    "State",
    "events_of",
    "library_of",
    "queue_of",
    "state_of",
    "study_runs_of",
    "workspace_of",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken of clients, and whether they are the user's own pages.

    Attributes:
        picture_bytes: The largest picture that is read.
        film_bytes: The largest film that is taken; None for as much as the disk holds.
        requests_per_minute: How many requests of one address are answered; None for any number.
        seconds: How long a picture may take to come, and to be read.
        is_service: Clients are programs, of others perhaps: there are no pages, files of this
            computer cannot be seen, and what was uploaded is deleted once it has been read.
    """

    picture_bytes: int = 64 << 20
    film_bytes: int | None = None
    requests_per_minute: int | None = None
    seconds: float = 60.0
    is_service: bool = False


APP: Final = Limits()
"""The limits of `mien app`, which the user asks alone."""


@dataclass(frozen=True, slots=True)
class State:
    """What an app works with.

    Attributes:
        workspace: Its folders.
        limits: What is taken of clients.
        events: Who listens to what happens.
        queue: The queue of analyses.
        pictures: What reads single pictures.
        library: The finished recordings.
        study_runs: What runs studies.
    """

    workspace: Workspace
    limits: Limits
    events: Events
    queue: Queue
    pictures: Pictures
    library: Library
    study_runs: StudyRuns

    def attach(self, app: FastAPI) -> None:
        """Give it to an app, whose routes then find it.

        Args:
            app: The app.
        """
        app.state.mien = self

    @property
    def bases(self) -> list[Path]:
        """The folders below which clients may have files read."""
        return [self.workspace.films] if self.limits.is_service else bases_of(self.workspace)


def state_of(connection: HTTPConnection) -> State:
    """The state of the app that answers.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The state.
    """
    state = connection.app.state.mien
    assert isinstance(state, State)
    return state


def workspace_of(connection: HTTPConnection) -> Workspace:
    """The workspace of the app that answers.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The workspace.
    """
    return state_of(connection).workspace


def library_of(connection: HTTPConnection) -> Library:
    """The recordings of the app that answers.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The recordings.
    """
    return state_of(connection).library


def events_of(connection: HTTPConnection) -> Events:
    """Where the app that answers publishes what happens.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The events.
    """
    return state_of(connection).events


def queue_of(connection: HTTPConnection) -> Queue:
    """The queue of the app that answers.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The queue.
    """
    return state_of(connection).queue


def study_runs_of(connection: HTTPConnection) -> StudyRuns:
    """What runs studies in the app that answers.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The runs.
    """
    return state_of(connection).study_runs
