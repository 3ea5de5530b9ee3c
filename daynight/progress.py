"""A progress bar: one listener among others to what happens in a run."""

from __future__ import annotations

import math
import sys
from typing import IO

from daynight.history import Event, Progress, Record


class ProgressBar:
    """Shows day, phase, cycle, loss and the time left, in one line.

    Args:
        n_days: Number of days of the run.
        n_steps: Optimizer steps of the run, all days together; None if nobody knows.
        step: Steps taken before it.
        stream: Where it is shown; None is the standard error.
    """

    def __init__(self, n_days: int, n_steps: int | None, step: int = 0, stream: IO[str] | None = None) -> None:
        from tqdm import tqdm

        self._n_days = n_days
        self._n_cycles: int | None = None
        known = "{desc} |{bar}| {percentage:3.0f}% {elapsed}, {remaining} left"
        self._bar = tqdm(
            total=n_steps,
            initial=step,
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
        self._bar.update(event.step - self._bar.n)

    def close(self) -> None:
        """Leave the last line as it is."""
        self._bar.close()
