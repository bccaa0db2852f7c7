"""Commands that serve a page and an API on this computer."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from mien.cli.terminal import handle_errors, out
from mien.errors import MissingExtraError

__all__ = ["app"]

_HOST: Final = "127.0.0.1"
_WORKSPACE: Final = Path("~/mien")


def app(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="[FOLDER]", help="Where films, results and studies are kept; made if missing."
        ),
    ] = _WORKSPACE,
    port: Annotated[int, typer.Option(metavar="N", help="The port; 0 takes any free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
) -> None:
    """Open a page to read films, watch and correct the results, and run studies.

    It is served to this computer alone, at an address with a token; nothing leaves the machine.
    Ctrl-C ends it; what the queue was doing goes on at the next start.
    """
    with handle_errors():
        try:
            from mien.app.server.application import create_app
            from mien.app.server.security import Security, new_token
            from mien.app.server.serving import Server, listen
            from mien.app.work.workspace import Workspace
        except ImportError as error:
            raise MissingExtraError("app", "mien app") from error
        workspace = Workspace.open(folder)
        with listen(_HOST, port) as socket:
            number = socket.getsockname()[1]
            token = new_token()
            server = Server(create_app(workspace, Security.loopback(number, token)))
            address = f"http://{_HOST}:{number}/?token={token}"
            out.print(address, markup=False, soft_wrap=True)
            if browser and _has_screen():
                webbrowser.open(address)
            server.run([socket])


def _has_screen() -> bool:
    """Whether a browser would open a window, not take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
