"""The command line: the command ``mien``, and ``python -m mien``."""

import os
import signal
import sys
from contextlib import suppress

from mien.progress import STOP_REQUESTED, leads_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main() -> "NoReturn":
    """Run the command line and end the process.

    Raises:
        SystemExit: Always, with the command's exit code.
    """
    _open_missing_streams()
    # Until the commands are loaded nothing has begun, so a signal may end the process at once.
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), _stop_at_once)
    from mien.cli import app
    from mien.cli.terminal import steady_streams

    code: object = 0
    with steady_streams() as out:
        try:
            app()
        except SystemExit as end:
            code = end.code
        out.flush()
    sys.exit(code or (1 if out.failed else 0))  # type: ignore[arg-type]


def _stop_at_once(number: int, frame: object) -> None:
    """End the process with a message.

    An exception would not do: a library that is being loaded may swallow it.
    """
    # The first process of a group that trains together waits for the others, and then ends them.
    if not leads_group():
        STOP_REQUESTED.set()
        return
    with suppress(OSError):
        os.write(2, b"mien: stopped\n")
    os._exit(128 + number)


def _open_missing_streams() -> None:
    """Open the standard streams that the process was started without.

    Otherwise the first files it opens would get their numbers, and prints would land in them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


if __name__ == "__main__":
    main()
