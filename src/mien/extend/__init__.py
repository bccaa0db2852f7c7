"""What to build extensions on: recipe steps, heads, losses, data sets and writers of one's own.

See docs/howto/extend.md. These names stay as those of `mien` itself do.

>>> import mien.extend
>>> mien.extend.STEP
'an earlier step'
"""

from importlib import import_module

# As in `mien`: type checkers take it for True.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mien.data.label_table import table_of
    from mien.data.spec import DataSet, DataSetInfo, Place
    from mien.data.submissions.formats import Format as SubmissionFormat
    from mien.evaluation.nested_tuning import fit as fit_nested
    from mien.outputs.tables import Format as TableFormat
    from mien.recipes.predictions import Part, Predicted
    from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext
    from mien.recipes.steps.tuning import (
        TaskResult,
        TaskScores,
        change_families,
        check_recordings,
        tune_and_apply,
    )
    from mien.train.networks.heads import StackedHead
    from mien.train.objective.losses import masked_mean
    from mien.train.settings.extended import HeadExtension, LossExtension


# Name -> where it lives, imported on first use: data sets and writers need no torch.
_HOMES = {
    "BUNDLE": "recipes.steps.base",
    "DATA": "recipes.steps.base",
    "DataSet": "data.spec",
    "DataSetInfo": "data.spec",
    "HeadExtension": "train.settings.extended",
    "LossExtension": "train.settings.extended",
    "Part": "recipes.predictions",
    "Place": "data.spec",
    "Predicted": "recipes.predictions",
    "STEP": "recipes.steps.base",
    "StackedHead": "train.networks.heads",
    "Step": "recipes.steps.base",
    "StepContext": "recipes.steps.base",
    "SubmissionFormat": "data.submissions.formats",
    "TableFormat": "outputs.tables",
    "TaskResult": "recipes.steps.tuning",
    "TaskScores": "recipes.steps.tuning",
    "change_families": "recipes.steps.tuning",
    "check_recordings": "recipes.steps.tuning",
    "fit_nested": "evaluation.nested_tuning",
    "masked_mean": "train.objective.losses",
    "table_of": "data.label_table",
    "tune_and_apply": "recipes.steps.tuning",
}
# Names that are clear only in the module they live in.
_NAMES_AT_HOME = {"SubmissionFormat": "Format", "TableFormat": "Format", "fit_nested": "fit"}

__all__ = [
    "BUNDLE",
    "DATA",
    "STEP",
    "DataSet",
    "DataSetInfo",
    "HeadExtension",
    "LossExtension",
    "Part",
    "Place",
    "Predicted",
    "StackedHead",
    "Step",
    "StepContext",
    "SubmissionFormat",
    "TableFormat",
    "TaskResult",
    "TaskScores",
    "change_families",
    "check_recordings",
    "fit_nested",
    "masked_mean",
    "table_of",
    "tune_and_apply",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mien.extend' has no attribute {name!r}")
    home = import_module(f"mien.{_HOMES[name]}")
    return getattr(home, _NAMES_AT_HOME.get(name, name))


def __dir__() -> list[str]:
    return __all__
