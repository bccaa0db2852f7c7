"""Progress of a training run on stderr, and its lines on stdout."""

from typing import Any

from mien.cli.terminal import err, out
from mien.progress import bar_for, leads_group
from mien.train.loop import Progress

__all__ = ["TrainingBar"]


class TrainingBar(Progress):
    """Shows loss, score, rate and time left, and a line for every epoch.

    Of several processes that train together only the first one prints.
    """

    def __init__(self) -> None:
        self._bar = bar_for(err)
        self._steps = 0
        self._first = leads_group()

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        """Say where the run starts.

        Args:
            steps: Steps of the whole run.
            done: Steps that an earlier start has done.
            facts: What ``run.json`` holds.
        """
        if not self._first:
            return
        if "finished" in facts:
            self.note(f"this run finished {facts['finished']}; nothing is left to do")
        elif done:
            self.note(f"resuming after step {done} of {steps}")
        else:
            rows = ", ".join(f"{count} {split}" for split, count in facts["rows"].items())
            self.note(f"training on {facts['device']}: faces: {rows}; {steps} steps")
        self._steps = steps
        self._bar.begin("training")

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        """Move the bar.

        Args:
            done: Steps that are done.
            loss: Mean loss of this epoch.
            rate: Faces per second.
            score: Validation score of the last epoch, None before the first.
        """
        if self._first:
            last_score = "" if score is None else f", score {score:.4f}"
            state = f"loss {loss:.4f}{last_score}, {rate:.0f} faces/s"
            self._bar.advance(state, done / self._steps)

    def epoch(self, row: dict[str, float]) -> None:
        """Print an epoch's line of the training curve.

        Args:
            row: Its values by column.
        """
        numbers = []
        # Whole numbers are written by themselves, before and after the others.
        for name, value in row.items():
            if name not in ("epoch", "seconds"):
                numbers.append(f"{name} {value:.4f}")
        self.note(f"epoch {row['epoch']:.0f}: {', '.join(numbers)}; {row['seconds']:.0f} s")

    def note(self, line: str) -> None:
        """Print a line on stdout, above the bar.

        Args:
            line: The line.
        """
        if self._first:
            out.print(line, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.end()
