"""Progress of a command on stderr, and its lines on stdout."""

from mien.cli.terminal import err, out
from mien.progress import STOP_REQUESTED, bar_for

__all__ = ["Bar"]


class Bar:
    """A `mien.progress.Progress` for commands: a bar, or a line a minute in a log."""

    def __init__(self) -> None:
        self._bar = bar_for(err)
        self._what: str | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far a piece of work is.

        Args:
            what: Its name.
            done: How many of its items are done.
            total: How many there are; 0 where that is not known.

        Raises:
            KeyboardInterrupt: When the process has been told to end.
        """
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        if what != self._what:
            self.close()
            self._bar.begin(what)
            self._what = what
        self._bar.advance(f"{done} of {total}", done / total if total else None)

    def note(self, line: str) -> None:
        """Print a line on stdout, above the bar.

        Args:
            line: The line.
        """
        out.print(line, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._what is not None:
            self._bar.end()
            self._what = None
