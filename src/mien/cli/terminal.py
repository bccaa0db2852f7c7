"""What all commands share: where they print, and how they end."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from mien.errors import MienError, MissingExtraError, UnknownNameError
from mien.text import printable

__all__ = ["ENDED", "GENTLY", "Group", "err", "fail", "out", "tidy"]


class _Terminal(Console):
    """A console that shows what others wrote (names of files, keys, errors) and never obeys it."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as rich does. A string is one line, whatever it holds; with ``end=""`` it is a page, whose line breaks stay."""
        page = how.get("end") == ""
        shown = [printable(what, lines=page) if isinstance(what, str) else what for what in objects]
        super().print(*shown, **how)


class Group(TyperGroup):
    """The commands; what is wrong with the words typed is told in words that can be shown, for a shell fills in names of files."""

    def make_context(self, *words: Any, **how: Any) -> Any:
        """Parse the words before a command's name."""
        _show_everything()
        with _shown():
            return super().make_context(*words, **how)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest and run the command."""
        with _shown():
            return super().invoke(ctx)


def _show_everything() -> None:
    """Let the console show as an escape what its code page lacks, as in a name, rather than refuse the line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # What is raised for wrong words is a class of click's or of typer's own copy of it, by typer's version.
        if hasattr(error, "format_message") and hasattr(error, "message"):
            error.message = printable(error.message)
        raise


out = _Terminal(highlight=False, soft_wrap=True, emoji=False)
err = _Terminal(stderr=True, highlight=False, soft_wrap=True, emoji=False)
ENDED: Final = threading.Event()
"""Set when the process has been told to end, for work whose library swallowed the KeyboardInterrupt."""
GENTLY: Final = threading.Event()
"""Set by work that looks at `ENDED` itself, at moments that suit it; being told a second time ends it at once."""


@contextmanager
def tidy(stopped: str = "nothing half-written is left, and finished inputs are kept") -> Iterator[None]:
    """Turn what was foreseen into one line and an exit code. stopped: what to say after Ctrl-C."""
    try:
        with _interruptible():
            yield
    except (UnknownNameError, MissingExtraError, ValueError) as error:
        raise fail(error, 2) from error
    except MienError as error:
        raise fail(error, 1) from error
    except KeyboardInterrupt as error:
        raise fail(f"stopped; {stopped}", 130) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Being told to end is like Ctrl-C, so that nothing is left half-written; and Ctrl-C is not lost inside a library's callback."""

    def end(number: int, frame: object) -> None:
        wait = GENTLY.is_set() and not ENDED.is_set()
        ENDED.set()
        if not wait:
            raise KeyboardInterrupt
        if os.getpid() == process:  # and not one that loads pictures for it
            os.write(2, b"mien: stopping after this step; once more stops at once\n")  # print is not for signal handlers

    process = os.getpid()
    ENDED.clear()
    GENTLY.clear()
    here = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if here and hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fail(message: object, code: int) -> typer.Exit:
    """One line on stderr; the exit is for the caller to raise."""
    err.print(f"mien: {message}", style="red", markup=False)
    return typer.Exit(code)
