"""mien reads affect from faces: expressions, valence and arousal, action units; from photos and video, on your own machine.

>>> import mien
>>> sorted(mien.__all__)[:4]
['Analysis', 'Face', 'Frame', 'MienError']
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.analysis import Analysis, analyze
    from mien.bundles.store import Model, load
    from mien.errors import MienError
    from mien.options import Options
    from mien.outputs.read import read_table
    from mien.records import Face, Frame, Reading, Status
    from mien.tasks import TASKS, Task
    from mien.temporal.readings import Smoothing

__version__ = "0.1.0"

# Public name -> the room it lives in. Imported when first used, so that `import mien` costs nothing.
_HOMES = {
    "Analysis": "analysis",
    "Face": "records",
    "Frame": "records",
    "MienError": "errors",
    "Model": "bundles.store",
    "Options": "options",
    "Reading": "records",
    "Smoothing": "temporal.readings",
    "Status": "records",
    "TASKS": "tasks",
    "Task": "tasks",
    "analyze": "analysis",
    "load": "bundles.store",
    "read_table": "outputs.read",
}

__all__ = [
    "TASKS",
    "Analysis",
    "Face",
    "Frame",
    "MienError",
    "Model",
    "Options",
    "Reading",
    "Smoothing",
    "Status",
    "Task",
    "analyze",
    "load",
    "read_table",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    return getattr(import_module(f"mien.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
