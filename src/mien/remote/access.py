"""The only way to files elsewhere: fsspec, with errors that say the next step in one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mien.errors import MienError
from mien.remote.address import without_password

__all__ = ["RemoteFile", "kind_of", "list_folder", "look_at", "open_system", "wrap_remote_errors"]

# Entries of fsspec's `info` that change with the content, the best first; each store has its own.
_TAGS: Final = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest")
_TIMES: Final = (
    "LastModified",
    "last_modified",
    "Last-Modified",
    "updated",
    "mtime",
    "modified",
    "created",
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file elsewhere, as its store describes it.

    Attributes:
        size: Its bytes; None where the store does not say.
        modified: When it was last changed, in seconds since 1970; 0 where the store does not say.
        tag: What changes with its content: the store's own checksum, else the time; empty where
            the store says neither.
    """

    size: int | None
    modified: float
    tag: str

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "RemoteFile":
        """Read what fsspec says of a file.

        Args:
            info: An answer of fsspec's ``info``.

        Returns:
            The same for every store.
        """
        modified = next((_seconds(info[key]) for key in _TIMES if info.get(key)), 0.0)
        tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
        size = info.get("size")
        if not tag and modified:
            tag = repr(modified)
        return cls(int(size) if size is not None else None, modified, tag)


def _seconds(time: object) -> float:
    """A time of any store, in seconds since 1970; 0 where it is none."""
    try:
        if isinstance(time, str) and time[:4].isdecimal():
            time = datetime.fromisoformat(time)
        elif isinstance(time, str):
            # Not at the top: every start of mien comes by here, and few need it.
            from email.utils import parsedate_to_datetime

            time = parsedate_to_datetime(time)
        if isinstance(time, datetime):
            return time.timestamp()
        return float(time)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0


@contextmanager
def wrap_remote_errors(address: str, kind: type[MienError], verb: str = "read") -> Iterator[None]:
    """Turn any error of fsspec and its packages into one line, and refuse passwords.

    Args:
        address: What the message names.
        kind: The class of the error.
        verb: What was to be done with it: ``read`` or ``written``.

    Yields:
        Nothing.

    Raises:
        MienError: Of this kind, in place of whatever was raised, or where the address holds a
            password.
    """
    shown = without_password(address)
    if shown != address:
        raise kind(
            f"{shown}: holds a password, and addresses are written into tables and plans; put it "
            "into fsspec's configuration, and leave it out here"
        )
    try:
        yield
    except MienError:
        raise
    except FileNotFoundError as error:
        raise kind(
            f"{shown}: there is no such file, folder or bucket; check the address"
        ) from error
    except PermissionError as error:
        raise kind(
            f"{shown}: may not be {verb} ({_reason(error)}); check the account that this computer "
            "uses there, and its rights"
        ) from error
    except ImportError as error:
        raise kind(f"{shown}: {_package_of(error)}") from error
    # Each package has exceptions of its own, which are no OSError in half of them.
    except Exception as error:
        raise kind(
            f"{shown}: cannot be {verb} ({_reason(error)}); check the network and the account, "
            "and run this again"
        ) from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.partition("\n")[0][:200] or type(error).__name__


def _package_of(error: ImportError) -> str:
    """Which package is missing; fsspec names those of its own file systems."""
    if error.name == "fsspec":
        return 'needs an optional part; install it with: pip install "mien[remote]"'
    return f"needs a package that is not installed ({_reason(error)}); install it with pip"


def open_system(address: str) -> tuple[Any, str]:
    """Open the file system of an address.

    Args:
        address: The address.

    Returns:
        A file system of fsspec, and the path in it.

    Raises:
        ImportError: fsspec, or its package for this protocol, is missing.
        ValueError: fsspec does not know the protocol.
    """
    import fsspec

    system, path = fsspec.url_to_fs(address)
    return system, str(path).rstrip("/")


def look_at(address: str) -> RemoteFile:
    """Ask the store about one file, as it is now.

    Args:
        address: The address.

    Returns:
        What the store says.

    Raises:
        Exception: Whatever fsspec raises; see `wrap_remote_errors`.
    """
    system, path = open_system(address)
    # What an earlier listing said may have changed.
    system.invalidate_cache()
    return RemoteFile.of(system.info(path))


def kind_of(address: str) -> str | None:
    """Ask the store what is at an address.

    Args:
        address: The address.

    Returns:
        ``file`` or ``directory``; None where nothing is there.

    Raises:
        Exception: Whatever fsspec raises, if there is another reason.
    """
    system, path = open_system(address)
    system.invalidate_cache()
    try:
        return str(system.info(path)["type"])
    except FileNotFoundError:
        return None


def list_folder(address: str, *, pattern: str = "") -> dict[str, RemoteFile]:
    """List the files in and below a folder, as they are now.

    Args:
        address: The folder.
        pattern: Only those that match this pattern below the folder; empty for all.

    Returns:
        The files by their path below the folder.

    Raises:
        Exception: Whatever fsspec raises.
    """
    system, path = open_system(address)
    system.invalidate_cache()
    if pattern:
        entries = system.glob(f"{path}/{pattern}", detail=True)
    else:
        entries = system.find(path, detail=True)
    files: dict[str, RemoteFile] = {}
    for name, info in entries.items():
        below = str(name)[len(path) :].strip("/")
        # An object that stands for its folder has no name below it.
        if below and info.get("type") == "file":
            files[below] = RemoteFile.of(info)
    return files
