"""How many requests of one address are answered: so many a minute, with some at once."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from mien.app.server.problems import problem_response

__all__ = ["RateMiddleware"]

# Addresses that are remembered; those that have not asked for longest are forgotten.
_MOST: Final = 10_000


class RateMiddleware:
    """Refuses requests of an address that asks too often.

    Each address has a store of requests, which fills at the permitted rate.

    Args:
        app: What answers.
        per_minute: How many requests a minute.
        clock: Gives the time, s.
    """

    def __init__(
        self, app: ASGIApp, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._per_s = per_minute / 60
        self._most = max(per_minute / 6, 1.0)
        self._clock = clock
        # By address, what is left, and when that was so.
        self._stores: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it.

        Args:
            scope: The request.
            receive: Gives what the client sends.
            send: Takes what the client is sent.
        """
        if scope["type"] == "http" and not self._take(str((scope.get("client") or [""])[0])):
            wait_s = 1 / self._per_s
            answer = problem_response(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"too many requests at once; send the next one in {max(wait_s, 1):.0f} s",
            )
            answer.headers["retry-after"] = f"{max(wait_s, 1):.0f}"
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _take(self, address: str) -> bool:
        """Take a request from the store of an address, if there is one."""
        now = self._clock()
        left, when = self._stores.pop(address, (self._most, now))
        left = min(self._most, left + (now - when) * self._per_s)
        # Put back at the end, so that the first is the one that has not asked for longest.
        self._stores[address] = (left - 1 if left >= 1 else left, now)
        if len(self._stores) > _MOST:
            del self._stores[next(iter(self._stores))]
        return left >= 1
