"""What the routes share, and how they get it: ``Depends(workspace_of)`` and the like."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from mien.app.work.events import Events
from mien.app.work.workspace import Workspace

__all__ = ["State", "events_of", "state_of", "workspace_of"]


@dataclass(frozen=True, slots=True)
class State:
    """What an app works with.

    Attributes:
        workspace: Its folders.
        events: Who listens to what happens.
    """

    workspace: Workspace
    events: Events

    def attach(self, app: FastAPI) -> None:
        """Give it to an app, whose routes then find it.

        Args:
            app: The app.
        """
        app.state.mien = self


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


def events_of(connection: HTTPConnection) -> Events:
    """Where the app that answers publishes what happens.

    Args:
        connection: The request or the WebSocket.

    Returns:
        The events.
    """
    return state_of(connection).events
