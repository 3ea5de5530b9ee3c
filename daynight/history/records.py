"""Records in plain numbers, progress events, the hooks that get both, and how records stand in files."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import attrs

from daynight.errors import SettingError
from daynight.support import expected


@attrs.frozen(kw_only=True, eq=False)
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        """Return all values, of which those that are NaN, such as an undefined score, are equal to each other."""
        values = (getattr(self, name) for name in COLUMNS)
        return tuple("NaN" if value != value else value for value in values)  # noqa: PLR0124


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
class Carried:
    """Evaluations at a dusk or dawn that were carried over: each has the numbers of its task's own dawn.

    Attributes:
        day: Index of the day, from 0.
        phase: ``"dusk"`` or ``"dawn"``.
        step: Optimizer steps that the agent had taken in its life.
        tasks: Indices of the tasks, as ranges.
    """

    kind: ClassVar[str] = "evaluation"
    day: int
    phase: str
    step: int
    tasks: list[range] = attrs.field(factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.tasks))

    def __contains__(self, task: object) -> bool:
        return any(task in tasks for tasks in self.tasks)

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self.tasks)

    def add(self, task: int) -> None:
        """Add a task."""
        if self.tasks and self.tasks[-1].stop == task:
            self.tasks[-1] = range(self.tasks[-1].start, task + 1)
        else:
            self.tasks.append(range(task, task + 1))

    def place(self) -> dict[str, Any]:
        """Return the fields that the records of all these evaluations share."""
        return {"kind": self.kind, "day": self.day, "phase": self.phase, "step": self.step}

    def record(self, own: Record) -> Record:
        """Return the record of the task whose evaluation at its own dawn is `own`."""
        return Record(
            kind=self.kind, day=self.day, phase=self.phase, step=self.step, task=own.task, loss=own.loss,
            score=own.score, score_without_task=own.score_without_task,
        )  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """Return a row of a file; `item_of` reads it."""
        return {**self.place(), "carried": " ".join(f"{tasks.start}-{tasks.stop - 1}" for tasks in self.tasks)}


def row_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record that are not None; `record_of` reads them."""
    return {name: value for name in COLUMNS if (value := getattr(record, name)) is not None}


def short_row_of(item: Record | Carried) -> dict[str, Any]:
    """Return the row of a record, or the one row of evaluations that were carried over; `item_of` reads both."""
    return row_of(item) if isinstance(item, Record) else item.to_row()


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


def item_of(row: Any) -> Record | Carried:
    """Return what is in a row of a file: a record, or evaluations that were carried over.

    Raises:
        ValueError, TypeError: As in `record_of`.
    """
    if not isinstance(row, Mapping) or "carried" not in row:
        return record_of(row)
    names = ("kind", "day", "phase", "step")
    kind, day, phase, step = (_value_of(name, row.get(name)) for name in names)
    expected.text(_RANGES)("carried", row["carried"])
    ends = [part.split("-") for part in row["carried"].split()]
    tasks = [range(int(first), int(last) + 1) for first, last in ends]
    is_test = kind == "evaluation" and phase in ("dusk", "dawn") and None not in (day, step)
    limits = [0, *(limit for each in tasks for limit in (each.start, each.stop)), day]
    is_rising = all(tasks) and limits == sorted(limits) and len({*limits[1:-1]}) == 2 * len(tasks)
    if not is_test or row.keys() != {*names, "carried"} or not is_rising:
        raise ValueError(f"its record of evaluations that were carried over is not valid: {dict(row)}")
    return Carried(day, phase, step, tasks)


def rows_of_csv(text: str) -> list[dict[str, Any]]:
    """Return the rows of a CSV file of records; raise ValueError unless it is one."""
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    if not set(_NEEDED) <= set(header):
        raise ValueError(f"its first line does not name the columns {', '.join(_NEEDED)}")
    if not text.endswith("\n") or any(len(row) != len(header) for row in rows):
        raise ValueError("one of its lines is incomplete")
    return [dict(zip(header, row, strict=True)) for row in rows]


def rows_of_json(text: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON file of records; raise ValueError unless it is one."""
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
