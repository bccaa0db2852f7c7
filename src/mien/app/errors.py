"""What an app refuses, and the HTTP status that says so.

Any part of the app may raise these; none of them needs a server.
"""

import errno
from http import HTTPStatus
from typing import ClassVar, Final

from mien.errors import MienError, OutputError, UnknownNameError
from mien.outputs.claims import ClaimedError

__all__ = [
    "AppError",
    "BusyError",
    "ConflictError",
    "FullDiskError",
    "InvalidError",
    "NotAllowedError",
    "NotFoundError",
    "TooLargeError",
    "UnauthorizedError",
    "status_of",
]

# What the system says where something else is, or is not, in the place of a file: no fault of the
# disk.
_IN_THE_WAY: Final = (
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
)


class AppError(MienError):
    """A request that cannot be fulfilled; its message says what, where, and the next step.

    Attributes:
        status: The HTTP status of the answer.
    """

    status: ClassVar[int] = 400


class UnauthorizedError(AppError):
    """The request does not show the token."""

    status = 401


class NotAllowedError(AppError):
    """What is asked for is none of the asker's business."""

    status = 403


class NotFoundError(AppError):
    """There is no such recording, job, study or file."""

    status = 404


class ConflictError(AppError):
    """It does not fit what has happened meanwhile."""

    status = 409


class TooLargeError(AppError):
    """More was sent than is taken."""

    status = 413


class InvalidError(AppError):
    """What was sent makes no sense, or cannot be read."""

    status = 422


class BusyError(AppError):
    """Too much is asked for at once; later it may be possible."""

    status = 429


class FullDiskError(AppError):
    """There is no room for what would be written."""

    status = 507


def status_of(error: MienError) -> HTTPStatus:
    """The HTTP status that says what kind of error it is.

    Args:
        error: An error of any part of mien.

    Returns:
        Its status; 422 where nothing else fits, as what was asked for cannot be done as it is.
    """
    if isinstance(error, AppError):
        return HTTPStatus(error.status)
    if isinstance(error, UnknownNameError):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, ClaimedError):
        return HTTPStatus.CONFLICT
    if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
        return _status_of_system(error.__cause__.errno)
    return HTTPStatus.UNPROCESSABLE_ENTITY


def _status_of_system(reason: int | None) -> HTTPStatus:
    """The status that says why the system could not write."""
    if reason == errno.ENAMETOOLONG:
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if reason in _IN_THE_WAY:
        return HTTPStatus.CONFLICT
    # The disk is full, broken, or may not be written to.
    return HTTPStatus.INSUFFICIENT_STORAGE
