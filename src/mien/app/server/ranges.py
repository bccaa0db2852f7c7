"""Films in ranges, of which each answer is short."""

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

__all__ = ["MOST_BYTES", "FilmResponse"]

MOST_BYTES: Final = 2 << 20
"""The most that one answer to a request for a range holds."""
# From a first byte on, to a last one if given; browsers ask for films in no other form.
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{1,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


class FilmResponse(FileResponse):
    """A film that is shown in a page, whole or a range of it.

    A browser asks for all the rest of a film, and stops to read the answer while the film is
    paused, or far enough ahead; the connection then waits, and a browser has six for all of its
    tabs. So an answer is not longer than what browsers read at once. They ask for the next range
    by themselves, as a server may always send less than the range that was asked for (RFC 9110,
    section 15.3.7).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Args:
            scope: The request.
            receive: Gives what else the client sends.
            send: Takes the answer.
        """
        asked = _RANGE.fullmatch(Headers(scope=scope).get("range", ""))
        if asked:
            first = int(asked[1])
            last = first + MOST_BYTES - 1
            if asked[2]:
                last = min(last, int(asked[2]))
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers["range"] = f"bytes={first}-{last}"
            scope = {**scope, "headers": headers.raw}
        await super().__call__(scope, receive, send)
