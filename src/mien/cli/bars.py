"""How far a piece of work is, on stderr, and its lines on stdout."""

from rich.progress import BarColumn, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Rich

from mien.cli.terminal import ENDED, err, out
from mien.text import printable

__all__ = ["Bar", "rich"]


def rich() -> Rich:
    """A bar of rich's, silent where stderr is no terminal."""
    return Rich(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[told]}"), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal, redirect_stdout=out.is_terminal,
    )  # fmt: skip


class Bar:
    """How far a piece of work is; call it with what, done and all."""

    def __init__(self) -> None:
        self._rich = rich()
        self._what = ""
        self._task: TaskID | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it. Raises KeyboardInterrupt when the process has been told to end."""
        if ENDED.is_set():
            raise KeyboardInterrupt
        if self._task is None or what != self._what:
            self.close()
            self._rich.start()
            self._what, self._task = what, self._rich.add_task(printable(what), total=total, told="")
        self._rich.update(self._task, completed=done, total=total)

    def note(self, line: str) -> None:
        """A line on stdout, above the bar."""
        out.print(line, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._rich.stop()
            self._task = None
