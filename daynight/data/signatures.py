"""`Form`: what an agent remembers of a task, with which later tasks and inputs are compared."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.splits import as_inputs, fitted
from daynight.data.tasks import Task, titled
from daynight.errors import DataError

#: A number of this many digits is a name, such as a date.
_LENGTH_OF_NAMES = 6


@attrs.frozen
class Form:
    """What an agent remembers of a task: the shape and kind of its inputs, its number of outputs, and its name."""

    shape: tuple[int, ...]
    is_floating_point: bool
    n_outputs: int
    name: str = ""

    @classmethod
    def of(cls, task: Task) -> Form:
        """Return the form of a task."""
        inputs, _ = task.train.subset(torch.tensor([0])).load()
        return cls(tuple(inputs.shape[1:]), inputs.is_floating_point(), task.n_outputs, task.name)

    def check_shape(self, task: Task, form: Form, day: int) -> None:
        """Raise DataError unless the inputs of another day's task have this shape and kind.

        Args:
            task: The task.
            form: Its form.
            day: Index of its day.
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
        """Raise DataError if a task and the one that was learnt on `day` have different names."""
        if task.name != self.name and is_name(task.name) and is_name(self.name):
            raise DataError(
                f"the task of day {day} was {self.name!r}, and in the stream it is {task.name!r}. Give the tasks in "
                "the order in which they were learnt, from day 0 or from first_day of the clock on, and new ones after "
                "them.", page="data",
            )  # fmt: skip

    def check_outputs(self, task: Task, day: int) -> None:
        """Raise DataError unless a task has as many outputs as the one that was learnt on `day`."""
        if task.n_outputs != self.n_outputs:
            raise DataError(
                f"{titled(task.name)} has {task.n_outputs} outputs, and the task of day {day} had {self.n_outputs}. "
                "Give the task of that day; if this is it and some of its data are gone, set n_outputs."
            )

    def read(self, inputs: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a tensor or array as inputs (n, ...) for a network of a type, on a device.

        Raises:
            DataError: If they have another shape than the task's.
        """
        read = as_inputs(inputs)
        if self.is_floating_point and not read.is_floating_point():
            read = read.to(dtype)
        read = fitted(read, dtype, device)
        if tuple(read.shape[1:]) != self.shape or not read.dim():
            shape = ", ".join(map(str, self.shape))
            raise DataError(f"inputs must have the shape (n, {shape}), not {tuple(read.shape)}.")
        return read

    def random_inputs(self, n: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return n random inputs (n, ...), as a network of that type reads them: numbers from 0 to 1, or 0 and 1."""
        if self.is_floating_point:
            return torch.rand(n, *self.shape, generator=generator).to(device, dtype)
        return torch.randint(2, (n, *self.shape), generator=generator).to(device)


def is_name(name: str) -> bool:
    """Return whether a task has a name, other than the small numbers that streams give."""
    return bool(name) and not (name.isdecimal() and len(name) < _LENGTH_OF_NAMES)


def check_task(task: object) -> None:
    """Raise DataError unless `task` is a Task."""
    if not isinstance(task, Task):
        raise DataError(f"the task must be a Task(train=..., test=...), not {type(task).__name__}.")
