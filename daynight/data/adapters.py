"""Streams of tasks made from objects of other libraries. Daynight does not import these libraries.

Each task has its own head, so its classes are numbered from 0: in increasing order, or in the order given to
`by_class`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from daynight.data.splits import LazyDataset
from daynight.data.tasks import Task, TaskStream
from daynight.errors import DataError
from daynight.support import checks


def from_avalanche(benchmark: Any, *, lazy: bool = False) -> TaskStream:
    """Return the experiences of an Avalanche benchmark, such as ``SplitMNIST(n_experiences=5)``, as a stream.

    Args:
        benchmark: The benchmark, with a ``train_stream`` and a ``test_stream`` of equal length, and optionally a
            ``valid_stream``. The benchmark's transforms are applied.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If `benchmark` does not have these streams, or a test experience has classes without training
            examples.
    """
    streams = [getattr(benchmark, name, None) for name in ("train_stream", "test_stream")]
    if None in streams:
        raise DataError(
            f"from_avalanche: the benchmark must have a train_stream and a test_stream, and {type(benchmark).__name__} "
            "does not."
        )
    valid = getattr(benchmark, "valid_stream", None)
    found = _paired("from_avalanche: experiences", *streams, *([] if valid is None else [valid]))
    parts = [tuple(experience.dataset for experience in group) for group in found]
    return _stream("Avalanche", parts, lambda dataset: dataset.targets, lazy)


def from_continuum(train: Any, test: Any, *, lazy: bool = False) -> TaskStream:
    """Return the tasks of Continuum scenarios, such as ``ClassIncremental(MNIST(path), increment=2)``, as a stream.

    Args:
        train: The scenario of training data. The transformations of a scenario are applied.
        test: The scenario of test data, with as many tasks as `train`.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If `train` and `test` differ in their numbers of tasks, or a test task has classes without training
            examples.
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
    """Return a stream of datasets whose examples are dicts of columns, such as those of Hugging Face's ``datasets``.

    Args:
        pairs: Training and test data of each task, map-style, such as ``[(train, test)]``.
        inputs: Name of the column of inputs.
        targets: Name of the column of targets. Whole numbers and texts are class labels; other values mean regression.
        read: Function that makes a tensor or array of a value in the column of inputs. None reads images as uint8
            (channels, height, width), images with a palette as RGB, and numbers unchanged.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If `pairs` is not valid, a column is missing, or test data have classes without training examples.
    """
    given = list(pairs)
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
        raise DataError("from_hugging_face: pairs must be a list of (train, test), one per task.")
    parts = [tuple(_Columns(dataset, inputs, targets, read) for dataset in pair) for pair in given]
    return _stream("datasets with columns", parts, lambda dataset: dataset.targets, lazy)


def by_class(train: Any, test: Any, classes: Sequence[Sequence[Any]], *, lazy: bool = False) -> TaskStream:
    """Return a labelled torch dataset, such as one of torchvision, as a stream with one task for each group of classes.

    Args:
        train: Training data: a map-style dataset of pairs (input, label), with or without an attribute ``targets``.
        test: Test data, in the same form.
        classes: The classes of each task, such as ``[[0, 1], [2, 3]]``; labels may be texts.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If labels are not valid, or a task has no classes, a class twice, or a class without examples.
    """
    if not (isinstance(classes, Sequence) and all(map(_are_labels, classes))):
        raise DataError(f"by_class: classes must be a list of each task's, such as [[0, 1], [2, 3]], not {classes!r}.")
    groups = [list(group) for group in classes]
    labels = [_read_labels(_labels_of(dataset), "by_class") for dataset in (train, test)]
    if any(known.dtype.kind == "f" for known in labels):
        raise DataError(
            "by_class: labels must be whole numbers or texts, and these are floating point. Convert them, of one-hot "
            "labels by argmax."
        )
    there = set.intersection(*(set(known.tolist()) for known in labels))
    for group in groups:
        missing = [label for label in group if label not in there]
        if not group or len(set(group)) < len(group):
            raise DataError(f"by_class: a task has the classes {group}. Leave it out, or name each class once.")
        if missing:
            raise DataError(f"by_class: there are no examples of class {missing[0]!r}. Leave it out.")
    parts = [
        tuple(
            _Chosen(dataset, np.nonzero(np.isin(known, group))[0], known)
            for dataset, known in zip((train, test), labels, strict=True)
        )
        for group in groups
    ]
    return _stream("classes of a dataset", parts, lambda dataset: dataset.targets, lazy, groups)


def _are_labels(group: Any) -> bool:
    is_list = isinstance(group, Sequence) and not isinstance(group, str)
    return is_list and all(isinstance(label, Hashable) for label in group)


class _Columns(Dataset[Any]):
    """A dataset of dicts, read as a dataset of pairs (input, target)."""

    def __init__(self, dataset: Any, inputs: str, targets: str, read: Callable[[Any], Any] | None) -> None:
        if isinstance(dataset, Mapping) or not hasattr(dataset, "__len__"):
            raise DataError(
                f"from_hugging_face: a dataset must be one split, and map-style, not {type(dataset).__name__}. Take "
                "its splits one by one, as in dataset['train'], and do not stream it."
            )
        if not len(dataset):
            raise DataError("from_hugging_face: a dataset has no examples. Leave its task out.")
        for column in (inputs, targets):
            try:
                dataset[0][column]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise DataError(f"from_hugging_face: there is no column {column!r}: {error!r}") from error
        self.targets = dataset[targets]
        self._dataset, self._inputs, self._read = dataset, inputs, _tensor_of if read is None else read

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._read(self._dataset[index][self._inputs]), self.targets[index]


class _Chosen(Dataset[Any]):
    """The examples of a dataset at the given indices. `targets` are the labels of these examples."""

    def __init__(self, dataset: Any, index: np.ndarray, labels: np.ndarray) -> None:
        self._dataset, self._index, self.targets = dataset, index.tolist(), labels[index]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[self._index[index]]


class Adapted(Dataset[Any]):
    """The inputs of a dataset, with the given targets in place of its own."""

    def __init__(self, dataset: Any, targets: Tensor) -> None:
        self._dataset, self.targets = dataset, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._dataset[index][0], self.targets[index]


def _paired(what: str, *streams: Any) -> list[tuple[Any, ...]]:
    """Return for each task its training data, its test data and, if there is a third stream, its validation data."""
    try:
        found = [[stream[index] for index in range(len(stream))] for stream in streams]
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{what} must be sequences, with one item per task: {error!r}") from error
    lengths = [len(items) for items in found]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{what}: there are {lengths[0]} to learn from and {' and '.join(map(str, lengths[1:]))} to test on. Give "
            "the same number of each."
        )
    return list(zip(*found, strict=True))


def _stream(
    source: str,
    parts: Sequence[Any],
    targets_of: Callable[[Any], Any],
    lazy: bool,
    classes: Sequence[Sequence[Any]] | None = None,
) -> TaskStream:
    """Return a stream of tasks from the datasets of each (see `_paired`). Classes count from 0 within each task."""
    checks.flag("lazy", lazy)
    tasks = []
    for number, group in enumerate(parts):
        labels = [_read_labels(targets_of(part), f"task {number}") for part in group]
        if labels[0].dtype.kind == "f":
            targets, n_outputs, name = [torch.as_tensor(own) for own in labels], None, str(number)
        else:
            known = np.unique(labels[0]).tolist() if classes is None else list(classes[number])
            targets = [_numbered(own, known, number) for own in labels]
            n_outputs, name = max(2, len(known)), "/".join(map(str, known))
        splits: list[Any] = [Adapted(part, own) for part, own in zip(group, targets, strict=True)]
        named = dict(zip(("train", "test", "validation"), map(LazyDataset, splits) if lazy else splits, strict=False))
        tasks.append(Task(**named, n_outputs=n_outputs, name=name))
    return TaskStream(tasks, source=f"{len(tasks)} tasks from {source}")


def _labels_of(dataset: Any) -> Any:
    """Return the labels of a dataset of pairs, from its attribute ``targets`` or from its examples."""
    targets = getattr(dataset, "targets", None)
    if targets is not None:
        return targets
    try:
        return [dataset[index][1] for index in range(len(dataset))]
    except (TypeError, LookupError) as error:
        raise DataError(f"by_class: a dataset must be map-style, of pairs (input, label): {error!r}") from error


def _read_labels(values: Any, what: str) -> np.ndarray:
    """Return labels as whole numbers or texts (n,), or as floating-point numbers (n,) or (n, outputs)."""
    try:
        labels = np.asarray(values if isinstance(values, Tensor | np.ndarray) else list(values))
    except (ValueError, TypeError) as error:
        raise DataError(f"{what}: the labels cannot be read: {error}.") from error
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iuUf" or (labels.ndim != 1 and labels.dtype.kind != "f"):
        raise DataError(
            f"{what}: labels must be whole numbers or texts, one per example, not {labels.dtype} {labels.shape}. "
            "Convert them, one-hot labels by argmax, and leave out examples without a label."
        )
    return labels


def _numbered(labels: np.ndarray, classes: Sequence[Any], task: int) -> Tensor:
    """Return the index of each label in `classes`, as int64 (n,)."""
    places = {label: place for place, label in enumerate(classes)}
    strange = next((label for label in labels.tolist() if label not in places), None)
    if strange is not None:
        raise DataError(
            f"task {task}: the test data have examples of the class {strange}, and the training data have none. Leave "
            "these examples out."
        )
    return torch.tensor([places[label] for label in labels.tolist()])


def _tensor_of(value: Any) -> Tensor:
    """Return an image, or numbers, as a tensor."""
    if hasattr(value, "getbands"):  # of Pillow
        if value.mode in ("P", "1"):
            value = value.convert("RGB" if value.mode == "P" else "L")
        array = np.array(value)
        if array.dtype != np.uint8:
            raise DataError(
                f"an image of mode {value.mode!r} does not have 8 bits per channel. Give a function that does, read=."
            )
        return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1)
    return torch.as_tensor(np.asarray(value))
