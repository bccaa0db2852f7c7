"""A plan: the jobs of a run as a Parquet file, from which any number of machines take parts."""

import heapq
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.batch.assignment import Assignment, Settings, originals_in
from mien.batch.inputs import Job, Plan, has_no_file
from mien.batch.names import plan
from mien.batch.record import refuse_first_layout
from mien.batch.stores.remote_store import open_store
from mien.batch.stores.store import Store
from mien.batch.target import Target, check_output
from mien.errors import MienError, OutputError, SourceError, TableError
from mien.outputs.anonymise.hiding import Anonymise, check_anonymise
from mien.remote.address import absolute, is_address, parent
from mien.sources.fetched import look_at_source
from mien.temporal.one_euro import OneEuro
from mien.temporal.readings import Smoothing

__all__ = ["PLAN", "PlanFile", "read_plan", "write_plan"]

PLAN: Final = "mien-plan.parquet"
"""The plan in the output folder."""
_EDITION: Final = 1
_SCHEMA: Final = pa.schema(
    [
        ("job", pa.int64()),
        ("input", pa.string()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("folder", pa.string()),
        ("parts", pa.list_(pa.string())),
        ("suffix", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("depth", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that was read.

    Attributes:
        path: Its file, or its address; the tables go into the same folder.
        settings: What all jobs share.
        jobs: The jobs, in order.
        sizes: The bytes of each job's inputs when it was planned.
    """

    path: Path | str
    settings: Settings
    jobs: tuple[Job, ...]
    sizes: tuple[int, ...]

    @property
    def assignments(self) -> list[Assignment]:
        """All jobs, for `run_one` on any machine."""
        return [Assignment(job, self.settings) for job in self.jobs]

    def shard(self, number: int, count: int) -> list[Job]:
        """One of several shares of about the same size, which together are all jobs.

        Args:
            number: Which one, from 1.
            count: How many there are.

        Returns:
            Its jobs, in order. All machines that read the plan find the same.

        Raises:
            ValueError: There is no such share.
        """
        if not 1 <= number <= count:
            raise ValueError(f"--shard must be from 1/{count} to {count}/{count}, got {number}")
        # The largest job first, to the share that has the least so far.
        loads = [(0, share) for share in range(count)]
        mine: list[int] = []
        for index in sorted(range(len(self.jobs)), key=lambda index: -self.sizes[index]):
            load, share = heapq.heappop(loads)
            # Also where sizes are unknown, each job counts.
            heapq.heappush(loads, (load + max(self.sizes[index], 1), share))
            if share == number - 1:
                mine.append(index)
        return [self.jobs[index] for index in sorted(mine)]


def write_plan(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    options: Options | None = None,
    formats: Sequence[str] = ("csv",),
    overlay: bool = False,
    anonymise: Anonymise | None = None,
) -> tuple[PlanFile, Plan]:
    """Plan a run for many machines: list its jobs in a file in the output folder.

    An earlier plan there is replaced if it has the same options, bundles and formats, and no job
    that the new one lacks, so that a study that has grown can be planned again.

    Args:
        inputs: Paths, folders and patterns, which machines must see under the same absolute paths,
            and addresses.
        out: The output folder, which all machines share, or its address; made if missing.
        options: The options of the analysis; None for the defaults.
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.

    Returns:
        The plan, and what is known of inputs that are not in it.

    Raises:
        ValueError: An input is a camera or standard input, there is no format, or `anonymise` is
            set without an overlay of all faces.
        OutputError: The folder cannot be written, or has a plan with other options or inputs, or
            one that is just being written.
        BundleError: A bundle is incomplete or altered, or of another kind.
        UnknownNameError: There is no such format, bundle, engine or way to anonymise.
    """
    options = options or Options()
    check_output(formats, overlay, anonymise, options)
    with open_store(absolute(str(out))) as store, store.named_errors():
        target = Target(Reader(options), store, tuple(dict.fromkeys(formats)), overlay, anonymise)
        store.begin()
        planned = plan(inputs, store.folder, address=store.address)
        refuse_first_layout(store.folder, planned.jobs)
        jobs = []
        for job in planned.jobs:
            if has_no_file(job.inputs[0]):
                raise ValueError(f"{job.inputs[0]}: is no file that other machines could read")
            # Another machine may work in another folder.
            jobs.append(replace(job, inputs=tuple(map(absolute, job.inputs))))
        settings = replace(Settings.of(target, jobs), keeps_records=True)
        path = store.result(store.folder / PLAN)
        written = PlanFile(path, settings, tuple(jobs), tuple(job.size for job in jobs))
        with store.claim(PLAN.removesuffix(".parquet"), store.address, shown=str(path)):
            _refuse_other_plan(written, store)
            content = io.BytesIO()
            pq.write_table(_table_of(written), content)
            store.write(PLAN, content.getvalue())
    return written, planned


def _refuse_other_plan(new: PlanFile, store: Store) -> None:
    """Refuse to replace a plan with which machines may be working in another way."""
    content = store.read(PLAN)
    if content is None:
        return
    before = _parsed(new.path, content, new.settings.folder)
    facts = before.settings.facts
    changed = [key for key, value in new.settings.facts.items() if facts.get(key) != value]
    if changed:
        raise OutputError(
            f"{new.path}: is the plan of a run with other settings ({', '.join(changed)}); choose "
            "another folder, or remove the plan once its run has ended"
        )
    kept = {job.key for job in new.jobs}
    lost = [job.source for job in before.jobs if job.key not in kept]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise OutputError(
            f"{new.path}: is the plan of a run with other inputs ({lost[0]}{more}); plan all "
            "inputs together, choose another folder, or remove the plan once its run has ended"
        )


def _table_of(written: PlanFile) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, job in enumerate(written.jobs):
        for path in job.inputs:
            rows.append(
                {
                    "job": number,
                    "input": path,
                    "name": job.name,
                    "size": _size_of(path),
                    "folder": job.folder,
                    "parts": list(job.parts),
                    "suffix": job.suffix,
                    "parents": list(job.parents),
                    "depth": job.depth,
                }
            )
    settings = written.settings
    facts = {
        "plan": _EDITION,
        "options": asdict(settings.options),
        "formats": settings.formats,
        "overlay": settings.overlay,
        "anonymise": settings.anonymise,
        "facts": settings.facts,
    }
    # Bundles may be given as paths.
    content = json.dumps(facts, default=str).encode()
    return pa.Table.from_pylist(rows, _SCHEMA.with_metadata({b"mien": content}))


def _size_of(path: str) -> int:
    try:
        return (look_at_source(path).size or 0) if is_address(path) else os.stat(path).st_size
    except (OSError, SourceError):
        return 0


def read_plan(path: str | Path) -> PlanFile:
    """Read a plan.

    Args:
        path: Its file, or the output folder that holds it.

    Returns:
        The plan, whose tables go into the folder of the file.

    Raises:
        TableError: It is no plan, was damaged, or cannot be read.
        OutputError: There is no such file.
    """
    name = absolute(str(path))
    if os.path.isdir(name) or (is_address(name) and not name.endswith(".parquet")):
        name = f"{name}/{PLAN}" if is_address(name) else os.path.join(name, PLAN)
    folder = parent(name)
    with open_store(folder) as store:
        content = store.read(name[len(folder) :].lstrip("/" + os.sep))
    if content is None:
        raise OutputError(f"{name}: no such plan; make one with `mien plan INPUTS --out FOLDER`")
    return _parsed(name if is_address(name) else Path(name), content, folder)


def _parsed(path: Path | str, content: bytes, folder: Path | str) -> PlanFile:
    """The plan in a file's content, whose tables go into this folder."""
    if not is_address(str(folder)):
        folder = Path(folder)
    try:
        table = pq.read_table(io.BytesIO(content))
        metadata = json.loads((table.schema.metadata or {})[b"mien"])
        if metadata["plan"] != _EDITION:
            raise ValueError(f"its edition is {metadata['plan']}, not {_EDITION}")
        settings = _settings_of(folder, metadata)
        jobs, sizes = _jobs_of(table.to_pylist())
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError, MienError) as error:
        reason = str(error).partition("\n")[0]
        raise TableError(
            f"{path}: is no plan that can be followed ({reason}); remove it and run "
            "`mien plan` again"
        ) from error
    originals = originals_in(folder, jobs)
    return PlanFile(path, replace(settings, originals=originals), tuple(jobs), tuple(sizes))


def _settings_of(folder: Path | str, metadata: Mapping[str, Any]) -> Settings:
    values = dict(metadata["options"])
    if isinstance(values["smoothing"], dict):
        kind = OneEuro if "beta" in values["smoothing"] else Smoothing
        values["smoothing"] = kind(**values["smoothing"])
    options = Options(**{field.name: values[field.name] for field in fields(Options)})
    return Settings(
        folder,
        options,
        tuple(map(str, metadata["formats"])),
        bool(metadata["overlay"]),
        check_anonymise(metadata["anonymise"]),
        dict(metadata["facts"]),
        keeps_records=True,
    )


def _jobs_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Job], list[int]]:
    """The jobs, and the bytes of each."""
    by_number: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_number.setdefault(row["job"], []).append(row)
    jobs = [_job_of(parts) for parts in by_number.values()]
    sizes = [sum(row["size"] for row in parts) for parts in by_number.values()]
    return jobs, sizes


def _job_of(rows: Sequence[Mapping[str, Any]]) -> Job:
    """The job whose inputs are in these rows."""
    first = rows[0]
    name = PurePosixPath(first["name"])
    # A plan is a file that anyone may edit; tables stay in its folder.
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ValueError(f"{first['name']!r} is no name of a table")
    inputs = tuple(row["input"] for row in rows)
    return Job(
        name=first["name"],
        inputs=inputs,
        folder=first["folder"],
        parts=tuple(first["parts"]),
        suffix=first["suffix"],
        parents=tuple(first["parents"]),
        depth=first["depth"],
    )
