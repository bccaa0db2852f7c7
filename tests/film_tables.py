"""Tables of one film with two people, as `mien analyze` would write them, for tests of what reads tables."""

import numpy as np

from mien.outputs.columns import columns
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import TableWriter
from mien.records import Face, Reading, Status
from mien.tasks import TASKS, Task

UNITS = Task("au.test", ("AU01", "AU12", "AU45"), "any_of")
COLUMNS = columns((TASKS["expr.ferplus8"], TASKS["va"], UNITS))
EVIL = '<script>alert("&")</script>.mp4'


def readings(frames=90, faces=2, source="clip.mp4"):
    """Two people on an uneven clock; the second is unsure for a while, then away."""
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.normal(0, 0.1, (frames, faces, 13)), axis=0)
    times = np.cumsum(rng.uniform(0.02, 0.06, frames))
    for frame in range(frames):
        for face in range(faces):
            if face == 1 and frame >= 70:
                continue
            values = walk[frame, face]
            expr = np.exp(values[:8])
            scores = {
                "expr": (expr / expr.sum()).astype("f4"),
                "va": np.tanh(values[8:10]).astype("f4"),
                "au": (1 / (1 + np.exp(-3 * values[10:13]))).astype("f4"),
            }
            sure = 0.5 if face and 20 <= frame < 30 else 0.9
            found = Face((20.0, 20.0, 100.0, 120.0), np.zeros((5, 2)), sure, face)
            yield Reading(source, frame, float(times[frame]), Status.ok, found, scores, {})


def write(folder, rows, name="clip", source="clip.mp4", **facts):
    folder.mkdir(parents=True, exist_ok=True)
    with TableWriter(folder / name, ["csv", "parquet"], COLUMNS) as writer:
        writer.write(rows)
    content = {
        "bundle": {"name": "mien-s", "sha256": "1" * 64, "limits": ["<b>few faces</b>"]},
        "faces": {"name": "mien-face", "sha256": "2" * 64},
        "options": {"smoothing": None, "every": 0.0, "faces": "all"},
        "sources": [{"name": source, "path": str(folder / source)}],
        "tables": writer.facts(),
        "problems": [],
    }
    write_dictionary(folder / f"{name}.dictionary.json", COLUMNS, content | facts)
    return folder / f"{name}.parquet"
