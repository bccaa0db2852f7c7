"""Events that were marked in ELAN."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from mien.errors import MissingExtraError, StudyError

__all__ = ["read_elan"]


def read_elan(path: Path, tier: str) -> pd.DataFrame:
    """Read the annotations of a tier of an ELAN file (.eaf) as events.

    Args:
        path: The file.
        tier: The tier's name.

    Returns:
        The events in order: ``onset`` and ``duration``, s from the start of the film as ELAN counts
        it, and ``trial_type``, the annotation's text.

    Raises:
        StudyError: It cannot be read, or has no such tier.
        MissingExtraError: pympi is not installed.
    """
    document = _document(path)
    if tier not in document.tiers:
        names = ", ".join(document.tiers) or "none"
        raise StudyError(f"{path}: has no tier {tier!r}, only {names}; correct events.tier")
    rows = []
    # A reference annotation has the times of what it refers to, and a fourth value.
    for start_ms, end_ms, text, *_ in document.get_annotation_data_for_tier(tier):
        if start_ms is None or end_ms is None:
            raise StudyError(
                f"{path}: tier {tier}: the annotation {text!r} has no times of its own; "
                "align it in ELAN, or choose another tier"
            )
        trial_type = text.strip() or "n/a"
        rows.append((start_ms / 1000, (end_ms - start_ms) / 1000, trial_type))
    events = pd.DataFrame(sorted(rows), columns=["onset", "duration", "trial_type"])
    return events.astype({"onset": "float64", "duration": "float64"})


def _document(path: Path) -> Any:
    try:
        from pympi import Elan
    except ImportError as error:
        raise MissingExtraError("exports", "reading ELAN files") from error
    if not path.is_file():
        raise StudyError(f"{path}: No such file; correct events.file")
    try:
        with warnings.catch_warnings():
            # Versions of ELAN's format that pympi was not written for have tiers like all others.
            warnings.simplefilter("ignore")
            return Elan.Eaf(str(path))
    # Whatever is not as it expects, it raises as a plain exception, a KeyError or an IndexError.
    except Exception as error:
        raise StudyError(
            f"{path}: is no ELAN file that can be read; save it in ELAN again"
        ) from error
