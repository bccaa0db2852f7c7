"""Whole files from elsewhere, in memory or in a temporary file without a name.

A file is fetched before it is decoded: a decoder takes a network that drops for a film that was cut
off, and reads a film several times.
"""

import tempfile
from typing import IO, Any

from mien.errors import SourceError
from mien.remote.access import RemoteFile, look_at, open_system, wrap_remote_errors
from mien.sources.stored import MAX_IN_MEMORY, content_of

__all__ = ["fetch", "look_at_source"]

# Bytes that are asked for at once.
_BLOCK = 8 << 20


def look_at_source(address: str) -> RemoteFile:
    """Ask the store about an input.

    Args:
        address: Its address.

    Returns:
        What the store says.

    Raises:
        SourceError: There is no such file, or the store does not answer.
    """
    with wrap_remote_errors(address, SourceError):
        return look_at(address)


def fetch(address: str) -> memoryview:
    """Fetch a whole file. Nothing of it stays on the disk, also after this process was killed.

    Args:
        address: Its address.

    Returns:
        Its content.

    Raises:
        SourceError: It cannot be fetched, or this computer has no room for it.
    """
    size = look_at_source(address).size
    try:
        with tempfile.SpooledTemporaryFile(MAX_IN_MEMORY) as spooled:
            _copy(address, spooled)
            received = spooled.tell()
            if size is None or received == size:
                return content_of(spooled)
    except OSError as error:
        # Also from closing the file, which tries once more to write what is left.
        raise _no_room(address, error) from error
    raise SourceError(
        f"{address}: {received} of {size} bytes came before the connection ended; check the "
        "network, and run this again"
    )


def _copy(address: str, spooled: IO[Any]) -> None:
    with wrap_remote_errors(address, SourceError):
        system, path = open_system(address)
        with system.open(path, "rb", block_size=_BLOCK) as file:
            while chunk := file.read(_BLOCK):
                try:
                    spooled.write(chunk)
                except OSError as error:
                    raise _no_room(address, error) from error


def _no_room(address: str, error: OSError) -> SourceError:
    return SourceError(
        f"{address}: has no room in {tempfile.gettempdir()}, where it is kept while it is read "
        f"({error.strerror}); free some space there, or set TMPDIR to a larger folder"
    )
