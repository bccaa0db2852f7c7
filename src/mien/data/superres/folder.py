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
from mien.data.superres.workers import QUALITY, Job, work
from mien.errors import DataError, OutputError
from mien.files import wrap_os_errors
from mien.processes import usable_cores
from mien.progress import ItemProgress
from mien.sources import IMAGE_SUFFIXES

__all__ = ["MANIFEST", "Report", "superresolve"]

MANIFEST: Final = ".superres.sqlite"
"""Name of the manifest in the folder that is written."""


@dataclass(slots=True)
class Report:
    """What became of the pictures.

    Attributes:
        done: How many were made.
        skipped: How many had been made before.
        failed: Why, by name, for those that could not be read.
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
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Super-resolve every picture of a folder into the same place below another, as JPEG.

    JPEG of quality 95 without chroma subsampling: 0.4 of a PNG's size, and the rounding is below
    what the network guesses. Files whose names start with a dot, and what is no picture by its
    suffix, are passed over.

    What is done is kept: a manifest in `out_root` holds the engine, the sha256 of its weights, the
    scale, and size and time of every source. Called again, only pictures that are missing or whose
    source has changed are computed. Every file is written under another name and renamed;
    KeyboardInterrupt leaves all finished ones.

    Args:
        source_root: The folder of pictures.
        out_root: The folder to write, as ``<stem>.jpg``.
        scale: Whole number from 1 to the network's factor.
        pictures: Only these, absolute or relative to `source_root`.
        workers: Processes; None is what suits the engine. In a script, call this under
            ``if __name__ == "__main__":``, as with any spawned process.
        engine: None is `Ncnn`.
        progress: Called with pictures done and pictures to do.
        skip_unreadable: Name unreadable pictures in the report and go on.

    Returns:
        What became of the pictures.

    Raises:
        DataError: For a folder without pictures, two pictures that would get one name, and an
            unreadable picture (named).
        OutputError: Where `out_root` cannot be written, is full, in use, or holds pictures that
            were made otherwise.
        ValueError: For scale or workers. What the engine raises is raised too.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    source, out = Path(source_root), Path(out_root)
    engine = engine or Ncnn()
    # Everything the pixels depend on; the engine also says here what it lacks.
    settings = engine.facts() | {"scale": scale, "jpeg": QUALITY}
    names = _find_pictures(source) if pictures is None else _relative_names(source, pictures)
    targets = _targets(source, out, names)
    with _open_manifest(out, targets.values()) as done:
        done.check_settings(settings)
        jobs = _jobs(source, targets, done)
        report = Report(skipped=len(targets) - len(jobs))
        if jobs:
            # A process that gets no picture would still load the network.
            count = min(workers or engine.workers(usable_cores()), len(jobs))

            def take(job: Job, result: int | str) -> None:
                _take(job, result, done, report, skip_unreadable)

            work(jobs, take, progress, engine=engine, scale=scale, count=count)
    return report


def _find_pictures(root: Path) -> list[str]:
    """Pictures below a folder, sorted, links followed."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a folder of pictures")
    pictures: list[str] = []
    for current, folders, files in os.walk(root, followlinks=True):
        below = Path(current).relative_to(root)
        # A link to a folder above would never end.
        above = {os.path.realpath(root / part) for part in (below, *below.parents)}
        # os.walk goes into what is left in its own list.
        folders[:] = [name for name in folders if _is_walked(current, name, above)]
        for name in files:
            if not name.startswith(".") and _is_picture(name):
                pictures.append((below / name).as_posix())
    if not pictures:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root}: holds no pictures ({suffixes}); check the folder")
    return sorted(pictures)


def _is_walked(parent: str, name: str, above: set[str]) -> bool:
    return not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in above


def _is_picture(name: str) -> bool:
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def _relative_names(root: Path, pictures: Iterable[str]) -> list[str]:
    """Given pictures by their paths below the folder, each once."""
    top = os.path.abspath(root)
    names: dict[str, None] = {}
    for picture in pictures:
        name = os.path.relpath(os.path.join(top, picture), top)
        if name.startswith(os.pardir) or os.path.isabs(name):
            raise DataError(
                f"{name}: does not lie in {root}; give the folder that all pictures lie in"
            )
        names[PurePath(name).as_posix()] = None
    return list(names)


def _targets(source: Path, out: Path, names: Iterable[str]) -> dict[str, Path]:
    """The file of every picture; no two share one, and none lies among the sources."""
    # A second run would take its own results for sources.
    real_source, real_out = source.resolve(), out.resolve()
    if real_out.is_relative_to(real_source) or real_source.is_relative_to(real_out):
        raise OutputError(
            f"{out}: must lie outside {source}, and not around it; choose another folder"
        )
    targets: dict[str, Path] = {}
    taken: dict[str, str] = {}
    for name in names:
        stem = str(PurePath(name).with_suffix(""))
        # On some file systems A.jpg and a.jpg are one file.
        other = taken.setdefault(stem.casefold(), name)
        if other != name:
            raise DataError(f"{source}: {other} and {name} would get one name; rename one of them")
        targets[name] = out / PurePath(name).with_suffix(".jpg")
    return targets


@contextmanager
def _open_manifest(out: Path, targets: Iterable[Path]) -> Iterator[Manifest]:
    """The manifest of a folder; one without it must not hold what would be replaced."""
    path = out / MANIFEST
    if not path.exists():
        for target in targets:
            if target.exists():
                raise OutputError(
                    f"{target}: was not made here and would be replaced; choose another folder"
                )
    with wrap_os_errors(path):
        out.mkdir(parents=True, exist_ok=True)
    with manifest(path) as done:
        yield done


def _jobs(source: Path, targets: Mapping[str, Path], done: Manifest) -> list[Job]:
    """What is not done yet, its folders made."""
    jobs = []
    for name, target in targets.items():
        fingerprint = file_fingerprint(source / name)
        # A missing source becomes a job too: it is the job that reports it.
        if fingerprint is None or not done.is_done(name, fingerprint, target):
            jobs.append(Job(name, str(source / name), target, fingerprint or (0, 0)))
    for folder in sorted({job.target.parent for job in jobs}):
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return jobs


def _take(
    job: Job, result: int | str, done: Manifest, report: Report, skip_unreadable: bool
) -> None:
    """Note the end of a job; result: size in bytes of the file, or why there is none."""
    if isinstance(result, int):
        done.add(job.name, job.fingerprint, result)
        report.done += 1
    elif skip_unreadable:
        report.failed[job.name] = result
    else:
        raise DataError(result)
