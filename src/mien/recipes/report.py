"""The final table of a recipe, with differences, claims, departures and costs."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import mien
from mien.bundles.store import open_bundle
from mien.errors import DataError
from mien.evaluation.measures import RECIPE_MEASURES
from mien.evaluation.report import number
from mien.recipes.costs import FaceCost, face_costs
from mien.recipes.engine import Finished
from mien.recipes.evaluate_steps import Estimate, StepScores, evaluate_step, minus
from mien.recipes.schema import Recipe
from mien.recipes.submissions import Submission, submission_lines, submissions_of
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
    "All networks that read a face for a row, of the first seed. Multiply-accumulates (MACs) are "
    "those of convolutions, matrix products and recurrent layers; milliseconds are ONNX Runtime's "
    f"on this machine's CPU in batches of {BATCH}, the median of rounds in which all networks took "
    "turns. Training: the seconds of every step that the row depends on, over all seeds."
)
_PAIRED: Final = (
    "Nested; mean over seeds ± standard deviation of the seeds' differences [95 % bootstrap "
    "interval of the mean, over recordings]."
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
        why: Why it is not judged; empty if it is.
    """

    name: str
    paper: float
    ours: float
    within: float
    at_most: bool
    met: bool | None
    why: str = ""


def _versions() -> dict[str, str]:
    # Which code made the numbers cannot be found out later.
    return {
        "mien": mien.__version__,
        "commit": code_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


@dataclass(frozen=True)
class Report:
    """A recipe's results.

    Attributes:
        recipe: Its name.
        title: What it is about.
        paper: Whose system it is.
        protocol: How it is scored, see `mien.protocols.PROTOCOLS`.
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
        submissions: Files for a challenge.
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
    submissions: tuple[Submission, ...] = ()


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
    by_row = _scores_by_row(recipe, finished)
    rows = _report_rows(recipe, by_row)
    differences = _paired_differences(recipe, by_row)
    why = _why_not_judged(recipe, finished, standin=standin)
    claims = (*_claims_of(recipe, by_row, why), *_ratios_of(recipe, by_row, why))
    # Measured last, when nothing else can fail any more.
    costs = face_costs(recipe, finished)
    # Copies, so that a report stays as it is.
    sources = dict(data)
    seconds = dict(finished.seconds)
    options = dict(recipe.options)
    scored = Report(
        recipe=recipe.name,
        title=recipe.title,
        paper=recipe.paper,
        protocol=recipe.protocol,
        seeds=recipe.seeds,
        standin=standin,
        data=sources,
        rows=rows,
        differences=differences,
        claims=claims,
        departures=recipe.departures,
        seconds=seconds,
        costs=costs,
        options=options,
    )
    return replace(scored, submissions=submissions_of(recipe, finished))


def _scores_by_row(recipe: Recipe, finished: Finished) -> dict[str, StepScores]:
    """Scores by the rows' names; a step that several rows name is evaluated once."""
    of_step: dict[str, StepScores] = {}
    by_row = {}
    for row in recipe.rows:
        if row.of not in of_step:
            predicted = finished.predicted(row.of)
            of_step[row.of] = evaluate_step(predicted, recipe.protocol)
        by_row[row.name] = of_step[row.of]
    return by_row


def _report_rows(recipe: Recipe, by_row: Mapping[str, StepScores]) -> tuple[ReportRow, ...]:
    """Each row of the recipe, once for each way in which it is scored."""
    rows = []
    for row in recipe.rows:
        scores = by_row[row.name]
        nested = _summaries(scores.nested)
        if not scores.tuned:
            rows.append(ReportRow(row.name, "nested", nested, row.paper))
            continue
        # The paper tuned and scored on the same rows: its numbers stand beside ours of that kind.
        in_sample = _summaries(scores.same)
        rows.append(ReportRow(row.name, "nested", nested, {}))
        rows.append(ReportRow(row.name, "same", in_sample, row.paper))
    return tuple(rows)


def _summaries(estimates: Mapping[str, Estimate]) -> dict[str, Summary]:
    # Without the draws, which only differences need.
    summaries = {}
    for name, estimate in estimates.items():
        low, high = estimate.interval
        summaries[name] = (estimate.mean, estimate.sd, low, high)
    return summaries


def _paired_differences(
    recipe: Recipe, by_row: Mapping[str, StepScores]
) -> tuple[PairedDifference, ...]:
    results = []
    for pair in recipe.differences:
        # Tuned systems are compared by their honest scores.
        first = by_row[pair.of].nested
        second = by_row[pair.to].nested
        differences = {}
        for measure in RECIPE_MEASURES:
            # One of the two may predict more tasks than the other.
            if measure in first and measure in second:
                differences[measure] = minus(first[measure], second[measure])
        results.append(PairedDifference(pair.name, _summaries(differences)))
    return tuple(results)


def _why_not_judged(recipe: Recipe, finished: Finished, *, standin: bool) -> str:
    """Why no claim of the paper can be judged by this run; empty if they can."""
    if standin:
        return "stand-in"
    for option, names in recipe.expects.bundles.items():
        chosen = recipe.options[option]
        if chosen is None or open_bundle(str(chosen)).card.name not in names:
            return f"{option} is {chosen}, the paper's is {' or '.join(names)}"
    expected = recipe.expects.faces
    if expected is None or not recipe.claims:
        return ""
    [step] = [row.of for row in recipe.rows if row.name == recipe.claims[0].row]
    predicted = finished.predicted(step)
    part = predicted.parts["val"]
    columns = [column for task in predicted.tasks for column in task.columns]
    faces = int(part.table[columns].notna().any(axis=1).sum())
    if abs(faces - expected) > recipe.expects.within * expected:
        return f"{faces} labelled faces in split val, the paper's list has {expected}"
    return ""


def _claims_of(recipe: Recipe, rows: Mapping[str, StepScores], why: str) -> list[ClaimResult]:
    results = []
    for claim in recipe.claims:
        ours = _mean(rows[claim.row], claim.measure, claim.tuned, claim.name)
        met = None if why else ours >= claim.paper - claim.within
        results.append(ClaimResult(claim.name, claim.paper, ours, claim.within, False, met, why))
    return results


def _ratios_of(recipe: Recipe, rows: Mapping[str, StepScores], why: str) -> list[ClaimResult]:
    results = []
    for ratio in recipe.ratios:
        above = _mean(rows[ratio.row], ratio.measure, ratio.tuned, ratio.name)
        below = _mean(rows[ratio.to], ratio.measure, ratio.tuned, ratio.name)
        # A ratio to 0 is undefined, and such a claim is not met.
        ours = above / below if below else math.nan
        met = None if why else ours >= ratio.paper - ratio.within
        results.append(
            ClaimResult(ratio.name, ratio.paper, ours, ratio.within, ratio.at_most, met, why)
        )
    return results


def _mean(row: StepScores, measure: str, tuned: bool, claim: str) -> float:
    estimates = row.same if tuned else row.nested
    # Which measures there are depends on the labels.
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
    lines += [*_claims(results), *submission_lines(results.submissions), *_costs(results)]
    if results.departures:
        lines += ["## Where this differs from the paper", ""]
        lines += [f"- {departure}" for departure in results.departures]
        lines.append("")
    lines += _step_times(results)
    return "\n".join(lines)


def _heading(results: Report) -> list[str]:
    used = _listed("{}: {}", results.data)
    seeds = ", ".join(map(str, results.seeds))
    # Enough to make the same table again.
    versions = results.versions
    made = f"mien {versions['mien']}, commit {versions['commit']}, {versions['date']}."
    about = f"Data: {used}. Protocol: `{results.protocol}`. Seeds: {seeds}. {made}"
    lines = [f"# {results.recipe}", "", f"{results.title}.", ""]
    lines += [f"Paper: {results.paper}", "", about, ""]
    if results.options:
        options = _listed("`{}={}`", results.options)
        lines += [f"Options: {options}.", ""]
    if results.standin:
        lines.append(
            "**These data are a stand-in: generated, not the real set. "
            "The paper's claims are shown and not judged.**"
        )
        lines.append("")
    return lines


def _listed(template: str, facts: Mapping[str, Any], separator: str = ", ") -> str:
    """Names and values in one line."""
    parts = []
    for name, value in facts.items():
        parts.append(template.format(name, value))
    return separator.join(parts)


def _rows(results: Report) -> list[str]:
    measures = _columns(results, results.rows)
    lines = ["## Table", "", _LEGEND, "", *_table_head(measures)]
    for row in results.rows:
        cells = [row.name + _WAYS[row.way]]
        for name in measures:
            cells.append(_cell(row.measures.get(name), row.paper.get(name)))
        lines.append(_table_row(cells))
    return [*lines, ""]


def _columns(results: Report, rows: Sequence[ReportRow | PairedDifference]) -> list[str]:
    """The measures that are columns: those that a row has, in the order of their table."""
    columns: set[str] = set()
    for row in rows:
        columns |= row.measures.keys()
    # What the paper reports for any row is shown for all.
    omitted = set(_OPTIONAL)
    for report_row in results.rows:
        omitted -= report_row.paper.keys()
    return [name for name in RECIPE_MEASURES if name in columns - omitted]


def _table_head(measures: list[str]) -> list[str]:
    # The first column holds the rows' names, and numbers are aligned to the right.
    cells = [""]
    rule = "|---"
    for name in measures:
        cells.append(RECIPE_MEASURES[name].title)
        rule += "|---:"
    return [_table_row(cells), f"{rule}|"]


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(summary: Summary | None, paper: float | None) -> str:
    # Beside ours, even if there is none of ours.
    beside = "" if paper is None else f" *{paper:g}*"
    if summary is None:
        return f"–{beside}"
    mean, sd, low, high = summary
    # A divergence is infinite if a class is never decided.
    if math.isinf(mean):
        return f"∞{beside}"
    # A single seed has no standard deviation.
    spread = "" if math.isnan(sd) else f" ± {sd:.3f}"
    upper = "∞" if math.isinf(high) else number(high)
    return f"{number(mean)}{spread} [{number(low)}, {upper}]{beside}"


def _differences(results: Report) -> list[str]:
    if not results.differences:
        return []
    measures = _columns(results, results.differences)
    lines = ["## Differences on the same faces", "", _PAIRED, "", *_table_head(measures)]
    for difference in results.differences:
        cells = [difference.name]
        for name in measures:
            cells.append(_signed(difference.measures.get(name)))
        lines.append(_table_row(cells))
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
    # The paper's numbers are of the real data.
    answers = {None: "not judged", True: "yes", False: "no"}
    for claim in results.claims:
        paper = f"up to {claim.paper:g}" if claim.at_most else f"{claim.paper:g}"
        cells = [
            claim.name,
            paper,
            number(claim.ours, 4),
            f"−{claim.within:g}",
            answers[claim.met] + (f": {claim.why}" if claim.why else ""),
        ]
        lines.append(_table_row(cells))
    return [*lines, ""]


def _costs(results: Report) -> list[str]:
    if not results.costs:
        return []
    lines = ["## Cost of a face", "", _COUNTED, ""]
    lines.append("| | parameters (M) | MACs (M) | ms per face | training (s) |")
    lines.append("|---|---:|---:|---:|---:|")
    for cost in results.costs:
        cells = [
            cost.name,
            f"{cost.parameters / 1e6:,.3f}",
            f"{cost.macs / 1e6:,.3f}",
            number(cost.milliseconds),
            f"{cost.seconds:.0f}",
        ]
        lines.append(_table_row(cells))
    return [*lines, ""]


def _step_times(results: Report) -> list[str]:
    steps = _listed("{} {:.0f} s", results.seconds, separator="; ")
    minutes = sum(results.seconds.values()) / 60
    return ["## Cost", "", f"{steps}. In all {minutes:.1f} min.", ""]


def plain(tree: Any) -> Any:
    """Prepare a report for JSON, which has no NaN.

    Args:
        tree: Dictionaries, lists, numbers and texts.

    Returns:
        The same with None for numbers that are not finite.
    """
    # Infinity is no JSON either.
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if not isinstance(tree, float):
        return tree
    return tree if math.isfinite(tree) else None
