"""Synchrony of two people: windowed lagged cross-correlation against windows of other times."""

from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from mien.errors import StudyError
from mien.study.rows.layout import require_columns, score_columns, without_attributes
from mien.study.rows.resample import resample
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = ["Synchrony", "check_columns", "measure_synchrony"]

# Fewer windows leave too few surrogates to compare with.
_LEAST_WINDOWS: Final = 4
# Least share of a window that both people have usable scores in.
_LEAST_SHARE: Final = 0.8
# Where a correlation is taken for 1: Fisher's z has no end.
_MOST: Final = 0.999


class Synchrony(StrictSettings):
    """How synchrony is measured.

    Attributes:
        columns: The scores; without any, valence and AU12.
        rate_hz: Rate that scores are brought to first, samples per second.
        window_s: Length of a window, s; windows follow one another without overlap.
        lag_s: Largest lag, s.
        surrogates: How many pairings of windows of different times to compare with.
        seed: The same seed gives the same surrogates.
    """

    columns: tuple[str, ...] = ()
    rate_hz: Annotated[float, Field(gt=0, le=120)] = 10.0
    window_s: Annotated[float, Field(gt=0)] = 10.0
    lag_s: Annotated[float, Field(ge=0)] = 2.0
    surrogates: Annotated[int, Field(ge=99, le=100_000)] = 999
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _lags_fit_into_windows(self) -> "Synchrony":
        if not self.lag_s <= self.window_s / 2:
            raise ValueError(
                f"lag_s: {self.lag_s} s is more than half a window ({self.window_s} s); "
                "take longer windows or a smaller lag"
            )
        return self


def measure_synchrony(
    a: pd.DataFrame, b: pd.DataFrame, settings: Synchrony | None = None
) -> pd.DataFrame:
    """Measure whether two people move together more than by chance.

    Both scores are cut into windows (Boker et al. 2002). In each window, a is correlated with b
    moved by every lag, over what both have; the mean absolute Fisher z over windows and lags is
    their synchrony. It is compared with that of pairings of a's windows with b's windows of other
    times (Tschacher & Meier 2020), which keep what each person does alone.

    Args:
        a: Rows of one participant in one recording.
        b: Rows of another on the same clock, from the start of their recording.
        settings: How synchrony is measured; None for the defaults.

    Returns:
        One row per score: ``participant_a``, ``participant_b``, ``column``, ``seconds`` that are
        in windows, ``windows``, ``synchrony``, ``surrogate_mean``, ``surrogate_sd``, ``p`` (share
        of surrogates at least as synchronous, the pair itself counted), ``effect_size`` (how many
        standard deviations above the surrogates), ``correlation`` and ``lag_s``: the mean
        correlation at the lag where it is strongest; positive if b follows a. Where fewer than
        four windows are usable for both, statistics are missing.

    Raises:
        StudyError: A column is missing.
    """
    settings = settings or Synchrony()
    columns = check_columns(a, settings)
    check_columns(b, settings)
    first = resample(without_attributes(a), settings.rate_hz)
    second = resample(without_attributes(b), settings.rate_hz)
    pair = {
        "participant_a": str(first["participant"].iloc[0]),
        "participant_b": str(second["participant"].iloc[0]),
    }
    length = min(len(first), len(second))
    entries: list[dict[str, Any]] = []
    for column in columns:
        both = [table[column].to_numpy(np.float64)[:length] for table in (first, second)]
        entries.append({**pair, "column": column, **_of_pair(both[0], both[1], settings)})
    return pd.DataFrame(entries)


def check_columns(rows: pd.DataFrame, settings: Synchrony) -> list[str]:
    """The scores whose synchrony is measured.

    Args:
        rows: Rows of a study.
        settings: How synchrony is measured.

    Returns:
        Names of columns.

    Raises:
        StudyError: The rows have none, or lack one that the settings name.
    """
    if settings.columns:
        then = "name scores that it has"
        require_columns(rows, settings.columns, "synchrony.columns: the table", then)
        return list(settings.columns)
    scores = score_columns(rows.columns, computed=False)
    columns = [name for name in scores if name in ("valence", "AU12")]
    if not columns:
        raise StudyError("the table has neither valence nor AU12; name scores in synchrony.columns")
    return columns


def _of_pair(a: Floats, b: Floats, settings: Synchrony) -> dict[str, Any]:
    window = max(2, round(settings.window_s * settings.rate_hz))
    lag = round(settings.lag_s * settings.rate_hz)
    number = len(a) // window
    firsts = a[: number * window].reshape(number, window)
    seconds = b[: number * window].reshape(number, window)
    present = ~np.isnan(firsts) & ~np.isnan(seconds)
    kept = present.mean(axis=1) >= _LEAST_SHARE if number else np.zeros(0, bool)
    firsts = firsts[kept]
    seconds = seconds[kept]
    nan = float("nan")
    entry: dict[str, Any] = {"seconds": len(firsts) * window / settings.rate_hz}
    entry["windows"] = len(firsts)
    names = ("synchrony", "surrogate_mean", "surrogate_sd", "p", "effect_size")
    entry |= dict.fromkeys((*names, "correlation", "lag_s"), nan)
    if len(firsts) < _LEAST_WINDOWS:
        return entry
    strength, profile = _lagged(firsts, seconds, lag)
    entry["synchrony"] = float(_mean(np.diagonal(strength), axis=0))
    # A score that never changes goes along with nothing.
    if np.isnan(entry["synchrony"]):
        return entry
    entry |= _against_surrogates(strength, entry["synchrony"], settings)
    best = int(np.nanargmax(np.abs(profile)))
    entry["correlation"] = float(profile[best])
    entry["lag_s"] = (best - lag) / settings.rate_hz
    return entry


def _mean(values: Floats, axis: int) -> Floats:
    """Mean of what is not NaN; NaN, without a warning, where nothing is."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _against_surrogates(
    strength: Floats, synchrony: float, settings: Synchrony
) -> dict[str, float]:
    """Compare with pairings in which no window meets its own time."""
    rng = np.random.default_rng(settings.seed)
    number = len(strength)
    values = np.empty(settings.surrogates)
    rows = np.arange(number)
    for draw in range(settings.surrogates):
        # A turn of all windows has none at its own place; the order before it is at random.
        order = rng.permutation(number)
        partner = np.empty(number, int)
        partner[order] = np.roll(order, int(rng.integers(1, number)))
        values[draw] = _mean(strength[rows, partner], axis=0)
    mean = float(_mean(values, axis=0))
    spread = float(np.nanstd(values))
    above = int((values >= synchrony).sum())
    return {
        "surrogate_mean": mean,
        "surrogate_sd": spread,
        "p": (1 + above) / (1 + settings.surrogates),
        "effect_size": (synchrony - mean) / spread if spread else float("nan"),
    }


def _lagged(a: Floats, b: Floats, lag: int) -> tuple[Floats, Floats]:
    """Correlate each window of a with each of b, moved by each lag; at lag k, a(t) meets b(t + k).

    Returns the mean absolute Fisher z of each pairing over lags (N, N), and the mean correlation of
    windows of one time at each lag (2 lag + 1,).
    """
    width = a.shape[1]
    total = np.zeros((len(a), len(b)))
    count = np.zeros((len(a), len(b)))
    profile = np.empty(2 * lag + 1)
    for step in range(-lag, lag + 1):
        x = a[:, max(0, -step) : width - max(0, step)]
        y = b[:, max(0, step) : width - max(0, -step)]
        correlations = _correlations(x, y)
        fisher = np.abs(np.arctanh(np.clip(correlations, -_MOST, _MOST)))
        total += np.nan_to_num(fisher)
        count += ~np.isnan(fisher)
        profile[step + lag] = _mean(np.diagonal(correlations), axis=0)
    strength = np.full(total.shape, np.nan)
    np.divide(total, count, out=strength, where=count > 0)
    return strength, profile


def _correlations(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of each row of x with each of y, over what both have (N, M)."""
    in_x = ~np.isnan(x)
    in_y = ~np.isnan(y)
    # About their means, so that of constants only rounding errors of nothing are left.
    x = np.where(in_x, x - _mean(x, axis=1)[:, None], 0.0)
    y = np.where(in_y, y - _mean(y, axis=1)[:, None], 0.0)
    # Sums over the samples that both rows of a pair have, all pairs at once.
    p = in_x.astype(np.float64)
    q = in_y.astype(np.float64)
    count = p @ q.T
    sum_x = x @ q.T
    sum_y = p @ y.T
    covariance = x @ y.T - sum_x * sum_y / np.maximum(count, 1)
    spread_x = (x * x) @ q.T - sum_x**2 / np.maximum(count, 1)
    spread_y = p @ (y * y).T - sum_y**2 / np.maximum(count, 1)
    scale = np.sqrt(np.maximum(spread_x, 0) * np.maximum(spread_y, 0))
    correlations = np.full(scale.shape, np.nan)
    # A constant has no correlation.
    np.divide(covariance, scale, out=correlations, where=scale > 1e-9)
    return correlations
