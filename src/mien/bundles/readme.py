"""A bundle's README, made from its card and from nothing else."""

import json
from collections.abc import Sequence

from mien.bundles.card import AffectCard, AnyCard, IdentityCard, SystemCard
from mien.bundles.card_parts import Published, Score, TaskCard, Terms
from mien.bundles.plan import HeadsStep, ScoreStep

__all__ = [
    "bullets",
    "published_page",
    "readme",
    "scores_page",
    "seen_page",
    "steps_page",
    "table",
    "tasks_page",
    "worse_page",
]


def readme(card: AnyCard) -> str:
    """A bundle's README: what it is, what it saw, how good it is, where it fails.

    Args:
        card: The bundle's card.

    Returns:
        Markdown, with a line break at the end.
    """
    parts = [f"# {card.name}", card.summary, _facts(card)]
    if isinstance(card, AffectCard | SystemCard) and card.tasks:
        parts += ["## What it predicts", tasks_page(card.tasks)]
    if isinstance(card, SystemCard):
        parts += ["## How it reads", steps_page(card)]
    parts += _score_parts(card)
    parts += ["## Where it fails", bullets(card.limits)]
    parts += ["## Must not be used for", bullets(card.not_for)]
    parts += ["## Data it has seen", seen_page(card.trained_on)]
    made = card.made
    seed = "" if made.seed is None else f", seed {made.seed}"
    parts += ["## How it was made", f"`{made.recipe}`{seed}, commit {made.commit}; {made.cost}."]
    return "\n\n".join(parts) + "\n"


def _score_parts(card: AnyCard) -> list[str]:
    # Scores on degraded pictures are no measure of normal use: they have a table of their own.
    plain = [score for score in card.scores if not score.condition]
    degraded = [score for score in card.scores if score.condition]
    parts = []
    if plain:
        parts += ["## Scores", scores_page(plain)]
    if card.published:
        title = "## Scores published by its authors, not measured by mien"
        parts += [title, published_page(card.published)]
    if degraded:
        parts += ["## On worse pictures", worse_page(degraded)]
    return parts


def tasks_page(tasks: Sequence[TaskCard]) -> str:
    """Table of what a network predicts.

    Args:
        tasks: The card's tasks.

    Returns:
        Markdown, one row per task.
    """
    rows = []
    for task in tasks:
        names = ", ".join(task.names)
        limits = f"{task.low:g} to {task.high:g}"
        rows.append([task.key, names, task.kind, limits, task.supervised_by])
    return table(["task", "names, in order", "kind", "range", "supervised by"], rows)


def scores_page(scores: Sequence[Score]) -> str:
    """Table of measured scores.

    Args:
        scores: Scores of a card.

    Returns:
        Markdown, one row per score.
    """
    rows = []
    for score in scores:
        interval = f"{score.low:.3f} to {score.high:.3f}"
        rows.append([score.metric, f"{score.value:.3f}", interval, score.data, str(score.faces)])
    return table(["metric", "value", "95 % interval", "on", "faces"], rows)


def steps_page(card: SystemCard) -> str:
    """Table of what a system does, step by step.

    Args:
        card: The system's card.

    Returns:
        Markdown, one row per step.
    """
    rows = []
    for name, step in card.steps.items():
        settings = step.model_dump(mode="json", exclude_defaults=True, exclude={"do", "tasks"})
        if isinstance(step, HeadsStep):
            # The hash, the columns and the tasks of each network are for machines.
            learned = [", ".join(spec.key for spec in head.tasks) for head in step.heads]
            settings = {"member": step.member, "heads": learned}
        elif isinstance(step, ScoreStep):
            settings = {"member": step.member}
        shown = "; ".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())
        marked = f"{name} (the answer)" if name == card.answer else name
        rows.append([marked, step.do, shown])
    return table(["step", "does", "with"], rows)


def published_page(scores: Sequence[Published]) -> str:
    """Table of scores that a network's authors published.

    Args:
        scores: Published scores of a card.

    Returns:
        Markdown, one row per score.
    """
    rows = []
    for score in scores:
        rows.append([score.metric, f"{score.value:.3f}", score.data, score.protocol, score.source])
    return table(["metric", "value", "on", "how", "published in"], rows)


def seen_page(seen: Sequence[Terms]) -> str:
    """Table of the data a network has seen.

    Args:
        seen: `trained_on` of a card.

    Returns:
        Markdown, one row per data set and use.
    """
    rows = []
    for terms in seen:
        rows.append([terms.data, terms.used_for, terms.terms])
    return table(["data", "for", "terms"], rows)


def worse_page(scores: Sequence[Score]) -> str:
    """Table of scores on degraded pictures.

    Args:
        scores: Scores with a condition.

    Returns:
        Markdown, one row per condition and one column per metric and data set.
    """
    # A dict keeps the order in which conditions and columns first appear.
    columns = list(dict.fromkeys((score.metric, score.data) for score in scores))
    conditions = list(dict.fromkeys(score.condition for score in scores))
    values: dict[tuple[str, str, str], str] = {}
    for score in scores:
        values[score.condition, score.metric, score.data] = f"{score.value:.3f}"
    rows = []
    for condition in conditions:
        cells = [values.get((condition, *column), "–") for column in columns]
        rows.append([*condition.split(": ", 1), *cells])
    titles = [f"{metric}, {data}" for metric, data in columns]
    return table(["condition", "what was done", *titles], rows)


def _facts(card: AnyCard) -> str:
    lines = [f"Licence of the weights: {card.licence}"]
    if card.version is not None:
        lines.append(f"Version: {card.version}, which `{card.name}@{card.version}` names for good")
    if isinstance(card, AffectCard):
        pixels = card.pixels
        size = f"{pixels.size}x{pixels.size} px"
        lines.append(f"Reads: crops of {size}, {pixels.colour}, {pixels.alignment} alignment")
        if card.features:
            lines.append(f"Exposes features: {card.features} numbers a face, the output `features`")
    elif isinstance(card, IdentityCard):
        pixels = card.pixels
        lines.append(f"Reads: crops of {pixels.size}x{pixels.size} px, {pixels.colour}")
        lines.append(f"Joins tracks nearer than {card.same_person:g} on average")
    elif isinstance(card, SystemCard):
        lines.append(
            f"Reads: films, frame by frame, by {len(card.members)} networks that see faces"
        )
    else:
        lines.append(f"Reads: frames of any size, searched at up to {card.search.side} px")
    if isinstance(card, AffectCard) and card.doubtful_below is not None:
        lines.append(f"A reading is doubtful where its quality is below {card.doubtful_below:g}")
    if isinstance(card, AffectCard | SystemCard) and card.uncertain_below is not None:
        lines.append(
            f"The expression is uncertain where no probability reaches {card.uncertain_below:g}"
        )
    if isinstance(card, AffectCard) and card.presence:
        units = [f"{name} {threshold:g}" for name, threshold in card.presence.items()]
        lines.append(f"Action units are present from {', '.join(units)}")
    files = "the lines of sha256sum of its files" if isinstance(card, SystemCard) else "model.onnx"
    lines.append(f"sha256 of {files}: `{card.sha256}`")
    return bullets(lines)


def bullets(lines: Sequence[str]) -> str:
    """A bulleted list.

    Args:
        lines: Its items, one line each.

    Returns:
        Markdown.
    """
    return "\n".join(f"- {line}" for line in lines)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table; a bar or a line break in a cell does not break it.

    Args:
        head: Titles of the columns.
        rows: Cells, one list per row.

    Returns:
        Markdown.
    """
    # The title row is ours and needs no escaping.
    lines = [_row(head), _row(["---"] * len(head))]
    for row in rows:
        lines.append(_row(list(map(_escaped, row))))
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
