"""Loggers: hooks that show or write the events of a run while it goes on."""

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
        self._bar.set_description_str(f"day {event.day + 1}/{self._n_days} {phase}{cycle}{loss}", refresh=False)
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


_HEADER = ",".join(COLUMNS)


class CSVLogger:
    """Writes each record into a CSV file, a line at a time, in the form of `History.to_csv`.

    With each record the file has the same content as the clock's history, also after a checkpoint was restored, a day
    was abandoned, or a line could not be written. If the file is the log of another run, that log is renamed at the
    first record: ``run.csv`` to the first free name of ``run-1.csv``, ``run-2.csv`` and so on.

    Args:
        path: The file. It must be new, or a log of daynight.

    Raises:
        SettingError: If `path` is not valid, or the file exists and is not a daynight log.
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not Path(path).name:
            raise SettingError(f"CSVLogger: path must be the path of a file, such as 'run.csv', not {path!r}.")
        self.path = Path(path).absolute()  # the program may change its folder
        self._history, self._is_begun = History(), False
        self._n, self._size = -1, -1  # records and bytes that the file should have

    def begin(self, history: History) -> None:
        """Begin to log a history.

        Args:
            history: The clock's history, to which records are added.
        """
        has_log = self.path.is_file()
        if has_log and self._start() not in ("", _HEADER):
            raise SettingError(f"CSVLogger: {self.path} exists and is not a daynight log. Name another file.")
        self._history, self._is_begun, self._n = history, True, -1
        if len(history) or not has_log:  # a file that cannot be written is noticed now
            self._rewrite()

    def __call__(self, event: Event) -> None:
        """Write a record."""
        if not isinstance(event, Record):
            return
        if not self._is_begun:
            self.begin(self._history)
        if not self._history or self._history.records[-1] is not event:  # no clock has added the event
            self._history.append(event)
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
            self._rename_other()
        self._history.to_csv(self.path)
        self._note()

    def _rename_other(self) -> None:
        """Rename the file if it is the log of another run, which begins with another record."""
        try:
            with self.path.open(newline="") as stream:
                first = list(itertools.islice(csv.reader(stream), 1, 2))
            if first and first[0] != [str(value) for value in _cells(self._history.records[0])]:
                names = (self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}") for n in itertools.count(1))
                self.path.rename(next(name for name in names if not name.exists()))
        except OSError as error:
            raise OutputError(f"cannot rename {self.path}: {error.strerror or error}.") from error

    def _note(self) -> None:
        self._n, self._size = len(self._history), self.path.stat().st_size

    def _start(self) -> str:
        with self.path.open(errors="replace") as stream:
            return stream.readline(10_000).rstrip("\n")


def _cells(record: Record) -> list[Any]:
    """Return the cells of a line of the log."""
    return ["" if value is None else value for value in attrs.astuple(record)]


class TensorBoardLogger:
    """Writes scalars for TensorBoard, over optimizer steps; needs ``pip install "daynight[tensorboard]"``.

    Losses and scores of training and validation are named by their phase, as in ``loss/wake``. The other scalars are
    the density during nights (``night/density``), the free and owned weights (``weights/free``, ``weights/owned``), the
    seconds of each day (``day/seconds``), and each task's loss and score on test data at dusk and dawn
    (``test score/task 0``).

    Args:
        folder: Folder of the run; each run needs its own folder. Points that the folder already holds, from an earlier
            run or from after a restored checkpoint, are hidden from the run's next step on. Points of an abandoned day
            stay.

    Raises:
        SettingError: If `folder` is not a path.
        MissingPackageError: If TensorBoard is not installed.
        OutputError: If the folder cannot be written to.
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
        """Begin after the last record of a history.

        Args:
            history: The clock's history.
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
        """Write the points that are still in memory, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(record: Record) -> dict[str, float]:
    """Return the numbers of a record, by the names that TensorBoard shows."""
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
