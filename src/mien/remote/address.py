"""Addresses such as ``s3://bucket/film.mp4`` as text; nothing is opened here."""

import os
import re
from typing import Final
from urllib.parse import urlsplit

__all__ = [
    "absolute",
    "has_lost_slash",
    "is_address",
    "is_web",
    "parent",
    "parts",
    "scheme",
    "without_password",
]

_ADDRESS: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LOST_SLASH: Final = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)
_WEB: Final = frozenset({"http", "https"})
_PASSWORD: Final = re.compile(r"(://[^/@:]*):[^/@]*@")


def scheme(text: str) -> str | None:
    """The protocol of an address.

    Args:
        text: A path or an address.

    Returns:
        What is before ``://``, in lower case; None for a path.

    >>> scheme("S3://bucket/a.mp4"), scheme("C:/films/a.mp4"), scheme("a.mp4")
    ('s3', None, None)
    """
    match = _ADDRESS.match(text)
    return match[1].lower() if match else None


def is_address(text: str) -> bool:
    """Whether a text is an address and no path.

    Args:
        text: A path or an address.

    Returns:
        True for ``scheme://…``.
    """
    return scheme(text) is not None


def has_lost_slash(path: str) -> bool:
    """Whether a path was an address until ``pathlib`` took one of its slashes.

    Args:
        path: A path.

    Returns:
        True for ``scheme:/…``.

    >>> has_lost_slash("s3:/bucket/a.mp4"), has_lost_slash("C:/films/a.mp4")
    (True, False)
    """
    return _LOST_SLASH.match(path) is not None


def without_password(text: str) -> str:
    """Leave out the passwords of an address.

    Args:
        text: A path or an address, also of a chain of file systems.

    Returns:
        The same text with ``…`` in place of each password; one without any is the text itself.

    >>> without_password("zip://a.mp4::sftp://me:secret@host/a.zip"), without_password("s3://b/a@1")
    ('zip://a.mp4::sftp://me:…@host/a.zip', 's3://b/a@1')
    """
    return _PASSWORD.sub(r"\1:…@", text) if is_address(text) else text


def is_web(text: str) -> bool:
    """Whether an address is a page of the web, which stands for itself and lists no folder.

    Args:
        text: A path or an address.

    Returns:
        True for ``http://`` and ``https://``.
    """
    return scheme(text) in _WEB


def absolute(path: str) -> str:
    """A path that means the same in every folder.

    Args:
        path: A path or an address.

    Returns:
        The absolute path; an address as it is, without a slash at its end.
    """
    return path.rstrip("/") if is_address(path) else os.path.abspath(path)


def parts(path: str) -> tuple[str, ...]:
    """The names of which a path or an address consists.

    Args:
        path: A path or an address.

    Returns:
        Its folders and its file name; of an address the host or bucket comes first, and what
        follows ``?`` in an address of the web is left out.

    >>> parts("https://example.org/films/a.mp4?key=1/2"), parts("s3://bucket/a?.mp4")
    (('example.org', 'films', 'a.mp4'), ('bucket', 'a?.mp4'))
    """
    separator = os.sep
    if is_address(path):
        separator = "/"
        # Of a chain of file systems, the file in the innermost.
        path = path.partition("::")[0]
        if is_web(path):
            split = urlsplit(path)
            path = f"{split.netloc}{split.path}"
        else:
            path = path.partition("://")[2]
    return tuple(part for part in path.split(separator) if part)


def parent(path: str) -> str:
    """The folder of a path or an address.

    Args:
        path: A path or an address.

    Returns:
        The folder.

    >>> parent("s3://bucket/films/a.mp4"), parent("memory://a.mp4")
    ('s3://bucket/films', 'memory://')
    """
    if not is_address(path):
        return os.path.dirname(path)
    return f"{scheme(path)}://{'/'.join(parts(path)[:-1])}"
