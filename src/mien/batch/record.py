"""What is said of a whole run: its record, and a folder that an earlier version filled."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import mien
from mien.batch.names import Job, Plan
from mien.batch.outcome import Outcome
from mien.errors import OutputError
from mien.files import atomic_write
from mien.outputs.recorded import read_dictionary

__all__ = ["RECORD", "refuse_first_layout", "write_record"]

RECORD: Final = "mien-run.json"
"""Of the latest run over several inputs that left or found a table in the folder."""
_NEW: Final = (
    b'{\n  "dictionary": '  # how dictionaries begin since tables mirror the inputs' folders
)
_NAMED: Final = 3


def write_record(
    folder: Path, inputs: Sequence[str | Path], outcomes: Sequence[Outcome], todo: Plan
) -> None:
    """Say in the output folder what became of a run's inputs.

    Nothing is written where there is no table to say it beside, or where one input was all.
    """
    several = len(outcomes) > 1 or todo.left_out
    if not several or not any(outcome.state in ("done", "skipped") for outcome in outcomes):
        return
    states = Counter(outcome.state for outcome in outcomes)
    page = {
        "mien": mien.__version__,
        "ended": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "inputs": [str(given) for given in inputs],
        "stopped": len(outcomes) < len(todo.jobs) + len(todo.failures),
        "counts": {state: states[state] for state in ("done", "skipped", "left", "failed")},
        "left_out": todo.left_out,
        "jobs": [
            {
                "name": outcome.job.name,
                "state": outcome.state,
                "files": [path.relative_to(folder).as_posix() for path in outcome.files],
                "problems": outcome.problems,
                **({"left_to": outcome.left_to} if outcome.left_to else {}),
            }
            for outcome in outcomes
        ],
    }
    with suppress(OutputError):  # the closing line says the same; a full disk must not cost that
        atomic_write(folder / RECORD, (json.dumps(page, indent=2) + "\n").encode())


def refuse_first_layout(folder: Path, jobs: Sequence[Job]) -> None:
    """Raise OutputError where tables of the first layout lie in the folder that this run would not replace.

    That layout put all tables beside each other, under names that depended on their neighbours; in one folder with today's
    the same rows would be there twice.
    """
    ours = {f"{job.name}.dictionary.json" for job in jobs}
    older = [
        page
        for page in sorted(folder.glob("*.dictionary.json"))
        if page.name not in ours and _is_first_layout(page)
    ]
    if older:
        names = [page.name.removesuffix(".dictionary.json") for page in older[:_NAMED]]
        rest = f" and {len(older) - _NAMED} more" if len(older) > _NAMED else ""
        raise OutputError(
            f"{folder}: holds tables that an earlier version named in another way ({', '.join(names)}{rest}), and the same rows "
            "would be there twice; choose another folder, or move them away"
        )


def _is_first_layout(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            if file.read(len(_NEW)) == _NEW:
                return False
        before = read_dictionary(page)
    except (OSError, OutputError):
        return False
    return before is not None and before.edition == 1
