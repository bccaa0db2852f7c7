"""How far a piece of work is, shown where it can be seen: a terminal, a notebook, or a line a minute in a log. Always on stderr."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from mien.text import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LogLines", "NotebookBar", "ProgressBar", "Tell", "TerminalBar", "bar_for", "shown"]

Tell = Callable[[int, float | None], object]
"""Hears how far the work is: frames read so far, and the share (0..1) of all of it where that is known."""
EVERY_S: Final = 60.0
"""Time between two lines in a log, seconds."""
_NOTEBOOK_S: Final = 0.2  # between two changes of a notebook's bar


class ProgressBar(Protocol):
    """Shows one piece of work after another."""

    def begin(self, what: str) -> None:
        """A piece of work begins."""

    def advance(self, done: str, share: float | None) -> None:
        """It has come this far. done: in words, as in ``512 frames, 130 frames/s``; share: 0..1 where it is known."""

    def end(self) -> None:
        """It has ended, in whatever way."""


class LogLines:
    """One line a minute on stderr, and none for what takes less; for logs."""

    def __init__(
        self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s, self._clock = every_s, clock
        self._what, self._due_s = "", 0.0

    def begin(self, what: str) -> None:
        """A piece of work begins."""
        self._what = what
        self._due_s = self._clock() + self._every_s

    def advance(self, done: str, share: float | None) -> None:
        """It has come this far."""
        if (now := self._clock()) < self._due_s:
            return
        self._due_s = now + self._every_s
        part = "" if share is None else f"{share:.0%}, "
        try:
            print(f"mien: {printable(self._what)}: {part}{done}", file=sys.stderr, flush=True)
        except (OSError, ValueError):  # a log that is full or closed must not end the work
            self._due_s = float("inf")

    def end(self) -> None:
        """It has ended."""


class TerminalBar:
    """A bar of rich's that goes away at the end."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._rich = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # lines go above the bar; those of a file stay in the file
        )
        self._task: Any = None

    def begin(self, what: str) -> None:
        """A piece of work begins."""
        self.end()
        self._rich.start()
        self._task = self._rich.add_task(printable(what), total=None, done="")

    def advance(self, done: str, share: float | None) -> None:
        """It has come this far."""
        if self._task is not None:
            self._rich.update(
                self._task, total=None if share is None else 1.0, completed=share or 0.0, done=done
            )

    def end(self) -> None:
        """It has ended: leave the terminal as it was."""
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._rich.stop()
            self._task = None


class NotebookBar:
    """A bar under a notebook's cell, drawn by the browser; it needs nothing but the notebook itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._handle: Any = None
        self._what, self._last_s = "", 0.0

    def begin(self, what: str) -> None:
        """A piece of work begins."""
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        self._what = what
        self._handle = display(self._drawn("", None), raw=True, display_id=True)

    def advance(self, done: str, share: float | None) -> None:
        """It has come this far."""
        now = self._clock()
        if self._handle is not None and (now - self._last_s >= _NOTEBOOK_S or share == 1.0):
            self._last_s = now
            self._handle.update(self._drawn(done, share), raw=True)

    def end(self) -> None:
        """It has ended: an empty line stays, which is all that a notebook allows."""
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            self._handle = None

    def _drawn(self, done: str, share: float | None) -> dict[str, str]:
        what = printable(self._what)
        part = "" if share is None else f"{share:.0%}, "
        value = "" if share is None else f" value='{share:.3f}'"
        return {
            "text/plain": f"{what}: {part}{done}",
            "text/html": f"{html.escape(what)} <progress max='1'{value}></progress> {part}{html.escape(done)}",
        }


def bar_for(console: "Console | None" = None) -> ProgressBar:
    """What shows progress best here: in a notebook, on a terminal, or in a log.

    Args:
        console: Where a terminal's bar is drawn; by default on stderr.
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
    shell = module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
    return type(shell).__name__ == "ZMQInteractiveShell" or "google.colab" in type(shell).__module__


@contextmanager
def shown(what: str, progress: "bool | Tell | None") -> Iterator[Tell]:
    """What to tell how far `what` is: the caller's own function, a bar for True, nobody for None or False."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield _silent
        return
    bar, began = bar_for(), time.monotonic()

    def tell(frames: int, share: float | None) -> None:
        rate = frames / max(time.monotonic() - began, 1e-3)
        bar.advance(f"{frames} frame{'s' * (frames != 1)}, {rate:.0f} a second", share)

    bar.begin(what)
    try:
        yield tell
    finally:
        bar.end()


def _silent(frames: int, share: float | None) -> None:
    """Hear it and keep quiet."""
