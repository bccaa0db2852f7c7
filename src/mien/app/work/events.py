"""What happens in a workspace, told to all who listen: pages that are open in a browser."""

import asyncio
from collections.abc import AsyncIterator
from threading import Lock
from typing import Final, NamedTuple

from pydantic import BaseModel

__all__ = ["RECORDINGS", "STUDY", "Event", "Events"]

RECORDINGS: Final = "recordings"
"""The name of the event that the list of recordings has changed."""
STUDY: Final = "study"
"""The name of the event that the run of a study has come further; its data says how far."""
# Events that may wait for a listener; one that is slower asks for everything anew.
_WAITING: Final = 256


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        name: Its kind, such as ``job``.
        data: JSON.
    """

    name: str
    data: str


class _Listener:
    """A queue that any thread may fill, and one coroutine empties."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(self, event: Event | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event | None) -> None:
        # A listener that does not listen any more must not fill the memory: it is sent away, and
        # comes back, if it is still there, to ask for everything anew.
        if self.queue.qsize() > _WAITING:
            return
        if self.queue.qsize() == _WAITING:
            event = None
        self.queue.put_nowait(event)


class Events:
    """Passes events on to all listeners; any thread may publish."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: set[_Listener] = set()
        self._closed = False

    def publish(self, name: str, data: BaseModel | None = None) -> None:
        """Tell all listeners.

        Args:
            name: The kind of event, such as `RECORDINGS`.
            data: What happened; None for an event that says all by its name.
        """
        event = Event(name, "{}" if data is None else data.model_dump_json())
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.tell(event)

    async def listen(self, pause_s: float) -> AsyncIterator[Event | None]:
        """Listen until the server ends.

        Args:
            pause_s: After so many seconds without an event, None is given.

        Yields:
            The events from now on, and None in pauses.
        """
        listener = _Listener()
        with self._lock:
            if self._closed:
                return
            self._listeners.add(listener)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(listener.queue.get(), pause_s)
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def close(self) -> None:
        """Send all listeners away; those who come later are not taken."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        for listener in listeners:
            listener.tell(None)
