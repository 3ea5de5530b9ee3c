"""Streams of tasks made from objects of other libraries. Daynight does not import these libraries.

Each task has its own head, so its classes are numbered from 0: in increasing order, or in the order given to
`by_class`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daynight.data import arrays
from daynight.data.labels import Listing, label_of, listing
from daynight.data.splits import LazyDataset, Wrapped, is_indexed, unwrapped
from daynight.data.tasks import Task, TaskStream
from daynight.errors import DataError
from daynight.support import checks


def from_avalanche(benchmark: Any, *, shared_test: bool = False, lazy: bool = False) -> TaskStream:
    """Return the experiences of an Avalanche benchmark, such as ``SplitMNIST(n_experiences=5)``, as a stream.

    As in Avalanche's strategies, training data have the transforms of training, also of labels, and test and validation
    data those of evaluation.

    Args:
        benchmark: The benchmark, with a ``train_stream`` and a ``test_stream`` of equal length, and optionally a
            ``valid_stream``.
        shared_test: Whether the test stream, and the validation stream if there is one, has a single experience for all
            tasks. Each task is then tested on its examples of the classes that the task's training data have.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If `benchmark` does not have these streams, or a test experience has classes without training
            examples.
    """
    checks.flag("shared_test", shared_test)
    streams: list[Any] = [getattr(benchmark, name, None) for name in ("train_stream", "test_stream")]
    if None in streams:
        raise DataError(
            f"from_avalanche: the benchmark must have a train_stream and a test_stream, and {type(benchmark).__name__} "
            "does not."
        )
    valid = getattr(benchmark, "valid_stream", None)
    streams += [] if valid is None else [valid]
    what = "from_avalanche: experiences"
    if not shared_test:
        found = _paired(what, *streams, advice=" If all tasks share one test experience, give shared_test=True.")
        return _stream("Avalanche", [_of_experiences(group, number) for number, group in enumerate(found)], lazy)
    (train, *others) = ([one for (one,) in _paired(what, stream)] for stream in streams)
    if any(len(experiences) != 1 for experiences in others):
        raise DataError(
            f"{what}: with shared_test=True there is one to test on, and here there are "
            f"{' and '.join(str(len(experiences)) for experiences in others)}. Leave shared_test out."
        )
    groups = []
    for number, experience in enumerate(train):
        own, *tests = _of_experiences([experience, *(experiences[0] for experiences in others)], number)
        is_labelled = own.labels.dtype.kind != "f"
        groups.append([own, *(_of_classes(test, np.unique(own.labels)) if is_labelled else test for test in tests)])
    return _stream("Avalanche", groups, lazy)


def _of_experiences(experiences: Sequence[Any], task: int) -> list[_Labelled]:
    """Return training, test and validation data of Avalanche, with the transforms that its strategies use for them."""
    found = []
    for experience, mode in zip(experiences, ("train", "eval", "eval"), strict=False):
        switch = getattr(experience.dataset, mode, None)
        dataset = switch() if callable(switch) else experience.dataset
        found.append(_Labelled(dataset, getattr(dataset, "targets", None), f"task {task}"))
    return found


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
    labelled = [[_Labelled(part, part._y, f"task {number}") for part in group] for number, group in enumerate(parts)]
    return _stream("Continuum", labelled, lazy)


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
            In a column of class labels (``ClassLabel``), -1 means that there is none, and is refused.
        read: Function that makes a tensor or array of a value in the column of inputs. None reads images as uint8
            (channels, height, width), images with a palette as RGB, whatever the format of the dataset, and numbers
            unchanged.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If `pairs` is not valid, a column is missing, or test data have classes without training examples.
    """
    given = list(pairs)
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
        raise DataError("from_hugging_face: pairs must be a list of (train, test), one per task.")
    groups = []
    for number, pair in enumerate(given):
        columns = [_Columns(dataset, inputs, targets, read) for dataset in pair]
        groups.append([_Labelled(part, part.targets, f"task {number}") for part in columns])
        for part, labelled in zip(columns, groups[-1], strict=True):
            if part.are_classes and labelled.labels.dtype.kind == "i" and labelled.labels.min() < 0:
                raise DataError(
                    f"task {number}: the class label {labelled.labels.min()} in the column {targets!r} means that an "
                    f"example has no label. Leave these out: dataset.filter(lambda row: row[{targets!r}] >= 0)."
                )
    return _stream("datasets with columns", groups, lazy)


def by_class(train: Any, test: Any, classes: Sequence[Sequence[Any]], *, lazy: bool = False) -> TaskStream:
    """Return a labelled torch dataset, such as one of torchvision, as a stream with one task for each group of classes.

    Args:
        train: Training data: a map-style dataset of pairs (input, label), with or without an attribute ``targets``.
            Labels are those that the examples give; ``targets`` saves reading all of them, if a few examples agree.
        test: Test data, in the same form.
        classes: The classes of each task, such as ``[[0, 1], [2, 3]]``; labels may be texts.
        lazy: Whether examples are read when they are needed; if False, all examples are read into memory now.

    Raises:
        DataError: If labels are not valid, or a task has no classes, a class twice, or a class without examples.
    """
    if not (isinstance(classes, Sequence) and all(map(_are_labels, classes))):
        raise DataError(f"by_class: classes must be a list of each task's, such as [[0, 1], [2, 3]], not {classes!r}.")
    groups = [list(group) for group in classes]
    whole = [_Labelled(dataset, getattr(dataset, "targets", None), "by_class") for dataset in (train, test)]
    if any(part.labels.dtype.kind == "f" for part in whole):
        raise DataError(
            "by_class: labels must be whole numbers or texts, and these are floating point. Convert them, of one-hot "
            "labels by argmax."
        )
    there = set.intersection(*(set(part.labels.tolist()) for part in whole))
    for group in groups:
        missing = [label for label in group if label not in there]
        if not group or len(set(group)) < len(group):
            raise DataError(f"by_class: a task has the classes {group}. Leave it out, or name each class once.")
        if missing:
            raise DataError(f"by_class: there are no examples of class {missing[0]!r}. Leave it out.")
    parts = [[_of_classes(part, group) for part in whole] for group in groups]
    return _stream("classes of a dataset", parts, lazy, groups)


def _are_labels(group: Any) -> bool:
    is_list = isinstance(group, Sequence) and not isinstance(group, str)
    return is_list and all(isinstance(label, Hashable) for label in group)


class _Columns(Wrapped):
    """A dataset of dicts, read as a dataset of pairs (input, target)."""

    def __init__(self, dataset: Any, inputs: str, targets: str, read: Callable[[Any], Any] | None) -> None:
        super().__init__(dataset)
        if isinstance(dataset, Mapping) or not is_indexed(dataset):
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
        found = getattr(dataset, "features", None)
        features = found if isinstance(found, Mapping) else {}
        self.are_classes = hasattr(features.get(targets), "num_classes")
        self._names, self._read = (inputs, targets), _tensor_of if read is None else read
        # A format makes (height, width, channels) of images in some libraries, and palettes to numbers in all.
        is_formatted = type(features.get(inputs)).__name__ == "Image" and dataset.format["type"] in _FORMATS
        self._images = dataset.with_format(None) if read is None and is_formatted else None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        inputs, targets = self._names
        if self._images is not None:
            row = self._images[index]
            if not str(getattr(row[inputs], "mode", "")).startswith(_DEEP):
                return _tensor_of(row[inputs]), row[targets]
        row = self.source[index]
        return self._read(row[inputs]), row[targets]


#: Formats of Hugging Face's datasets that make arrays of images.
_FORMATS = ("numpy", "torch", "jax", "tensorflow")


#: How the modes of Pillow's images begin that have more than 8 bits per channel.
_DEEP = ("I", "F")


class _Labelled(Wrapped):
    """A dataset with the labels that its examples give.

    Args:
        source: A dataset of examples (input, label, ...), or of examples (input, ...) with a list of labels.
        listed: The labels that the dataset lists; None if it lists none. They are used if a few examples agree, and
            each example that is read is held against them. Otherwise the labels of all examples are read.
        what: How errors name the dataset.
        index: Indices of the examples; None is all examples.

    Attributes:
        labels: Whole numbers or texts (n,), or floating-point numbers (n,) or (n, outputs).
        index: Indices of the examples in `source`.
    """

    def __init__(self, source: Any, listed: Any, what: str = "a dataset") -> None:
        super().__init__(source)
        if not is_indexed(source):
            raise DataError(
                f"{what}: a dataset must be map-style, of pairs (input, label), and {type(unwrapped(source)).__name__} "
                "has no length or is not indexed by numbers. Read a stream into a list."
            )
        kind, n = type(unwrapped(source)).__name__, len(source)
        believed = None
        if listed is not None:
            self.labels = _read_labels(listed, what)
            believed = listing(kind, self.labels, n, lambda index: label_of(_item(source, index)))
        if believed is None:
            labels = [label_of(_item(source, index)) for index in range(n)]
            plain = [label.tolist() if isinstance(label, Tensor) else label for label in labels]
            self.labels = _read_labels(plain, what)
        self._listing = Listing(kind, self.labels) if believed is None else believed
        self.index: Sequence[int] = range(n)

    def chosen(self, index: Sequence[int]) -> _Labelled:
        """Return some of the examples, by their indices."""
        twin = copy.copy(self)
        twin.labels, twin.index = self.labels[list(index)], [self.index[place] for place in index]
        return twin

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> Any:
        index = self.index[place]
        item = _item(self.source, index)
        self._listing.check(index, label_of(item))
        return item


def _item(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"example {index} of {type(unwrapped(dataset)).__name__} cannot be read: {error!r}") from error


def _of_classes(part: _Labelled, classes: Any) -> _Labelled:
    """Return the examples of some classes."""
    return part.chosen(np.nonzero(np.isin(part.labels, classes))[0].tolist())


class Adapted(Wrapped):
    """The inputs of a dataset, with the given targets in place of its own."""

    def __init__(self, dataset: Any, targets: Tensor) -> None:
        super().__init__(dataset)
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self.source[index][0], self.targets[index]


def _paired(what: str, *streams: Any, advice: str = "") -> list[tuple[Any, ...]]:
    """Return for each task its training data, its test data and, if there is a third stream, its validation data.

    Args:
        what: What the streams hold, for errors.
        streams: The streams.
        advice: Added to the error if there is one item to test on, and several to learn from.
    """
    try:
        found = [[stream[index] for index in range(len(stream))] for stream in streams]
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{what} must be sequences, with one item per task: {error!r}") from error
    lengths = [len(items) for items in found]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{what}: there are {lengths[0]} to learn from and {' and '.join(map(str, lengths[1:]))} to test on. Give "
            f"the same number of each.{advice if 1 in lengths[1:] else ''}"
        )
    return list(zip(*found, strict=True))


def _stream(
    source: str, parts: Sequence[Sequence[_Labelled]], lazy: bool, classes: Sequence[Sequence[Any]] | None = None
) -> TaskStream:
    """Return a stream of tasks from the datasets of each (see `_paired`). Classes count from 0 within each task."""
    checks.flag("lazy", lazy)
    tasks = []
    for number, group in enumerate(parts):
        labels = [part.labels for part in group]
        if labels[0].dtype.kind == "f":
            targets, n_outputs, name = [torch.as_tensor(own) for own in labels], None, str(number)
        else:
            known = np.unique(labels[0]).tolist() if classes is None else list(classes[number])
            targets = [_numbered(own, known, number) for own in labels]
            n_outputs, name = max(2, len(known)), "/".join(map(str, known))
        splits: list[Any] = [Adapted(part, own) for part, own in zip(group, targets, strict=True)]
        if lazy:
            splits = [LazyDataset(part, targets=part.targets) for part in splits]
        named = dict(zip(("train", "test", "validation"), splits, strict=False))
        tasks.append(Task(**named, n_outputs=n_outputs, name=name))
    return TaskStream(tasks, source=f"{len(tasks)} tasks from {source}")


def _read_labels(values: Any, what: str) -> np.ndarray:
    """Return labels as whole numbers or texts (n,), or as floating-point numbers (n,) or (n, outputs)."""
    if np.ma.is_masked(values):
        raise DataError(f"{what}: labels are masked, which means that they are missing. Leave these examples out.")
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
    return arrays.tensor_of(value if isinstance(value, Tensor) else np.asanyarray(value))
