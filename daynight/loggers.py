"""Loggers: hooks for `Clock(on_event=...)` that write down what happens as it happens."""

from __future__ import annotations

import csv
import itertools
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from daynight.errors import MissingPackageError, OutputError, SettingError
from daynight.history import COLUMNS, Event, History, Progress, Record
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


_HEADER = ",".join(COLUMNS)


class CSVLogger:
    """Writes each record into a CSV file, a line at a time, in the form of `History.to_csv`.

    The file is what the clock's history is, with the next record at the latest: also after a checkpoint, a day that was
    given up, or a line that could not be written. The log of another run that is there is put by with the first record,
    under the next free name: ``run-1.csv`` for ``run.csv``.

    Args:
        path: The file. What is there and is no log is refused.

    Raises:
        SettingError: If `path` is none, or is there and is no log.
        OutputError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not Path(path).name:
            raise SettingError(f"CSVLogger: path must be that of a file, such as 'run.csv', not {path!r}.")
        self.path = Path(path)
        self._history, self._is_begun = History(), False
        self._n, self._size = -1, -1  # records and bytes that the file should have

    def begin(self, history: History) -> None:
        """Begin with what there is.

        Args:
            history: The clock's, to which records are added.
        """
        has_log = self.path.is_file()
        if has_log and self._start() not in ("", _HEADER):
            raise SettingError(f"CSVLogger: {self.path} is there, and is no log. Name another file.")
        self._history, self._is_begun, self._n = history, True, -1
        if len(history) or not has_log:  # what cannot be written is found out now
            self._rewrite()

    def __call__(self, event: Event) -> None:
        """Add a record."""
        if not isinstance(event, Record):
            return
        if not self._is_begun:
            self.begin(self._history)
        if not self._history or self._history._records[-1] is not event:  # there is no clock
            self._history._append(event)
        is_next = len(self._history) == self._n + 1 and self.path.is_file() and self.path.stat().st_size == self._size
        if not is_next:
            self._rewrite()
            return
        try:
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerow(_cells(event))
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}.") from error
        self._note()

    def _rewrite(self) -> None:
        if self._n < 0 and self.path.is_file():
            self._put_by()
        self._history.to_csv(self.path)
        self._note()

    def _put_by(self) -> None:
        """Give the log of another run, which begins with another record, a name of its own."""
        try:
            with self.path.open(newline="") as stream:
                first = list(itertools.islice(csv.reader(stream), 1, 2))
            if first and first[0] != [str(value) for value in _cells(self._history._records[0])]:
                names = (self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}") for n in itertools.count(1))
                self.path.rename(next(name for name in names if not name.exists()))
        except OSError as error:
            raise OutputError(f"cannot put {self.path} by: {error.strerror or error}.") from error

    def _note(self) -> None:
        self._n, self._size = len(self._history), self.path.stat().st_size

    def _start(self) -> str:
        with self.path.open(errors="replace") as stream:
            return stream.readline(10_000).rstrip("\n")


def _cells(record: Record) -> list[Any]:
    """Give a line of the log."""
    return ["" if value is None else value for value in attrs.astuple(record)]


class TensorBoardLogger:
    """Writes scalars for TensorBoard, over optimizer steps; needs ``pip install "daynight[tensorboard]"``.

    Losses and scores of training and validation are named by their phase, as in ``loss/wake``; beside them stand the
    density of the night (``night/density``), the free weights (``weights/free``), and each task's score on test data at
    dusks and dawns (``test score/task 0``).

    Args:
        folder: Where TensorBoard looks for runs; one a run. What is there of the steps to come is hidden: of an earlier
            run, or of what came after a checkpoint. The points of a day that was given up stay.

    Raises:
        SettingError: If `folder` is none.
        MissingPackageError: If TensorBoard is not installed.
        OutputError: If nothing can be written there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(
                "TensorBoardLogger needs TensorBoard. Install it with: pip install 'daynight[tensorboard]'"
            ) from error
        if not isinstance(folder, str | os.PathLike):
            raise SettingError(f"TensorBoardLogger: folder must be a path, not {folder!r}.")
        self._make, self._folder = SummaryWriter, str(folder)
        self._writer: Any = None

    def begin(self, history: History) -> None:
        """Begin after the last record that there is.

        Args:
            history: The clock's.
        """
        self.close()
        step = max((record.step + 1 for record in history), default=0)
        try:
            self._writer = self._make(self._folder, purge_step=step)
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder}: {error.strerror or error}.") from error

    def __call__(self, event: Event) -> None:
        """Write the scalars of a record."""
        if not isinstance(event, Record):
            return
        if self._writer is None:
            self.begin(History())
        for name, value in scalars(event).items():
            self._writer.add_scalar(name, value, event.step)
        if event.kind == "day":
            self._writer.flush()

    def close(self) -> None:
        """Write all that is still held back, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(record: Record) -> dict[str, float]:
    """Give the numbers of a record by the names under which a logger shows them."""
    phase = record.phase
    if record.kind == "evaluation":
        found = {f"test score/task {record.task}": record.score, f"test loss/task {record.task}": record.loss}
    elif record.kind == "day":
        found = {"weights/free": record.free, "weights/owned": record.owned, "day/seconds": record.elapsed_seconds}
    else:
        found = {
            f"loss/{phase}": record.loss, f"validation loss/{phase}": record.validation_loss,
            f"validation score/{phase}": record.validation_score, "night/density": record.density,
        }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None}
