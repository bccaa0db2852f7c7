"""The process that reads damaged files for `campaign.media`: a line of JSON in, a line of JSON out."""

import json
import sys
import traceback
from pathlib import Path

from mien import batch


def read(path: str, out: Path) -> dict[str, object]:
    answer: dict[str, object] = {
        "state": "",
        "problems": [],
        "notes": [],
        "frames": 0,
        "traceback": "",
        "leftovers": [],
    }
    try:
        outcome = batch.run([path], out)[0]
    except Exception:
        return answer | {"traceback": traceback.format_exc()[-600:]}
    files = {file.name for file in outcome.files}
    there = {file.name for file in out.rglob("*") if file.is_file()} if out.is_dir() else set()
    strange = sorted(name for name in there - files if not name.startswith("mien-run"))
    return answer | {
        "state": outcome.state, "problems": outcome.problems, "notes": outcome.notes, "frames": outcome.frames,
        "leftovers": strange if outcome.state != "failed" else sorted(name for name in there if not name.startswith("mien-run")),
    }  # fmt: skip


def main() -> None:
    for line in sys.stdin:
        path, out = json.loads(line)
        print(json.dumps(read(path, Path(out))), flush=True)
