"""`Task`, one supervised problem, and `TaskStream`, the tasks of the days to come."""

from __future__ import annotations

import datetime
import numbers
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any, overload

import attrs
import numpy as np
import torch
from torch import Tensor

from daynight.data.splits import Data, LazyInputs, Pair, Split, as_split
from daynight.errors import DataError, SettingError
from daynight.support import checks, digests, seeding

#: Whole numbers that occur this many times on average look like classes.
_FEW = 10
#: Scaled pixels with noise, or resampled, are outside 0-1 by this much at most.
_MARGIN = 0.5
#: Labels up to this number are not checked for gaps.
_MANY = 100
#: A warning lists this many labels.
_N_SHOWN = 5
#: A task is recognised by its targets and this many of its inputs.
_N_GLIMPSED = 16


def titled(name: str) -> str:
    """Return how errors name a task: by its name, or by the number that a stream gave it."""
    return f"task {name}" if str(name).isdecimal() else f"task {name!r}" if name else "a task without a name"


def _count_outputs(splits: dict[str, Split]) -> int:
    targets = splits["train"].targets
    if targets.is_floating_point():
        return targets.shape[1]
    return max(2, 1 + max(int(split.targets.max()) for split in splits.values()))


def _look_again(title: str, targets: Tensor) -> None:
    """Warn of targets whose numbers or type are probably a mistake, such as classes in floating point."""
    if not targets.is_floating_point():
        if int(targets.min()) > 0:
            warnings.warn(
                f"{title}: no training label is 0, and the smallest is {int(targets.min())}. Number the classes of "
                "each task from 0, or give n_outputs if that is meant.", stacklevel=3,
            )  # fmt: skip
        elif int(targets.max()) > max(_MANY, _FEW * (n := len(targets.unique()))):
            warnings.warn(
                f"{title}: the largest training label is {int(targets.max())}, and there are {n} different ones. "
                "Number the classes of each task from 0, or give n_outputs if that is meant.", stacklevel=3,
            )  # fmt: skip
        elif not targets.any():
            warnings.warn(
                f"{title}: all training labels are 0, so there is nothing to learn. Give n_outputs if that is meant.",
                stacklevel=3,
            )
    elif bool(((targets == 0) | (targets == 1)).all()):
        warnings.warn(
            f"{title}: all targets are 0.0 or 1.0, and floating point, which means regression. If they are classes, "
            "give whole numbers from 0, (n,); if they are not, give n_outputs.", stacklevel=3,
        )  # fmt: skip
    elif targets.shape[1] == 1 and _FEW * (n := len(targets.unique())) <= len(targets) and _are_whole(targets):
        warnings.warn(
            f"{title}: all targets are whole numbers, {n} different ones, in floating point, which means regression. "
            "If they are classes, give whole numbers from 0, (n,); if they are not, give n_outputs.", stacklevel=3,
        )  # fmt: skip


def warn_if_known(name: str, names: Collection[str]) -> None:
    """Warn if a task's name, other than the number that a stream gives, is among the names of earlier tasks."""
    if name and not name.isdecimal() and name in names:
        warnings.warn(
            f"two tasks have the name {name!r}. If one day's data have come twice, leave them out; if the data are "
            "new, give them a name of their own.", stacklevel=4,
        )  # fmt: skip


def warn_of_new_classes(task: Task, which: str, n_outputs: int) -> None:
    """Warn if a task has more outputs than the one that it succeeds, only since its labels say so.

    Args:
        task: The task.
        which: How the warning names the task that it succeeds.
        n_outputs: Number of outputs of that.
    """
    if not task.infers_outputs or not task.classifies or task.n_outputs <= n_outputs:
        return
    labels = torch.cat([split.targets for split in task.splits().values()])
    new = labels[labels >= n_outputs].unique().tolist()
    shown = ", ".join(map(str, new[:_N_SHOWN])) + (", ..." if len(new) > _N_SHOWN else "")
    warnings.warn(
        f"{titled(task.name)} has {task.n_outputs} outputs because of its labels, and {which}, which it succeeds, has "
        f"{n_outputs}. New {'are the labels' if len(new) > 1 else 'is the label'} {shown}, in "
        f"{int((labels >= n_outputs).sum()):,} of {len(labels):,} examples. All later versions will need as many "
        f"outputs. If these are new classes, give n_outputs={task.n_outputs}; if they are mistakes, correct them, and "
        f"give n_outputs={n_outputs}, with which they are refused.", stacklevel=4,
    )  # fmt: skip


def seen_of(value: Any) -> str | tuple[int | str, ...]:
    """Return what a task is to see: ``"all"``, ``"none"`` or ``"best"``, or names and indices of tasks as a tuple.

    Raises:
        SettingError: If `value` is neither.
    """
    if isinstance(value, str):
        checks.one_of("sees", value, ("all", "none", "best"))
        return value
    checks.kind("sees: names or indices of tasks", value, Iterable, "['demand', 3]")
    return tuple(value)


def _as_text(name: Any) -> str:
    if isinstance(name, bool) or not isinstance(name, str | numbers.Integral | datetime.date | np.datetime64):
        raise DataError(f"a task's name must be text, such as '2026-03-01', not {name!r}.")
    return str(name)


def _as_groups(title: str, groups: Any) -> tuple[int, ...]:
    try:
        return tuple(checks.integer("groups", number, least=1) for number in groups)
    except (TypeError, SettingError) as error:
        raise DataError(
            f"{title}: groups must be the number of classes of each task of a union, such as (2, 2), not {groups!r}."
        ) from error


def _look_at_scales(title: str, splits: dict[str, Split]) -> None:
    """Warn of splits of which some are pixels, scaled to 0-1, and others numbers of another range, as they are."""
    plain = {which: split for which, split in splits.items() if split.view is None}
    if len(plain) < 2:
        return
    pixels = [which for which, split in plain.items() if split.are_pixels()]
    for which, split in plain.items():
        if pixels and which not in pixels and (found := _beyond_pixels(split)):
            warnings.warn(
                f"{title}: {pixels[0]} inputs are unsigned bytes, which are scaled to 0-1, and {which} inputs are used "
                f"as they are, from {found[0]:g} to {found[1]:g}. Give all of them in one type.", stacklevel=3,
            )  # fmt: skip
            return


def _beyond_pixels(split: Split) -> tuple[float, float] | None:
    """Return the range of floating-point inputs if it is clearly not that of scaled pixels, with noise or without."""
    index = torch.linspace(0, len(split) - 1, min(_N_GLIMPSED, len(split))).round().long()
    inputs = split.subset(index).load()[0] if isinstance(split.inputs, LazyInputs) else split.inputs
    if not inputs.is_floating_point() or not inputs.numel():
        return None
    low, high = (float(value) for value in inputs.aminmax())
    return (low, high) if low < -_MARGIN or high > 1 + _MARGIN else None


def _are_whole(numbers: Tensor) -> bool:
    return bool((numbers == numbers.round()).all())


@attrs.frozen(eq=False, init=False)
class Task:
    """One supervised problem.

    Args:
        train: Training data: a pair (inputs, targets) of tensors or arrays, or a torch dataset, which is read
            into memory; or a `LazyDataset`, which is read when needed. Whole-number targets are class labels from 0;
            floating-point targets are regression.
        test: Test data, in the same forms. They are reported, and never used to choose anything.
        validation: Validation data, in the same forms, or None. They may be used to choose; see `hold_out`.
        n_outputs: Number of classes or of regression outputs. None infers the number from the targets. For regression,
            it may be a multiple of the number of target values, or a fraction, if a loss and a metric of your own
            want that.
        name: Name of the task in tables: text. A number or a date becomes text.
        groups: For a union of tasks (see `daynight.union`), the number of outputs of each task; otherwise empty.
        succeeds: The task of which this is a new version: the name of a living task, or its index. The day begins with
            what that task has learnt, and that task retires at dawn. With the task's own name, the first day has no
            predecessor. None is a task of its own.
        sees: Whose weights the task sees, as in `daynight.Agent.wake`: ``"all"``, ``"none"``, ``"best"``, or names and
            indices of tasks. None is all earlier tasks.

    Attributes:
        infers_outputs: Whether `n_outputs` was not given, and follows from the targets.

    Raises:
        DataError: If a split is empty or unlabelled, a label is out of range, or shapes differ.
        SettingError: If `n_outputs` or `sees` is not valid.
    """

    train: Split
    test: Split
    validation: Split | None
    n_outputs: int
    name: str
    groups: tuple[int, ...]
    succeeds: str | int | None
    sees: str | tuple[int | str, ...] | None
    infers_outputs: bool = attrs.field(init=False, default=False)

    def __init__(
        self, *, train: Data, test: Data, validation: Data | None = None, n_outputs: int | None = None, name: str = "",
        groups: Sequence[int] = (), succeeds: str | int | None = None, sees: str | Iterable[int | str] | None = None,
    ) -> None:  # fmt: skip
        name = _as_text(name)
        if succeeds is not None and not isinstance(succeeds, str):
            succeeds = checks.integer("Task: succeeds, the name or index of a task", succeeds, least=0)
        elif succeeds == "":
            raise DataError(f"{titled(name)}: succeeds is empty. Give the name or index of a task, or None.")
        sees = None if sees is None else seen_of(sees)
        if succeeds is not None and sees not in (None, "all"):
            raise DataError(f"{titled(name)}: a task that succeeds another sees what that task sees: leave sees= out.")
        given: dict[str, Any] = {"train": train, "validation": validation, "test": test}
        splits = {}
        for which, data in given.items():
            if which == "validation" and data is None:
                continue
            try:
                splits[which] = as_split(data)
            except DataError as error:
                raise DataError(f"{titled(name)}, {which} split: {error}") from error
        is_inferred = n_outputs is None
        if is_inferred:
            _look_again(titled(name), splits["train"].targets)
        n_outputs = (
            _count_outputs(splits) if n_outputs is None else checks.integer("Task: n_outputs", n_outputs, least=1)
        )
        self.__attrs_init__(
            splits["train"],
            splits["test"],
            splits.get("validation"),
            n_outputs,
            name,
            _as_groups(titled(name), groups),
            succeeds,
            sees,
        )
        object.__setattr__(self, "infers_outputs", is_inferred)
        if self.groups and (not self.classifies or sum(self.groups) != n_outputs):
            raise DataError(f"{titled(name)}: groups must be numbers of classes that sum to its {n_outputs} outputs.")
        for which, split in splits.items():
            if split.input_shape() != self.input_shape:
                raise DataError(
                    f"{titled(name)}: {which} inputs have the shape {split.input_shape()}, and train "
                    f"inputs {self.input_shape}. All splits of a task need one shape."
                )
            self._check_targets(which, split)
        _look_at_scales(titled(name), splits)

    @property
    def classifies(self) -> bool:
        """Whether the targets are class labels."""
        return not self.train.targets.is_floating_point()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, as a network reads it."""
        return self.train.input_shape()

    def splits(self) -> dict[str, Split]:
        """Return the splits of the task by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def hold_out(self, fraction: float, seed: int = 0) -> Task:
        """Return the task with `fraction` of its training data set aside as its validation split.

        The same share is drawn from every class, without replacement.

        Args:
            fraction: Fraction of the training data, above 0 and below 1.
            seed: Seed of the draw, together with the task's name.

        Raises:
            DataError: If `fraction` is not valid, the task has a validation split already, or `fraction` leaves the
                training or the validation split empty.
        """
        if self.validation is not None:
            raise DataError(f"{titled(self.name)} has a validation split already.")
        if not isinstance(fraction, numbers.Real) or not 0 < fraction < 1:
            raise DataError(f"hold_out: fraction must be above 0 and below 1, not {fraction!r}.")
        labels = self.train.targets if self.classifies else torch.zeros(len(self.train))
        order = torch.randperm(len(labels), generator=seeding.generator(seed, "hold out", self.name))
        held = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            members = order[labels[order] == label]
            held[members[: round(fraction * len(members))]] = True
        if not held.any() or held.all():
            raise DataError(
                f"{titled(self.name)}: {fraction} of {len(labels)} training examples leaves one split empty. "
                "Hold out of tasks with more examples, before they are put into a stream, or give validation data."
            )
        train, validation = self.train.subset(torch.where(~held)[0]), self.train.subset(torch.where(held)[0])
        twin = attrs.evolve(self, train=train, validation=validation)
        object.__setattr__(twin, "infers_outputs", self.infers_outputs)
        return twin

    def _check_targets(self, which: str, split: Split) -> None:
        title = titled(self.name)
        if split.targets.is_floating_point() == self.classifies:
            raise DataError(f"{title}: {which} and train targets are of different kinds.")
        if not self.classifies:
            n_values, n = split.targets.shape[1], self.train.targets.shape[1]
            # A loss may want several outputs for each value, such as quantiles, or a value and its weight.
            if n_values != n or (self.n_outputs % n and n % self.n_outputs):
                raise DataError(
                    f"{title}: {which} targets have {n_values} values an example, and the task has {self.n_outputs} "
                    "outputs. One number must be a multiple of the other, and all splits must have the same."
                )
            return
        low, high = int(split.targets.min()), int(split.targets.max())
        if low < 0 or high >= self.n_outputs:
            raise DataError(
                f"{title}: {which} labels run from {low} to {high}, and must be from 0 to "
                f"{self.n_outputs - 1} with {self.n_outputs} outputs. Number the classes of each task "
                "from 0, leave unlabelled examples out, or set n_outputs. For regression, give floating point."
            )


def glimpse(task: Task) -> str:
    """Return a digest of a task's targets for training and test, and of a few inputs if they are in memory."""
    parts = [torch.tensor([task.n_outputs])]
    for split in (task.train, task.test):
        parts += [split.targets, torch.tensor([len(split)])]
        if not isinstance(split.inputs, LazyInputs):
            index = torch.linspace(0, len(split) - 1, min(_N_GLIMPSED, len(split))).round().long()
            parts.append(split.subset(index).load()[0])
    return "".join(digests.digest(part)[:16] for part in parts)


class TaskStream(Sequence[Task]):
    """The tasks of the days to come, in order.

    Args:
        tasks: The tasks: each is a `Task`, or a pair (train, test) of torch datasets or of (inputs, targets) pairs.
        source: One line that says which data this is.

    Raises:
        DataError: If there are no tasks, or a task is not valid.
    """

    def __init__(self, tasks: Iterable[Task | Pair], source: str = "data given by the caller") -> None:
        try:
            numbered = enumerate(tasks)
        except TypeError as error:
            raise DataError(f"tasks must be several, each a Task or a pair (train, test), not {tasks!r}.") from error
        self._tasks = [self._as_task(index, task) for index, task in numbered]
        if not self._tasks:
            raise DataError("a stream needs at least one task.")
        _look_at_scales("the stream", {f"{titled(task.name)}: train": task.train for task in self._tasks})
        for index, task in enumerate(self._tasks):
            twins = [earlier for earlier in self._tasks[:index] if task.name and earlier.name == task.name]
            twins = [] if task.succeeds is not None else twins
            warn_if_known(task.name, [twin.name for twin in twins if glimpse(twin) == glimpse(task)])
        self.source = source

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> TaskStream: ...

    def __getitem__(self, index: int | slice) -> Task | TaskStream:
        if isinstance(index, slice):
            return TaskStream(self._tasks[index], self.source)
        return self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def hold_out(self, fraction: float, seed: int = 0) -> TaskStream:
        """Return the stream with a validation split set aside in each task (see `Task.hold_out`)."""
        return TaskStream([task.hold_out(fraction, seed) for task in self], self.source)

    @property
    def n_train(self) -> int:
        """Number of training examples of all tasks together."""
        return sum(len(task.train) for task in self)

    def __repr__(self) -> str:
        return f"<TaskStream of {len(self)} tasks: {self.source}>"

    @staticmethod
    def _as_task(index: int, task: Task | Pair) -> Task:
        if isinstance(task, Task):
            return task
        if not isinstance(task, tuple | list) or len(task) != 2:
            raise DataError(f"task {index}: give a Task or a pair (train, test), not {type(task).__name__}.")
        return Task(train=task[0], test=task[1], name=str(index))


class Days:
    """The tasks of a stream by day of an agent. The stream may have no tasks for the agent's first days.

    Args:
        stream: The tasks.
        first: The day of the first task, from 0.
    """

    def __init__(self, stream: TaskStream, first: int) -> None:
        self._stream, self._first = stream, first

    @property
    def end(self) -> int:
        """The day after the last day of the stream."""
        return self._first + len(self._stream)

    def __getitem__(self, day: int) -> Task:
        return self._stream[day - self._first]

    def before(self, end: int) -> list[Task]:
        """Return the stream's tasks of the days before `end`."""
        return list(self._stream)[: max(0, end - self._first)]
