"""A job of the queue: inputs to read, how, and how far that is."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from mien.app.work.presets import ReadingOptions

__all__ = ["ENDED", "Job", "JobRequest", "State", "new_job"]

State = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
ENDED: Final = frozenset({"done", "failed", "cancelled"})
"""The states in which nothing more happens by itself."""


class JobRequest(BaseModel):
    """What is to be read, and how.

    Attributes:
        inputs: Absolute paths of films, photos and folders.
        preset: The name of a preset.
        options: Options that replace the preset's.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096)]],
        Field(min_length=1, max_length=2000),
    ]
    preset: str = "standard"
    options: ReadingOptions = ReadingOptions()


class Job(BaseModel):
    """A job of the queue.

    Attributes:
        id: Its name in addresses.
        name: Its name for people.
        inputs: Absolute paths of what is read.
        preset: The preset it was made with.
        options: All options that differ from the defaults.
        state: Where it is.
        done: Films and folders of photos that have ended, well or not.
        total: How many there are; 0 until that is known.
        seconds_done: Seconds of film that have been read, or were before.
        seconds_total: How many there are; null where that is unknown, as for photos.
        rows: Rows of its tables so far.
        problem: What went wrong, one line each; null where nothing.
        recordings: The recordings it has made.
        created: When it was added, as ISO 8601 in UTC.
        eta_s: How long it will still take, s; null where that is unknown.
    """

    id: str
    name: str
    inputs: list[str]
    preset: str
    options: dict[str, Any]
    state: State = "waiting"
    done: int = 0
    total: int = 0
    seconds_done: float = 0.0
    seconds_total: float | None = None
    rows: int = 0
    problem: str | None = None
    recordings: list[str] = []
    created: str
    eta_s: float | None = None

    def reset(self) -> None:
        """Forget how far it was: it begins anew, and what is done already is found by itself."""
        self.state = "waiting"
        self.done, self.total, self.rows = 0, 0, 0
        self.seconds_done, self.seconds_total, self.eta_s = 0.0, None, None
        self.problem = None
        self.recordings = []


def new_job(name: str, inputs: list[str], preset: str, options: ReadingOptions) -> Job:
    """Make a job that waits.

    Args:
        name: Its name for people.
        inputs: Absolute paths of what is read.
        preset: The preset it was made with.
        options: All options that differ from the defaults.

    Returns:
        The job.
    """
    return Job(
        id=uuid4().hex[:12],
        name=name,
        inputs=inputs,
        preset=preset,
        options=options.given(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
