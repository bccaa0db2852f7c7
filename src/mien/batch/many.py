"""Many inputs to many files, from Python: `analyze_many` is `mien analyze` as a function."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

from mien import batch
from mien.analysis.options import OptionFields, Options, options_of, spelled_out
from mien.progress import ProgressBar, bar_for

__all__ = ["Bars", "analyze_many"]


class Bars(batch.Progress):
    """Shows how far each input is, one after another: a bar, or in a log a line a minute.

    Args:
        bar: What shows it; by default what suits the place (see `mien.progress.bar_for`).
    """

    def __init__(self, bar: ProgressBar | None = None) -> None:
        self.bar = bar or bar_for()
        self._began = 0.0

    def begin(self, job: batch.Job, number: int, count: int) -> None:
        """An input begins."""
        self._began = time.monotonic()
        self.bar.begin(f"{job.name} ({number}/{count})")

    def advance(self, frames: int, share: float | None) -> None:
        """It has come this far."""
        rate = frames / max(time.monotonic() - self._began, 1e-3)
        self.bar.advance(f"{frames} frame{'s' * (frames != 1)}, {rate:.0f} a second", share)

    def end(self, outcome: batch.Outcome) -> None:
        """It has ended."""
        self.bar.end()

    def close(self) -> None:
        """Leave the terminal as it was, also after an interrupt."""
        self.bar.end()


@spelled_out
def analyze_many(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    formats: str | Sequence[str] = ("csv",),
    overlay: bool = False,
    progress: bool | batch.Progress = False,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> list[batch.Outcome]:
    """Read many inputs into files, as `mien analyze` does: one that cannot be read never stops the others.

    Inputs that an earlier call finished with the same options are skipped. Networks are loaded once.

    Args:
        inputs: Paths, folders, patterns, ``camera:N``; one or several.
        out: The folder for tables, their dictionaries and overlays; made if missing.
        formats: Table formats: ``csv``, ``parquet``, ``jsonl``.
        overlay: Also draw what was read: a video or a picture.
        progress: True for a bar (in a log a line a minute), or a `mien.batch.Progress` that hears of each input.
        options: All options at once.
        **named: The fields of `Options`, one by one; they go before `options`.

    Returns:
        What became of each input: `Outcome.state` is ``done``, ``skipped`` or ``failed``; `problems` has a line for each damage.

    Raises:
        OutputError: `out` cannot be written at all.
        UnknownNameError: There is no such format, bundle or engine.
        TypeError: An input is no path; pictures, bytes and open files are for `mien.analyze`.
        UnknownOptionError: There is no such option (also a TypeError); the nearest is named.
        BundleError: A bundle is not whole, or not of the kind that is asked for.
    """
    chosen = options_of(options, named, ("formats", "overlay", "progress", "options"))
    inputs, formats = _paths(inputs), [formats] if isinstance(formats, str) else formats
    if isinstance(progress, batch.Progress):
        return batch.run(
            inputs, out, options=chosen, formats=formats, overlay=overlay, progress=progress
        )
    if not progress:
        return batch.run(inputs, out, options=chosen, formats=formats, overlay=overlay)
    bars = Bars()
    try:
        return batch.run(
            inputs, out, options=chosen, formats=formats, overlay=overlay, progress=bars
        )
    finally:
        bars.close()


def _paths(inputs: object) -> list[str | Path]:
    paths: list[str | Path] = []
    for path in (
        [inputs] if isinstance(inputs, str | Path) or not isinstance(inputs, Iterable) else inputs
    ):
        if not isinstance(path, str | Path):
            raise TypeError(
                f"inputs must be paths, got {type(path).__name__}; pictures, bytes and open files are for mien.analyze"
            )
        paths.append(path)
    return paths
