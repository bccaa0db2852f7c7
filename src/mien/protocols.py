"""The formulas of the challenges, by year and track: weighted sums of metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from mien.metrics import accuracy, ccc, macro_f1, mean_au_f1, pearson
from mien.tasks import TASKS, challenge_key

__all__ = ["PROTOCOLS", "Protocol", "Term", "protocol_named"]


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of a protocol: weight times ``metric(pred[task], target[task])``.

    Attributes:
        name: The summand's name in reports.
        task: A key of `TASKS`.
        metric: Takes predictions and annotations.
        weight: Its weight in the sum.
    """

    name: str
    task: str
    metric: Callable[[ArrayLike, ArrayLike], float]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Protocol:
    """A challenge's formula: a weighted sum of metrics, each on its own task."""

    name: str
    terms: tuple[Term, ...]

    def parts(
        self, pred: Mapping[str, ArrayLike], target: Mapping[str, ArrayLike]
    ) -> dict[str, float]:
        """Compute every term without its weight.

        Args:
            pred: Predictions, as in `score`.
            target: Annotations, as in `score`.

        Returns:
            The values by the terms' names.
        """
        return {term.name: term.metric(pred[term.task], target[term.task]) for term in self.terms}

    def score(self, pred: Mapping[str, ArrayLike], target: Mapping[str, ArrayLike]) -> float:
        """Compute the challenge's number.

        Args:
            pred: Predictions by task key: class numbers (N,) for ``expr`` and ``ce``, decisions
                (N, K) for ``au``, values (N, K) for ``va`` and ``emi``.
            target: Annotations in the same form.

        Returns:
            The number; NaN if a term is undefined.

        Raises:
            KeyError: For a task left out.
            ValueError: As the metrics do.

        >>> labels = {"expr.abaw7": [0, 1, 2, 3, 4, 5, 6]}
        >>> PROTOCOLS["abaw2021.expr"].score(labels, labels)
        1.0
        """
        parts = self.parts(pred, target)
        return float(sum(term.weight * parts[term.name] for term in self.terms))


def _macro(task: str, weight: float = 1.0) -> Term:
    classes = range(len(TASKS[task].names))

    def metric(pred: ArrayLike, target: ArrayLike) -> float:
        return macro_f1(pred, target, classes)

    return Term("macro_f1", task, metric, weight)


def _columns(task: str, metric: Callable[[ArrayLike, ArrayLike], float]) -> tuple[Term, ...]:
    """A term for each name of a task; together they are the mean over its names."""

    def on_column(column: int) -> Callable[[ArrayLike, ArrayLike], float]:
        def metric_of_column(pred: ArrayLike, target: ArrayLike) -> float:
            return metric(np.asarray(pred)[:, column], np.asarray(target)[:, column])

        return metric_of_column

    names = TASKS[task].names
    terms = []
    for column, name in enumerate(names):
        term_name = f"{metric.__name__}_{name}"
        terms.append(Term(term_name, task, on_column(column), 1 / len(names)))
    return tuple(terms)


def _both_classes(pred: ArrayLike, target: ArrayLike) -> float:
    """Macro-F1 of absence and presence of the only unit (N, 1)."""
    return macro_f1(np.asarray(pred)[:, 0], np.asarray(target)[:, 0], range(2))


_VA: Final = _columns("va", ccc)
_EXPR: Final = (_macro("expr.abaw8"),)
_AU: Final = (Term("au_f1", "au.abaw12", mean_au_f1),)
_EMI: Final = _columns("emi.abaw6", pearson)

# By year and track; `mien.tasks.EDITIONS` knows which edition of ABAW was held when.
_FORMULAS: Final[dict[str, tuple[Term, ...]]] = {
    "abaw2021.expr": (_macro("expr.abaw7", 0.67), Term("accuracy", "expr.abaw7", accuracy, 0.33)),
    "abaw2021.va": _VA,
    "abaw2021.au": (
        Term("au_f1", "au.abaw12", mean_au_f1, 0.5),
        Term("accuracy", "au.abaw12", accuracy, 0.5),
    ),
    "abaw2022.expr": _EXPR,
    "abaw2022.va": _VA,
    "abaw2022.au": _AU,
    "abaw2023.expr": _EXPR,
    "abaw2023.va": _VA,
    "abaw2023.au": _AU,
    "abaw2024.expr": _EXPR,
    "abaw2024.va": _VA,
    "abaw2024.au": _AU,
    "abaw2025.expr": _EXPR,
    "abaw2025.va": _VA,
    "abaw2025.au": _AU,
    "abaw2022.mtl": _VA + _EXPR + _AU,
    "abaw2022.lsd": (_macro("expr.lsd6"),),
    "abaw2024.mtl": _VA + _EXPR + _AU,
    "abaw2024.ce": (_macro("ce.abaw7"),),
    "abaw2023.eri": _columns("emi.abaw5", pearson),
    "abaw2024.emi": _EMI,
    "abaw2025.emi": _EMI,
    # As entrants of ABAW10 and ABAW11 report it; the organisers' own sentence was not seen.
    "abaw2026.ah": (Term("macro_f1", "ah.abaw8", _both_classes),),
}

PROTOCOLS: Final = MappingProxyType(
    {name: Protocol(name, terms) for name, terms in _FORMULAS.items()}
)


def protocol_named(name: str) -> Protocol:
    """Look up a protocol by the year or by the edition of its challenge.

    Args:
        name: A key of `PROTOCOLS`, or one with an edition in place of the year.

    Returns:
        The protocol.

    Raises:
        UnknownNameError: There is none; the message names the choices.

    >>> protocol_named("abaw7.mtl").name, protocol_named("abaw2024.mtl").name
    ('abaw2024.mtl', 'abaw2024.mtl')
    """
    return PROTOCOLS[challenge_key("protocol", name, PROTOCOLS)]
