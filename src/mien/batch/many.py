"""Many inputs to many files, from Python: `analyze_many` is `mien analyze` as a function."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, Unpack

from mien import batch
from mien.analysis.options import OptionFields, Options, options_of, spelled_out
from mien.outputs.anonymise.hiding import Anonymise
from mien.progress import ProgressBar, bar_for

__all__ = ["Bars", "analyze_many"]

# The arguments of `analyze_many` besides the fields of `Options`.
_ARGUMENTS: Final = ("formats", "overlay", "anonymise", "progress", "jobs", "options")


class Bars(batch.Progress):
    """Shows how far each input is, one after another: a bar, or in a log one line a minute.

    Args:
        bar: What shows it; by default what suits the environment (see `mien.progress.bar_for`).
    """

    def __init__(self, bar: ProgressBar | None = None) -> None:
        self.bar = bar or bar_for()
        self._began = 0.0
        # Jobs that are read at once, and how many of them have ended; 0 where they are not.
        self._count = 0
        self._ended = 0

    def together(self, count: int, processes: int) -> None:
        """Several jobs are read at once from here on.

        Args:
            count: How many jobs there are.
            processes: How many are read at once.
        """
        self._began = time.monotonic()
        self._count = count
        self.bar.begin(f"{count} inputs, {processes} at a time")

    def begin(self, job: batch.Job, number: int, count: int) -> None:
        """A job begins.

        Args:
            job: The job.
            number: Its number, from 1.
            count: How many jobs there are.
        """
        self._began = time.monotonic()
        self.bar.begin(f"{job.name} ({number}/{count})")

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come this far.

        Args:
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.
        """
        # The first frames may come within the clock's own step.
        rate = frames / max(time.monotonic() - self._began, 1e-3)
        text = f"{frames} frame{'s' * (frames != 1)}, {rate:.0f} a second"
        if self._count:
            text = f"{self._ended} done, {text}"
        self.bar.advance(text, share)

    def end(self, outcome: batch.Outcome) -> None:
        """A job has ended.

        Args:
            outcome: What became of it.
        """
        if self._count:
            # The bar is that of all jobs.
            self._ended += 1
        else:
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
    anonymise: Anonymise | None = None,
    progress: bool | batch.Progress = False,
    jobs: int | Literal["auto"] = 1,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> list[batch.Outcome]:
    """Read many inputs into files, as `mien analyze` does: a bad input never stops the others.

    Networks are loaded once. Inputs that an earlier call finished with the same options are
    skipped.

    Args:
        inputs: Paths, folders, patterns, also as addresses that fsspec opens (``s3://…``),
            ``camera:N``; one or several.
        out: The folder for tables, their dictionaries and overlays, or its address; made if
            missing.
        formats: Table formats: ``csv``, ``parquet``, ``jsonl``.
        overlay: Also write each video or picture with the results drawn over it.
        anonymise: How overlays hide all faces that were found: ``blur``, or ``drawn`` for a drawn
            face that shows what was read; None shows them.
        progress: True for a bar (in a log one line a minute), or a `mien.batch.Progress` that hears
            of each input.
        jobs: How many inputs are read at once, each by a process of its own; ``auto`` for one per
            core. Scripts then need ``if __name__ == "__main__":``.
        options: All options at once.
        **named: Single fields of `Options`, which override `options`.

    Returns:
        One outcome per table: `Outcome.state` is ``done``, ``skipped``, ``failed``, or ``left``
        where another run is writing it; `Outcome.problems` has a line for each damage.

    Raises:
        OutputError: `out` cannot be written at all, or holds tables of mien's first layout.
        UnknownNameError: There is no such format, bundle, engine or way to anonymise.
        ValueError: `formats` is empty, `anonymise` is set without an overlay of all faces, or a
            value of an option makes no sense.
        TypeError: An input is no path; pictures, bytes and open files are for `mien.analyze`.
        UnknownOptionError: There is no such option (also a TypeError); names the nearest.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.
    """
    chosen = options_of(options, named, _ARGUMENTS)
    paths = _paths(inputs)
    formats = [formats] if isinstance(formats, str) else formats
    bars: Bars | None = None
    if isinstance(progress, batch.Progress):
        listener = progress
    elif progress:
        listener = bars = Bars()
    else:
        listener = batch.Progress()
    try:
        return batch.run(
            paths,
            out,
            options=chosen,
            formats=formats,
            overlay=overlay,
            anonymise=anonymise,
            progress=listener,
            jobs=jobs,
        )
    finally:
        # Only a bar of this call's own; the caller's may go on.
        if bars is not None:
            bars.close()


def _paths(inputs: object) -> list[str | Path]:
    # A single object that is not a list is checked, and refused, like an item of one.
    several = isinstance(inputs, Iterable) and not isinstance(inputs, str | Path)
    paths: list[str | Path] = []
    for path in inputs if several else [inputs]:  # type: ignore[attr-defined]
        if not isinstance(path, str | Path):
            raise TypeError(
                f"inputs must be paths, got {type(path).__name__}; "
                "pictures, bytes and open files are for mien.analyze"
            )
        paths.append(path)
    return paths
