"""A progress bar: one listener among others to what happens in a run."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from daynight.history import Event, Progress, Record
from daynight.nights.budgets import Budget


class ProgressBar:
    """Shows day, phase, cycle, loss and the time left, in one line.

    Args:
        n_days: Number of days of the run.
        n_steps: Optimizer steps of the agent's life by the end of the run; None if nobody knows.
        step: Those that it has taken already.
        first: Those that it had taken before the run's first day, which the bar leaves out.
        stream: Where it is shown; None is the standard error.
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
            unit="step",
            dynamic_ncols=True,
            bar_format="{desc}, {n_fmt} steps, {elapsed}" if n_steps is None else known,
        )

    def __call__(self, event: Event) -> None:
        """Take notice of an event."""
        if isinstance(event, Record) and event.kind != "epoch":
            return
        if isinstance(event, Progress):
            self._n_cycles = event.n_cycles
        cycle = "" if event.cycle is None else f" {event.cycle + 1}" + (f"/{self._n_cycles}" if self._n_cycles else "")
        loss = "" if event.loss is None or math.isnan(event.loss) else f", loss {event.loss:.4f}"
        phase = event.phase.upper() if event.phase == "rem" else event.phase
        self._bar.set_description_str(f"day {event.day + 1}/{self._n_days} {phase}{cycle}{loss}", refresh=False)
        self._bar.update(event.step - self._first - self._bar.n)

    def close(self) -> None:
        """Leave the last line as it is."""
        self._bar.close()


def n_steps_after(known: int, steps_per_epoch: Iterable[int], budgets: Sequence[Budget]) -> int | None:
    """Count the optimizer steps after days to come, each with the same budgets; None if those do not tell.

    Args:
        known: Number of steps before them.
        steps_per_epoch: Of each day.
        budgets: Of a day.
    """
    counts = [budget.open(steps).n_steps for steps in steps_per_epoch for budget in budgets]
    return None if None in counts else known + sum(filter(None, counts))
