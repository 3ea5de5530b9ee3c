"""`Form`, which an agent remembers of each task, and with which later tasks and inputs are compared."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data import arrays
from daynight.data.splits import as_inputs, fitted
from daynight.data.tasks import Task, titled
from daynight.errors import DataError

#: A number with this many digits or more is a name, such as a date.
_LENGTH_OF_NAMES = 6


@attrs.frozen
class Form:
    """The form of a task, which an agent remembers.

    Attributes:
        shape: Shape of one input.
        is_floating_point: Whether the inputs are floating point.
        n_outputs: Number of outputs.
        name: Name of the task.
        line: Name of the first task in the line of tasks that succeed each other, if it is another; otherwise empty.
    """

    shape: tuple[int, ...]
    is_floating_point: bool
    n_outputs: int
    name: str = ""
    line: str = ""

    @classmethod
    def of(cls, task: Task, before: Form | None = None) -> Form:
        """Return the form of a task.

        Args:
            task: The task.
            before: The form of the task that it succeeds; None if there is none.
        """
        inputs, _ = task.train.subset(torch.tensor([0])).load()
        first = "" if before is None else before.line or before.name
        return cls(
            tuple(inputs.shape[1:]), inputs.is_floating_point(), task.n_outputs, task.name,
            line="" if first == task.name else first,
        )  # fmt: skip

    @property
    def names(self) -> frozenset[str]:
        """The names by which the task can be asked for."""
        return frozenset({self.name, self.line} - {""})

    def check_shape(self, task: Task, form: Form, day: int) -> None:
        """Raise DataError unless the inputs of another day's task have the shape and kind of this form.

        Args:
            task: The task of the other day.
            form: The form of `task`.
            day: Index of the day of `task`, from 0.
        """
        shape, kinds = form.shape, ("whole numbers", "floating point")
        if form.is_floating_point != self.is_floating_point:
            raise DataError(
                f"day {day}, {titled(task.name)}: inputs are {kinds[form.is_floating_point]}, and those of day 0 "
                f"{kinds[self.is_floating_point]}. One network reads one kind: convert them."
            )
        if shape != self.shape:
            raise DataError(
                f"day {day}, {titled(task.name)}: inputs have the shape {shape}, and those of day 0 {self.shape}. One "
                "network reads one shape: resize or pad them."
            )

    def check_name(self, task: Task, day: int) -> None:
        """Raise DataError if `task` and this form, of the task that was learnt on `day`, have different names."""
        if task.name != self.name and is_name(task.name) and is_name(self.name):
            raise DataError(
                f"the task of day {day} was {self.name!r}, and in the stream it is {task.name!r}. Give the tasks in "
                "the order in which they were learnt, from day 0 or from first_day of the clock on, and new ones after "
                "them.", page="data",
            )  # fmt: skip

    def check_outputs(self, task: Task, day: int) -> None:
        """Raise DataError unless `task` has as many outputs as this form, of the task that was learnt on `day`."""
        if task.n_outputs != self.n_outputs:
            raise DataError(
                f"{titled(task.name)} has {task.n_outputs} outputs, and the task of day {day} had {self.n_outputs}. "
                "Give the task of that day; if this is it and some of its data are gone, set n_outputs."
            )

    def read(self, inputs: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a tensor or array as inputs (n, ...) on `device`, as a network of type `dtype` reads them.

        Raises:
            DataError: If the inputs are not numbers, some are missing or not finite, or their shape is not that of
                the form.
        """
        read = as_inputs(inputs)
        if read.layout != torch.strided:
            raise DataError(f"the inputs are sparse ({read.layout}). Make them dense with to_dense().")
        if self.is_floating_point and read.is_complex():
            raise DataError("the inputs are complex, and those that were learnt are not. Give real numbers.")
        if not self.is_floating_point and read.is_floating_point():
            raise DataError(f"the inputs are {read.dtype}, and those that were learnt are not floating point.")
        if self.is_floating_point and not read.is_floating_point():
            read = read.to(dtype)
        read = fitted(read, dtype, device)
        if tuple(read.shape[1:]) != self.shape or not read.dim():
            shape = ", ".join(map(str, self.shape))
            raise DataError(f"inputs must have the shape (n, {shape}), not {tuple(read.shape)}.")
        arrays.check_finite("inputs", read, columns=arrays.columns_of(inputs))
        return read

    def random_inputs(self, n: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return n random inputs (n, ...): numbers from 0 to 1 if the form is floating point, otherwise 0 or 1."""
        if self.is_floating_point:
            return torch.rand(n, *self.shape, generator=generator).to(device, dtype)
        return torch.randint(2, (n, *self.shape), generator=generator).to(device)


def is_name(name: str) -> bool:
    """Return whether `name` is neither empty nor a small number, such as streams give to tasks."""
    return bool(name) and not (name.isdecimal() and len(name) < _LENGTH_OF_NAMES)


def check_task(task: object) -> None:
    """Raise DataError unless `task` is a Task."""
    if not isinstance(task, Task):
        raise DataError(f"the task must be a Task(train=..., test=...), not {type(task).__name__}.")


def check_split(task: Task, split: str) -> None:
    """Raise DataError unless `task` has a split of a name."""
    if split not in task.splits():
        raise DataError(f"{titled(task.name)} has no {split!r} split, only {', '.join(task.splits())}. See hold_out.")
