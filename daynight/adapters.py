"""Streams of tasks from other libraries' data. They are not imported: what is needed is asked of their objects.

Classes are numbered from 0 within each task, in rising order, for each task has a head of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from daynight import checks
from daynight.errors import DataError
from daynight.lazy import LazyDataset
from daynight.tasks import Task, TaskStream


def from_avalanche(benchmark: Any, *, lazy: bool = False) -> TaskStream:
    """Take the experiences of an Avalanche benchmark, such as ``SplitMNIST(n_experiences=5)``.

    Args:
        benchmark: Has a ``train_stream`` and a ``test_stream`` of as many experiences. Its transforms are applied.
        lazy: Whether examples stay where they are until they are needed; else they are read into memory.

    Raises:
        DataError: If it is no such benchmark, or a test experience has classes that the training has not.
    """
    streams = [getattr(benchmark, name, None) for name in ("train_stream", "test_stream")]
    if None in streams:
        raise DataError(
            f"from_avalanche: the benchmark must have a train_stream and a test_stream, and {type(benchmark).__name__} "
            "has not."
        )
    pairs = _paired("from_avalanche: experiences", *streams)
    parts = [(train.dataset, test.dataset) for train, test in pairs]
    return _stream("Avalanche", parts, lambda dataset: dataset.targets, lazy)


def from_continuum(train: Any, test: Any, *, lazy: bool = False) -> TaskStream:
    """Take the tasks of two Continuum scenarios, such as ``ClassIncremental(MNIST(path, train=True), increment=2)``.

    Args:
        train: The scenario to learn from. Its transformations are applied.
        test: The scenario to test on, with as many tasks.
        lazy: Whether examples stay where they are until they are needed; else they are read into memory.

    Raises:
        DataError: If their numbers of tasks differ, or a test task has classes that the training has not.
    """
    parts = _paired("from_continuum: tasks", train, test)
    return _stream("Continuum", parts, lambda taskset: taskset._y, lazy)


def from_hugging_face(
    pairs: Iterable[tuple[Any, Any]],
    *,
    inputs: str = "image",
    targets: str = "label",
    read: Callable[[Any], Any] | None = None,
    lazy: bool = False,
) -> TaskStream:
    """Take datasets whose examples are dicts of columns, as Hugging Face's ``datasets`` have them.

    Args:
        pairs: Training and test data of each task; map-style.
        inputs: Name of the column of inputs.
        targets: Name of the column of targets: whole numbers are class labels, others regression.
        read: Makes a tensor or array of what is in the column of inputs. None reads pictures as (channels, height,
            width), uint8, and numbers as they are.
        lazy: Whether examples stay where they are until they are needed; else they are read into memory.

    Raises:
        DataError: If there is no such column, or test data have classes that the training data have not.
    """
    parts = [(_Columns(train, inputs, targets, read), _Columns(test, inputs, targets, read)) for train, test in pairs]
    return _stream("datasets with columns", parts, lambda dataset: dataset.targets, lazy)


def by_class(train: Any, test: Any, classes: Sequence[Sequence[int]], *, lazy: bool = False) -> TaskStream:
    """Split a labelled torch dataset, such as torchvision's, into tasks of some classes each.

    Args:
        train: To learn from: a map-style dataset of pairs (input, label), with or without an attribute ``targets``.
        test: To test on, likewise.
        classes: The classes of each task, as in ``[[0, 1], [2, 3]]``.
        lazy: Whether examples stay where they are until they are needed; else they are read into memory.

    Raises:
        DataError: If a task has no classes, or no examples of one.
    """
    groups = [list(group) for group in classes]
    labels = [_labels_of(dataset) for dataset in (train, test)]
    for group in groups:
        missing = [label for label in group for known in labels if not bool((known == label).any())]
        if not group:
            raise DataError("by_class: a task has no classes. Leave it out, or name some.")
        if missing:
            raise DataError(f"by_class: there are no examples of class {missing[0]!r}. Leave it out.")
    parts = [
        tuple(
            _Chosen(dataset, torch.nonzero(torch.isin(known, torch.tensor(group)))[:, 0], known)
            for dataset, known in zip((train, test), labels, strict=True)
        )
        for group in groups
    ]
    return _stream("classes of a dataset", parts, lambda dataset: dataset.targets, lazy, groups)


class _Columns(Dataset[Any]):
    """A dataset of dicts as one of pairs."""

    def __init__(self, dataset: Any, inputs: str, targets: str, read: Callable[[Any], Any] | None) -> None:
        try:
            self.targets = dataset[targets]
            dataset[0][inputs]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"from_hugging_face: there are no columns {inputs!r} and {targets!r}: {error!r}") from error
        self._dataset, self._inputs, self._read = dataset, inputs, _tensor_of if read is None else read

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._read(self._dataset[index][self._inputs]), self.targets[index]


class _Chosen(Dataset[Any]):
    """Some examples of a dataset."""

    def __init__(self, dataset: Any, index: Tensor, labels: Tensor) -> None:
        self._dataset, self._index, self.targets = dataset, index.tolist(), labels[index]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[self._index[index]]


class _Pairs(Dataset[Any]):
    """The inputs of a dataset, with targets of our own."""

    def __init__(self, dataset: Any, targets: Tensor) -> None:
        self._dataset, self.targets = dataset, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._dataset[index][0], self.targets[index]


def _paired(what: str, train: Any, test: Any) -> list[tuple[Any, Any]]:
    try:
        found = [[stream[index] for index in range(len(stream))] for stream in (train, test)]
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{what} must be sequences: {error!r}") from error
    if len(found[0]) != len(found[1]):
        raise DataError(f"{what}: there are {len(found[0])} to learn from and {len(found[1])} to test on.")
    return list(zip(*found, strict=True))


def _stream(
    source: str,
    parts: Sequence[Any],
    targets_of: Callable[[Any], Any],
    lazy: bool,
    classes: Sequence[Sequence[int]] | None = None,
) -> TaskStream:
    """Make a stream of pairs of datasets, with classes numbered from 0 within each task."""
    checks.flag("lazy", lazy)
    tasks = []
    for number, (train, test) in enumerate(parts):
        targets = [torch.as_tensor(np.asarray(list(targets_of(part)))) for part in (train, test)]
        if targets[0].is_floating_point():
            n_outputs, name = None, str(number)
        else:
            known = torch.unique(targets[0]) if classes is None else torch.tensor(list(classes[number]))
            targets = [_numbered(one, known, number) for one in targets]
            n_outputs, name = max(2, len(known)), "/".join(map(str, known.tolist()))
        splits: list[Any] = [_Pairs(part, own) for part, own in zip((train, test), targets, strict=True)]
        if lazy:
            splits = [LazyDataset(split) for split in splits]
        tasks.append(Task(train=splits[0], test=splits[1], n_outputs=n_outputs, name=name))
    return TaskStream(tasks, source=f"{len(tasks)} tasks from {source}")


def _numbered(labels: Tensor, classes: Tensor, task: int) -> Tensor:
    """Number labels by their places among the classes."""
    places = (labels[:, None] == classes).long()
    if not bool(places.any(1).all()):
        strange = labels[~places.any(1)][0]
        raise DataError(f"task {task}: test data have the class {strange}, which is not among those to learn.")
    return places.argmax(1)


def _labels_of(dataset: Any) -> Tensor:
    return torch.as_tensor(np.asarray(LazyDataset(dataset).targets))


def _tensor_of(value: Any) -> Tensor:
    """Read a picture, or numbers."""
    if hasattr(value, "getbands"):  # of Pillow
        array = np.array(value)
        return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1)
    return torch.as_tensor(np.asarray(value))
