"""Commands that serve a page, an API, or both."""

import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mien.cli.terminal import err, handle_errors, out
from mien.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from mien.app.server.security import Security
    from mien.app.server.state import Limits

__all__ = ["app", "serve"]

_HOST: Final = "127.0.0.1"
_WORKSPACE: Final = Path("~/mien")
_MEGABYTE: Final = 1 << 20
# Of a token that somebody chose: what nobody can guess.
_SHORTEST: Final = 32

PortOption = Annotated[
    int, typer.Option(metavar="N", min=0, max=65535, help="The port; 0 takes any free one.")
]


def app(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Where films, results and studies are kept; made if missing."
        ),
    ] = _WORKSPACE,
    port: PortOption = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
) -> None:
    """Open a page to read films, watch and correct the results, and run studies.

    It is served to this computer alone, at an address with a token; nothing leaves the machine.
    Ctrl-C ends it; what the queue was doing goes on at the next start.

    mien app ~/my-study
    """
    with handle_errors():
        _check_extra("mien app")
        from mien.app.server.security import Security, new_token
        from mien.app.server.serving import listen
        from mien.app.server.state import APP

        with listen(_HOST, port) as listening:
            number = listening.getsockname()[1]
            security = Security.loopback(number, new_token())
            address = f"http://{_HOST}:{number}/"

            def tell() -> None:
                out.print(f"{address}?token={security.token}", markup=False, soft_wrap=True)
                err.print("mien: Ctrl-C ends it; the queue goes on at the next start")
                if browser and _has_screen():
                    webbrowser.open(f"{address}?code={security.code.text}")

            _serve(folder, listening, security, APP, tell)


def serve(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Where results are kept; by default a folder that is removed at the end.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = _HOST,
    port: PortOption = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The token that clients send, 32 characters or more; by default a new one.",
        ),
    ] = None,
    i_know: Annotated[
        bool,
        typer.Option(
            "--i-know", help="Listen on another address than this computer's own; needs TLS."
        ),
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TLS certificate, PEM.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key of the certificate, PEM.")
    ] = None,
    most_mb: Annotated[
        int, typer.Option("--film-mb", metavar="MB", min=1, help="The largest film that is taken.")
    ] = 2048,
    picture_mb: Annotated[
        int, typer.Option(metavar="MB", min=1, help="The largest picture that is taken.")
    ] = 32,
    rate: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Requests a minute that one address may send on average."
        ),
    ] = 600,
    seconds: Annotated[
        float,
        typer.Option(
            metavar="S", min=0.1, help="How long a picture may take to come, and to wait its turn."
        ),
    ] = 30.0,
) -> None:
    """Serve the API to programs: pictures are read at once, films in a queue.

    Every request needs the token that is printed at start, as Authorization: Bearer TOKEN. What is
    uploaded is deleted once it has been read, and no content is logged. The page /docs lists all
    requests.

    mien serve --port 8000
    """
    with handle_errors(), ExitStack() as stack:
        _check_extra("mien serve")
        from mien.app.server.security import in_address
        from mien.app.server.serving import listen
        from mien.app.server.state import Limits

        _check_host(host, i_know, certificate, key)
        limits = Limits(
            picture_bytes=picture_mb * _MEGABYTE,
            film_bytes=most_mb * _MEGABYTE,
            requests_per_minute=rate,
            seconds=seconds,
            is_service=True,
        )
        token = _token_of(token_file)
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="mien-serve-")))
        listening = stack.enter_context(listen(host, port))
        security = _security(host, listening.getsockname()[1], token, certificate is not None)

        def tell() -> None:
            address = f"{security.scheme}://{in_address(host)}:{security.port}"
            out.print(address, markup=False, soft_wrap=True)
            # One that stands in a file is known to whoever needs it.
            if token_file is None:
                out.print(f"token: {token}", markup=False, soft_wrap=True)

        _serve(folder, listening, security, limits, tell, certificate, key)


def _check_extra(command: str) -> None:
    """Refuse to go on without the server library.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("app", command) from error


def _serve(
    folder: Path,
    listening: socket.socket,
    security: "Security",
    limits: "Limits",
    tell: Callable[[], None],
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    from mien.app.server.application import create_app
    from mien.app.server.serving import Server
    from mien.app.work.workspace import Workspace

    workspace = Workspace.open(folder)
    with workspace.claimed():
        server = Server(create_app(workspace, security, limits), certificate, key)
        tell()
        server.run([listening])


def _has_screen() -> bool:
    """Whether a browser would open a window, not take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_host(host: str, i_know: bool, certificate: Path | None, key: Path | None) -> None:
    """Refuse to open this computer to others by accident, or without TLS.

    Raises:
        ValueError: Another address than this computer's own without all that it takes.
    """
    if (certificate is None) != (key is None):
        raise ValueError("--certificate and --key go together; give both files")
    if _is_loopback(host):
        return
    if not i_know:
        raise ValueError(
            f"--host {host}: others could reach this server; leave --host out, or add --i-know "
            "with --certificate and --key"
        )
    if certificate is None:
        raise ValueError(
            f"--host {host}: others could read what is sent; add --certificate and --key"
        )


def _security(host: str, port: int, token: str, has_tls: bool) -> "Security":
    from mien.app.server.security import Security

    scheme = "https" if has_tls else "http"
    if _is_loopback(host):
        return Security.loopback(port, token, scheme, host=host, has_pages=False)
    # Which names lead here from elsewhere is not known; without pages there is no cookie that one
    # could be tricked into sending.
    return Security(port, token, scheme, has_pages=False)


def _token_of(path: Path | None) -> str:
    """The token of a file, or a new one.

    Raises:
        ValueError: The file's is too short.
        OutputError: The file cannot be read.
    """
    if path is None:
        from mien.app.server.security import new_token

        return new_token()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be read ({error}); check the file") from error
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{path}: a token has {_SHORTEST} or more letters and digits; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token
