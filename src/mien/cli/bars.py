"""How far a piece of work is, on stderr, and its lines on stdout."""

from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Rich

from mien.cli.terminal import ENDED, err, out
from mien.progress import bar_for

__all__ = ["Bar", "rich"]


def rich() -> Rich:
    """A bar of rich's, silent where stderr is no terminal."""
    return Rich(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[told]}"), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal, redirect_stdout=out.is_terminal,
    )  # fmt: skip


class Bar:
    """How far a piece of work is, in a log a line a minute; call it with what, done and all."""

    def __init__(self) -> None:
        self._bar = bar_for(err)
        self._what: str | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it. Raises KeyboardInterrupt when the process has been told to end."""
        if ENDED.is_set():
            raise KeyboardInterrupt
        if what != self._what:
            self.close()
            self._bar.begin(what)
            self._what = what
        self._bar.advance(f"{done} of {total}", done / total if total else None)

    def note(self, line: str) -> None:
        """A line on stdout, above the bar."""
        out.print(line, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._what is not None:
            self._bar.end()
            self._what = None
