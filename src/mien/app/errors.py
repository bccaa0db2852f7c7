"""What an app refuses, and the HTTP status that says so.

Any part of the app may raise these; none of them needs a server.
"""

from typing import ClassVar

from mien.errors import MienError

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
]


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
