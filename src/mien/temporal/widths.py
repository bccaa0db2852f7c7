"""How wide a smoothing each column can bear before it loses what it is there to show.

A width is the full width at half maximum of the kernel, seconds. A column bears a width at which the median of its events
keeps at least half of its height; one Gaussian event of that width d keeps d / sqrt(d² + w²) under a Gaussian of width w.
"""

from collections.abc import Iterable
from typing import Final

__all__ = ["BEARABLE_S", "OTHER_S", "bearable_s", "width_notes"]

BEARABLE_S: Final[dict[str, float]] = {
    # Measured (bench/results/values.json): the blinks of a real clip are .11 s wide at half height and keep .58 at .15 s, .48 at .2 s.
    "AU45": 0.15,
    # Measured there too: lids tighten with every blink, and keep .52 at .2 s.
    "AU07": 0.2,
    # Lips and jaw move 2 to 7 times a second in speech (Chandrasekaran et al. 2009); of 3 times a second half is left at .147 s.
    "AU25": 0.15,
    "AU26": 0.15,
}
"""Columns that bear less than the others."""
OTHER_S: Final = 0.35
"""What every other score bears. Expressions that are no micro-expressions last half a second and more (Ekman 2003; Yan et al. 2013
draw the line there), so about .25 s at half height; that leaves .58. Measured: valence and arousal keep .56 and .57."""


def bearable_s(column: str) -> float:
    """The widest smoothing, s, that a score column bears; unsmoothed columns (``_raw``) bear the same.

    >>> bearable_s("AU45"), bearable_s("valence")
    (0.15, 0.35)
    """
    return BEARABLE_S.get(column.removesuffix("_raw"), OTHER_S)


def width_notes(widths: Iterable[tuple[str, float]], every_s: float = 0.0) -> list[str]:
    """One line where columns are smoothed more than they bear, or hardly at all; else none.

    Args:
        widths: The columns' names and widths in s.
        every_s: Time from one frame that is read to the next where it was chosen, s; else 0.

    >>> width_notes([("AU12", 0.3), ("AU25", 0.3), ("AU45", 0.3)])
    ['smoothing is 0.3 s wide at half maximum; short events lose more than half of their height above 0.15 s in AU25, AU45']
    >>> width_notes([("AU12", 0.4), ("AU25", 0.4)])[0].partition("height ")[2]
    'above 0.15 s in AU25, above 0.35 s in AU12'
    >>> width_notes([("AU12", 0.15), ("AU25", 0.15)])
    []
    >>> width_notes([("AU12", 0.15), ("AU25", 0.15)], every_s=1.0)
    ['smoothing is 0.15 s wide at half maximum, less than the 1 s from frame to frame, and changes little or nothing']
    """
    width_of = dict(widths)
    widest_s = max(width_of.values(), default=0.0)
    if 0 < widest_s < every_s:
        far = f"less than the {every_s:g} s from frame to frame, and changes little or nothing"
        return [f"smoothing is {widest_s:g} s wide at half maximum, {far}"]
    wide = {
        name: width_s for name, width_s in width_of.items() if width_s > bearable_s(name) + 1e-6
    }
    if not wide:
        return []
    parts = []
    for limit in sorted(set(map(bearable_s, wide))):
        names = [name for name in wide if bearable_s(name) == limit]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        parts.append(f"above {limit:g} s in {', '.join(names[:6])}{more}")
    return [
        f"smoothing is {round(max(wide.values()), 2):g} s wide at half maximum; short events lose more than half of their height "
        f"{', '.join(parts)}"
    ]
