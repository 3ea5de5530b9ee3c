"""`ProgressBar`: one line of a terminal that shows how far a run is."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from daynight.history import Event, Progress, Record
from daynight.nights.budgets import Budget


class ProgressBar:
    """Shows day, phase, cycle, loss and the time left, in one line of a terminal. In a file or pipe, shows nothing.

    Args:
        n_days: Number of days of the run.
        n_steps: Optimizer steps that the agent will have taken in its life at the end of the run; None if unknown.
        step: Optimizer steps that the agent has taken already.
        first: Optimizer steps that the agent had taken before the run's first day; the bar does not count these steps.
        stream: Stream that shows the bar, if it is a terminal; None is the standard error.
    """

    def __init__(
        self, n_days: int, n_steps: int | None, step: int = 0, first: int = 0, stream: IO[str] | None = None
    ) -> None:
        from tqdm import tqdm

        self._n_days, self._first = n_days, first
        self._n_cycles: int | None = None
        known = "{desc} |{bar}| {percentage:3.0f}% {elapsed}, {remaining} left"
        self._bar = tqdm(
            total=None if n_steps is None else n_steps - first,
            initial=step - first,
            file=stream or sys.stderr,
            disable=None,  # unless the stream is a terminal
            unit="step",
            dynamic_ncols=True,
            bar_format="{desc}, {n_fmt} steps, {elapsed}" if n_steps is None else known,
        )

    def __call__(self, event: Event) -> None:
        """Update the line."""
        if isinstance(event, Record) and event.kind != "epoch":
            return
        if isinstance(event, Progress):
            self._n_cycles = event.n_cycles
        cycle = "" if event.cycle is None else f" {event.cycle + 1}" + (f"/{self._n_cycles}" if self._n_cycles else "")
        loss = "" if event.loss is None or math.isnan(event.loss) else f", loss {event.loss:.4f}"
        phase = event.phase.upper() if event.phase == "rem" else event.phase
        self._bar.set_description_str(
            f"day {event.day} ({event.day + 1}/{self._n_days}) {phase}{cycle}{loss}", refresh=False
        )
        self._bar.update(event.step - self._first - self._bar.n)

    def refresh(self) -> None:
        """Draw the line now. Events draw the line at most ten times a second."""
        self._bar.refresh()

    def close(self) -> None:
        """Draw the line a last time, and leave it on the terminal."""
        self._bar.close()


def n_steps_after(known: int, steps_per_epoch: Iterable[int], budgets: Sequence[Budget]) -> int | None:
    """Return the number of optimizer steps after some more days; None if a budget is a budget of time.

    Args:
        known: Number of optimizer steps before these days.
        steps_per_epoch: Optimizer steps in one epoch, for each day.
        budgets: Budgets of each day, such as those of its wake and its night.
    """
    counts = [budget.open(steps).n_steps for steps in steps_per_epoch for budget in budgets]
    return None if None in counts else known + sum(filter(None, counts))
