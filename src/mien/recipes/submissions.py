"""The submissions of a recipe: files for a challenge, and whose scores they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mien.recipes.engine import Finished
from mien.recipes.schema import Recipe
from mien.recipes.steps.data_files import SUBMISSION, Submit

__all__ = ["Submission", "submission_lines", "submission_name", "submissions_of"]

_ABOUT: Final = (
    "In `submissions/`, a file for each seed that was trained. A refit learned split val as well "
    "and has no score there: what it repeats has one, of networks that saw less."
)


@dataclass(frozen=True)
class Submission:
    """A submission, over all seeds.

    Attributes:
        name: Of its files, without the seed.
        of: The step whose scores it holds.
        files: How many there are; none without the official list.
        score: Where split val judges it: the row of the table, or why there is none.
    """

    name: str
    of: str
    files: int
    score: str


def submission_name(recipe: str, step: str) -> str:
    """Name the files of a step, so that those of several recipes can lie in one folder.

    Args:
        recipe: Name of the recipe.
        step: Name of the step that writes them.

    Returns:
        What comes before ``-<seed>.txt``.
    """
    return f"{recipe}-{step}"


def submissions_of(recipe: Recipe, finished: Finished) -> tuple[Submission, ...]:
    """List the submissions of a finished recipe.

    Args:
        recipe: The recipe.
        finished: Its steps, done.

    Returns:
        One for each step of kind submit, in order.
    """
    rows = {row.of: row.name for row in recipe.rows}
    listed = []
    for name, step in recipe.steps.items():
        if not isinstance(step, Submit):
            continue
        files = sorted(finished.folders[name].glob(SUBMISSION.format("*")))
        score = f"row: {rows[step.of]}" if step.of in rows else "in no row of the table"
        # What was learned must not be told as if it had been validated.
        if not recipe.steps[step.of].scores_val:
            score = "none: it learned split val"
        listed.append(Submission(submission_name(recipe.name, name), step.of, len(files), score))
    return tuple(listed)


def submission_lines(submissions: Sequence[Submission]) -> list[str]:
    """Write the submissions for people.

    Args:
        submissions: Of a report.

    Returns:
        Lines of Markdown; none without submissions.
    """
    if not submissions:
        return []
    lines = ["## Submissions", "", _ABOUT, ""]
    lines += ["| file | seeds | scores of step | score on split val |", "|---|---:|---|---|"]
    for sent in submissions:
        lines.append(f"| `{sent.name}-*.txt` | {sent.files} | {sent.of} | {sent.score} |")
    return [*lines, ""]
