"""The final table of a recipe: its rows, differences, claims, departures and cost; as data and Markdown."""

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

_OPTIONAL: Final = ("valence", "arousal")
"""Columns only if the paper reports them for a row: `va` is their mean."""
_LEGEND: Final = (
    "Mean over seeds ± their standard deviation [95 % bootstrap interval over recordings]; in "
    "*italics* the paper's number. A row that was tuned is scored nested: each recording with what "
    "was chosen on the others."
)
_COUNTED: Final = (
    "All networks that read a face for a row, of the first seed. Multiply-accumulates (MACs) are those "
    "of convolutions, matrix products and recurrent layers; milliseconds are ONNX Runtime's on this "
    f"machine's CPU in batches of {BATCH}, the median of rounds in which all networks took turns. "
    "Training: the seconds of every step that the row depends on, over all seeds."
)
_PAIRED: Final = (
    "Nested; mean over seeds ± standard deviation of the seeds' differences [95 % bootstrap interval "
    "of the mean, over recordings]."
)
_WAYS: Final = {"nested": "", "same": ", tuned and scored on the same rows"}

Summary = tuple[float, float, float, float]
"""Mean over seeds, standard deviation over seeds, and the ends of a 95 % interval."""


@dataclass(frozen=True)
class ReportRow:
    """A row of the table, scored one way.

    Attributes:
        name: Of the row.
        way: ``nested`` or ``same``, see `mien.recipes.evaluate_steps`.
        measures: By name.
        paper: The paper's numbers, by measure.
    """

    name: str
    way: str
    measures: dict[str, Summary]
    paper: dict[str, float]


@dataclass(frozen=True)
class PairedDifference:
    """One step minus another on the same faces, nested.

    Attributes:
        name: Of the difference.
        measures: By name.
    """

    name: str
    measures: dict[str, Summary]


@dataclass(frozen=True)
class ClaimResult:
    """A claim of the paper, and what was reached.

    Attributes:
        name: Of the claim.
        paper: The paper's number.
        ours: The number reached here.
        within: How far below the paper's number still counts.
        at_most: Whether the paper says "up to" its number.
        met: None if the claim is not judged, as on a stand-in.
    """

    name: str
    paper: float
    ours: float
    within: float
    at_most: bool
    met: bool | None


def _versions() -> dict[str, str]:
    today = time.strftime("%Y-%m-%d")
    return {"mien": mien.__version__, "commit": code_version(), "date": today}


@dataclass(frozen=True)
class Report:
    """A recipe's results.

    Attributes:
        recipe: Its name.
        title: What it is about.
        paper: Whose system it is.
        protocol: How it is scored, see `mien.metrics.PROTOCOLS`.
        seeds: What was trained, was trained once for each.
        standin: Whether the data are generated, so that claims are not judged.
        data: What was used, by the recipe's keys.
        rows: Of the table.
        differences: Between rows.
        claims: Of the paper.
        departures: What differs from the paper, and why.
        seconds: By step.
        costs: Of rows that name networks.
        options: Of the recipe, as they were set.
        versions: Of mien and its code, and the date.
    """

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
    versions: dict[str, str] = field(default_factory=_versions)


def report(recipe: Recipe, finished: Finished, data: Mapping[str, str], *, standin: bool) -> Report:
    """Score every row of a recipe's table.

    Args:
        recipe: The recipe.
        finished: Its steps, done.
        data: What was used, by the recipe's keys, for people.
        standin: Whether any of it is generated.

    Returns:
        The report.

    Raises:
        DataError: A row lacks the measure that a claim is about.
    """
    scores: dict[str, StepScores] = {}
    for row in recipe.rows:
        if row.of not in scores:
            scores[row.of] = evaluate_step(finished.predicted(row.of), recipe.protocol)
    by_row = {row.name: scores[row.of] for row in recipe.rows}
    rows: list[ReportRow] = []
    for row in recipe.rows:
        of_row = by_row[row.name]
        # The paper tuned and scored on the same rows: its numbers stand beside ours of that kind.
        paper = {} if of_row.tuned else row.paper
        rows.append(ReportRow(row.name, "nested", _summaries(of_row.nested), paper))
        if of_row.tuned:
            rows.append(ReportRow(row.name, "same", _summaries(of_row.same), row.paper))
    differences = [
        _difference(pair.name, by_row[pair.of], by_row[pair.to]) for pair in recipe.differences
    ]
    return Report(
        recipe=recipe.name,
        title=recipe.title,
        paper=recipe.paper,
        protocol=recipe.protocol,
        seeds=recipe.seeds,
        standin=standin,
        data=dict(data),
        rows=tuple(rows),
        differences=tuple(differences),
        claims=(*_claims_of(recipe, by_row, standin), *_ratios_of(recipe, by_row, standin)),
        departures=recipe.departures,
        seconds=dict(finished.seconds),
        costs=face_costs(recipe, finished),
        options=dict(recipe.options),
    )


def _summaries(estimates: Mapping[str, Estimate]) -> dict[str, Summary]:
    summaries = {}
    for name, estimate in estimates.items():
        low, high = estimate.interval
        summaries[name] = (estimate.mean, estimate.sd, low, high)
    return summaries


def _difference(name: str, of: StepScores, to: StepScores) -> PairedDifference:
    differences = {}
    for measure in RECIPE_MEASURES:
        if measure in of.nested and measure in to.nested:
            differences[measure] = minus(of.nested[measure], to.nested[measure])
    return PairedDifference(name, _summaries(differences))


def _claims_of(recipe: Recipe, rows: Mapping[str, StepScores], standin: bool) -> list[ClaimResult]:
    results = []
    for claim in recipe.claims:
        ours = _mean(rows[claim.row], claim.measure, claim.tuned, claim.name)
        met = None if standin else ours >= claim.paper - claim.within
        results.append(ClaimResult(claim.name, claim.paper, ours, claim.within, False, met))
    return results


def _ratios_of(recipe: Recipe, rows: Mapping[str, StepScores], standin: bool) -> list[ClaimResult]:
    results = []
    for ratio in recipe.ratios:
        above = _mean(rows[ratio.row], ratio.measure, ratio.tuned, ratio.name)
        below = _mean(rows[ratio.to], ratio.measure, ratio.tuned, ratio.name)
        ours = above / below if below else math.nan
        met = None if standin else ours >= ratio.paper - ratio.within
        results.append(ClaimResult(ratio.name, ratio.paper, ours, ratio.within, ratio.at_most, met))
    return results


def _mean(row: StepScores, measure: str, tuned: bool, claim: str) -> float:
    estimates = row.same if tuned else row.nested
    if measure not in estimates:
        known = ", ".join(estimates)
        raise DataError(f"claim {claim!r}: its row has no {measure}; it has {known}")
    return estimates[measure].mean


def markdown(results: Report) -> str:
    """Write a report for people.

    Args:
        results: The report.

    Returns:
        Markdown.
    """
    lines = [*_heading(results), *_rows(results), *_differences(results)]
    lines += [*_claims(results), *_costs(results)]
    if results.departures:
        lines += ["## Where this differs from the paper", ""]
        lines += [f"- {departure}" for departure in results.departures]
        lines.append("")
    minutes = sum(results.seconds.values()) / 60
    steps = "; ".join(f"{name} {seconds:.0f} s" for name, seconds in results.seconds.items())
    lines += ["## Cost", "", f"{steps}. In all {minutes:.1f} min.", ""]
    return "\n".join(lines)


def _heading(results: Report) -> list[str]:
    used = ", ".join(f"{key}: {source}" for key, source in results.data.items())
    seeds = ", ".join(map(str, results.seeds))
    versions = results.versions
    made = f"mien {versions['mien']}, commit {versions['commit']}, {versions['date']}."
    about = f"Data: {used}. Protocol: `{results.protocol}`. Seeds: {seeds}. {made}"
    lines = [f"# {results.recipe}", "", f"{results.title}.", "", f"Paper: {results.paper}", ""]
    lines += [about, ""]
    if results.options:
        options = ", ".join(f"`{key}={value}`" for key, value in results.options.items())
        lines += [f"Options: {options}.", ""]
    if results.standin:
        lines.append(
            "**These data are a stand-in: generated, not the real set. "
            "The paper's claims are shown and not judged.**"
        )
        lines.append("")
    return lines


def _rows(results: Report) -> list[str]:
    measures = _columns(results, results.rows)
    lines = ["## Table", "", _LEGEND, "", *_table_head(measures)]
    for row in results.rows:
        cells = [_cell(row.measures.get(name), row.paper.get(name)) for name in measures]
        lines.append(f"| {row.name}{_WAYS[row.way]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _columns(results: Report, rows: Sequence[ReportRow | PairedDifference]) -> list[str]:
    """The measures that are columns: those that a row has, in the order of their table."""
    in_paper = set().union(*(row.paper for row in results.rows))
    in_rows = set().union(*(row.measures for row in rows))
    optional = set(_OPTIONAL) - in_paper
    return [name for name in RECIPE_MEASURES if name in in_rows and name not in optional]


def _table_head(measures: list[str]) -> list[str]:
    titles = " | ".join(RECIPE_MEASURES[name].title for name in measures)
    return [f"| | {titles} |", "|---" + "|---:" * len(measures) + "|"]


def _cell(summary: Summary | None, paper: float | None) -> str:
    beside = "" if paper is None else f" *{paper:g}*"
    if summary is None:
        return f"–{beside}"
    mean, sd, low, high = summary
    if math.isinf(mean):
        return f"∞{beside}"
    spread = "" if math.isnan(sd) else f" ± {sd:.3f}"
    upper = "∞" if math.isinf(high) else number(high)
    return f"{number(mean)}{spread} [{number(low)}, {upper}]{beside}"


def _differences(results: Report) -> list[str]:
    if not results.differences:
        return []
    measures = _columns(results, results.differences)
    lines = ["## Differences on the same faces", "", _PAIRED, "", *_table_head(measures)]
    for difference in results.differences:
        cells = [_signed(difference.measures.get(name)) for name in measures]
        lines.append(f"| {difference.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _signed(summary: Summary | None) -> str:
    if summary is None or not math.isfinite(summary[0]):
        return "–"
    mean, sd, low, high = summary
    spread = "" if math.isnan(sd) else f" ± {sd:.3f}"
    return f"{mean:+.3f}{spread} [{low:+.3f}, {high:+.3f}]"


def _claims(results: Report) -> list[str]:
    if not results.claims:
        return []
    lines = ["## The paper's claims", ""]
    lines += ["| claim | paper | ours | within | met |", "|---|---:|---:|---:|---|"]
    answers = {None: "not judged", True: "yes", False: "no"}
    for claim in results.claims:
        paper = f"{'up to ' if claim.at_most else ''}{claim.paper:g}"
        ours = number(claim.ours, 4)
        answer = answers[claim.met]
        lines.append(f"| {claim.name} | {paper} | {ours} | −{claim.within:g} | {answer} |")
    return [*lines, ""]


def _costs(results: Report) -> list[str]:
    if not results.costs:
        return []
    lines = ["## Cost of a face", "", _COUNTED, ""]
    lines.append("| | parameters (M) | MACs (M) | ms per face | training (s) |")
    lines.append("|---|---:|---:|---:|---:|")
    for cost in results.costs:
        millions = f"{cost.parameters / 1e6:,.3f} | {cost.macs / 1e6:,.3f}"
        time_spent = f"{number(cost.milliseconds)} | {cost.seconds:.0f}"
        lines.append(f"| {cost.name} | {millions} | {time_spent} |")
    return [*lines, ""]


def plain(tree: Any) -> Any:
    """Prepare a report for JSON, which has no NaN.

    Args:
        tree: Dictionaries, lists, numbers and texts.

    Returns:
        The same with None for numbers that are not finite.
    """
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
