"""How far a piece of work is, and how that is shown: on a terminal, in a notebook, or in a log.

Work reports its progress to a function of its caller:

- `Progress`, for work in several pieces, each with a name: recipes, downloads, stand-ins;
- `ItemProgress`, for one piece of work over a known number of items; `named` makes one of a
  `Progress`;
- `Tell`, for videos and cameras, whose number of frames may be unknown.

Whole runs have events beyond that, and listeners of their own: `mien.batch.Progress` for batches
and `mien.train.loop.Progress` for training. What shows any of them is a `ProgressBar`. It writes to
stderr, never to stdout.

The signals that end a process are for it as a whole, so whether it has been told to end, by Ctrl-C
or by a job scheduler, is its state and not an argument of functions (`STOP_REQUESTED`). The command
line sets it; work that may stop only in places asks for it there.
"""

import html
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from mien.text import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "STOP_GRACEFULLY",
    "STOP_REQUESTED",
    "ItemProgress",
    "LogLines",
    "NotebookBar",
    "Progress",
    "ProgressBar",
    "Tell",
    "TerminalBar",
    "bar_for",
    "leads_group",
    "named",
    "shown",
    "silent",
]

ItemProgress = Callable[[int, int], None]
"""Is called with the items that are done and their total."""

Tell = Callable[[int, float | None], object]
"""Is called with the frames read so far, and the share (0..1) of the work where it is known."""

STOP_REQUESTED: Final = threading.Event()
"""Set when the process has been told to end, for libraries that swallow KeyboardInterrupt."""
STOP_GRACEFULLY: Final = threading.Event()
"""Set by work that checks `STOP_REQUESTED` itself; a second signal ends it at once."""

EVERY_S: Final = 60.0
"""Time between two lines in a log, seconds."""

# Time between two changes of a notebook's bar: the browser draws each one anew.
_NOTEBOOK_S: Final = 0.2


def leads_group() -> bool:
    """Say whether this process speaks for its group, as the first of several that train together.

    Returns:
        True for the first process, and for one that trains alone.
    """
    # torchrun sets both, Fabric the second.
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    return rank == "0"


class Progress(Protocol):
    """Called with how far each of several pieces of work is."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Take note of it.

        Args:
            what: The name of the piece of work, for people.
            done: How many of its items are done: pictures, bytes, steps.
            total: How many there are; 0 where that is not known.
        """


def silent(_what: str, _done: int, _total: int, /) -> None:
    """Show nothing: the default `Progress`.

    Args:
        _what: The name of the piece of work.
        _done: How many of its items are done.
        _total: How many there are.
    """


def named(progress: Progress, what: str) -> ItemProgress:
    """Report one piece of work under its name.

    Args:
        progress: What is called.
        what: The name of the piece of work.

    Returns:
        A function to be called with the items that are done and their total.
    """

    def report(done: int, total: int) -> None:
        progress(what, done, total)

    return report


class ProgressBar(Protocol):
    """Shows one piece of work after another."""

    def begin(self, what: str) -> None:
        """Show a new piece of work.

        Args:
            what: Its name, for people.
        """

    def advance(self, done: str, share: float | None) -> None:
        """Show how far it is.

        Args:
            done: That in words, such as ``512 frames, 130 frames/s``.
            share: The share of the work that is done, 0..1, where it is known.
        """

    def end(self) -> None:
        """Show it no longer, however it ended."""


class LogLines:
    """A `ProgressBar` for logs: one line a minute on stderr, and none for shorter work."""

    def __init__(
        self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Set the pace.

        Args:
            every_s: Time between two lines, seconds.
            clock: Gives the time, seconds.
        """
        self._every_s = every_s
        self._clock = clock
        self._what = ""
        self._due_s = 0.0

    def begin(self, what: str) -> None:
        """Start the clock of a new piece of work.

        Args:
            what: Its name, for people.
        """
        self._what = what
        self._due_s = self._clock() + self._every_s

    def advance(self, done: str, share: float | None) -> None:
        """Print a line when one is due.

        Args:
            done: How far the work is, in words.
            share: The share of the work that is done, 0..1, where it is known.
        """
        now = self._clock()
        if now < self._due_s:
            return
        self._due_s = now + self._every_s
        percent = "" if share is None else f"{share:.0%}, "
        line = f"mien: {printable(self._what)}: {percent}{done}"
        try:
            print(line, file=sys.stderr, flush=True)
        except (OSError, ValueError):
            # A log that is full or closed must not end the work.
            self._due_s = float("inf")

    def end(self) -> None:
        """Print nothing: a log keeps its lines."""


class TerminalBar:
    """A `ProgressBar` drawn by rich that goes away at the end."""

    def __init__(self, console: "Console") -> None:
        """Lay out the bar; nothing is drawn yet.

        Args:
            console: Where it is drawn.
        """
        from rich import progress

        self._rich = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[done]}", markup=False),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            # Lines for a terminal go above the bar; those for a file stay in the file.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task: Any = None

    def begin(self, what: str) -> None:
        """Draw the bar of a new piece of work.

        Args:
            what: Its name, for people.
        """
        self.end()
        self._rich.start()
        self._task = self._rich.add_task(printable(what), total=None, done="")

    def advance(self, done: str, share: float | None) -> None:
        """Move the bar.

        Args:
            done: How far the work is, in words.
            share: The share of the work that is done, 0..1; the bar pulses where it is unknown.
        """
        if self._task is None:
            return
        total = None if share is None else 1.0
        self._rich.update(self._task, total=total, completed=share or 0.0, done=done)

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._rich.stop()
            self._task = None


class NotebookBar:
    """A `ProgressBar` under a notebook's cell, drawn by the browser without any widget library."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare the bar; nothing is drawn yet.

        Args:
            clock: Gives the time, seconds.
        """
        self._clock = clock
        self._handle: Any = None
        self._what = ""
        self._last_s = 0.0

    def begin(self, what: str) -> None:
        """Draw the bar of a new piece of work.

        Args:
            what: Its name, for people.
        """
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        self._what = what
        # Typed as Any, since IPython comes without types in some versions.
        draw: Any = display
        self._handle = draw(self._rendered("", None), raw=True, display_id=True)

    def advance(self, done: str, share: float | None) -> None:
        """Move the bar, unless it has only just moved.

        Args:
            done: How far the work is, in words.
            share: The share of the work that is done, 0..1, where it is known.
        """
        now = self._clock()
        is_due = now - self._last_s >= _NOTEBOOK_S or share == 1.0
        if self._handle is not None and is_due:
            self._last_s = now
            self._handle.update(self._rendered(done, share), raw=True)

    def end(self) -> None:
        """Empty the bar's line, which a notebook keeps."""
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            self._handle = None

    def _rendered(self, done: str, share: float | None) -> dict[str, str]:
        """The bar by media type."""
        what = printable(self._what)
        percent = "" if share is None else f"{share:.0%}, "
        value = "" if share is None else f" value='{share:.3f}'"
        bar = f"<progress max='1'{value}></progress>"
        return {
            "text/plain": f"{what}: {percent}{done}",
            "text/html": f"{html.escape(what)} {bar} {percent}{html.escape(done)}",
        }


def bar_for(console: "Console | None" = None) -> ProgressBar:
    """Choose the bar that fits where this runs: a notebook, a terminal, or a log.

    Args:
        console: Where a terminal's bar is drawn; by default on stderr.

    Returns:
        A bar that shows nothing yet.
    """
    if _in_notebook():
        return NotebookBar()
    if console is None:
        from rich.console import Console

        console = Console(stderr=True)
    return TerminalBar(console) if console.is_terminal else LogLines()


def _in_notebook() -> bool:
    """Whether this runs in a notebook's kernel; a terminal with IPython is a terminal."""
    module = sys.modules.get("IPython")
    if module is None or not hasattr(module, "get_ipython"):
        return False
    shell = type(module.get_ipython())
    return shell.__name__ == "ZMQInteractiveShell" or "google.colab" in shell.__module__


@contextmanager
def shown(what: str, progress: "bool | Tell | None") -> Iterator[Tell]:
    """Show the progress of a video or a stream while a block runs.

    Args:
        what: The name of the work, for people.
        progress: True for a bar, None or False for none, or the caller's own function.

    Yields:
        The function to tell how far the work is.
    """
    if callable(progress):
        yield progress
        return
    if not progress:
        yield _ignore
        return
    bar = bar_for()
    began_s = time.monotonic()

    def tell(frames: int, share: float | None) -> None:
        rate = frames / max(time.monotonic() - began_s, 1e-3)
        plural = "" if frames == 1 else "s"
        bar.advance(f"{frames} frame{plural}, {rate:.0f} a second", share)

    bar.begin(what)
    try:
        yield tell
    finally:
        bar.end()


def _ignore(_frames: int, _share: float | None) -> None:
    """Show nothing: the default `Tell`."""
