"""The paragraph on methods that a paper can take over, from data dictionaries alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from mien.study.episodes.segments import Segments
from mien.study.rows.usable import Usable

__all__ = ["methods"]

Dictionary = Mapping[str, Any]


def methods(
    dictionaries: Iterable[Dictionary],
    usable: Usable | None = None,
    segments: Segments | None = None,
) -> list[str]:
    """Say how numbers were made.

    Args:
        dictionaries: The data dictionaries of tables.
        usable: What counts as usable; None for the defaults.
        segments: What counts as a segment; None for the defaults.

    Returns:
        A paragraph for each way in which they were made; usually one.
    """
    counts: dict[str, int] = {}
    for dictionary in dictionaries:
        text = _paragraph(dictionary, usable or Usable(), segments or Segments())
        counts[text] = counts.get(text, 0) + 1
    if len(counts) < 2:
        return list(counts)
    # A study whose tables were not all made alike must not read as if they were.
    return [f"{text} (Tables made so: {count}.)" for text, count in counts.items()]


def _paragraph(dictionary: Dictionary, rule: Usable, shown: Segments) -> str:
    version = dictionary.get("mien", "of an unknown version")
    read = _network(dictionary, "bundle")
    find = _network(dictionary, "faces")
    sentences = [
        f"Faces were found with {find} and read with {read}, by mien {version}, frame by frame."
    ]
    judge = dictionary.get("quality")
    if isinstance(judge, dict):
        sentences.append(f"Readings were judged with {_network(dictionary, 'quality')}.")
    sentences += _options(dictionary)
    sentences.append(
        f"Frames count as usable with a detector's confidence of at least {rule.confidence:g} and "
        f"a face of at least {rule.face_px:g} pixels; means and shares are over usable time, and "
        "shares of expressions are means of their probabilities."
    )
    sentences.append(
        f"Segments reach {shown.on:g} and last while the score stays at {100 * shown.off:.0f} % "
        "of that; "
        f"those {shown.join_s:g} s apart or less are one, and those below {shown.least_s:g} s are "
        "left out."
    )
    sentences.append(
        "Scores describe what faces show, not what people feel; activations of action units are no "
        "FACS intensities."
    )
    return " ".join(sentences)


def _network(dictionary: Dictionary, key: str) -> str:
    bundle = dictionary.get(key)
    facts = bundle if isinstance(bundle, dict) else {}
    name = facts.get("name", "an unknown network")
    digest = facts.get("sha256")
    return f"the bundle {name} (SHA-256 {digest})" if digest else f"the bundle {name}"


def _options(dictionary: Dictionary) -> list[str]:
    """What was chosen, where it changes numbers."""
    options = dictionary.get("options")
    options = options if isinstance(options, dict) else {}
    sentences = []
    smoothing = options.get("smoothing")
    if isinstance(smoothing, dict) and smoothing.get("seconds"):
        width = smoothing.get("fwhm_s", smoothing["seconds"])
        kept = ", ".join(map(str, smoothing.get("keep") or ())) or "none"
        sentences.append(
            f"Scores were smoothed over time ({smoothing.get('kernel', 'gaussian')} kernel, "
            f"{width:g} s wide at half maximum; left as they were: {kept})."
        )
    elif isinstance(smoothing, dict) and "beta" in smoothing:
        sentences.append(
            f"Scores were smoothed over time (one-euro filter, cutoff {smoothing['cutoff_hz']:g} "
            f"Hz, beta {smoothing['beta']:g})."
        )
    else:
        sentences.append("Scores were not smoothed.")
    if options.get("every"):
        sentences.append(f"One frame was read per {options['every']:g} s.")
    faces = options.get("faces", "all")
    if faces != "all":
        count = 1 if faces == "largest" else faces
        sentences.append(f"Faces read of each frame, the largest first: {count}.")
    return sentences
