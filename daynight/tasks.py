"""Tasks, and streams of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset

from daynight import checks, seeding
from daynight.errors import DataError

Pair = tuple[Any, Any]


def as_inputs(inputs: Any) -> Tensor:
    """Turn a tensor or array into what a network reads: unsigned bytes are pixels and become 0 to 1.

    Args:
        inputs: Tensor or array of any shape. uint8 is divided by 255; other types stay as they are.

    Raises:
        DataError: If they cannot be read as a tensor.
    """
    try:
        tensor = torch.as_tensor(inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"inputs cannot be read as a tensor: {error}.") from error
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.get_default_dtype()).div_(255)
    return tensor


@attrs.frozen(eq=False)
class Split:
    """Examples that belong together.

    Attributes:
        inputs: Tensor (n, ...), uint8 for pixels.
        targets: int64 (n,) class labels from 0, or floating point (n, outputs).
        view: What makes the task's own inputs of the shared ones, such as a permutation of pixels:
            (n, ...) to (n, ...), after the scaling to 0-1. Tasks that differ by their view share memory.
    """

    inputs: Tensor
    targets: Tensor
    view: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def load(self) -> tuple[Tensor, Tensor]:
        """Give the inputs as a network reads them (see `as_inputs`), and the targets."""
        inputs = as_inputs(self.inputs)
        return (inputs if self.view is None else self.view(inputs)), self.targets

    def subset(self, index: Tensor) -> Split:
        """Give the examples of `index` (int64), in its order."""
        return attrs.evolve(self, inputs=self.inputs[index], targets=self.targets[index])

    def input_shape(self) -> tuple[int, ...]:
        """Give the shape of one input, as a network reads it."""
        return tuple(self.subset(torch.tensor([0])).load()[0].shape[1:])


def as_split(data: Split | Pair | Dataset[Any]) -> Split:
    """Make a `Split` of a pair (inputs, targets) of tensors or arrays, or of a torch dataset.

    Raises:
        DataError: If there are no examples or targets, their numbers differ, or a value is not finite.
    """
    if isinstance(data, Split):
        split = data
    elif isinstance(data, tuple | list) and len(data) == 2:
        split = _from_pair(*data)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Tensor):
        split = _from_dataset(data)
    else:
        raise DataError(
            f"examples must be a pair (inputs, targets) or a torch dataset of such pairs, not "
            f"{type(data).__name__}. Without targets nothing can be learnt."
        )
    if len(split.inputs) == 0:
        raise DataError("a split has no examples. Leave the task out, or give it some.")
    if len(split.inputs) != len(split.targets):
        raise DataError(f"{len(split.inputs)} inputs do not go with {len(split.targets)} targets.")
    for what, tensor in (("inputs", split.inputs), ("targets", split.targets)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"the {what} hold values that are not finite. Clean or fill them first.")
    return split


def _from_pair(inputs: Any, targets: Any) -> Split:
    if inputs is None or targets is None:
        raise DataError("a split has inputs or targets that are None. Without targets nothing can be learnt.")
    try:
        inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"a split cannot be read as tensors: {error}.") from error
    if inputs.dim() < 1 or targets.dim() < 1:
        raise DataError("inputs and targets need a first dimension that counts the examples.")
    if targets.is_floating_point():
        # (n,) beside outputs of (n, 1) would broadcast to (n, n) inside a loss.
        return Split(inputs, targets[:, None] if targets.dim() == 1 else targets)
    if targets.dim() != 1:
        raise DataError(
            f"class labels must have the shape (n,), not {tuple(targets.shape)}. Give several outputs an "
            "example as floating point."
        )
    return Split(inputs, targets.long())


def _from_dataset(dataset: Any) -> Split:
    inputs, targets = [], []
    for index in range(len(dataset)):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(
                f"example {index} of {type(dataset).__name__} is not a pair (input, target). Without "
                "targets nothing can be learnt."
            )
        try:
            inputs.append(torch.as_tensor(item[0]))
            targets.append(torch.as_tensor(item[1]))
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"example {index} of {type(dataset).__name__} cannot be read as tensors: {error}. For "
                "images, give the dataset transform=torchvision.transforms.ToTensor()."
            ) from error
    if not inputs:
        raise DataError("a split has no examples. Leave the task out, or give it some.")
    try:
        return _from_pair(torch.stack(inputs), torch.stack(targets))
    except RuntimeError as error:
        raise DataError(f"the examples of {type(dataset).__name__} differ in shape: {error}.") from error


def _optional_outputs(n: Any) -> Any:
    return None if n is None else checks.whole("Task: n_outputs", n, least=1)


@attrs.frozen(eq=False, kw_only=True)
class Task:
    """One supervised problem.

    Args:
        train: What is learnt from: a pair (inputs, targets) of tensors or arrays, or a torch dataset.
            Whole-number targets are class labels from 0; floating-point targets are regression.
        test: What is reported, and never used to choose anything. Same forms.
        validation: What may be used to choose; see `hold_out`. Same forms, or None.
        n_outputs: Number of classes or of regression outputs. None finds it from the targets.
        name: Shown in tables.

    Raises:
        DataError: If a split is empty or unlabelled, a label is out of range, or shapes differ.
        SettingError: If `n_outputs` is no number of outputs.
    """

    train: Split = attrs.field(converter=as_split)
    test: Split = attrs.field(converter=as_split)
    validation: Split | None = attrs.field(default=None, converter=attrs.converters.optional(as_split))
    n_outputs: int = attrs.field(default=None, converter=_optional_outputs)
    name: str = ""

    def __attrs_post_init__(self) -> None:
        if self.n_outputs is None:
            object.__setattr__(self, "n_outputs", self._count_outputs())
        shape = self.input_shape
        for which, split in self.splits().items():
            if split.input_shape() != shape:
                raise DataError(
                    f"task {self.name!r}: {which} inputs have the shape {split.input_shape()}, and train "
                    f"inputs {shape}. All splits of a task need one shape."
                )
            self._check_targets(which, split)

    @property
    def classifies(self) -> bool:
        """Whether the targets are class labels."""
        return not self.train.targets.is_floating_point()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, as a network reads it."""
        return self.train.input_shape()

    def splits(self) -> dict[str, Split]:
        """Give the splits that there are, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def hold_out(self, fraction: float, seed: int = 0) -> Task:
        """Give the task with `fraction` of its training data set aside as validation split.

        The same share is drawn from every class, without replacement.

        Args:
            fraction: Above 0 and below 1.
            seed: Names the draw, together with the task's name.

        Raises:
            DataError: If there is a validation split already, or one of the two would be empty.
        """
        if self.validation is not None:
            raise DataError(f"task {self.name!r} has a validation split already.")
        if not 0 < fraction < 1:
            raise DataError(f"hold_out: fraction must be above 0 and below 1, not {fraction!r}.")
        labels = self.train.targets if self.classifies else torch.zeros(len(self.train))
        order = torch.randperm(len(labels), generator=seeding.generator(seed, "hold out", self.name))
        held = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            members = order[labels[order] == label]
            held[members[: round(fraction * len(members))]] = True
        if not held.any() or held.all():
            raise DataError(
                f"task {self.name!r}: {fraction} of {len(labels)} training examples leaves one split empty."
            )
        train, validation = self.train.subset(torch.where(~held)[0]), self.train.subset(torch.where(held)[0])
        return attrs.evolve(self, train=train, validation=validation)

    def _count_outputs(self) -> int:
        if self.classifies:
            return max(2, 1 + max(int(split.targets.max()) for split in self.splits().values()))
        return int(self.train.targets[0].numel())

    def _check_targets(self, which: str, split: Split) -> None:
        if split.targets.is_floating_point() == self.classifies:
            raise DataError(f"task {self.name!r}: {which} and train targets are of different kinds.")
        if not self.classifies:
            if split.targets[0].numel() != self.n_outputs:
                raise DataError(
                    f"task {self.name!r}: {which} targets have {split.targets[0].numel()} values an "
                    f"example, and the task {self.n_outputs} outputs."
                )
            return
        low, high = int(split.targets.min()), int(split.targets.max())
        if low < 0 or high >= self.n_outputs:
            raise DataError(
                f"task {self.name!r}: {which} labels run from {low} to {high}, and must be from 0 to "
                f"{self.n_outputs - 1} with {self.n_outputs} outputs. Number the classes of each task "
                "from 0, leave unlabelled examples out, or set n_outputs."
            )


class TaskStream(Sequence[Task]):
    """The tasks of the days to come, in order.

    Args:
        tasks: Each a `Task`, or a pair (train, test) of torch datasets or of (inputs, targets) pairs.
        source: One line that says which data this is.

    Raises:
        DataError: If there are no tasks, or one of them breaks a rule.
    """

    def __init__(self, tasks: Iterable[Task | Pair], source: str = "data given by the caller") -> None:
        self._tasks = [self._as_task(index, task) for index, task in enumerate(tasks)]
        if not self._tasks:
            raise DataError("a stream needs at least one task.")
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
        """Give the stream with a validation split set aside in each task (see `Task.hold_out`)."""
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
        try:
            return Task(train=task[0], test=task[1], name=str(index))
        except DataError as error:
            raise DataError(f"task {index}: {error}") from error
