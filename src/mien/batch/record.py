"""The record of a whole run, and the check for tables of the first layout."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import mien
from mien.batch.inputs import Job, Plan
from mien.batch.outcome import Outcome
from mien.batch.stores.store import Store
from mien.errors import OutputError
from mien.outputs.recorded import read_dictionary
from mien.remote.address import without_password

__all__ = ["RECORD", "refuse_first_layout", "write_record"]

RECORD: Final = "mien-run.json"
"""The record of the latest run over several inputs that wrote or found a table in the folder."""
# How dictionaries begin since tables mirror the folders of the inputs.
_SECOND_EDITION: Final = b'{\n  "dictionary": '
# All states, in the order of the record; a state that did not occur counts 0.
_STATES: Final = ("done", "skipped", "left", "failed")
# Tables that a message names.
_NAMED: Final = 3


def write_record(
    store: Store, inputs: Sequence[str | Path], outcomes: Sequence[Outcome], plan: Plan
) -> None:
    """Write what became of a run's inputs into the output folder, as ``mien-run.json``.

    Nothing is written where no table was written or skipped, or where there was a single input.

    Args:
        store: The output folder.
        inputs: The inputs as given.
        outcomes: The outcomes of the jobs, as far as the run came.
        plan: The jobs of the run.
    """
    several = len(outcomes) > 1 or plan.left_out
    states = Counter(outcome.state for outcome in outcomes)
    if not several or not states["done"] + states["skipped"]:
        return
    counts = {state: states[state] for state in _STATES}
    jobs = [_entry(outcome, store) for outcome in outcomes]
    planned = len(plan.jobs) + len(plan.failures)
    record = {
        "mien": mien.__version__,
        "ended": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "inputs": [without_password(str(given)) for given in inputs],
        "stopped": len(outcomes) < planned,
        "counts": counts,
        "left_out": plan.left_out,
        "jobs": jobs,
    }
    # The summary on the terminal says the same; a full disk must not cost that.
    with suppress(OutputError):
        store.write(RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _entry(outcome: Outcome, store: Store) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": outcome.job.name,
        "state": outcome.state,
        "files": [_below(path, store) for path in outcome.files],
        "problems": outcome.problems,
    }
    if outcome.left_to:
        entry["left_to"] = outcome.left_to
    return entry


def _below(path: Path | str, store: Store) -> str:
    """The path of a result below the output folder."""
    if isinstance(path, str):
        return path.removeprefix(f"{store.address}/")
    return path.relative_to(store.folder).as_posix()


def refuse_first_layout(folder: Path, jobs: Sequence[Job]) -> None:
    """Refuse a folder with tables of the first layout that this run would not replace.

    That layout put all tables beside each other, under names that depended on their neighbours; in
    one folder with today's, the same rows would exist twice.

    Args:
        folder: The output folder.
        jobs: The jobs of the run.

    Raises:
        OutputError: There are such tables.
    """
    planned = {f"{job.name}.dictionary.json" for job in jobs}
    names = []
    for path in sorted(folder.glob("*.dictionary.json")):
        if path.name not in planned and _is_first_layout(path):
            names.append(path.name.removesuffix(".dictionary.json"))
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise OutputError(
            f"{folder}: holds tables that an earlier version named in another way "
            f"({', '.join(names[:_NAMED])}{more}), and the same rows would be there twice; "
            "choose another folder, or move them away"
        )


def _is_first_layout(path: Path) -> bool:
    try:
        # Reading the start is enough for nearly all, and dictionaries may be large.
        with path.open("rb") as file:
            if file.read(len(_SECOND_EDITION)) == _SECOND_EDITION:
                return False
        record = read_dictionary(path)
    except (OSError, OutputError):
        return False
    return record is not None and record.edition == 1
