"""Compound expressions: of a face, and of the frames of a film (HSEmotion at ABAW7)."""

from functools import partial
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from mien.bundles.plan import Aggregation, Basis
from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.tasks import TASKS, Floats, Kind, Mean, compound_scores
from mien.temporal.rows import Codes, fill_rows, smooth_rows

__all__ = [
    "AGGREGATIONS",
    "BASES",
    "fill_and_smooth",
    "supervised_compounds",
    "zero_shot_compounds",
]

BASES: Final[tuple[Basis, ...]] = get_args(Basis)
AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)

_BASIC: Final = TASKS["expr.lsd6"]
_SUM_TOLERANCE: Final = 1e-3
"""How far the sum of a row of class probabilities may be from 1: scores are saved as float32."""


def zero_shot_compounds(
    probabilities: Floats, names: tuple[str, ...], mean: Mean = "arithmetic", basis: Basis = "all"
) -> Floats:
    """Score compounds from a network for single expressions.

    Args:
        probabilities: Of N faces, (N, K), 0..1, in the order of `names`.
        names: Names of the K expressions.
        mean: See `mien.tasks.compound_scores`.
        basis: ``all`` takes the probabilities as they are, as the paper does. ``basic`` first makes
            the six that compounds consist of sum to 1, so that a face which looks mostly neutral or
            contemptuous counts as much as another; if all six are 0, so are all scores.

    Returns:
        Scores (N, 7), in the order of ``ce.abaw7``.

    Raises:
        LabelMismatchError: One of the six is not among `names`.
        DataError: Values are outside 0..1; raw output is not decoded here.
        UnknownNameError: There is no such mean or basis.
    """
    values = _checked(probabilities, names)
    if basis not in BASES:
        raise UnknownNameError("basis", basis, BASES)
    if basis == "all":
        return compound_scores(values, names, mean)
    six = values[:, _BASIC.column_index(names)]
    total = six.sum(axis=1, keepdims=True)
    shares = np.divide(six, total, out=np.zeros_like(six), where=total > 0)
    return compound_scores(shares, _BASIC.names, mean)


def supervised_compounds(
    probabilities: Floats, names: tuple[str, ...], kind: Kind, mean: Mean = "arithmetic"
) -> Floats:
    """Score compounds from a head that was trained on the six basic expressions only.

    The paper's own code scatters the six probabilities over eight slots, with zeros in the others,
    and takes a softmax of these: it flattens them, and gives a share to classes that the head does
    not know. Here outputs are decoded once, by `mien.tasks.Task.decode`.

    Args:
        probabilities: Of N faces, (N, 6), 0..1, in the order of `names`.
        names: Names of the six.
        kind: ``one_of`` (softmax: rows sum to 1) or ``any_of`` (sigmoids).
        mean: See `mien.tasks.compound_scores`.

    Returns:
        Scores (N, 7), in the order of ``ce.abaw7``.

    Raises:
        LabelMismatchError: `names` are not the six.
        DataError: Values are outside 0..1, or rows of ``one_of`` do not sum to 1.
        UnknownNameError: There is no such kind or mean.

    >>> face = np.array([[0, 0, 0.1, 0.6, 0, 0.3]])
    >>> supervised_compounds(face, TASKS["expr.lsd6"].names, "one_of").round(2).tolist()
    [[0.2, 0.45, 0.15, 0.15, 0.15, 0.05, 0.0]]
    """
    if sorted(names) != sorted(_BASIC.names):
        raise LabelMismatchError(
            f"supervised compounds come from {', '.join(_BASIC.names)} and nothing else; "
            f"got {', '.join(names)}"
        )
    values = _checked(probabilities, names)
    if kind not in ("one_of", "any_of"):
        raise UnknownNameError("kind", kind, ("one_of", "any_of"))
    if kind == "one_of":
        _check_sums(values.sum(axis=1))
    return compound_scores(values, names, mean)


def _checked(probabilities: Floats, names: tuple[str, ...]) -> NDArray[np.float64]:
    """The probabilities as float64; raises DataError if they are none, or not one per name."""
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(
            f"probabilities must be (N, {len(names)}) for {', '.join(names)}, got {values.shape}"
        )
    # Comparisons with NaN are false, so NaN is refused as well.
    is_valid = ((values >= 0) & (values <= 1 + _SUM_TOLERANCE)).all(axis=1)
    if not is_valid.all():
        raise DataError(
            f"{(~is_valid).sum()} of {len(values)} rows are not probabilities within 0..1; "
            "decode raw output with Task.decode first"
        )
    return values


def _check_sums(sums: Floats) -> None:
    """Raises DataError if rows of class probabilities do not sum to 1."""
    wrong = sums[np.abs(sums - 1) > _SUM_TOLERANCE]
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {len(sums)} rows do not sum to 1, one to {wrong[0]:.3f}; "
            "decode the six outputs once, on their own"
        )


def fill_and_smooth(
    scores: Floats, video: Codes, frame: Codes, window: int, sigma: float | None
) -> Floats:
    """Fill the gaps of scores, and smooth them within their videos.

    Args:
        scores: (N, K); NaN in rows whose frame has no face.
        video: Numbers of the videos, (N,), each with a face at least.
        frame: Frame numbers, (N,).
        window: Frames to each side, see `mien.temporal.rows.smooth_rows`.
        sigma: The same. A Gaussian averages frames that have a face only.

    Returns:
        Scores (N, K).
    """
    smooth = partial(
        smooth_rows, video=video, frame=frame, window=window, sigma=sigma, unit="frames"
    )
    filled = fill_rows(scores, video, frame)
    if sigma is None:
        return smooth(filled)
    # The paper's Gaussian goes over frames that have a face only, and leaves what was filled if
    # there is none in reach.
    is_measured = np.isfinite(scores[:, 0])
    sums = smooth(np.nan_to_num(scores))
    weights = smooth(is_measured.astype(np.float64)[:, None])
    return np.divide(sums, weights, out=filled, where=weights > 0)
