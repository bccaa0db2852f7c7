"""mien reads affect from faces: expressions, valence and arousal, action units.

It works on photos, videos and cameras, on your own machine.

>>> import mien
>>> [name for name in mien.__all__ if name.islower()]
['analyze', 'analyze_many', 'errors', 'live', 'load', 'read_table', 'records']
"""

from importlib import import_module

from mien._version import __version__ as __version__

# Type checkers take it for True. Importing `typing` for it takes a while, in which Ctrl-C would end
# in a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mien import errors, records
    from mien.analysis.options import Options
    from mien.analysis.reader import Analysis, Reader, analyze
    from mien.batch.many import analyze_many
    from mien.bundles.store import Model
    from mien.errors import MienError
    from mien.outputs.read import read_table
    from mien.realtime.session import Live, live
    from mien.records import Face, Frame, Quality, Reading, Status
    from mien.systems.opening import load
    from mien.tasks import TASKS, Task
    from mien.temporal.one_euro import OneEuro
    from mien.temporal.readings import Smoothing


# Public name -> the module it lives in, imported on first use, so that `import mien` costs nothing.
_HOMES = {
    "Analysis": "analysis.reader",
    "Face": "records",
    "Frame": "records",
    "Live": "realtime.session",
    "MienError": "errors",
    "Model": "bundles.store",
    "OneEuro": "temporal.one_euro",
    "Options": "analysis.options",
    "Quality": "records",
    "Reader": "analysis.reader",
    "Reading": "records",
    "Smoothing": "temporal.readings",
    "Status": "records",
    "TASKS": "tasks",
    "Task": "tasks",
    "analyze": "analysis.reader",
    "analyze_many": "batch.many",
    "live": "realtime.session",
    "load": "systems.opening",
    "read_table": "outputs.read",
}
_MODULES = ("errors", "records")

__all__ = [
    "TASKS",
    "Analysis",
    "Face",
    "Frame",
    "Live",
    "MienError",
    "Model",
    "OneEuro",
    "Options",
    "Quality",
    "Reader",
    "Reading",
    "Smoothing",
    "Status",
    "Task",
    "analyze",
    "analyze_many",
    "errors",
    "live",
    "load",
    "read_table",
    "records",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"mien.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    return getattr(import_module(f"mien.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
