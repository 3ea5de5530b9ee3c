"""`TensorBoardLogger`, and the numbers of a record by the names that boards show."""

from __future__ import annotations

import os
from typing import Any

from daynight.errors import MissingPackageError, OutputError, SettingError
from daynight.history import Event, History, Record


class TensorBoardLogger:
    """Writes scalars for TensorBoard, over optimizer steps; needs ``pip install "daynight[tensorboard]"``.

    Losses and scores of training and validation are named by their phase, as in ``loss/wake``. The other scalars are
    the density during nights (``night/density``), the free and owned weights (``weights/free``, ``weights/owned``), the
    seconds of each day (``day/seconds``), and each task's loss and score on test data at dusk and dawn
    (``test score/task 0``), and the score without the task (``test score without task/task 0``).

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
        step = max((record.step + 1 for record in history.measured()), default=0)
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


def scalars(record: Record, task: str | None = None) -> dict[str, float]:
    """Return the numbers of a record, by the names that TensorBoard and MLflow show.

    Args:
        record: The record.
        task: Name of the evaluated task; None is its index, as in ``task 0``.
    """
    phase, task = record.phase, f"task {record.task}" if task is None else task
    if record.kind == "evaluation" and phase == "before":  # on the day's own data, before they are learnt
        found = {f"score before/{task}": record.score, f"loss before/{task}": record.loss}
    elif record.kind == "evaluation":
        found = {f"test score/{task}": record.score, f"test loss/{task}": record.loss}
        found[f"test score without task/{task}"] = record.score_without_task
    elif record.kind == "day":
        found = {"weights/free": record.free, "weights/owned": record.owned, "day/seconds": record.elapsed_seconds}
    elif record.kind == "trial":
        seen = f"sees {record.sees}"
        found = {f"trial loss/{seen}": record.validation_loss, f"trial score/{seen}": record.validation_score}
    else:
        found = {
            f"loss/{phase}": record.loss, f"validation loss/{phase}": record.validation_loss,
            f"validation score/{phase}": record.validation_score, "night/density": record.density,
        }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None}
