"""Files of programs that annotate films and signals: ELAN, Praat, BORIS, MNE."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mien.errors import MissingExtraError, TableError
from mien.exports.intervals import UNUSABLE, Interval, intervals
from mien.exports.recording import Recording
from mien.exports.workbook import sheet_bytes

__all__ = ["boris_bytes", "elan_bytes", "mne_bytes", "textgrid_bytes"]

# What ELAN opens; others it recognizes by the suffix.
_MIME_TYPES: Final[Mapping[str, str]] = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
}


def elan_bytes(recording: Recording, target: Path) -> bytes:
    """An ELAN file (.eaf) with the film linked: a tier per face and kind, in milliseconds.

    Args:
        recording: The table of one film.
        target: Where the file will lie; the film is linked relative to it.

    Returns:
        XML, UTF-8.

    Raises:
        TableError: The table is not that of one film.
        MissingExtraError: pympi is not installed.
    """
    elan = _pympi_elan()
    document = elan.Eaf(author="mien")
    film = _path_of(recording)
    relative = f"./{Path(os.path.relpath(film, target.absolute().parent)).as_posix()}"
    kind = _MIME_TYPES.get(film.suffix.lower(), "video/unknown")
    document.add_linked_file(film.as_uri(), relative, kind)
    for name, stretches in _tiers(intervals(recording, "ELAN")).items():
        document.add_tier(name)
        for stretch in stretches:
            start = max(round(stretch.start_s * 1000), 0)
            end = round(stretch.end_s * 1000)
            # ELAN's clock begins at 0, and its annotations last a millisecond at least.
            if start < end:
                document.add_annotation(name, start, end, stretch.label)
    document.remove_tier("default")
    text: str = elan.to_string(document)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def textgrid_bytes(recording: Recording, target: Path) -> bytes:
    """A Praat TextGrid: an interval tier per face and kind, in seconds.

    Args:
        recording: The table of one film.
        target: Where the file will lie; nothing in it depends on that.

    Returns:
        Text, UTF-8.

    Raises:
        TableError: The table is not that of one film.
    """
    end_s = recording.film("Praat").end_s
    tiers = _tiers(intervals(recording, "Praat"))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end_s:.6f}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for number, (name, stretches) in enumerate(tiers.items(), 1):
        spans = _filled(stretches, end_s)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f"        name = {_praat_text(name)}", "        xmin = 0"]
        lines += [f"        xmax = {end_s:.6f}", f"        intervals: size = {len(spans)}"]
        for position, (start_s, stop_s, label) in enumerate(spans, 1):
            lines.append(f"        intervals [{position}]:")
            lines.append(f"            xmin = {start_s:.6f}")
            lines.append(f"            xmax = {stop_s:.6f}")
            lines.append(f"            text = {_praat_text(label)}")
    return ("\n".join(lines) + "\n").encode()


def boris_bytes(recording: Recording, target: Path) -> bytes:
    """BORIS events (.xlsx), to be imported into an open observation: states begin and end.

    Args:
        recording: The table of one film.
        target: Where the file will lie; nothing in it depends on that.

    Returns:
        A workbook with the columns time, subject, code, modifier and comment.

    Raises:
        TableError: The table is not that of one film.
        MissingExtraError: openpyxl is not installed.
    """
    events = []
    for stretch in intervals(recording, "BORIS"):
        code = stretch.label
        # Names of statuses alone would be no code that a reader understands.
        if stretch.tier == UNUSABLE:
            code = f"{UNUSABLE} ({stretch.label})"
        for time_s in (stretch.start_s, stretch.end_s):
            events.append((time_s, stretch.who, code))
    # Where one state ends as the next one begins, the end was added first; sorting keeps that.
    events.sort(key=lambda event: event[0])
    rows: list[list[Any]] = [["time", "subject", "code", "modifier", "comment"]]
    for time_s, subject, code in events:
        rows.append([round(time_s, 6), subject, code, None, None])
    return sheet_bytes({"events": rows}, recording.path)


def mne_bytes(recording: Recording, target: Path) -> bytes:
    """Annotations as `mne.read_annotations` reads them from .txt: onset and duration in seconds.

    In a .csv file it would take the onsets for milliseconds. Frames in which nobody was read begin
    with ``BAD_``, so that epochs over them are rejected.

    Args:
        recording: The table of one film.
        target: Where the file will lie; nothing in it depends on that.

    Returns:
        Text with a line per stretch.

    Raises:
        TableError: The table is not that of one film.
    """
    lines = ["# MNE-Annotations", "# onset, duration, description"]
    stretches = sorted(intervals(recording, "MNE"), key=lambda stretch: stretch.start_s)
    for stretch in stretches:
        # A unit's tier is called as what holds in it.
        kinds = dict.fromkeys((stretch.tier, stretch.label))
        description = "/".join([stretch.who.replace(" ", ""), *kinds])
        if not stretch.who:
            description = f"BAD_{stretch.label}"
        lines.append(f"{stretch.start_s:.6f},{stretch.duration_s:.6f},{description}")
    return ("\n".join(lines) + "\n").encode()


def _tiers(stretches: Iterable[Interval]) -> dict[str, list[Interval]]:
    """Stretches by the name of their tier, in order."""
    tiers: dict[str, list[Interval]] = {}
    for stretch in stretches:
        name = f"{stretch.who} {stretch.tier}".strip()
        tiers.setdefault(name, []).append(stretch)
    return tiers


def _filled(stretches: list[Interval], end_s: float) -> list[tuple[float, float, str]]:
    """Stretches with empty ones between them, from 0 to the end, as Praat wants them."""
    spans: list[tuple[float, float, str]] = []
    reached_s = 0.0
    for stretch in stretches:
        if round(stretch.start_s, 6) > round(reached_s, 6):
            spans.append((reached_s, stretch.start_s, ""))
        spans.append((max(stretch.start_s, 0.0), stretch.end_s, stretch.label))
        reached_s = stretch.end_s
    if round(end_s, 6) > round(reached_s, 6):
        spans.append((reached_s, end_s, ""))
    return spans


def _praat_text(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _path_of(recording: Recording) -> Path:
    """The film of a table, which need not be there any more."""
    recording.film("ELAN")
    entries = recording.dictionary.get("sources")
    path = entries[0].get("path") if isinstance(entries, list) and entries else None
    if not isinstance(path, str):
        raise TableError(
            f"{recording.path}: its dictionary names no file, and ELAN needs a film to link; "
            "choose another format, or analyse the file itself"
        )
    return Path(path).absolute()


def _pympi_elan() -> Any:
    try:
        from pympi import Elan
    except ImportError as error:
        raise MissingExtraError("exports", "writing ELAN files") from error
    return Elan
