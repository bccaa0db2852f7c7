"""A WebSocket server for pages and programs on this computer, which must know its token."""

import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from mien.errors import MissingExtraError, OutputError
from mien.outputs.columns import Column
from mien.realtime.lines import marker_line
from mien.realtime.moments import JsonRows, Marker, Moment

if TYPE_CHECKING:
    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

__all__ = ["WebSocketOutput"]

_HOST: Final = "127.0.0.1"
# Pages that this computer serves; one of another site must not read faces.
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# How long the end waits for clients that do not take what was sent, seconds.
_PATIENCE_S: Final = 1.0
# Messages that may wait for a client, about a second of them; older ones are left out.
_WAITING: Final = 32


class WebSocketOutput:
    """Serves JSON: an array of rows per frame, and an object per marker, to any number of clients.

    Args:
        port: The port on 127.0.0.1; 0 for a free one.
        columns: The columns of the table.

    Attributes:
        where: The address with its token.
        note: How many messages slow clients did not get; empty where none.

    Raises:
        MissingExtraError: websockets is not installed.
        OutputError: The port is taken or not allowed.
    """

    def __init__(self, port: int, columns: Sequence[Column]) -> None:
        try:
            from websockets.exceptions import ConnectionClosed
            from websockets.sync.server import serve
        except ImportError as error:
            raise MissingExtraError("websocket", "a WebSocket") from error
        self._closed_error = ConnectionClosed
        self._rows = JsonRows(columns)
        self._token = secrets.token_urlsafe(16)
        self._clients: dict[ServerConnection, Queue[str | None]] = {}
        self._lock = Lock()
        self._left_out = 0
        self._is_closed = False
        try:
            # Without compression, which costs more time than the loopback saves.
            self._server = serve(
                self._serve,
                _HOST,
                port,
                process_request=self._refuse,
                compression=None,
                close_timeout=_PATIENCE_S,
            )
        # OverflowError: no such port.
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"WebSocket: port {port} cannot be opened ({reason}); choose another one"
            ) from error
        port = self._server.socket.getsockname()[1]
        self.where = f"WebSocket at ws://{_HOST}:{port}/?token={self._token}"
        self._thread = Thread(target=self._server.serve_forever, name="mien-socket", daemon=True)
        self._thread.start()

    @property
    def note(self) -> str:
        """How many messages slow clients did not get; empty where none."""
        if not self._left_out:
            return ""
        return f"{self._left_out} messages were left out for WebSocket clients that were too slow"

    def _refuse(self, connection: "ServerConnection", request: "Request") -> "Response | None":
        """Refuse who does not know the token, and pages that this computer does not serve."""
        tokens = parse_qs(urlsplit(request.path).query).get("token", [""])
        if not secrets.compare_digest(tokens[0].encode(), self._token.encode()):
            return connection.respond(HTTPStatus.FORBIDDEN, "the token is wrong or missing\n")
        # Browsers always send it; other programs need not.
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).hostname not in _LOCAL_HOSTS:
            return connection.respond(HTTPStatus.FORBIDDEN, "serve the page from localhost\n")
        return None

    def _serve(self, connection: "ServerConnection") -> None:
        """Send messages to a client, in a thread of its own, until either side ends."""
        queue: Queue[str | None] = Queue(_WAITING)
        with self._lock:
            # Nobody would tell this one to end.
            if self._is_closed:
                return
            self._clients[connection] = queue
        try:
            while (message := queue.get()) is not None:
                connection.send(message)
        except self._closed_error:
            # A client that leaves is no failure.
            return
        finally:
            with self._lock:
                del self._clients[connection]

    def send(self, moment: Moment) -> None:
        """Send the rows of a frame.

        Args:
            moment: Its readings.
        """
        self._put(f"[{', '.join(self._rows.lines(moment.rows))}]")

    def mark(self, marker: Marker) -> None:
        """Send a marker.

        Args:
            marker: The marker.
        """
        self._put(marker_line(marker))

    def _put(self, message: str | None) -> None:
        with self._lock:
            for queue in self._clients.values():
                self._left_out += _put_newest(queue, message)

    def close(self) -> None:
        """Say goodbye to all clients; one that takes nothing any more is cut off."""
        with self._lock:
            self._is_closed = True
        self._put(None)
        deadline_s = time.monotonic() + _PATIENCE_S
        while self._clients and time.monotonic() < deadline_s:
            time.sleep(0.01)
        with self._lock:
            for connection in self._clients:
                # It may have left meanwhile.
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._thread.join()


def _put_newest(queue: Queue[Any], message: str | None) -> int:
    """Append a message, in place of the oldest where there is no room; gives how many were lost."""
    try:
        queue.put_nowait(message)
    except Full:
        # Only this thread puts, so there is room now, whether the client took one or not.
        try:
            queue.get_nowait()
        except Empty:
            queue.put_nowait(message)
            return 0
        queue.put_nowait(message)
        return 1
    return 0
