"""Records in plain numbers, progress events, the history that keeps records, and the hooks that get both."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from daynight.errors import DataError, DataNotFoundError, SettingError
from daynight.support import atomic, checks, expected
from daynight.support.frames import frame_of

if TYPE_CHECKING:
    import pandas


@attrs.frozen(kw_only=True)
class Record:
    """One event of a run, to be kept. A field that does not apply to the record's kind is None.

    Attributes:
        kind: ``"epoch"`` (an epoch of wake or REM; if the phase ended within the epoch, the part that was run),
            ``"prune"`` (an NREM), ``"evaluation"`` (of one task, on test data at dusk or dawn, or on the day's training
            data before they are learnt), ``"trial"`` (of one choice of what the day's task sees, before its wake) or
            ``"day"`` (totals of a finished day).
        day: Index of the day, from 0.
        phase: ``"before"``, ``"wake"``, ``"nrem"``, ``"rem"``, ``"dusk"`` or ``"dawn"``.
        step: Optimizer steps that the agent had taken in its life when the record was made.
        cycle: Index of the night's cycle, from 0.
        task: Index of the evaluated task.
        loss: Mean training loss of an epoch; test loss in an evaluation.
        score: Metric (accuracy by default) on test data in an evaluation.
        validation_loss: Loss on the validation split after an epoch, a prune or a trial, if the task has such a split.
        validation_score: Metric on the validation split, at the same time.
        density: Fraction of the weights available at dusk that is kept, 0 to 1.
        owned: Number of weights that the task of `day` owns, or still holds during its night.
        free: Number of maskable weights that no task owns.
        capacity: Number of maskable weights.
        private: Number of values in the task's private parameters and buffers, which do not count as capacity: its
            head, and all other parameters and buffers that are kept per task.
        wake_steps: Optimizer steps of the day's wake, those of trials included.
        night_steps: Optimizer steps of the day's night.
        unspent_steps: Steps of the night's budget that were not used; for a budget of time, an estimate.
        n_train: Number of the day's training examples.
        night_seconds: Seconds from the beginning of the night to the end of its last step or prune, including the
            price of prunes. This field and the next three are for nights with a budget of time.
        budget_seconds: Budget of the night in seconds.
        longest_step_seconds: Seconds of the night's longest optimizer step, including the preparation of the step.
        longest_prune_seconds: Seconds of the night's longest prune.
        elapsed_seconds: Seconds since the phase began; for an evaluation or a trial, its duration; for a ``"day"``, the
            duration of wake and night, without evaluations.
        accepted: 1 if a gate has let the day's task take over from the one that it succeeds, 0 if it was refused.
        gate_difference: Score of the new version minus that of the old one, on the same held-out examples.
        gate_low: Lower end of the confidence interval of this difference.
        gate_high: Upper end of the interval.
        gate_examples: Number of these examples.
        score_without_task: In an evaluation of a task with classes, if tasks keep signatures (see `daynight.Agent`):
            the share of test examples that get the right task and the right class if nobody names the task, 0 to 1.
            None at the dusk of the task's own day, when it has no signature yet.
        sees: Whose weights a trial lets the task see or, in the record of a day that had trials, whose it sees:
            ``"none"``, ``"all"``, or the indices of tasks, such as ``"0 2"``.
        trial_steps: Optimizer steps of a trial or, in the record of a day, of all its trials.
        gate_reason: Why the gate has accepted or refused the day's task, in words.
        share: The equal share of the day, in weights. This field and the next two are for days of a
            ``Capacity(share="need")``.
        bank_before: Number of weights that the days before have saved; below 0 if they have borrowed them. For a task
            that succeeds another, it includes the weights of that.
        bank: The same after the day.
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
    capacity: int | None = None
    private: int | None = None
    wake_steps: int | None = None
    night_steps: int | None = None
    unspent_steps: int | None = None
    n_train: int | None = None
    night_seconds: float | None = None
    budget_seconds: float | None = None
    longest_step_seconds: float | None = None
    longest_prune_seconds: float | None = None
    elapsed_seconds: float | None = None
    accepted: int | None = None
    gate_difference: float | None = None
    gate_low: float | None = None
    gate_high: float | None = None
    gate_examples: int | None = None
    score_without_task: float | None = None
    sees: str | None = None
    trial_steps: int | None = None
    gate_reason: str | None = None
    share: int | None = None
    bank_before: int | None = None
    bank: int | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """A progress event, at the beginning of a phase and from time to time during the phase. Histories do not keep it.

    Attributes:
        day: Index of the day, from 0.
        phase: ``"wake"`` or ``"rem"``.
        cycle: Index of the night's cycle; None in a wake.
        n_cycles: Number of cycles of the night; None if unknown.
        step: Optimizer steps that the agent has taken in its life.
        loss: Training loss of the last batch; NaN before the first batch.
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
    """Do nothing: the default hook."""


def hooks_of(on_event: Hook | Iterable[Hook]) -> list[Hook]:
    """Return `on_event`, one hook or several, as a list of hooks.

    Raises:
        SettingError: If a hook is not a function.
    """
    hooks = [on_event] if callable(on_event) or not isinstance(on_event, Iterable) else list(on_event)
    if not all(callable(hook) for hook in hooks):
        raise SettingError(f"on_event must be a function or several functions, not {on_event!r}.")
    return hooks


COLUMNS = tuple(field.name for field in attrs.fields(Record))
#: The fields that older files do not have.
LATER = COLUMNS[COLUMNS.index("elapsed_seconds") + 1 :]
#: What the field `sees` can be.
SEES = r"none|all|[0-9]+( [0-9]+)*"
_CHOICES = {
    "kind": ("epoch", "prune", "evaluation", "trial", "day"),
    "phase": ("before", "wake", "nrem", "rem", "dusk", "dawn"),
}
_NEEDED = tuple(field.name for field in attrs.fields(Record) if field.default is attrs.NOTHING)
_TEXTS = ("sees", "gate_reason")
_FLOATS = {field.name for field in attrs.fields(Record) if "float" in str(field.type)}
#: The largest index of a day, task or cycle, and the largest other whole number in a record.
_LAST, _MOST = 10**6, 10**18
#: A table of scores may have this many entries, or a thousand for each score.
_LARGE = 10**8
_FORMS: dict[str, expected.Form] = {
    **{name: expected.number(is_finite=False) for name in _FLOATS},
    **{name: expected.number(least=0) for name in _FLOATS if name.endswith("_seconds")},
    **{name: expected.whole(most=_MOST) for name in COLUMNS if name not in _FLOATS},
    **{name: expected.whole(-_MOST, _MOST) for name in ("bank_before", "bank")},
    "sees": expected.text(SEES),
    "gate_reason": expected.text(),
    **{name: expected.whole(most=_LAST) for name in ("day", "task", "cycle")},
    **{name: expected.number(0, 1) for name in ("density", "score_without_task")},
}


class History:
    """The records of a run, in the order of their events. Only the run's `Clock` adds records.

    Args:
        records: Records to begin with, such as the records of several histories. Equal records count once. If a day was
            run several times, for example after its night was abandoned, only the records of the last time count.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._of_day: dict[int, list[Record]] = {}
        ends: dict[int, float] = {}  # up to which step each day is known
        for record in dict.fromkeys(records):
            day, end = record.day, ends.get(record.day, -1.0)
            if (record.kind == "epoch" and record.step <= end) or (record.kind != "evaluation" and end == math.inf):
                self._of_day[day], ends[day] = [], -1.0  # the day was run again: drop its earlier records
            if record.kind in ("epoch", "day"):
                ends[day] = record.step if record.kind == "epoch" else math.inf
            self._of_day.setdefault(day, []).append(record)
        self._records = [record for day in sorted(self._of_day) for record in self._of_day[day]]

    @property
    def records(self) -> tuple[Record, ...]:
        """All records."""
        return tuple(self._records)

    def select(self, **fields: Any) -> tuple[Record, ...]:
        """Return the records whose fields have the given values, such as ``select(kind="prune", day=2)``.

        Raises:
            SettingError: If records have no such field.
        """
        unknown = [name for name in fields if name not in COLUMNS]
        if unknown:
            raise SettingError(f"select: a record has no field {unknown[0]!r}, only {', '.join(COLUMNS)}.")
        wanted = fields.items()
        found = self._of_day.get(fields["day"], []) if "day" in fields else self._records
        return tuple(r for r in found if all(getattr(r, name) == value for name, value in wanted))

    @property
    def n_days(self) -> int:
        """Number of finished days."""
        return len(self.select(kind="day"))

    @property
    def accuracy(self) -> np.ndarray:
        """Score on test data at each dawn, as float64 (day, task); NaN for tasks that were not tested."""
        return self.scores("dawn")

    def scores(self, phase: str = "dawn") -> np.ndarray:
        """Return the score on test data at each dusk or dawn.

        Args:
            phase: ``"dusk"`` or ``"dawn"``.

        Returns:
            The scores, as float64 (day, task); NaN for tasks that were not tested.

        Raises:
            SettingError: If `phase` is not valid.
            DataError: If the table is too large for the scores that it would hold.
        """
        checks.one_of("phase", phase, ("dusk", "dawn"))
        found = self.select(kind="evaluation", phase=phase)
        size = 1 + max((record.day for record in found), default=-1)
        if size**2 > max(_LARGE, 1000 * len(found)):
            raise DataError(
                f"the table of scores has a row and a column for each day up to {size - 1:,}, and is too large for "
                f"{len(found):,} scores. Read the records themselves: history.select(kind='evaluation').",
                page="pictures",
            )
        table = np.full((size, size), np.nan)
        for record in found:
            table[record.day, record.task] = record.score
        return table

    def to_frame(self) -> pandas.DataFrame:
        """Return the records as a pandas frame, one row per record.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        return frame_of([attrs.asdict(record) for record in self._records], COLUMNS)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the records as CSV, one row per record; None becomes an empty field.

        There is a column for each field of `Record` up to `elapsed_seconds`, and for later ones if a record has them.

        Args:
            path: The file, which is written completely or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        with atomic.replacing(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            columns = columns_of(self._records)
            writer.writerow(columns)
            for record in self._records:
                writer.writerow(cells_of(record, columns))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the records as JSON: ``{"records": [{...}, ...]}``, with a line for each record.

        Args:
            path: The file, which is written completely or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        with atomic.replacing(path) as temporary:
            rows = ",\n".join(map(json.dumps, self.to_rows()))
            temporary.write_text(f'{{"records": [\n{rows}\n]}}\n')

    def report(self, path: str | os.PathLike[str], title: str = "A run") -> None:
        """Write figures and tables into one self-contained HTML file.

        Args:
            path: The file, such as ``"run.html"``.
            title: Title of the page.

        Raises:
            DataError: If no day is finished.
            OutputError: If the file cannot be written.
        """
        from daynight import reports  # here, since reports need histories, and load Matplotlib

        reports.of_run(self, path, title)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that `to_csv` wrote.

        Raises:
            DataNotFoundError: If there is no such file.
            DataError: If the file is not a history, or is incomplete.
        """
        return cls(_read(path, _rows_of_csv))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that `to_json` wrote.

        Raises:
            DataNotFoundError: If there is no such file.
            DataError: If the file is not a history, or is incomplete.
        """
        return cls(_read(path, _rows_of_json))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return each record as a dict of its fields that are not None. ``Record(**row)`` makes the record again."""
        return [attrs.asdict(record, filter=lambda _, value: value is not None) for record in self._records]

    def append(self, record: Record) -> None:
        """Add a record. Only the `Clock` that the history belongs to calls this."""
        self._records.append(record)
        self._of_day.setdefault(record.day, []).append(record)

    def forget_day(self, day: int) -> None:
        """Remove all records of a day. Only the `Clock` that the history belongs to calls this.

        Args:
            day: Index of the day, from 0.
        """
        self._records = [record for record in self._records if record.day != day]
        self._of_day.pop(day, None)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __repr__(self) -> str:
        days = sorted({record.day for record in self._records})
        return f"<History of {len(self)} records" + (f", days {days[0]} to {days[-1]}>" if days else ">")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]


def _read(path: str | os.PathLike[str], rows_of: Callable[[str], list[dict[str, Any]]]) -> list[Record]:
    """Return the records in a file. `rows_of` makes one dict of fields per record from the text of the file."""
    try:
        rows = rows_of(atomic.file_named(path).read_bytes().decode())
        return [record_of(row) for row in rows]
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"there is no history {path}. Name a file that to_csv or to_json wrote.", page="pictures"
        ) from error
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, csv.Error) as error:
        raise DataError(
            f"{path} is not a history: {error}. Name a whole file that to_csv or to_json wrote.", page="pictures"
        ) from error


def columns_of(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the columns of a CSV file of records: those of later fields only if a record has a value there."""
    held = list(records)
    return tuple(
        name for name in COLUMNS if name not in LATER or any(getattr(record, name) is not None for record in held)
    )


def cells_of(record: Record, columns: Iterable[str]) -> list[Any]:
    """Return a row of a CSV file."""
    return ["" if (value := getattr(record, name)) is None else value for name in columns]


def record_of(row: Any) -> Record:
    """Return the record in a row of a file.

    Args:
        row: Fields by name. Numbers may be texts; None and empty text stand for a field that does not apply.

    Raises:
        ValueError, TypeError: If a field is unknown or missing, or has a value that it cannot have.
    """
    if not isinstance(row, Mapping):
        raise ValueError("one of its records is not fields by name")
    values = {name: _value_of(name, value) for name, value in row.items()}
    for name in _NEEDED:
        if values.get(name) is None:
            raise ValueError(f"a record has no {name}")
    record = Record(**values)
    if record.kind == "evaluation" and (record.task is None or record.score is None or record.task > record.day):
        raise ValueError(f"the evaluation of task {record.task} on day {record.day} has no valid task or score")
    return record


def _rows_of_csv(text: str) -> list[dict[str, Any]]:
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    if not set(_NEEDED) <= set(header):
        raise ValueError(f"its first line does not name the columns {', '.join(_NEEDED)}")
    if not text.endswith("\n") or any(len(row) != len(header) for row in rows):
        raise ValueError("one of its lines is incomplete")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _rows_of_json(text: str) -> list[dict[str, Any]]:
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("records"), list):
        raise ValueError("it has no list of records")
    rows: list[dict[str, Any]] = content["records"]
    return rows


def _value_of(name: str, value: Any) -> Any:
    if value is None or value == "" or name not in COLUMNS:  # `Record` refuses an unknown name
        return value or None
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"{value!r} is not a {name}")
        return value
    if isinstance(value, str) and name not in _TEXTS:
        value = float(value) if name in _FLOATS else int(value)
    if name not in _FLOATS and isinstance(value, float) and value.is_integer():  # as pandas writes whole numbers
        value = int(value)
    _FORMS[name](name, value)
    return float(value) if name in _FLOATS else value
