"""A bundle's README, made from its card and from nothing else."""

from collections.abc import Sequence

from mien.bundles.card import AffectCard, FaceCard, Published, Score, TaskCard, Terms

__all__ = [
    "bullets",
    "published_page",
    "readme",
    "scores_page",
    "seen_page",
    "table",
    "tasks_page",
    "worse_page",
]


def readme(card: AffectCard | FaceCard) -> str:
    """Markdown for people: what it is, what it saw, how good it is, where it fails, who must not use it."""
    parts = [f"# {card.name}", card.summary, _facts(card)]
    if isinstance(card, AffectCard) and card.tasks:
        parts += ["## What it predicts", tasks_page(card.tasks)]
    plain, worse = (
        [s for s in card.scores if bool(s.condition) is made_worse] for made_worse in (False, True)
    )
    if plain:
        parts += ["## Scores", scores_page(plain)]
    if card.published:
        parts += [
            "## Scores published by its authors, not measured by mien",
            published_page(card.published),
        ]
    if worse:
        parts += ["## On worse pictures", worse_page(worse)]
    seed = f", seed {card.made.seed}" if card.made.seed is not None else ""
    parts += [
        "## Where it fails",
        bullets(card.limits),
        "## Must not be used for",
        bullets(card.not_for),
    ]
    parts += ["## Data it has seen", seen_page(card.trained_on)]
    parts += [
        "## How it was made",
        f"`{card.made.recipe}`{seed}, commit {card.made.commit}; {card.made.cost}.",
    ]
    return "\n\n".join(parts) + "\n"


def tasks_page(tasks: Sequence[TaskCard]) -> str:
    """Table of what is predicted."""
    rows = [
        [
            task.key,
            ", ".join(task.names),
            task.kind,
            f"{task.low:g} to {task.high:g}",
            task.supervised_by,
        ]
        for task in tasks
    ]
    return table(["task", "names, in order", "kind", "range", "supervised by"], rows)


def scores_page(scores: Sequence[Score]) -> str:
    """Table of measured scores."""
    rows = [
        [s.metric, f"{s.value:.3f}", f"{s.low:.3f} to {s.high:.3f}", s.data, str(s.faces)]
        for s in scores
    ]
    return table(["metric", "value", "95 % interval", "on", "faces"], rows)


def published_page(scores: Sequence[Published]) -> str:
    """Table of scores that others measured."""
    rows = [[s.metric, f"{s.value:.3f}", s.data, s.protocol, s.source] for s in scores]
    return table(["metric", "value", "on", "how", "published in"], rows)


def seen_page(seen: Sequence[Terms]) -> str:
    """Table of the data a network has seen."""
    return table(
        ["data", "for", "terms"], [[terms.data, terms.used_for, terms.terms] for terms in seen]
    )


def worse_page(scores: Sequence[Score]) -> str:
    """Table of scores on pictures that were made worse: a row a condition, a column a metric and data set."""
    columns = list(dict.fromkeys((s.metric, s.data) for s in scores))
    found = {(s.condition, s.metric, s.data): f"{s.value:.3f}" for s in scores}
    rows = [
        [*condition.split(": ", 1), *(found.get((condition, *column), "–") for column in columns)]
        for condition in dict.fromkeys(s.condition for s in scores)
    ]
    return table(
        ["condition", "what was done", *(f"{metric}, {data}" for metric, data in columns)], rows
    )


def _facts(card: AffectCard | FaceCard) -> str:
    if isinstance(card, AffectCard):
        pixels = card.pixels
        eats = f"crops of {pixels.size}x{pixels.size} px, {pixels.colour}, {pixels.alignment} alignment"
        gives = (
            (f"Exposes features: {card.features} numbers a face, the output `features`",)
            if card.features
            else ()
        )
    else:
        eats, gives = f"frames of any size, searched at up to {card.search.side} px", ()
    return bullets(
        (
            f"Licence of the weights: {card.licence}",
            f"Reads: {eats}",
            *gives,
            f"sha256 of model.onnx: `{card.sha256}`",
        )
    )


def bullets(lines: Sequence[str]) -> str:
    """A list of lines."""
    return "\n".join(f"- {line}" for line in lines)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a bar or a line break in a cell does not break it."""
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
