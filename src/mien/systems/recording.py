"""One face over time: windows for heads that read several frames, then the steps of the plan.

A recording takes the rows of one face in order, and gives each of them its scores as soon as they
can no longer change, so memory does not grow with the length of a film.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mien.bundles.plan import Plan, Window
from mien.systems.apply import Scores, apply_plan, plan_reach
from mien.tasks import Floats

__all__ = ["Recording", "WindowHead"]

# Rows whose scores are worked out together: calls into NumPy are few, and little is held back.
_BLOCK: Final = 64


@dataclass(frozen=True)
class WindowHead:
    """A head that reads windows.

    Attributes:
        step: The step it belongs to.
        member: The member whose numbers it reads, or the name of numbers put together for it.
        window: How long its windows are.
        run: Takes the numbers of T frames (T, D), gives scores (T, K) by task family.
    """

    step: str
    member: str
    window: Window
    run: Callable[[Floats], Scores]


@dataclass
class _Row:
    """A row of a recording: its frame number, and the scores of the steps that ran networks."""

    number: int
    given: dict[str, dict[str, Floats]]
    waits_for: int = 0


@dataclass
class _OpenWindow:
    """Frames that a head has not read yet, after those it has.

    Attributes:
        head: The head.
        numbers: What it reads of the last frames (T, D); of these the last ``len(rows)`` are new.
        rows: The rows that wait for the head.
        last: Number of the last frame; None before the first.
    """

    head: WindowHead
    numbers: deque[Floats] = field(default_factory=deque)
    rows: list[_Row] = field(default_factory=list)
    last: int | None = None

    def add(self, row: _Row, numbers: Floats) -> None:
        """Take the next frame; reads the window once it is full."""
        if self.last is not None and row.number - self.last > self.head.window.gap:
            self.close()
        self.last = row.number
        length = self.head.window.length
        self.numbers.append(numbers)
        self.rows.append(row)
        if len(self.numbers) > length and len(self.rows) < len(self.numbers):
            self.numbers.popleft()
        if len(self.rows) == length:
            self.read()

    def close(self) -> None:
        """End the recording: the last window ends with it, and reaches back where it is short."""
        if self.rows:
            self.read()
        self.numbers.clear()

    def read(self) -> None:
        """Give the rows that wait their scores."""
        # Of a frame that two windows hold, the first window counts.
        scores = self.head.run(np.stack(self.numbers))
        first = len(self.numbers) - len(self.rows)
        for position, row in enumerate(self.rows, start=first):
            for family, values in scores.items():
                row.given[self.head.step][family] = values[position]
            row.waits_for -= 1
        self.rows = []


class Recording:
    """The rows of one face in one film.

    Args:
        plan: The plan of the system.
        answer: The step whose scores are wanted.
        heads: Heads that read windows; all others have read each face by itself before.
        live: Give each row's scores at once, from the rows up to it.
    """

    def __init__(
        self, plan: Plan, answer: str, heads: Sequence[WindowHead] = (), *, live: bool = False
    ) -> None:
        self._plan = plan
        self._answer = answer
        self._before, self._after = plan_reach(plan, answer)
        if live:
            self._after = 0
        self._live = live
        self._windows = [_OpenWindow(head) for head in heads]
        self._waiting: deque[_Row] = deque()
        # Rows that have all scores of networks; those before `_next` have their answer.
        self._ready: list[_Row] = []
        self._next = 0

    def add(
        self, number: int, scores: Mapping[str, Scores], numbers: Mapping[str, Floats]
    ) -> list[dict[str, Floats]]:
        """Take the next row.

        Args:
            number: Of its frame, rising.
            scores: By step, the scores (K,) of the steps that read single faces.
            numbers: By member, what heads that read windows read of it, (D,).

        Returns:
            The scores (K,) by family of the rows that are done by now, in order.
        """
        given = {step: dict(by_family) for step, by_family in scores.items()}
        row = _Row(number, given, waits_for=len(self._windows))
        self._waiting.append(row)
        for window in self._windows:
            given.setdefault(window.head.step, {})
            window.add(row, numbers[window.head.member])
            if self._live and window.rows:
                # Nothing may be held back: read the frames so far, and go on with the next one.
                window.read()
        return self._advance(closed=self._live)

    def close(self) -> list[dict[str, Floats]]:
        """End the recording.

        Returns:
            The scores of all rows that were not done, in order.
        """
        for window in self._windows:
            window.close()
        return self._advance(closed=True)

    def _advance(self, *, closed: bool) -> list[dict[str, Floats]]:
        while self._waiting and not self._waiting[0].waits_for:
            self._ready.append(self._waiting.popleft())
        done: list[dict[str, Floats]] = []
        while True:
            left = len(self._ready) - self._next
            if left == 0 or (not closed and left < _BLOCK + self._after):
                return done
            done += self._answers(self._next, min(self._next + _BLOCK, len(self._ready)))

    def _answers(self, start: int, end: int) -> list[dict[str, Floats]]:
        """Scores of the ready rows from `start` up to `end`, and forget what no later row needs."""
        low = max(0, start - self._before)
        rows = self._ready[low : end + self._after]
        given: dict[str, Scores] = {}
        for step, scores in rows[0].given.items():
            by_family = {}
            for family in scores:
                by_family[family] = np.stack([row.given[step][family] for row in rows])
            given[step] = by_family
        numbers = [row.number for row in rows]
        answer = apply_plan(self._plan, self._answer, given, np.zeros(len(rows)), numbers)
        answers = []
        for position in range(start - low, end - low):
            answers.append({family: values[position] for family, values in answer.items()})
        forgotten = max(0, end - self._before)
        del self._ready[:forgotten]
        self._next = end - forgotten
        return answers
