"""Bodies of requests that are files: within their limits of size and time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from mien.app.errors import InvalidError, TooLargeError
from mien.app.server.state import Limits

__all__ = ["BINARY", "announced_size", "body_of", "chunks_of"]

BINARY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""What the OpenAPI document says of a route that takes a file."""


def announced_size(request: Request) -> int | None:
    """How many bytes a request announces.

    Args:
        request: The request.

    Returns:
        Their number; None where it does not say.
    """
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


async def chunks_of(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body of a request as it comes.

    Args:
        request: The request.
        limits: How long it may stop in between.

    Yields:
        Its bytes.

    Raises:
        InvalidError: It stops, or ends too early.
    """
    stream = request.stream().__aiter__()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), limits.seconds)
        except StopAsyncIteration:
            return
        except (TimeoutError, ClientDisconnect) as error:
            raise InvalidError(
                f"{request.url.path}: the file stopped coming before its end; send it again"
            ) from error
        if chunk:
            yield chunk


async def body_of(request: Request, limits: Limits) -> bytes:
    """The whole body of a request, a picture.

    Args:
        request: The request.
        limits: How large it may be, and how long it may take.

    Returns:
        Its bytes.

    Raises:
        TooLargeError: It is larger.
        InvalidError: It takes longer, ends too early, or is empty.
    """
    body = bytearray()
    announced = announced_size(request) or 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in chunks_of(request, limits):
                body += chunk
                if max(len(body), announced) > limits.picture_bytes:
                    most = f"{limits.picture_bytes / 1e6:.0f} MB"
                    raise TooLargeError(f"a picture may have {most}; send a smaller one")
    except TimeoutError as error:
        raise InvalidError("the picture took too long to come; send a smaller one") from error
    if not body:
        raise InvalidError("the body is empty; send the content of a picture file")
    return bytes(body)
