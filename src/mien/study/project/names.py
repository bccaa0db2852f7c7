"""Names of columns in a study file, checked before its films are read.

Which columns the tables of a study have follows from its settings and from the scores of its films.
So the steps themselves are run on three made-up frames, and say what there will be.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

import numpy as np
import pandas as pd

from mien.errors import StudyError
from mien.study.episodes.segments import find_segments
from mien.study.project.settings import StudySettings
from mien.study.rows.baseline import Baseline, correct_baseline
from mien.study.rows.layout import KEYS
from mien.study.statistics.contrasts import measures
from mien.study.statistics.summaries import CELL, summarize
from mien.study.statistics.synchrony import check_columns

__all__ = ["check_names"]

# Names that a message suggests.
_MOST: Final = 3
_LEAST_LIKENESS: Final = 0.4


def check_names(
    settings: StudySettings, scores: Sequence[str], participants: pd.DataFrame | None
) -> None:
    """Check the columns that a study file names.

    Args:
        settings: The study file.
        scores: The columns of decimal numbers in the films' tables.
        participants: The table of participants, if there is one.

    Raises:
        StudyError: There will be no such column; the message names the key, and columns that there
            will be.
    """
    known = [*CELL, *([] if participants is None else participants.columns.drop("participant"))]
    for name in settings.groups.by:
        if name not in known:
            raise StudyError(f"groups.by: there is no column {name}; there are {', '.join(known)}")
    rows = _made_up_rows(settings, scores)
    if settings.synchrony is not None:
        check_columns(rows, settings.synchrony)
    summaries = summarize(rows, find_segments(rows, settings.segments), settings.summaries)
    numbers = summaries.select_dtypes("number").columns
    for name in settings.contrasts.measures if settings.contrasts else ():
        if name not in numbers:
            near = get_close_matches(name, numbers, n=_MOST, cutoff=_LEAST_LIKENESS)
            raise StudyError(
                f"contrasts.measures: the summaries will have no column {name} of numbers; there "
                f"are, among others, {', '.join(near or measures(summaries)[:_MOST])}"
            )


def _made_up_rows(settings: StudySettings, scores: Sequence[str]) -> pd.DataFrame:
    """Three rows of somebody, with the columns that the study's rows will have."""
    time_s = np.arange(3.0)
    rows = pd.DataFrame({name: ["", "", ""] for name in KEYS})
    rows = rows.assign(time_s=time_s, time_from_start_s=time_s, duration_s=1.0, usable=True)
    rows["unusable_because"] = pd.Series([None, None, None], dtype=rows["recording"].dtype)
    # They vary, so that they can be divided by their deviation.
    values = {name: time_s / 2 for name in scores if name not in rows}
    rows = pd.concat([rows, pd.DataFrame(values)], axis=1)
    baseline = settings.baseline
    if baseline is not None:
        # Where the baseline is makes no difference to the names.
        columns = baseline.columns
        anywhere = Baseline(of="quantile", quantile=0.5, method=baseline.method, columns=columns)
        rows = correct_baseline(rows, anywhere)
    return rows
