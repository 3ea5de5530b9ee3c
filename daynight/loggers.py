"""Loggers: hooks for `Clock(on_event=...)` that write down what happens as it happens."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import attrs

from daynight.errors import MissingPackageError, OutputError
from daynight.history import Event, History, Record


class CSVLogger:
    """Writes each record into a CSV file, a line at a time, in the form of `History.to_csv`.

    A clock that goes on from a checkpoint lets it begin with the history that there is: no line is there twice.

    Args:
        path: The file. It is written anew when a clock is made with the logger, or with the first record.

    Raises:
        OutputError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._is_begun = False

    def begin(self, history: History) -> None:
        """Begin the file with what there is."""
        history.to_csv(self.path)
        self._is_begun = True

    def __call__(self, event: Event) -> None:
        """Add a record."""
        if not isinstance(event, Record):
            return
        if not self._is_begun:
            self.begin(History())
        try:
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerow(["" if value is None else value for value in attrs.astuple(event)])
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}.") from error


class TensorBoardLogger:
    """Writes scalars for TensorBoard, over optimizer steps; needs ``pip install "daynight[tensorboard]"``.

    Losses and scores of training and validation are named by their phase, as in ``loss/wake``; beside them stand the
    density of the night (``night/density``), the free weights (``weights/free``), and each task's score on test data at
    dusks and dawns (``test score/task 0``).

    Args:
        folder: Where TensorBoard looks for runs. A clock that goes on from a checkpoint hides what came after.

    Raises:
        MissingPackageError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(
                "TensorBoardLogger needs TensorBoard. Install it with: pip install 'daynight[tensorboard]'"
            ) from error
        self._make, self._folder = SummaryWriter, str(folder)
        self._writer: Any = None

    def begin(self, history: History) -> None:
        """Begin after the last record that there is."""
        self.close()
        last = max((record.step for record in history), default=None)
        self._writer = self._make(self._folder, purge_step=None if last is None else last + 1)

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
