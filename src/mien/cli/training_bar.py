"""Progress of a training run on stderr, and its lines on stdout."""

import os
from typing import Any

from mien.cli.terminal import STOP_GRACEFULLY, STOP_REQUESTED, err, out
from mien.progress import bar_for
from mien.train.loop import Progress

__all__ = ["TrainingBar"]


class TrainingBar(Progress):
    """Loss, score, rate and time left; a line for every epoch. Of several processes only the first one speaks."""

    def __init__(self) -> None:
        self._bar = bar_for(err)
        self._steps = 0
        self._first = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        """Say where the run starts. From now on an interrupt waits for the end of a step, where a checkpoint can be written."""
        STOP_GRACEFULLY.set()
        if not self._first:
            return
        if "finished" in facts:
            self.note(f"this run finished {facts['finished']}; nothing is left to do")
        elif done:
            self.note(f"going on after step {done} of {steps}")
        else:
            rows = ", ".join(f"{count} {split}" for split, count in facts["rows"].items())
            self.note(f"training on {facts['device']}: faces: {rows}; {steps} steps")
        self._steps = steps
        self._bar.begin("training")

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        """Raises KeyboardInterrupt when the process has been told to end."""
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        if self._first:
            judged = "" if score is None else f", score {score:.4f}"
            self._bar.advance(f"loss {loss:.4f}{judged}, {rate:.0f} faces/s", done / self._steps)

    def epoch(self, row: dict[str, float]) -> None:
        """A line on stdout."""
        numbers = ", ".join(
            f"{name} {value:.4f}" for name, value in row.items() if name not in ("epoch", "seconds")
        )
        self.note(f"epoch {row['epoch']:.0f}: {numbers}; {row['seconds']:.0f} s")

    def note(self, line: str) -> None:
        """A line on stdout, above the bar."""
        if self._first:
            out.print(line, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        STOP_GRACEFULLY.clear()
        self._bar.end()
