"""The record of what happened: flat, in plain numbers, and written whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from daynight import files
from daynight.errors import DataError, MissingPackageError

if TYPE_CHECKING:
    import pandas


@attrs.frozen(kw_only=True)
class Record:
    """One thing that happened. A field that has no meaning for its kind is None.

    Attributes:
        kind: ``"epoch"`` (an epoch of wake or REM, or the part of one that a cycle had room for),
            ``"prune"`` (an NREM), ``"evaluation"`` (of one task on test data, at dusk or dawn) or
            ``"day"`` (the sums of a finished day).
        day: Index of the day, from 0.
        phase: ``"wake"``, ``"nrem"``, ``"rem"``, ``"dusk"`` or ``"dawn"``.
        step: Optimizer steps that the agent had taken in its life by then.
        cycle: Index of the night's cycle, from 0.
        task: Index of the task that an evaluation is about.
        loss: Mean training loss of an epoch; test loss in an evaluation.
        score: Metric (accuracy by default) on test data in an evaluation.
        validation_loss: Loss on the validation split after an epoch or a prune, where there is one.
        validation_score: Metric on it.
        density: Fraction of the weights available at dusk that is kept, 0 to 1.
        owned: Number of weights that the task of `day` owns, or still holds during its night.
        free: Number of maskable weights that no task owns.
        private: Number of parameters and buffers beside the capacity that are the task's own: its
            head, and what is kept per task.
        wake_steps: Optimizer steps of the day's wake.
        night_steps: Optimizer steps of its night.
        unspent_steps: Steps of the night's budget that were not used.
        n_train: Number of the day's training examples.
        elapsed_seconds: Seconds since the phase began; in a ``"day"``, since the day began.
    """

    kind: str
    day: int
    phase: str
    step: int
    cycle: int | None = None
    task: int | None = None
    loss: float | None = None
    score: float | None = None
    validation_loss: float | None = None
    validation_score: float | None = None
    density: float | None = None
    owned: int | None = None
    free: int | None = None
    private: int | None = None
    wake_steps: int | None = None
    night_steps: int | None = None
    unspent_steps: int | None = None
    n_train: int | None = None
    elapsed_seconds: float | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """A sign of life, as a phase begins and every now and then within it, for progress bars: it is not kept.

    Attributes:
        day: Index of the day, from 0.
        phase: ``"wake"`` or ``"rem"``.
        cycle: Index of the night's cycle, or None in a wake.
        n_cycles: Number of cycles of the night, or None where nobody knows.
        step: Optimizer steps that the agent has taken in its life.
        loss: Training loss of the last batch; NaN before the first.
    """

    day: int
    phase: str
    cycle: int | None = None
    n_cycles: int | None = None
    step: int = 0
    loss: float = math.nan


Event = Record | Progress
Hook = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing: the hook of those who need none."""


COLUMNS = tuple(field.name for field in attrs.fields(Record))
_TEXT = {"kind", "phase"}
_FLOATS = {"loss", "score", "validation_loss", "validation_score", "density", "elapsed_seconds"}


class History:
    """The records of a run, in the order in which things happened. Only a `Clock` adds to it."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records = list(records)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records."""
        return tuple(self._records)

    def select(self, **fields: Any) -> tuple[Record, ...]:
        """Give the records whose fields have these values, such as ``select(kind="prune", day=2)``."""
        wanted = fields.items()
        return tuple(r for r in self._records if all(getattr(r, name) == value for name, value in wanted))

    @property
    def n_days(self) -> int:
        """Number of finished days."""
        return len(self.select(kind="day"))

    @property
    def accuracy(self) -> np.ndarray:
        """Score on test data at each dawn, as float64 (day, task); NaN for tasks still to come."""
        return self.scores("dawn")

    def scores(self, phase: str = "dawn") -> np.ndarray:
        """Score on test data at each ``"dusk"`` or ``"dawn"``: float64 (day, task), else NaN."""
        found = self.select(kind="evaluation", phase=phase)
        size = 1 + max((record.day for record in found), default=-1)
        table = np.full((size, size), np.nan)
        for record in found:
            table[record.day, record.task] = record.score
        return table

    def to_frame(self) -> pandas.DataFrame:
        """Give the records as a pandas frame, one row a record.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingPackageError(
                "to_frame needs pandas. Install it with: pip install 'daynight[frames]'"
            ) from error
        return pandas.DataFrame([attrs.asdict(record) for record in self._records], columns=list(COLUMNS))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the records as CSV, one row a record; an empty field is None."""
        with files.whole(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            for record in self._records:
                writer.writerow(["" if value is None else value for value in attrs.astuple(record)])

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the records as JSON: ``{"records": [{...}, ...]}``."""
        rows = [attrs.asdict(record, filter=lambda _, value: value is not None) for record in self._records]
        with files.whole(path) as temporary:
            temporary.write_text(json.dumps({"records": rows}, indent=1) + "\n")

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote.

        Raises:
            DataError: If the file is not of that form.
        """
        with Path(path).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return cls(_records_of(rows, path))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_json` wrote.

        Raises:
            DataError: If the file is not of that form.
        """
        try:
            rows = json.loads(Path(path).read_text())["records"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a history: {error!r}.") from error
        return cls(_records_of(rows, path))

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]

    def _append(self, record: Record) -> None:
        self._records.append(record)


def _records_of(rows: list[dict[str, Any]], path: str | os.PathLike[str]) -> list[Record]:
    try:
        return [Record(**{name: _read(name, value) for name, value in row.items()}) for row in rows]
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a history: {error}.") from error


def _read(name: str, value: Any) -> Any:
    if value is None or value == "":
        return None
    if name in _TEXT:
        return value
    return float(value) if name in _FLOATS else int(value)
