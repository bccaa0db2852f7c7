"""What networks say of single faces, as one mapping: the form in which readings carry it.

A key names a step and a task family, whose scores they are, or a member, whose numbers heads that
read windows need later.
"""

from collections.abc import Mapping
from typing import Final

from mien.tasks import Floats

__all__ = ["number_key", "score_key", "split_signals"]

_SEPARATOR: Final = "/"
_NUMBERS: Final = "numbers"


def score_key(step: str, family: str) -> str:
    """Name the scores of a step.

    Args:
        step: Its name.
        family: The task family.

    Returns:
        The key.
    """
    return f"{step}{_SEPARATOR}{family}"


def number_key(member: str) -> str:
    """Name everything that a member gives.

    Args:
        member: Its name.

    Returns:
        The key.
    """
    return score_key(member, _NUMBERS)


def split_signals(
    signals: Mapping[str, Floats],
) -> tuple[dict[str, dict[str, Floats]], dict[str, Floats]]:
    """Take signals apart.

    Args:
        signals: By key.

    Returns:
        Scores by step and family, and numbers by member.

    >>> split_signals({"a/va": [0.5, 0.1], "one/numbers": [1.0, 2.0]})
    ({'a': {'va': [0.5, 0.1]}}, {'one': [1.0, 2.0]})
    """
    scores: dict[str, dict[str, Floats]] = {}
    numbers: dict[str, Floats] = {}
    for key, values in signals.items():
        name, _, family = key.partition(_SEPARATOR)
        if family == _NUMBERS:
            numbers[name] = values
        else:
            scores.setdefault(name, {})[family] = values
    return scores, numbers
