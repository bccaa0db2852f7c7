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
from mien.progress import STOP_GRACEFULLY, STOP_REQUESTED, leads_group
from mien.text import printable

__all__ = [
    "STOPPED",
    "Group",
    "SteadyStream",
    "err",
    "fail",
    "handle_errors",
    "out",
    "steady_streams",
]


STOPPED: Final = 128
"""Exit code of a command that was told to end, without the number of the signal that is added to
it, as shells do: 130 after Ctrl-C, 143 after SIGTERM."""


class SteadyStream:
    """A standard stream whose failure never ends the work.

    Once a write has failed, all further output is dropped.

    Attributes:
        lost: Why nothing can be written any more; None while all is well.
    """

    def __init__(self, stream: TextIO) -> None:
        """Wrap a stream.

        Args:
            stream: The stream. Characters that its encoding lacks are written as ``\\u…``.
        """
        self._stream = stream
        self.lost: OSError | ValueError | None = None
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if that is possible.

        Args:
            text: The text.

        Returns:
            How many characters were taken, all of them where they are dropped.
        """
        if self.lost is None:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:
                # ValueError: the stream was closed in this process.
                self._lose(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts, if that is possible.

        Args:
            lines: The texts, with their line ends.
        """
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what was written, if that is possible."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    @property
    def failed(self) -> bool:
        """Whether output was lost that somebody may want: a full disk, not a reader who left."""
        reader_left = (errno.EPIPE, errno.ESHUTDOWN, errno.EBADF)
        return isinstance(self.lost, OSError) and self.lost.errno not in reader_left

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost = error
        # Python would try again at its end to write what is still buffered; let it succeed.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self.failed and self._stream is sys.__stdout__:
            reason = cast(OSError, error).strerror
            problem = f"standard output cannot be written ({reason})"
            line = f"mien: {problem}; the work continues without it"
            err.print(line, style="red", markup=False)


@contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    """Replace the standard streams by steady ones.

    Yields:
        The standard output.
    """
    stdout = sys.stdout
    stderr = sys.stderr
    out_stream = SteadyStream(stdout)
    err_stream = SteadyStream(stderr)
    sys.stdout = cast(TextIO, out_stream)
    sys.stderr = cast(TextIO, err_stream)
    try:
        yield out_stream
    finally:
        out_stream.flush()
        err_stream.flush()
        sys.stdout = stdout
        sys.stderr = stderr


class _Terminal(Console):
    """A console that escapes control characters in names of files, keys and errors."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, each string on one line whatever it holds.

        Args:
            objects: What to print.
            options: As rich takes them; with ``end=""`` a string is a page, whose line breaks stay.
        """
        is_page = options.get("end") == ""
        safe = []
        for item in objects:
            safe.append(printable(item, lines=is_page) if isinstance(item, str) else item)
        super().print(*safe, **options)


class Group(TyperGroup):
    """The commands, with control characters escaped in messages about wrong usage.

    A shell's completion may put any file's name on the command line.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the arguments before a command's name.

        Args:
            arguments: As typer takes them.
            options: As typer takes them.

        Returns:
            Typer's context.
        """
        with _printable_messages():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the remaining arguments and run the command.

        Args:
            ctx: Typer's context.

        Returns:
            What the command returns.
        """
        with _printable_messages():
            return super().invoke(ctx)


@contextmanager
def _printable_messages() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Depending on typer's version, usage errors are click's or those of typer's copy of click.
        if hasattr(error, "format_message") and hasattr(error, "message"):
            # Without any argument the message is the page of help, whose line breaks stay.
            is_help = type(error).__name__ == "NoArgsIsHelpError"
            error.message = printable(error.message, lines=is_help)
        raise


out = _Terminal(highlight=False, soft_wrap=True, emoji=False)
err = _Terminal(stderr=True, highlight=False, soft_wrap=True, emoji=False)


@contextmanager
def handle_errors(
    stopped: str = "nothing half-written is left, and finished inputs are kept",
) -> Iterator[None]:
    """Turn foreseen errors into one line on stderr and an exit code.

    Args:
        stopped: What the message after Ctrl-C says of the work's state.

    Yields:
        Nothing.

    Raises:
        typer.Exit: With code 2 for wrong usage, 1 for other foreseen errors, 130 after Ctrl-C, 143
            after SIGTERM.
    """
    # What ended the work; KeyboardInterrupt may also come from elsewhere than a signal.
    numbers: list[int] = []
    try:
        with _interruptible(numbers):
            yield
    except (UnknownNameError, MissingExtraError, ValueError) as error:
        raise fail(error, 2) from error
    except MienError as error:
        raise fail(error, 1) from error
    except KeyboardInterrupt as error:
        raise _stop(stopped, numbers) from error
    except RuntimeError as error:
        if not STOP_REQUESTED.is_set():
            raise
        # Torch raises it when its worker processes were told to end as well, or others of a group
        # that trains together.
        raise _stop(stopped, numbers) from error


def _stop(stopped: str, numbers: list[int]) -> typer.Exit:
    """The end of a command that was told to end by these signals."""
    # The first process of a group speaks for all; Fabric kills it if another one fails.
    if not leads_group():
        return typer.Exit(0)
    # Another process of the group was told, not this one.
    default = signal.SIGTERM if STOP_REQUESTED.is_set() else signal.SIGINT
    number = numbers[0] if numbers else default
    return fail(f"stopped; {stopped}", STOPPED + number)


@contextmanager
def _interruptible(numbers: list[int]) -> Iterator[None]:
    """Treat being told to end as Ctrl-C, so that nothing is left half-written.

    The event keeps a request that a library's callback would swallow. `numbers` gets the signals.
    """

    def stop(number: int, frame: object) -> None:
        # A worker process that has only just been forked still has this handler.
        if os.getpid() != process:
            os._exit(0)
        # In a group that trains together, all end after the same step: the first process decides
        # what happens before.
        wait = STOP_GRACEFULLY.is_set() or not leads_group()
        is_first = not STOP_REQUESTED.is_set()
        STOP_REQUESTED.set()
        numbers.append(number)
        if not (wait and is_first):
            raise KeyboardInterrupt
        # Not print, which is not safe in a signal handler.
        if leads_group():
            with suppress(OSError):
                os.write(2, b"mien: stopping after this step; once more stops at once\n")

    process = os.getpid()
    # Another process of a group may have been told before it came so far.
    if leads_group():
        STOP_REQUESTED.clear()
    STOP_GRACEFULLY.clear()
    before = {number: signal.signal(number, stop) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signals() -> list[signal.Signals]:
    """The signals that ask this process to end, where this thread may handle them."""
    signals: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        return signals
    # Windows has no SIGHUP.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            number = getattr(signal, name)
            # Who started this with nohup wants it to outlive the terminal.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                signals.append(number)
    return signals


def fail(message: object, code: int) -> typer.Exit:
    """Print an error on stderr.

    Args:
        message: The error, in one line.
        code: The exit code.

    Returns:
        The exit, for the caller to raise.
    """
    err.print(f"mien: {message}", style="red", markup=False)
    return typer.Exit(code)
