"""Tables of films with known truth, as `mien analyze` would write them, for tests of studies."""

import numpy as np
import pandas as pd

from mien.outputs.columns import columns
from mien.tasks import TASKS

ENTRIES = [
    {
        "name": column.name,
        "dtype": column.dtype,
        "unit": column.unit or None,
        "range": None,
        "meaning": column.meaning,
    }
    for column in columns([TASKS["va"], TASKS["expr.abaw8"], TASKS["au.abaw12"]])
]


def film(times, *, source="film.mp4", face=0, box=(100.0, 50.0, 80.0, 90.0), **scores):
    """A table with one face in every frame; scores are arrays or numbers, NaN where nobody is seen."""
    times = np.asarray(times, float)
    values = {
        name: np.broadcast_to(np.asarray(value, np.float32), times.shape).copy()
        for name, value in scores.items()
    }
    seen = ~np.isnan(next(iter(values.values())))
    table = pd.DataFrame(
        {
            "source": source,
            "frame": np.arange(len(times)),
            "time_s": times,
            "status": np.where(seen, "ok", "no_face"),
            "face": pd.array(np.where(seen, face, 0), dtype="Int64"),
        }
    )
    table.loc[~seen, "face"] = pd.NA
    for name, value in zip(("box_x", "box_y", "box_w", "box_h"), box, strict=True):
        table[name] = np.where(seen, value, np.nan).astype(np.float32)
    table["confidence"] = np.where(seen, 0.9, np.nan).astype(np.float32)
    for name, value in values.items():
        table[name] = value
    table.attrs["dictionary"] = {"bundle": {"name": "mien-s"}, "columns": ENTRIES}
    return table


def keys(participant="01", condition="film", session="", recording="a"):
    return {
        "participant": participant,
        "condition": condition,
        "session": session,
        "recording": recording,
    }
