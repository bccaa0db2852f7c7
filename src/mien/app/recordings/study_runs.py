"""Runs of studies: each once at a time, whoever asks for it, and how far they are."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any, Final

from pydantic import BaseModel

from mien.app.errors import ConflictError
from mien.app.recordings.studies import OUT, Find, Study, read_study, write_study
from mien.errors import MienError
from mien.files import atomic_write, replace_folder, wrap_os_errors
from mien.outputs.claims import Claim, ClaimedError
from mien.study.edits.beside import edits_path

__all__ = ["StudyProgress", "StudyRuns"]

_SETTINGS: Final = "study.yaml"
_LIST: Final = "recordings.csv"


class StudyProgress(BaseModel):
    """How far the run of a study is.

    Attributes:
        id: The study.
        read: How many of its recordings are read.
        summarised: How many have their summaries.
        total: How many there are; 0 until that is known.
        has_ended: Whether that was all, well or not; the study says which.
    """

    id: str
    read: int = 0
    summarised: int = 0
    total: int = 0
    has_ended: bool = False


class StudyRuns:
    """Runs studies; any thread may use it.

    A study is run by one process at a time: also by `mien study run`, whose claim this is.

    Args:
        folder: The folder of studies.
        find: Finds the table of a recording.
        tell: Hears how far each run is.
    """

    def __init__(self, folder: Path, find: Find, tell: Callable[[StudyProgress], object]) -> None:
        self._folder = folder
        self._find = find
        self._tell = tell
        self._lock = Lock()
        self._running: dict[str, StudyProgress] = {}

    def progress(self, identity: str) -> StudyProgress | None:
        """Say how far the run of a study is.

        Args:
            identity: The study.

        Returns:
            How far it is; None where it is not being run here.

        Raises:
            NotFoundError: There is no such study.
        """
        study = read_study(self._folder, identity)
        with self._lock:
            return self._running.get(study.id)

    def run(self, identity: str) -> Study:
        """Run a study on its recordings as they are now, with their edits.

        Args:
            identity: The study.

        Returns:
            The study; whether it could be run is its state.

        Raises:
            NotFoundError: There is no such study.
            ConflictError: It is being run already.
            OutputError: Something cannot be written.
        """
        study = read_study(self._folder, identity)
        home = self._folder / study.id
        with _claimed(home, study) as claim:
            try:
                study = self._run(home, study, claim)
                write_study(self._folder, study)
            finally:
                self._note(StudyProgress(id=study.id, has_ended=True))
        return study

    def delete(self, identity: str) -> None:
        """Remove a study; its recordings stay.

        Args:
            identity: The study.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is being run.
            OutputError: It cannot be removed.
        """
        study = read_study(self._folder, identity)
        home = self._folder / study.id
        with _claimed(home, study), wrap_os_errors(home):
            shutil.rmtree(home)

    def _run(self, home: Path, study: Study, claim: Claim) -> Study:
        from mien.study.project.run import run_study

        progress = StudyProgress(id=study.id, total=len(study.recordings))
        self._note(progress)

        def hear(step: str, done: int, total: int, /) -> None:
            nonlocal progress
            progress = progress.model_copy(update={step: done, "total": total})
            self._note(progress)

        try:
            _bring_tables(home, study, self._find)
            result = run_study(home / _SETTINGS, home / OUT, progress=hear, claim=claim)
        except ClaimedError as error:
            # Whoever has the study now says how it went.
            raise ConflictError(f"{error}; load the study again") from error
        except MienError as error:
            return study.model_copy(update={"state": "failed", "problem": str(error)})
        return study.model_copy(update={"state": "done", "problem": None, "notes": result.notes})

    def _note(self, progress: StudyProgress) -> None:
        with self._lock:
            if progress.has_ended:
                self._running.pop(progress.id, None)
            else:
                self._running[progress.id] = progress
        self._tell(progress)


@contextmanager
def _claimed(home: Path, study: Study) -> Iterator[Claim]:
    """Be the only process that changes a study.

    Raises:
        ConflictError: Another one does.
    """
    from mien.study.project.run import study_claim

    out = home / OUT
    with wrap_os_errors(out):
        out.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            claim = stack.enter_context(study_claim(home / _SETTINGS, out, study.name))
        except ClaimedError as error:
            holder = error.holder or "another process"
            raise ConflictError(
                f"{study.name}: is being computed by {holder}; wait until that is done, then try "
                "again"
            ) from error
        yield claim


def _bring_tables(home: Path, study: Study, find: Find) -> None:
    """Put the tables, with dictionaries and edits, where the study reads them; write its files."""
    tables = home / OUT / "tables"
    lines = StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["file", "participant", "condition", "session"])
    taken: set[str] = set()
    with replace_folder(tables) as new:
        for recording in study.recordings:
            table = find(recording.id)
            stem = table.stem if table.stem not in taken else f"{table.stem}-{recording.id[:6]}"
            taken.add(stem)
            for source in (table, table.with_suffix(".dictionary.json"), edits_path(table)):
                if source.is_file():
                    ending = source.name.removeprefix(table.stem)
                    shutil.copyfile(source, new / f"{stem}{ending}")
            keys = [recording.participant, recording.condition, recording.session]
            rows.writerow([f"{OUT}/tables/{stem}{table.suffix}", *keys])
    atomic_write(home / _LIST, lines.getvalue().encode())
    people = "largest" if study.recordings[0].participant else "person"
    settings: dict[str, Any] = {
        "study": 1,
        "name": study.name,
        "recordings": {"list": _LIST},
        "people": {"faces": people},
    }
    if study.baseline is not None:
        settings["baseline"] = study.baseline.model_dump(mode="json", exclude_none=True)
    conditions = list(dict.fromkeys(recording.condition for recording in study.recordings))
    if len(conditions) > 1 and all(conditions) and _has_repeats(study):
        pairs = [[conditions[0], other] for other in conditions[1:]]
        settings["contrasts"] = {"pairs": pairs}
    # JSON is YAML.
    atomic_write(home / _SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())


def _has_repeats(study: Study) -> bool:
    """Whether somebody comes in several conditions, so that these can be compared within people."""
    conditions: dict[str, set[str]] = {}
    for recording in study.recordings:
        conditions.setdefault(recording.participant, set()).add(recording.condition)
    return any(len(known) > 1 for known in conditions.values())
