"""What all commands share: where they print, and how they end."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

import typer
from rich.console import Console
from typer.core import TyperGroup

from mien.errors import MienError, MissingExtraError, UnknownNameError
from mien.text import printable

__all__ = [
    "STOP_GRACEFULLY",
    "STOP_REQUESTED",
    "Group",
    "SteadyStream",
    "err",
    "fail",
    "handle_errors",
    "out",
    "steady_streams",
]


class SteadyStream:
    """A standard stream that never ends the work: what cannot be written is lost, and what cannot be encoded is written out.

    Args:
        stream: The stream it stands for. Its letters that the console's code page lacks become ``\\u…``.

    Attributes:
        lost: Why nothing can be written any more; None while all is well.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | ValueError | None = None
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, if that is possible."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: it was closed in this process
                self._lose(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write them, if that is possible."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what was written, if that is possible."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    @property
    def failed(self) -> bool:
        """Whether something could not be written though somebody may have waited for it: a full disk, not a reader who left."""
        return isinstance(self.lost, OSError) and self.lost.errno not in (
            errno.EPIPE,
            errno.ESHUTDOWN,
            errno.EBADF,
        )

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost = error
        # What is still in the stream's memory goes nowhere, or Python would try again when it ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self.failed and self._stream is sys.__stdout__:
            reason = cast(OSError, error).strerror
            err.print(
                f"mien: standard output cannot be written ({reason}); the work goes on without it",
                style="red",
                markup=False,
            )


@contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    """Make the standard streams steady. Gives the standard output."""
    before = sys.stdout, sys.stderr
    out_stream, err_stream = (SteadyStream(stream) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out_stream), cast(TextIO, err_stream)
    try:
        yield out_stream
    finally:
        out_stream.flush()
        err_stream.flush()
        sys.stdout, sys.stderr = before


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
        with _shown():
            return super().make_context(*words, **how)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest and run the command."""
        with _shown():
            return super().invoke(ctx)


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # What is raised for wrong words is a class of click's or of typer's own copy of it, by typer's version.
        if hasattr(error, "format_message") and hasattr(error, "message"):
            # A command that was given no word at all raises its page of help, whose lines stay.
            error.message = printable(
                error.message, lines=type(error).__name__ == "NoArgsIsHelpError"
            )
        raise


out = _Terminal(highlight=False, soft_wrap=True, emoji=False)
err = _Terminal(stderr=True, highlight=False, soft_wrap=True, emoji=False)
STOP_REQUESTED: Final = threading.Event()
"""Set when the process has been told to end, for work whose library swallowed the KeyboardInterrupt."""
STOP_GRACEFULLY: Final = threading.Event()
"""Set by work that looks at `STOP_REQUESTED` itself, at moments that suit it; being told a second time ends it at once."""


@contextmanager
def handle_errors(
    stopped: str = "nothing half-written is left, and finished inputs are kept",
) -> Iterator[None]:
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
    except RuntimeError as error:
        if not STOP_REQUESTED.is_set():
            raise
        # What torch says of processes that load pictures and were told to end, too.
        raise fail(f"stopped; {stopped}", 130) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Being told to end is like Ctrl-C, so that nothing is left half-written; and Ctrl-C is not lost inside a library's callback."""

    def end(number: int, frame: object) -> None:
        if os.getpid() != process:  # one that loads pictures for it, and has only just been made
            os._exit(0)
        wait = STOP_GRACEFULLY.is_set() and not STOP_REQUESTED.is_set()
        STOP_REQUESTED.set()
        if not wait:
            raise KeyboardInterrupt
        with suppress(OSError):  # print is not for signal handlers
            os.write(2, b"mien: stopping after this step; once more stops at once\n")

    process = os.getpid()
    STOP_REQUESTED.clear()
    STOP_GRACEFULLY.clear()
    here = threading.current_thread() is threading.main_thread()
    numbers = [
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP")
        if here and hasattr(signal, name)
    ]
    # Who started this with nohup wants it to outlive the terminal.
    numbers = [
        number
        for number in numbers
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]
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
