"""How wide a smoothing each column bears before it loses the events that it is there to show.

A width is the full width at half maximum of the kernel, in s. A column bears a width at which the
median of its events keeps at least half of its height; one Gaussian event of width d keeps
d / sqrt(d² + w²) of it under a Gaussian kernel of width w.
"""

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["BEARABLE_S", "OTHER_S", "bearable_s", "width_notes"]

BEARABLE_S: Final[dict[str, float]] = {
    # Measured (bench/results/values.json): the blinks of a real clip are 0.11 s wide at half height
    # and keep 0.58 of it at a width of 0.15 s, 0.48 at 0.2 s.
    "AU45": 0.15,
    # Measured there too: lids tighten with every blink, and keep 0.52 at 0.2 s.
    "AU07": 0.2,
    # Lips and jaw move 2 to 7 times a second in speech (Chandrasekaran et al. 2009); of movements
    # 3 times a second half is left at 0.147 s.
    "AU25": 0.15,
    "AU26": 0.15,
}
"""Columns that bear less than the others, s."""
# Expressions that are no micro-expressions last half a second and more (Ekman 2003; Yan et al. 2013
# draw the line there), so about 0.25 s at half height; of that 0.58 is left. Measured: valence and
# arousal keep 0.56 and 0.57.
OTHER_S: Final = 0.35
"""What every other score bears, s."""
# Rounding of a width is no excess.
_TOLERANCE_S: Final = 1e-6
# Columns that a note names for each limit.
_NAMED: Final = 6


def bearable_s(column: str) -> float:
    """The widest smoothing that a score column bears.

    Args:
        column: Its name; unsmoothed columns (``_raw``) bear the same.

    Returns:
        The full width at half maximum, s.

    Examples:
        >>> bearable_s("AU45"), bearable_s("valence")
        (0.15, 0.35)
    """
    return BEARABLE_S.get(column.removesuffix("_raw"), OTHER_S)


def width_notes(widths: Iterable[tuple[str, float]], every_s: float = 0.0) -> list[str]:
    """A note where columns are smoothed more than they bear, or hardly at all.

    Args:
        widths: The columns' names and widths in s.
        every_s: Time between the frames that are read, where the user chose it, s; else 0.

    Returns:
        One line, or none.

    Examples:
        >>> width_notes([("AU12", 0.3), ("AU25", 0.3), ("AU45", 0.3)])[0].partition("; ")[2]
        'short events lose more than half of their height above 0.15 s in AU25, AU45'
        >>> width_notes([("AU12", 0.4), ("AU25", 0.4)])[0].partition("height ")[2]
        'above 0.15 s in AU25, above 0.35 s in AU12'
        >>> width_notes([("AU12", 0.15), ("AU25", 0.15)])
        []
        >>> width_notes([("AU12", 0.15), ("AU25", 0.15)], every_s=1.0)[0].partition(", ")[2]
        'less than the 1 s from frame to frame, and changes little or nothing'
    """
    width_of = dict(widths)
    widest_s = max(width_of.values(), default=0.0)
    if 0 < widest_s < every_s:
        return [
            f"smoothing is {widest_s:g} s wide at half maximum, less than the {every_s:g} s from "
            "frame to frame, and changes little or nothing"
        ]
    too_wide: dict[str, float] = {}
    for name, width_s in width_of.items():
        if width_s > bearable_s(name) + _TOLERANCE_S:
            too_wide[name] = width_s
    if not too_wide:
        return []
    return [
        f"smoothing is {round(max(too_wide.values()), 2):g} s wide at half maximum; "
        f"short events lose more than half of their height {_limits(too_wide)}"
    ]


def _limits(too_wide: Mapping[str, float]) -> str:
    """The columns by the width that they bear, the least first."""
    names_by_limit: dict[float, list[str]] = {}
    for name in too_wide:
        names_by_limit.setdefault(bearable_s(name), []).append(name)
    parts = []
    for limit_s, names in sorted(names_by_limit.items()):
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"above {limit_s:g} s in {', '.join(names[:_NAMED])}{more}")
    return ", ".join(parts)
