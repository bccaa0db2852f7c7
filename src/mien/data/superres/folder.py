"""A whole folder of pictures, super-resolved into a parallel one, by several processes."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from mien.data.superres.manifest import Manifest, file_fingerprint, manifest
from mien.data.superres.realesrgan import Ncnn
from mien.data.superres.upscale import Engine
from mien.data.superres.workers import QUALITY, Job, Progress, work
from mien.errors import DataError, OutputError
from mien.files import wrap_os_errors
from mien.sources import IMAGE_SUFFIXES

__all__ = ["MANIFEST", "Report", "superresolve"]

MANIFEST: Final = ".superres.sqlite"
"""Name of the manifest in the folder that is written."""


@dataclass(slots=True)
class Report:
    """What became of the pictures.

    done: how many were made; skipped: how many were there already; failed: why, by name, for those that could not be read.
    """

    done: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def superresolve(
    source_root: str | Path,
    out_root: str | Path,
    *,
    scale: int = 2,
    pictures: Sequence[str] | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Super-resolve every picture below `source_root` into the same place below `out_root`, as ``<stem>.jpg``.

    JPEG of quality 95 without chroma subsampling: 0.4 of a PNG's size, and the rounding is below what the network guesses.
    Files whose names start with a dot, and what is no picture by its suffix, are passed over.

    What is done is kept: a manifest in `out_root` holds the engine, the sha256 of its weights, the scale, and size and time of every
    source. Called again, only pictures that are missing or whose source has changed are computed. Every file is written
    aside and renamed; KeyboardInterrupt leaves all finished ones.

    scale: whole number from 1 to the network's factor. pictures: only these, absolute or relative to `source_root`.
    workers: processes; None is what suits the engine. In a script, call this under
    ``if __name__ == "__main__":``, as with any spawned process. engine: None is `Ncnn`.
    progress: called with pictures done and pictures to do. skip_unreadable: name them in the report and go on.

    Raises DataError for a folder without pictures, two pictures that would get one name, and an unreadable picture (named); OutputError
    where `out_root` cannot be written, is full, in use, or holds pictures that were made otherwise; ValueError for scale or
    workers; and what the engine raises.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    source, out, engine = Path(source_root), Path(out_root), engine or Ncnn()
    settings = engine.facts() | {"scale": scale, "jpeg": QUALITY}
    targets = _targets(
        source, out, _found(source) if pictures is None else _named(source, pictures)
    )
    with _opened(out, targets.values()) as done:
        done.settle(settings)
        todo = _jobs(source, targets, done)
        report = Report(skipped=len(targets) - len(todo))
        if todo:
            cores = (
                len(os.sched_getaffinity(0))
                if hasattr(os, "sched_getaffinity")
                else os.cpu_count() or 1
            )
            count = min(workers or engine.workers(cores), len(todo))

            def take(job: Job, made: int | str) -> None:
                _take(job, made, done, report, skip_unreadable)

            work(todo, take, progress, engine=engine, scale=scale, count=count)
    return report


def _found(root: Path) -> list[str]:
    """Pictures below a folder, sorted, links followed."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a folder of pictures")
    found: list[str] = []
    for where, folders, files in os.walk(root, followlinks=True):
        below = Path(where).relative_to(root)
        above = {
            os.path.realpath(root / part) for part in (below, *below.parents)
        }  # a link to one of these would never end
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(where, name)) not in above
        ]
        found += [
            (below / name).as_posix()
            for name in files
            if not name.startswith(".") and _is_picture(name)
        ]
    if not found:
        raise DataError(
            f"{root}: holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}); check the folder"
        )
    return sorted(found)


def _is_picture(name: str) -> bool:
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def _named(root: Path, pictures: Iterable[str]) -> list[str]:
    """The names of given pictures, each once."""
    top = os.path.abspath(root)
    names = dict.fromkeys(os.path.relpath(os.path.join(top, picture), top) for picture in pictures)
    for name in names:
        if name.startswith(os.pardir) or os.path.isabs(name):
            raise DataError(
                f"{name}: does not lie in {root}; give the folder that all pictures lie in"
            )
    return [PurePath(name).as_posix() for name in names]


def _targets(source: Path, out: Path, names: Iterable[str]) -> dict[str, Path]:
    """The file of every picture; no two share one, on any file system, and none lies among the sources."""
    if out.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(
        out.resolve()
    ):
        raise OutputError(
            f"{out}: must lie outside {source}, and not around it; choose another folder"
        )
    targets: dict[str, Path] = {}
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(str(PurePath(name).with_suffix("")).casefold(), name)
        if other != name:
            raise DataError(f"{source}: {other} and {name} would get one name; rename one of them")
        targets[name] = out / PurePath(name).with_suffix(".jpg")
    return targets


@contextmanager
def _opened(out: Path, targets: Iterable[Path]) -> Iterator[Manifest]:
    """The manifest of `out`; a folder without one must not hold what would be replaced."""
    path = out / MANIFEST
    if not path.exists() and (
        there := next((target for target in targets if target.exists()), None)
    ):
        raise OutputError(
            f"{there}: was not made here and would be replaced; choose another folder"
        )
    with wrap_os_errors(path):
        out.mkdir(parents=True, exist_ok=True)
    with manifest(path) as done:
        yield done


def _jobs(source: Path, targets: Mapping[str, Path], done: Manifest) -> list[Job]:
    """What is not done yet, its folders made."""
    jobs = []
    for name, target in targets.items():
        now = file_fingerprint(source / name)
        if now is None or not done.is_done(name, now, target):
            jobs.append(Job(name, str(source / name), target, now or (0, 0)))
    for folder in sorted({job.target.parent for job in jobs}):
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return jobs


def _take(job: Job, made: int | str, done: Manifest, report: Report, skip_unreadable: bool) -> None:
    if isinstance(made, int):
        done.add(job.name, job.stamp, made)
        report.done += 1
    elif skip_unreadable:
        report.failed[job.name] = made
    else:
        raise DataError(made)
