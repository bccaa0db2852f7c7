"""The final table of a recipe: its rows, differences, the paper's claims beside ours, departures and cost; as data, Markdown and JSON."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import mien
from mien.errors import DataError
from mien.evaluation.measures import RECIPE_MEASURES
from mien.evaluation.report import number
from mien.recipes.costs import FaceCost, face_costs
from mien.recipes.engine import Finished
from mien.recipes.evaluate_steps import Estimate, StepScores, evaluate_step, minus
from mien.recipes.schema import Recipe
from mien.train.bundle.pack import code_version
from mien.train.cost import BATCH

__all__ = ["ClaimResult", "PairedDifference", "Report", "ReportRow", "markdown", "plain", "report"]

_WHERE_TOLD: Final = ("valence", "arousal")
"""Shown only where the paper tells them of a row: `va` is their mean."""
_LEGEND: Final = (
    "Mean over seeds ± their standard deviation [95 % interval, recordings drawn again]; in *italics* the paper's number. "
    "A row that was tuned is told nested: each recording with what was chosen on the others."
)
_COUNTED: Final = (
    "All networks that read a face for a row, of the first seed. Multiply-accumulates (MACs) are those of convolutions, matrix products "
    f"and recurrent layers; milliseconds are ONNX Runtime's on this machine's CPU in batches of {BATCH}, the median of rounds in which all "
    "networks took turns. Training: the seconds of every step that the row depends on, over all seeds."
)
_PAIRED: Final = "Nested; mean over seeds ± standard deviation of the seeds' differences [95 % interval of the mean, recordings drawn again]."
_WAYS: Final = {"nested": "", "same": ", tuned and told on the same rows"}


@dataclass(frozen=True)
class ReportRow:
    """A row of the table, told one way. measures: by name (mean over seeds, sd over seeds, low, high); paper: its numbers."""

    name: str
    way: str
    measures: dict[str, tuple[float, float, float, float]]
    paper: dict[str, float]


@dataclass(frozen=True)
class PairedDifference:
    """One step minus another on the same faces, nested: by measure (mean, sd over seeds, low, high)."""

    name: str
    measures: dict[str, tuple[float, float, float, float]]


@dataclass(frozen=True)
class ClaimResult:
    """A claim of the paper beside ours. met: None where it is not judged, as on a stand-in."""

    name: str
    paper: float
    ours: float
    within: float
    at_most: bool
    met: bool | None


@dataclass(frozen=True)
class Report:
    """All of it. standin: the data are generated, so claims are not judged."""

    recipe: str
    title: str
    paper: str
    protocol: str
    seeds: tuple[int, ...]
    standin: bool
    data: dict[str, str]
    rows: tuple[ReportRow, ...]
    differences: tuple[PairedDifference, ...]
    claims: tuple[ClaimResult, ...]
    departures: tuple[str, ...]
    seconds: dict[str, float]
    costs: tuple[FaceCost, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(
        default_factory=lambda: {
            "mien": mien.__version__,
            "commit": code_version(),
            "date": time.strftime("%Y-%m-%d"),
        }
    )


def report(recipe: Recipe, finished: Finished, data: Mapping[str, str], *, standin: bool) -> Report:
    """Judge every row of a recipe's table; data: what was used, by key. Raises DataError where a row lacks what a claim needs."""
    found = {
        row.of: evaluate_step(finished.predicted(row.of), recipe.protocol) for row in recipe.rows
    }
    by_row = {row.name: found[row.of] for row in recipe.rows}
    lines: list[ReportRow] = []
    for row in recipe.rows:
        one = found[row.of]
        lines.append(
            ReportRow(row.name, "nested", _numbers(one.nested), {} if one.tuned else row.paper)
        )
        lines += [ReportRow(row.name, "same", _numbers(one.same), row.paper)] if one.tuned else []
    return Report(
        recipe.name, recipe.title, recipe.paper, recipe.protocol, recipe.seeds, standin, dict(data), tuple(lines),
        tuple(_difference(pair.name, by_row[pair.of], by_row[pair.to]) for pair in recipe.differences),
        _held(recipe, by_row, standin), recipe.departures, dict(finished.seconds),
        face_costs(recipe, finished), dict(recipe.options),
    )  # fmt: skip


def _numbers(told: Mapping[str, Estimate]) -> dict[str, tuple[float, float, float, float]]:
    return {name: (one.mean, one.sd, *one.interval) for name, one in told.items()}


def _difference(name: str, of: StepScores, to: StepScores) -> PairedDifference:
    both = [
        (measure, minus(of.nested[measure], to.nested[measure]))
        for measure in RECIPE_MEASURES
        if measure in of.nested and measure in to.nested
    ]
    return PairedDifference(name, _numbers(dict(both)))


def _held(recipe: Recipe, rows: Mapping[str, StepScores], standin: bool) -> tuple[ClaimResult, ...]:
    held = []
    for claim in recipe.claims:
        ours = _one(rows[claim.row], claim.measure, claim.tuned, claim.name)
        met = None if standin else ours >= claim.paper - claim.within
        held.append(ClaimResult(claim.name, claim.paper, ours, claim.within, False, met))
    for ratio in recipe.ratios:
        below = _one(rows[ratio.to], ratio.measure, ratio.tuned, ratio.name)
        ours = (
            _one(rows[ratio.row], ratio.measure, ratio.tuned, ratio.name) / below
            if below
            else math.nan
        )
        met = None if standin else ours >= ratio.paper - ratio.within
        held.append(ClaimResult(ratio.name, ratio.paper, ours, ratio.within, ratio.at_most, met))
    return tuple(held)


def _one(row: StepScores, measure: str, tuned: bool, where: str) -> float:
    told = row.same if tuned else row.nested
    if measure not in told:
        raise DataError(f"claim {where!r}: its row has no {measure}; it has {', '.join(told)}")
    return told[measure].mean


def markdown(found: Report) -> str:
    """The report for people."""
    used = ", ".join(f"{key}: {where}" for key, where in found.data.items())
    seeds = ", ".join(map(str, found.seeds))
    made = f"mien {found.versions['mien']}, commit {found.versions['commit']}, {found.versions['date']}."
    about = f"Data: {used}. Protocol: `{found.protocol}`. Seeds: {seeds}. {made}"
    lines = [f"# {found.recipe}", "", f"{found.title}.", "", f"Paper: {found.paper}", "", about, ""]
    if found.options:
        lines += [
            "Options: "
            + ", ".join(f"`{key}={value}`" for key, value in found.options.items())
            + ".",
            "",
        ]
    if found.standin:
        lines += [
            "**These data are a stand-in: generated, not the real set. The paper's claims are shown and not judged.**",
            "",
        ]
    lines += [*_rows(found), *_differences(found), *_claims(found), *_costs(found)]
    if found.departures:
        lines += [
            "## Where this differs from the paper",
            "",
            *(f"- {one}" for one in found.departures),
            "",
        ]
    cost = sum(found.seconds.values())
    lines += [
        "## Cost",
        "",
        "; ".join(f"{name} {seconds:.0f} s" for name, seconds in found.seconds.items())
        + f". In all {cost / 60:.1f} min.",
        "",
    ]
    return "\n".join(lines)


def _rows(found: Report) -> list[str]:
    shown = _shown(found, found.rows)
    lines = ["## Table", "", _LEGEND, "", *_head(shown)]
    for line in found.rows:
        cells = [_cell(line.measures.get(name), line.paper.get(name)) for name in shown]
        lines.append(f"| {line.name}{_WAYS[line.way]} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _shown(found: Report, lines: Sequence[ReportRow | PairedDifference]) -> list[str]:
    """The measures that are columns."""
    told = {name for line in found.rows for name in line.paper}
    return [
        name
        for name in RECIPE_MEASURES
        if any(name in one.measures for one in lines) and (name not in _WHERE_TOLD or name in told)
    ]


def _head(shown: list[str]) -> list[str]:
    return [
        "| | " + " | ".join(RECIPE_MEASURES[name].title for name in shown) + " |",
        "|---" + "|---:" * len(shown) + "|",
    ]


def _cell(one: tuple[float, float, float, float] | None, paper: float | None) -> str:
    if one is None:
        return "–" if paper is None else f"– *{paper:g}*"
    mean, sd, low, high = one
    told = "" if paper is None else f" *{paper:g}*"
    if math.isinf(mean):
        return "∞" + told
    spread = "" if math.isnan(sd) else f" ± {sd:.3f}"
    return (
        f"{number(mean)}{spread} [{number(low)}, {'∞' if math.isinf(high) else number(high)}]{told}"
    )


def _differences(found: Report) -> list[str]:
    if not found.differences:
        return []
    shown = _shown(found, found.differences)
    lines = ["## Differences on the same faces", "", _PAIRED, "", *_head(shown)]
    for one in found.differences:
        cells = [_signed(one.measures.get(name)) for name in shown]
        lines.append(f"| {one.name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _signed(one: tuple[float, float, float, float] | None) -> str:
    if one is None or not math.isfinite(one[0]):
        return "–"
    mean, sd, low, high = one
    spread = "" if math.isnan(sd) else f" ± {sd:.3f}"
    return f"{mean:+.3f}{spread} [{low:+.3f}, {high:+.3f}]"


def _claims(found: Report) -> list[str]:
    if not found.claims:
        return []
    lines = [
        "## The paper's claims",
        "",
        "| claim | paper | ours | within | met |",
        "|---|---:|---:|---:|---|",
    ]
    for one in found.claims:
        met = "not judged" if one.met is None else "yes" if one.met else "no"
        lines.append(
            f"| {one.name} | {'up to ' * one.at_most}{one.paper:g} | {number(one.ours, 4)} | −{one.within:g} | {met} |"
        )
    return [*lines, ""]


def _costs(found: Report) -> list[str]:
    if not found.costs:
        return []
    lines = ["## Cost of a face", "", _COUNTED, ""]
    lines += [
        "| | parameters (M) | MACs (M) | ms a face | training (s) |",
        "|---|---:|---:|---:|---:|",
    ]
    for one in found.costs:
        millions = f"{one.parameters / 1e6:,.3f} | {one.macs / 1e6:,.3f}"
        lines.append(
            f"| {one.name} | {millions} | {number(one.milliseconds)} | {one.seconds:.0f} |"
        )
    return [*lines, ""]


def plain(tree: Any) -> Any:
    """The same tree for JSON, which has no NaN: undefined numbers are None."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
