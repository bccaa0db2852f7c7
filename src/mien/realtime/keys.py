"""Keys pressed in a terminal, each stamped at once."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Final

__all__ = ["keys_marked"]

# How often the end of the reading is looked for, seconds.
_EVERY_S: Final = 0.1
# How often Windows is asked for a key, seconds.
_EVERY_KEY_S: Final = 0.005


@contextmanager
def keys_marked(mark: Callable[[str, float], Any]) -> Iterator[bool]:
    """Pass on the keys that are pressed while the block runs, if a terminal gives them to mien.

    Args:
        mark: Takes each key and its time by ``time.monotonic()``, in another thread.

    Yields:
        Whether keys are passed on.
    """
    if sys.stdin is None or not sys.stdin.isatty() or _is_in_background():
        yield False
        return
    stop = Event()
    listen = _listen_on_windows if sys.platform == "win32" else _listen
    with _keys_at_once():
        thread = Thread(target=listen, args=(mark, stop), name="mien-keys", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join()


def _is_in_background() -> bool:
    """Whether keys go to another program, and the system would stop this one if it asked for them.

    So it is where a shell ran the command with ``&``.
    """
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp()
    # It is not the terminal that this process was started from.
    except OSError:
        return False


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Let a terminal pass keys on without Enter and without showing them; Ctrl-C stays."""
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _listen(mark: Callable[[str, float], Any], stop: Event) -> None:
    import select

    terminal = sys.stdin.fileno()
    while not stop.is_set():
        ready, _, _ = select.select([terminal], [], [], _EVERY_S)
        if not ready:
            continue
        now_s = time.monotonic()
        pressed = os.read(terminal, 64)
        # The terminal is gone.
        if not pressed:
            return
        key = _name_of(pressed.decode(errors="replace"))
        mark(key, now_s)


def _listen_on_windows(mark: Callable[[str, float], Any], stop: Event) -> None:
    from importlib import import_module

    # Through its name, since other systems have no such module to be typed.
    console: Any = import_module("msvcrt")
    while not stop.wait(_EVERY_KEY_S):
        if console.kbhit():
            mark(_name_of(console.getwch()), time.monotonic())


def _name_of(key: str) -> str:
    """A key in words: what it prints, or the name of what prints nothing."""
    names = {" ": "space", "\n": "enter", "\r": "enter", "\t": "tab", "\x1b": "escape"}
    if key in names:
        return names[key]
    return key if key.isprintable() else repr(key).strip("'")
