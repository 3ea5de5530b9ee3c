"""Records in plain numbers, progress events, the history that keeps records, and the hooks that get both."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from daynight.errors import DataError, DataNotFoundError, SettingError
from daynight.support import atomic, checks, expected, interrupts
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
            duration of wake and night, without evaluations. An evaluation at dusk or dawn that has none was carried
            over: its numbers are those of the task's own dawn, since nothing that its predictions use has changed.
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
#: Tasks whose evaluations were carried over.
_RANGES = r"[0-9]{1,7}-[0-9]{1,7}( [0-9]{1,7}-[0-9]{1,7})*"
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


@attrs.define(eq=False)
class _Carried:
    """Evaluations at a dusk or dawn that were carried over: each has the numbers of its task's own dawn."""

    day: int
    phase: str
    step: int
    tasks: list[range]

    @property
    def n(self) -> int:
        """Number of evaluations."""
        return sum(map(len, self.tasks))

    def add(self, task: int) -> None:
        """Add a task."""
        if self.tasks and self.tasks[-1].stop == task:
            self.tasks[-1] = range(self.tasks[-1].start, task + 1)
        else:
            self.tasks.append(range(task, task + 1))


class History:
    """The records of a run, in the order of their events. Only the run's `Clock` adds records.

    Evaluations that were carried over take no memory of their own: their records are made when they are asked for.

    Args:
        records: Records to begin with, such as the records of several histories. Equal records count once. If a day was
            run several times, for example after its night was abandoned, only the records of the last time count.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._begin(records)

    def _begin(self, records: Iterable[Record]) -> None:
        of_day, ends = dict[int, list[Record]](), dict[int, float]()  # the latter: up to which step each day is known
        for record in dict.fromkeys(records):
            day, end = record.day, ends.get(record.day, -1.0)
            if (record.kind == "epoch" and record.step <= end) or (record.kind != "evaluation" and end == math.inf):
                of_day[day], ends[day] = [], -1.0  # the day was run again: drop its earlier records
            if record.kind in ("epoch", "day"):
                ends[day] = record.step if record.kind == "epoch" else math.inf
            of_day.setdefault(day, []).append(record)
        self._of_day: dict[int, list[Record | _Carried]] = {}
        self._tested: dict[int, Record] = {}  # by task, its evaluation at its own dawn
        self._n = 0
        for day in sorted(of_day):
            for record in of_day[day]:
                self.append(record)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records."""
        return tuple(self)

    @property
    def days(self) -> tuple[int, ...]:
        """The indices of the days that have records."""
        return tuple(self._of_day)

    @property
    def last(self) -> Record | None:
        """The last record; None if there is none."""
        items = next(reversed(self._of_day.values())) if self._of_day else []
        item = items[-1] if items else None
        return _carried(self._tested[item.tasks[-1][-1]], item) if isinstance(item, _Carried) else item

    def select(self, **fields: Any) -> tuple[Record, ...]:
        """Return the records whose fields have the given values, such as ``select(kind="prune", day=2)``.

        Raises:
            SettingError: If records have no such field.
        """
        unknown = [name for name in fields if name not in COLUMNS]
        if unknown:
            raise SettingError(f"select: a record has no field {unknown[0]!r}, only {', '.join(COLUMNS)}.")
        days = [self._of_day.get(fields["day"], [])] if "day" in fields else self._of_day.values()
        wanted, found = fields.items(), list[Record]()
        for item in itertools.chain.from_iterable(days):
            if isinstance(item, Record):
                found += [item] if all(getattr(item, name) == value for name, value in wanted) else []
            elif all(fields.get(name, value) == value for name, value in _place(item).items()):
                records = self._records_of([item], fields.get("task"))
                found += [r for r in records if all(getattr(r, name) == value for name, value in wanted)]
        return tuple(found)

    def measured(self, day: int | None = None) -> tuple[Record, ...]:
        """Return all records but those of evaluations that were carried over.

        Args:
            day: Index of the only day, from 0; None is all days.
        """
        days = self._of_day.values() if day is None else [self._of_day.get(day, [])]
        return tuple(item for items in days for item in items if isinstance(item, Record))

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
        tests = [item for items in self._of_day.values() for item in items if _is_test(item) and item.phase == phase]
        n_tests = sum(test.n if isinstance(test, _Carried) else 1 for test in tests)
        size = 1 + max((test.day for test in tests), default=-1)
        if size**2 > max(_LARGE, 1000 * n_tests):
            raise DataError(
                f"the table of scores has a row and a column for each day up to {size - 1:,}, and is too large for "
                f"{n_tests:,} scores. Read the records themselves: history.select(kind='evaluation').",
                page="pictures",
            )
        table, own = np.full((size, size), np.nan), np.full(size, np.nan)
        for task, record in self._tested.items():
            own[task : task + 1] = record.score
        for test in tests:
            if isinstance(test, Record):
                table[test.day, test.task] = test.score
            else:
                for tasks in test.tasks:
                    table[test.day, tasks.start : tasks.stop] = own[tasks.start : tasks.stop]
        return table

    def to_frame(self) -> pandas.DataFrame:
        """Return the records as a pandas frame, one row per record.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        return frame_of([attrs.asdict(record) for record in self], COLUMNS)

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
            columns = columns_of(self)
            writer.writerow(columns)
            for record in self:
                writer.writerow(cells_of(record, columns))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the records as JSON: ``{"records": [{...}, ...]}``, with a line for each record.

        Evaluations of one dusk or dawn that were carried over have one line, which names their tasks:
        ``"carried": "0-3 5-5"``.

        Args:
            path: The file, which is written completely or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        with atomic.replacing(path) as temporary:
            rows = ",\n".join(map(json.dumps, self.to_rows(is_short=True)))
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
        return cls._read(path, _rows_of_csv)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that `to_json` wrote.

        Raises:
            DataNotFoundError: If there is no such file.
            DataError: If the file is not a history, or is incomplete.
        """
        return cls._read(path, _rows_of_json)

    @classmethod
    def _read(cls, path: str | os.PathLike[str], rows_of: Callable[[str], list[dict[str, Any]]]) -> History:
        """Return the history in a file. `rows_of` makes the rows from the text of the file."""
        try:
            return cls.from_rows(rows_of(atomic.file_named(path).read_bytes().decode()))
        except FileNotFoundError as error:
            raise DataNotFoundError(
                f"there is no history {path}. Name a file that to_csv or to_json wrote.", page="pictures"
            ) from error
        except (OSError, ValueError, TypeError, OverflowError, RecursionError, csv.Error) as error:
            raise DataError(
                f"{path} is not a history: {error}. Name a whole file that to_csv or to_json wrote.", page="pictures"
            ) from error

    def to_rows(self, *, is_short: bool = False) -> list[dict[str, Any]]:
        """Return each record as a dict of its fields that are not None. ``Record(**row)`` makes the record again.

        Args:
            is_short: Whether evaluations of one dusk or dawn that were carried over have one row, with their tasks in
                a field `carried`. `from_rows` reads both.
        """
        rows = list[dict[str, Any]]()
        for items in self._of_day.values():
            for item in items:
                if isinstance(item, Record):
                    rows.append(_row(item))
                elif is_short:
                    ends = " ".join(f"{tasks.start}-{tasks.stop - 1}" for tasks in item.tasks)
                    rows.append({**_place(item), "carried": ends})
                else:
                    rows += map(_row, self._records_of([item]))
        return rows

    @classmethod
    def from_rows(cls, rows: Iterable[Any]) -> History:
        """Return the history whose records `to_rows` returned.

        Raises:
            ValueError, TypeError: If a row is not of a record.
        """
        rows = list(rows)
        if not any(isinstance(row, Mapping) and "carried" in row for row in rows):
            return cls(map(record_of, rows))
        history = cls()
        for row in rows:
            if not isinstance(row, Mapping) or "carried" not in row:
                history.append(record_of(row))
                continue
            names = ("kind", "day", "phase", "step")
            kind, day, phase, step = (_value_of(name, row.get(name)) for name in names)
            expected.text(_RANGES)("carried", row["carried"])
            ends = [part.split("-") for part in row["carried"].split()]
            tasks = [range(int(first), int(last) + 1) for first, last in ends]
            is_test = kind == "evaluation" and phase in ("dusk", "dawn") and None not in (day, step)
            if not is_test or row.keys() != {*names, "carried"} or any(not n or n.stop > day for n in tasks):
                raise ValueError(f"its record of evaluations that were carried over is not valid: {dict(row)}")
            history.carry(day, phase, step, itertools.chain.from_iterable(tasks))
        return history

    @interrupts.deferred()
    def append(self, record: Record) -> None:
        """Add a record. Only the `Clock` that the history belongs to calls this."""
        own = self._tested.get(-1 if record.task is None else record.task) if record.kind == "evaluation" else None
        if own is not None and record == _carried(own, record):
            self.carry(record.day, record.phase, record.step, [own.day])
            return
        self._of_day.setdefault(record.day, []).append(record)
        self._n += 1
        if _is_test(record) and record.phase == "dawn" and record.task == record.day:
            self._tested.setdefault(record.day, record)

    @interrupts.deferred()
    def carry(self, day: int, phase: str, step: int, tasks: Iterable[int]) -> None:
        """Add evaluations that are carried over. Only the `Clock` that the history belongs to calls this.

        Args:
            day: Index of the day, from 0.
            phase: ``"dusk"`` or ``"dawn"``.
            step: Optimizer steps that the agent has taken in its life.
            tasks: Indices of the tasks, each of which has an evaluation at its own dawn.

        Raises:
            ValueError: If one has none.
        """
        items: list[Record | _Carried] = []
        for task in tasks:
            items = items or self._of_day.setdefault(day, [])
            if task not in self._tested:
                raise ValueError(f"task {task} has no evaluation that could be carried over to day {day}")
            last = items[-1] if items else None
            if not isinstance(last, _Carried) or (last.phase, last.step) != (phase, step):
                last = _Carried(day, phase, step, [])
                items.append(last)
            last.add(task)
            self._n += 1

    def carried(self, day: int, phase: str, step: int, task: int) -> Record:
        """Return the record of a task's evaluation that is carried over. `carry` adds it."""
        return _carried(self._tested[task], _Carried(day, phase, step, []))

    def tested(self, day: int, phase: str) -> set[int]:
        """Return the tasks that have an evaluation at a dusk or dawn of a day."""
        found = set[int]()
        for item in self._of_day.get(day, ()):
            if isinstance(item, _Carried) and item.phase == phase:
                found.update(*item.tasks)
            elif isinstance(item, Record) and _is_test(item) and item.phase == phase and item.task is not None:
                found.add(item.task)
        return found

    @property
    def tested_at_their_dawn(self) -> Collection[int]:
        """The tasks that have an evaluation at their own dawn, which can be carried over."""
        return self._tested.keys()

    def forget_day(self, day: int) -> None:
        """Remove all records of a day. Only the `Clock` that the history belongs to calls this.

        Args:
            day: Index of the day, from 0.
        """
        if day in self._of_day:
            self._begin([record for record in self if record.day != day])

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Record]:
        return itertools.chain.from_iterable(map(self._records_of, [*self._of_day.values()]))

    def __repr__(self) -> str:
        days = sorted(self.days)
        return f"<History of {len(self)} records" + (f", days {days[0]} to {days[-1]}>" if days else ">")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]

    def _records_of(self, items: Iterable[Record | _Carried], task: Any = None) -> Iterator[Record]:
        """Yield the records of some items; of evaluations that were carried over, all or those of one task."""
        for item in items:
            if isinstance(item, Record):
                yield item
            else:
                for index in itertools.chain.from_iterable(item.tasks):
                    if task is None or index == task:
                        yield _carried(self._tested[index], item)


def _is_test(item: Record | _Carried) -> bool:
    return isinstance(item, _Carried) or (item.kind == "evaluation" and item.phase in ("dusk", "dawn"))


def _place(item: Record | _Carried) -> dict[str, Any]:
    return {"kind": "evaluation", "day": item.day, "phase": item.phase, "step": item.step}


def _carried(own: Record, to: Record | _Carried) -> Record:
    """Return the record of an evaluation at a task's own dawn, as it is carried over."""
    return attrs.evolve(own, **_place(to), elapsed_seconds=None)


def _row(record: Record) -> dict[str, Any]:
    return {name: value for name in COLUMNS if (value := getattr(record, name)) is not None}


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
