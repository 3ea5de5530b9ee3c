"""`History`: keeps the records of a run, and writes and reads them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

import attrs
import numpy as np

from daynight.errors import DataError, DataNotFoundError, SettingError
from daynight.history.records import (
    COLUMNS,
    Carried,
    Record,
    cells_of,
    columns_of,
    item_of,
    row_of,
    rows_of_csv,
    rows_of_json,
    short_row_of,
)
from daynight.support import atomic, checks, interrupts
from daynight.support.frames import frame_of

if TYPE_CHECKING:
    import pandas

#: A table of scores may have this many entries, or a thousand for each score.
_LARGE = 10**8


class History:
    """The records of a run, in the order of their events. Only the run's `Clock` adds records.

    Evaluations that were carried over take no memory of their own: their records are made when they are asked for.

    Args:
        records: Records to begin with, such as the records of several histories. Equal records count once. If a day was
            run several times, for example after its night was abandoned, only the records of the last time count.

    Attributes:
        metric: Name of the scores in figures and reports, such as ``"accuracy"``. A clock's history has that of the
            metric; files do not keep it, and then it is ``"score"``, until you set it.
    """

    metric = "score"

    def __init__(self, records: Iterable[Record] = ()) -> None:
        if isinstance(records, History):
            self.metric = records.metric
        self._begin(
            itertools.chain.from_iterable(records._of_day.values()) if isinstance(records, History) else records
        )

    def _begin(self, items: Iterable[Record | Carried]) -> None:
        of_day, ends = dict[int, list[Record | Carried]](), dict[int, float]()  # and up to which step each day is known
        for item in dict.fromkeys(items):
            day, end = item.day, ends.get(item.day, -1.0)
            if (item.kind == "epoch" and item.step <= end) or (item.kind != "evaluation" and end == math.inf):
                of_day[day], ends[day] = [], -1.0  # the day was run again: drop its earlier records
            if item.kind in ("epoch", "day"):
                ends[day] = item.step if item.kind == "epoch" else math.inf
            of_day.setdefault(day, []).append(item)
        self._of_day: dict[int, list[Record | Carried]] = {}
        self._n_earlier: int | None = None  # number of records of all days but the last one; None if unknown
        self._tested: dict[int, Record] = {}  # by task, its evaluation at its own dawn
        self._several = set[int]()  # tasks with several such evaluations
        for day in sorted(of_day):
            for item in of_day[day]:
                if isinstance(item, Record):
                    self.append(item)
                else:
                    self.carry(item.day, item.phase, item.step, item)

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
        return item.record(self._tested[item.tasks[-1][-1]]) if isinstance(item, Carried) else item

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
            elif all(fields.get(name, value) == value for name, value in item.place().items()):
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
    def successors(self) -> dict[int, int]:
        """By the index of each task that another has succeeded, the index of the other, at whose dawn it retired.

        It follows from evaluations with the phase ``"before"``, which a clock makes. A day that a gate refused, or that
        is not finished, has no place here.
        """
        accepted = {record.day for record in self.select(kind="day") if record.accepted != 0}
        before = self.select(kind="evaluation", phase="before")
        return {record.task: record.day for record in before if record.task is not None and record.day in accepted}

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
        n_tests = sum(len(test) if isinstance(test, Carried) else 1 for test in tests)
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

    def report(self, path: str | os.PathLike[str], title: str = "A run", about: str = "") -> None:
        """Write figures and tables into one self-contained HTML file.

        Args:
            path: The file, such as ``"run.html"``.
            title: Title of the page.
            about: A line below the title, such as the settings and the data.

        Raises:
            DataError: If no day is finished.
            OutputError: If the file cannot be written.
        """
        from daynight import reports  # here, since reports need histories, and load Matplotlib

        reports.of_run(self, path, title, about)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that `to_csv` wrote.

        Raises:
            DataNotFoundError: If there is no such file.
            DataError: If the file is not a history, or is incomplete.
        """
        return cls._read(path, rows_of_csv)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that `to_json` wrote.

        Raises:
            DataNotFoundError: If there is no such file.
            DataError: If the file is not a history, or is incomplete.
        """
        return cls._read(path, rows_of_json)

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
        if not is_short:
            return list(map(row_of, self))
        items = itertools.chain.from_iterable(self._of_day.values())
        return list(map(short_row_of, items))

    def items(self, day: int) -> tuple[Record | Carried, ...]:
        """Return the records of a day, with one item for the evaluations of a dusk or dawn that were carried over."""
        return tuple(self._of_day.get(day, ()))

    @classmethod
    def from_rows(cls, rows: Iterable[Any]) -> History:
        """Return the history whose records `to_rows` returned.

        Raises:
            ValueError, TypeError: If a row is not of a record. Also if rows with a field `carried` stand beside
                evaluations of two runs: join the histories of these, not their rows.
        """
        items, history = list(map(item_of, rows)), cls()
        if any(isinstance(item, Carried) for item in items):
            dawns = [item for item in dict.fromkeys(items) if _is_own_dawn(item)]
            if len({item.day for item in dawns}) < len(dawns):
                raise ValueError("its evaluations that were carried over belong to several runs")
        history._begin(items)
        return history

    @interrupts.deferred()
    def append(self, record: Record) -> None:
        """Add a record. Only the `Clock` that the history belongs to calls this."""
        if _is_test(record) and record.elapsed_seconds is None and record.task in self._tested:
            item = Carried(record.day, record.phase, record.step)
            if record.task < record.day and item.record(self._tested[record.task]) == record:
                self.carry(record.day, record.phase, record.step, [record.task])
                return
        self._open(record.day).append(record)
        if _is_own_dawn(record):
            self._enter(record)

    def _open(self, day: int) -> list[Record | Carried]:
        """Return what a day has so far, to be added to."""
        if day not in self._of_day or day != next(reversed(self._of_day)):
            self._n_earlier = None
        return self._of_day.setdefault(day, [])

    def _enter(self, record: Record) -> None:
        """Enter a task's evaluation at its own dawn. If there are several, as of two runs, none can be carried over."""
        if self._tested.setdefault(record.day, record) == record and record.day not in self._several:
            return
        whole = list(self)
        del self._tested[record.day]
        self._several.add(record.day)
        if any(isinstance(item, Carried) for day in self._of_day if day > record.day for item in self._of_day[day]):
            self._begin(whole)

    def carry(self, day: int, phase: str, step: int, tasks: Iterable[int]) -> None:
        """Add evaluations that are carried over. Only the `Clock` that the history belongs to calls this.

        Args:
            day: Index of the day, from 0.
            phase: ``"dusk"`` or ``"dawn"``.
            step: Optimizer steps that the agent has taken in its life.
            tasks: Indices of earlier tasks, each of which has an evaluation at its own dawn. Those that were carried
                over there already count once.

        Raises:
            ValueError: If a task has none. Then nothing is added.
        """
        items = self._of_day.get(day, [])
        here = [item for item in items if isinstance(item, Carried) and (item.phase, item.step) == (phase, step)]
        new = [task for task in tasks if not any(task in item for item in here)]
        for task in new:
            if task not in self._tested or task >= day:
                raise ValueError(f"task {task} has no evaluation that could be carried over to day {day}")
        if not new:
            return
        # An interrupt at any place leaves whole evaluations.
        items = self._open(day)
        last = here[-1] if here and items[-1] is here[-1] else Carried(day, phase, step)
        for task in new:
            last.add(task)
        if not items or items[-1] is not last:
            items.append(last)

    def carried(self, day: int, phase: str, step: int, tasks: Iterable[int]) -> list[Record]:
        """Return the records of evaluations that are carried over; see `carry`."""
        item = Carried(day, phase, step)
        return [item.record(self._tested[task]) for task in tasks]

    def tested(self, day: int, phase: str) -> set[int]:
        """Return the tasks that have an evaluation at a dusk or dawn of a day."""
        found = set[int]()
        for item in self._of_day.get(day, ()):
            if _is_test(item) and item.phase == phase:
                found.update(item if isinstance(item, Carried) else () if item.task is None else (item.task,))
        return found

    @property
    def tested_at_their_dawn(self) -> frozenset[int]:
        """The tasks that have an evaluation at their own dawn, which can be carried over."""
        return frozenset(self._tested)

    def forget_day(self, day: int) -> None:
        """Remove all records of a day. Only the `Clock` that the history belongs to calls this.

        Args:
            day: Index of the day, from 0.
        """
        if day in self._of_day:
            self._begin([record for record in self if record.day != day])

    def __copy__(self) -> History:
        return type(self)(self)

    def __len__(self) -> int:
        days = self._of_day.values()
        if self._n_earlier is None:
            self._n_earlier = sum(map(_n_records, [*days][:-1]))
        return self._n_earlier + (_n_records(next(reversed(days))) if days else 0)

    def __iter__(self) -> Iterator[Record]:
        return itertools.chain.from_iterable(map(self._records_of, [*self._of_day.values()]))

    def __repr__(self) -> str:
        days = sorted(self.days)
        return f"<History of {len(self)} records" + (f", days {days[0]} to {days[-1]}>" if days else ">")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]

    def _records_of(self, items: Iterable[Record | Carried], task: Any = None) -> Iterator[Record]:
        """Yield the records of some items; of evaluations that were carried over, all or those of one task."""
        for item in items:
            if isinstance(item, Record):
                yield item
            else:
                yield from (item.record(self._tested[index]) for index in item if task is None or index == task)


def _n_records(items: Iterable[Record | Carried]) -> int:
    return sum(len(item) if isinstance(item, Carried) else 1 for item in items)


def _is_test(item: Record | Carried) -> bool:
    return item.kind == "evaluation" and item.phase in ("dusk", "dawn")


def _is_own_dawn(item: Record | Carried) -> TypeGuard[Record]:
    """Return whether an item is a task's evaluation at its own dawn."""
    return isinstance(item, Record) and _is_test(item) and item.phase == "dawn" and item.task == item.day
