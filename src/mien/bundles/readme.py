"""A bundle's README, made from its card and from nothing else."""

from mien.bundles.card import AffectCard, FaceCard, Score

__all__ = ["readme"]


def readme(card: AffectCard | FaceCard) -> str:
    """Markdown for people: what it is, what it saw, how good it is, where it fails, who must not use it."""
    parts = [f"# {card.name}", card.summary, _facts(card)]
    if isinstance(card, AffectCard) and card.tasks:
        rows = [[task.key, ", ".join(task.names), task.kind, f"{task.low:g} to {task.high:g}", task.supervised_by] for task in card.tasks]
        parts += ["## What it predicts", _table(["task", "names, in order", "kind", "range", "supervised by"], rows)]
    plain, worse = ([s for s in card.scores if bool(s.condition) is made_worse] for made_worse in (False, True))
    scores = [[s.metric, f"{s.value:.3f}", f"{s.low:.3f} to {s.high:.3f}", s.data, str(s.faces)] for s in plain]
    seen = [[terms.data, terms.used_for, terms.terms] for terms in card.trained_on]
    if scores:
        parts += ["## Scores", _table(["metric", "value", "95 % interval", "on", "faces"], scores)]
    if worse:
        parts += ["## On worse pictures", _worse(worse)]
    parts += ["## Where it fails", _list(card.limits), "## Must not be used for", _list(card.not_for)]
    parts += ["## Data it has seen", _table(["data", "for", "terms"], seen)]
    parts += ["## How it was made", f"`{card.made.recipe}`, seed {card.made.seed}, commit {card.made.commit}; {card.made.cost}."]
    return "\n\n".join(parts) + "\n"


def _worse(scores: list[Score]) -> str:
    """A row a condition, a column a metric and data set."""
    columns = list(dict.fromkeys((s.metric, s.data) for s in scores))
    found = {(s.condition, s.metric, s.data): f"{s.value:.3f}" for s in scores}
    rows = [
        [*condition.split(": ", 1), *(found.get((condition, *column), "–") for column in columns)]
        for condition in dict.fromkeys(s.condition for s in scores)
    ]
    return _table(["condition", "what was done", *(f"{metric}, {data}" for metric, data in columns)], rows)


def _facts(card: AffectCard | FaceCard) -> str:
    if isinstance(card, AffectCard):
        pixels = card.pixels
        eats = f"crops of {pixels.size}x{pixels.size} px, {pixels.colour}, {pixels.alignment} alignment"
        gives = (f"Exposes features: {card.features} numbers a face, the output `features`",) if card.features else ()
    else:
        eats, gives = f"frames of any size, searched at up to {card.search.side} px", ()
    return _list((f"Licence of the weights: {card.licence}", f"Reads: {eats}", *gives, f"sha256 of model.onnx: `{card.sha256}`"))


def _list(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
