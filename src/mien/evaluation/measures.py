"""The one table of measures: their names, ranges, and whether a higher value is better.

Reports, pictures, cards and the training loop all read it, so a measure has one name everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mien.tasks import Kind

__all__ = [
    "MEASURES",
    "RECIPE_MEASURES",
    "MeasureInfo",
    "class_measures",
    "headlines",
    "title",
]


@dataclass(frozen=True, slots=True)
class MeasureInfo:
    """Facts about a measure.

    Attributes:
        key: Its name in JSON, in recipes and in the column names of tables.
        title: Its short name for the head of a table.
        name: Its full name.
        range: The values it can take, as text.
        higher_is_better: None where neither direction is better, as for a prevalence.
    """

    key: str
    title: str
    name: str
    range: str
    higher_is_better: bool | None


def _by_key(measures: Iterable[MeasureInfo]) -> Mapping[str, MeasureInfo]:
    return MappingProxyType({measure.key: measure for measure in measures})


_SHARE: Final = "0..1"
_CORRELATION: Final = "-1..1"
_ERROR: Final = "0 and up, in the label's unit"

MEASURES: Final = _by_key(
    (
        MeasureInfo("accuracy", "accuracy", "accuracy", _SHARE, True),
        MeasureInfo("macro_f1", "macro-F1", "mean F1 over the classes", _SHARE, True),
        MeasureInfo("mean_f1", "mean F1", "mean F1 over the annotated units", _SHARE, True),
        MeasureInfo("f1", "F1", "F1 of a class or unit", _SHARE, True),
        MeasureInfo("precision", "precision", "precision of a class or unit", _SHARE, True),
        MeasureInfo("recall", "recall", "recall of a class or unit", _SHARE, True),
        MeasureInfo("prevalence", "prevalence", "share of faces that show a unit", _SHARE, None),
        MeasureInfo("ece", "ECE", "expected calibration error", _SHARE, False),
        MeasureInfo("mean_ccc", "mean CCC", "mean CCC over the columns", _CORRELATION, True),
        MeasureInfo("ccc", "CCC", "concordance correlation coefficient", _CORRELATION, True),
        MeasureInfo("mean_r", "mean r", "mean Pearson r over the units", _CORRELATION, True),
        MeasureInfo("r", "r", "Pearson's correlation coefficient", _CORRELATION, True),
        MeasureInfo("mean_rmse", "mean RMSE", "mean RMSE over the units", _ERROR, False),
        MeasureInfo("rmse", "RMSE", "root mean square error", _ERROR, False),
        MeasureInfo("mae", "MAE", "mean absolute error", _ERROR, False),
    )
)
"""The measures of an evaluation, by key."""

RECIPE_MEASURES: Final = _by_key(
    (
        MeasureInfo("score", "score", "score of the protocol", "as the protocol says", True),
        MeasureInfo("va", "VA CCC", "valence-arousal, mean CCC", _CORRELATION, True),
        MeasureInfo("valence", "valence CCC", "valence, CCC", _CORRELATION, True),
        MeasureInfo("arousal", "arousal CCC", "arousal, CCC", _CORRELATION, True),
        MeasureInfo("expr", "EXPR F1", "expressions, macro-F1", _SHARE, True),
        MeasureInfo("au", "AU F1", "action units, mean F1", _SHARE, True),
        MeasureInfo("ce", "CE F1", "compounds, macro-F1", _SHARE, True),
        MeasureInfo("expr_accuracy", "EXPR accuracy", "expressions, accuracy", _SHARE, True),
        MeasureInfo("kl", "KL to frequencies", "KL, less is better", "0 and up, nats", False),
    )
)
"""The measures of a recipe's report, by their key in rows and claims, in the columns' order."""


def title(measure: str) -> str:
    """A measure's short name, after the task family where the key begins with one.

    Args:
        measure: A key of `MEASURES`, such as ``ccc``, or ``<family>.<key>``.

    Returns:
        The name as reports print it; a key that is not in the table stays as it is.

    >>> title("expr.macro_f1"), title("va.ccc")
    ('expr macro-F1', 'va CCC')
    """
    family, _, key = measure.rpartition(".")
    name = MEASURES[key].title if key in MEASURES else key
    return f"{family} {name}".strip()


def headlines(kind: Kind, graded: bool) -> tuple[str, ...]:
    """Keys of the measures that stand for a task; the last is the one that training watches.

    Args:
        kind: The kind of the task.
        graded: Whether its labels are grades between 0 and 1, judged by correlation.

    Returns:
        Keys of `MEASURES` that belong to the task as a whole.

    >>> headlines("one_of", False), headlines("any_of", True)
    (('accuracy', 'macro_f1'), ('mean_r',))
    """
    if kind == "one_of":
        return ("accuracy", "macro_f1")
    if kind == "scalar":
        return ("mean_ccc",)
    return ("mean_r",) if graded else ("mean_f1",)


def class_measures(kind: Kind, graded: bool) -> tuple[str, ...]:
    """Keys of the measures shown for each class, unit or column of a task; the first stands for it.

    Args:
        kind: The kind of the task.
        graded: Whether its labels are grades between 0 and 1, judged by correlation.

    Returns:
        Keys of `MEASURES`.

    >>> class_measures("any_of", False)
    ('f1', 'precision', 'recall', 'prevalence')
    """
    if kind == "one_of":
        return ("f1", "precision", "recall")
    if kind == "scalar":
        return ("ccc", "r", "rmse", "mae")
    return ("r", "rmse") if graded else ("f1", "precision", "recall", "prevalence")
