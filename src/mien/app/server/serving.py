"""Serving an app: the port, the address with its token, and the end."""

import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from mien.app.server.security import in_address
from mien.app.server.state import State
from mien.errors import OutputError

__all__ = ["Server", "listen"]

# How long the end waits for answers that are still under way, s.
_PATIENCE_S = 3


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        host: The address to listen on.
        port: The port; 0 for any free one.

    Returns:
        A socket that listens; its name has the port.

    Raises:
        OutputError: The port is taken, or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{in_address(host)}:{port}: cannot be listened on ({reason}); choose another --port, "
            "or leave it out for any free one"
        ) from error


class Server(uvicorn.Server):
    """Serves an app until it is told to end.

    Args:
        app: The app.
        certificate: The file of a TLS certificate; None for plain HTTP.
        key: The file of its key.
    """

    def __init__(self, app: FastAPI, certificate: Path | None = None, key: Path | None = None):
        super().__init__(
            uvicorn.Config(
                app,
                # No content of anybody's is logged, and no address either.
                access_log=False,
                log_level="warning",
                server_header=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                timeout_graceful_shutdown=_PATIENCE_S,
                ws="websockets-sansio",
            )
        )
        try:
            self.config.load()
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"{certificate}, {key}: cannot be used for TLS ({reason}); give a certificate and "
                "its key as PEM files"
            ) from error
        self._state: State = app.state.mien

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: send those away who listen for events, then wait for what is under way.

        Args:
            sockets: The sockets that were listened on.
        """
        self._state.events.close()
        await super().shutdown(sockets)
