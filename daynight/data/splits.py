"""Splits: examples with their targets, in memory or read when they are needed."""

from __future__ import annotations

import multiprocessing
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from daynight.data import arrays
from daynight.data.labels import Listing, listing
from daynight.errors import DataError, SettingError
from daynight.support import checks, seeding

#: Of a dataset that is read into memory, this many examples are read again, so many times, to see whether they change.
_N_AGAIN, _N_READINGS = 3, 2


class LazyInputs:
    """The inputs of a torch dataset, read one batch at a time.

    Args:
        dataset: A map-style dataset of pairs (input, target).
        n_workers: Number of processes that read ahead; 0 reads in this process.
        index: Indices (int64) of the examples in `dataset`; None is all examples.
        listed: The labels that `dataset` lists, which each example that is read must give; None compares none.
    """

    def __init__(
        self, dataset: Any, n_workers: int = 0, index: Tensor | None = None, listed: Listing | None = None
    ) -> None:
        self._dataset, self._n_workers, self._listed = dataset, n_workers, listed
        self._index = torch.arange(len(dataset)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor) -> LazyInputs:
        """Return the inputs at the indices `index` (int64), without reading them."""
        return LazyInputs(self._dataset, self._n_workers, self._index[index], self._listed)

    def first(self) -> Tensor:
        """Return the first input, read in this process."""
        return read_example(self._dataset, int(self._index[0]))[0]

    def read(self) -> Tensor:
        """Return all inputs: (n, ...)."""
        return next(self.batches([torch.arange(len(self))]))

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield one batch of inputs (batch, ...) for each tensor of indices (int64).

        Raises:
            DataError: If examples cannot be read as tensors of one shape, hold values that are not finite, or give
                other labels than those that the dataset lists.
            SettingError: If other processes are to read, and this one may not start any.
        """
        if self._n_workers and multiprocessing.current_process().daemon:
            raise SettingError(
                f"LazyDataset: n_workers={self._n_workers} needs processes of its own, which a daemonic process, such "
                "as a worker of multiprocessing.Pool or Celery, may not start. Give n_workers=0 there."
            )
        kind = type(unwrapped(self._dataset)).__name__
        loader: DataLoader[Any] = DataLoader(
            _InputsOf(self._dataset, self._listed),
            batch_sampler=[self._index[index].tolist() for index in indices],
            num_workers=self._n_workers,
            generator=torch.Generator(),  # without it, the loader draws a number from the global generator
        )
        try:
            for index, inputs in zip(indices, loader, strict=True):
                arrays.check_finite(f"inputs of {kind}", inputs, self._index[index])
                yield inputs
        except DataError:
            raise
        except (TypeError, RuntimeError, ValueError) as error:
            raise DataError(f"examples of {kind} cannot be read as a batch: {error}") from error


class _InputsOf(Dataset[Any]):
    def __init__(self, dataset: Any, listed: Listing | None) -> None:
        self._dataset, self._listed = dataset, listed

    def __getitem__(self, index: int) -> Tensor:
        inputs, target = read_example(self._dataset, index)
        if self._listed is not None:
            self._listed.check(index, target)
        return inputs


def read_example(dataset: Any, index: int) -> tuple[Tensor, Tensor]:
    """Return one example of a torch dataset as tensors.

    Raises:
        DataError: If the example cannot be read, or is not a pair (input, target) of tensors, arrays or numbers.
    """
    which = f"example {index} of {type(unwrapped(dataset)).__name__}"
    try:
        item = dataset[index]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{which} cannot be read: {error!r}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{which} is not a pair (input, target). Without targets nothing can be learnt.")
    try:
        return arrays.tensor_of(item[0]), arrays.tensor_of(item[1], is_labels=True)
    except arrays.Unreadable as error:
        raise DataError(
            f"{which} cannot be read as tensors: {error}. For images, give the dataset "
            "transform=torchvision.transforms.ToTensor()."
        ) from error


class LazyDataset:
    """A torch dataset whose inputs are read when they are needed, and not kept; for tasks larger than memory.

    Pass it as a split of a `Task`. The targets are kept in memory, since they are checked before training.

    Args:
        dataset: A map-style dataset of pairs (input, target). An index must give the same example each time.
        targets: All targets, in the order of the dataset. None takes the targets that the examples give. If the
            dataset has an attribute ``targets``, as torchvision's datasets have, a few examples are read as the task is
            made, and if their targets are the same, the attribute is used. Then each example that is read later must
            have its target. Otherwise, every example is read once.
        n_workers: Number of processes that read ahead; 0 reads in this process.

    Raises:
        DataError: If `dataset` is not map-style, or the targets do not fit.
        SettingError: If `n_workers` is not valid.
    """

    def __init__(self, dataset: Any, *, targets: Any = None, n_workers: int = 0) -> None:
        if not is_indexed(dataset):
            raise DataError(
                f"LazyDataset: dataset must have a length and be indexed by numbers, not {type(dataset).__name__}."
            )
        self.inputs = LazyInputs(dataset, checks.integer("LazyDataset: n_workers", n_workers, least=0))
        self._dataset, self._n_workers = dataset, n_workers
        self._is_listed = targets is None and getattr(dataset, "targets", None) is not None
        if self._is_listed:
            targets = dataset.targets
        self.targets = _targets_of(dataset) if targets is None else targets

    def split(self) -> Split:
        """Return the examples as a split, with the targets that they give, unless others were given.

        Raises:
            DataError: If the targets or the examples do not fit.
        """
        if not self._is_listed:
            return Split(self.inputs, self.targets)
        dataset, n = self._dataset, len(self._dataset)
        listed = listing(type(dataset).__name__, self.targets, n, lambda index: read_example(dataset, index)[1])
        if listed is None or not arrays.is_readable(self.targets):
            self.targets, self._is_listed, listed = _targets_of(dataset), False, None
        return Split(LazyInputs(dataset, self._n_workers, listed=listed), self.targets)


def _targets_of(dataset: Any) -> Any:
    """Return the target of each example of a dataset, as a tensor (n, ...)."""
    found = [read_example(dataset, index)[1] for index in range(len(dataset))]
    try:
        return torch.stack(found) if found else found
    except RuntimeError as error:
        raise DataError(f"the targets of {type(dataset).__name__} differ in shape: {error}.") from error


def is_indexed(dataset: Any) -> bool:
    """Return whether a dataset is map-style: it has a length, and is indexed by numbers."""
    is_stream = isinstance(dataset, IterableDataset)  # which may have a length, and a method that fails
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not is_stream


Pair = tuple[Any, Any]


def as_inputs(inputs: Any) -> Tensor:
    """Return a tensor or array as a network reads it: unsigned bytes are pixels and become 0 to 1.

    Args:
        inputs: Tensor or array of any shape. uint8 is divided by 255; other types stay unchanged.

    Raises:
        DataError: If `inputs` cannot be converted to a tensor.
    """
    tensor = arrays.read("inputs", inputs)
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.get_default_dtype()).div_(255)
    return tensor


def _examples(what: str, values: Any) -> Tensor:
    tensor = arrays.read(what, values)
    if tensor.layout != torch.strided:
        raise DataError(f"the {what} are sparse ({tensor.layout}). Make them dense with to_dense().")
    if tensor.dim() < 1:
        raise DataError(f"the {what} are a single number, and need a first dimension that counts the examples.")
    arrays.check_finite(what, tensor, columns=arrays.columns_of(values))
    return tensor


def _as_inputs(inputs: Any) -> Tensor | LazyInputs:
    return inputs if isinstance(inputs, LazyInputs) else _examples("inputs", inputs)


def _as_targets(targets: Any) -> Tensor:
    tensor = _examples("targets", targets)
    if tensor.is_complex():
        raise DataError("the targets are complex. Give real and imaginary part as two outputs.")
    if tensor.is_floating_point():
        # With outputs (n, k), a loss broadcasts targets (n,) or (n, k, 1).
        tensor = tensor[:, None] if tensor.dim() == 1 else tensor.flatten(1)
        if not tensor.shape[1]:
            raise DataError(f"the targets have no outputs: their shape is {tuple(tensor.shape)}. Give one or more.")
        return tensor
    if tensor.dim() != 1:
        columns = tensor.flatten(1).shape[1]
        raise DataError(
            f"labels must have the shape (n,), not {tuple(tensor.shape)}. "
            + ("Give labels.reshape(-1); " if columns == 1 else "Of one-hot labels, give labels.argmax(1); ")
            + "for regression, give floating point."
        )
    return tensor.long()


def _check_view(instance: Any, attribute: attrs.Attribute[Any], view: Any) -> None:
    if view is not None and not callable(view):
        raise DataError(f"view must be a function of the inputs, or None, not {view!r}.")


@attrs.frozen(eq=False)
class Split:
    """The examples of a split, such as the training split.

    Args:
        inputs: Tensor or array (n, ...), uint8 for pixels; or lazy inputs, which are read when they are needed.
        targets: Class labels from 0, as whole numbers (n,); or regression outputs, as floating point (n,) or (n, ...).
            Labels are kept as int64 (n,), and regression outputs as floating point (n, outputs).
        view: Function that makes the task's inputs (n, ...) from shared inputs (n, ...), which are scaled to 0-1
            before; for example a permutation of pixels. Tasks that differ only in `view` share the memory of inputs.

    Raises:
        DataError: If there are no examples or targets, the numbers of inputs and targets differ, a value is not finite,
            or `view` is not a function.
    """

    inputs: Tensor | LazyInputs = attrs.field(converter=_as_inputs)
    targets: Tensor = attrs.field(converter=_as_targets)
    view: Callable[[Tensor], Tensor] | None = attrs.field(default=None, validator=_check_view)

    def __attrs_post_init__(self) -> None:
        if len(self.inputs) == 0:
            raise DataError("a split has no examples. Leave the task out, or give it some.")
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"there are {len(self.inputs)} inputs and {len(self.targets)} targets. Give one target per input."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the inputs as a network reads them (see `as_inputs`), and the targets."""
        if isinstance(self.inputs, LazyInputs):
            return self.prepared(self.inputs.read()), self.targets
        # A copy, since a view may write into its inputs, which are the caller's own.
        return self.prepared(self.inputs if self.view is None else self.inputs.clone()), self.targets

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets as `load` returns them, one batch for each tensor of indices (int64)."""
        held = self.inputs
        read = held.batches(indices) if isinstance(held, LazyInputs) else (held[index] for index in indices)
        for index, inputs in zip(indices, read, strict=True):
            yield self.prepared(inputs), self.targets[index]

    def prepared(self, inputs: Tensor) -> Tensor:
        """Return some of the stored inputs as a network reads them, after the scaling and the view."""
        inputs = as_inputs(inputs)
        return inputs if self.view is None else self.view(inputs)

    def subset(self, index: Tensor) -> Split:
        """Return the examples at the indices `index` (int64), in the order of `index`."""
        return attrs.evolve(self, inputs=self.inputs[index], targets=self.targets[index])

    def are_pixels(self) -> bool:
        """Return whether the inputs are unsigned bytes, which are scaled to 0-1."""
        held = self.inputs if isinstance(self.inputs, Tensor) else self.inputs.first()
        return held.dtype == torch.uint8

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one input, as a network reads it."""
        return tuple(self.subset(torch.tensor([0])).load()[0].shape[1:])


#: The forms of a split's data: a `Split`, a pair (inputs, targets) of tensors or arrays, or a torch dataset of pairs.
Data: TypeAlias = Split | Pair | Dataset[Any] | LazyDataset


def as_split(data: Data) -> Split:
    """Return a pair (inputs, targets) of tensors or arrays, or a torch dataset, as a `Split`.

    Raises:
        DataError: If `data` does not have such a form, or is not valid as a `Split`.
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, LazyDataset):
        return data.split()
    if isinstance(data, tuple | list) and len(data) == 2 and not _are_examples(data):
        return Split(*data)
    if is_indexed(data) and not isinstance(data, Tensor):
        return _from_dataset(data)
    raise DataError(
        f"examples must be a pair (inputs, targets) or a torch dataset of such pairs, not "
        f"{type(data).__name__}. "
        + (
            "Give its dataset."
            if isinstance(data, DataLoader)
            else "A dataset must be map-style, with a length and indexed by numbers: read a stream into a list."
            if isinstance(data, IterableDataset)
            else "Without targets nothing can be learnt. A task is ((inputs, targets), (test inputs, test targets))."
        )
    )


def _are_examples(data: Sequence[Any]) -> bool:
    """Return whether two items are two examples (input, target), and not (inputs, targets).

    The two parts of an example differ in shape, and inputs do not.
    """
    try:
        return all(
            isinstance(item, tuple | list) and len(item) == 2 and np.shape(item[0]) != np.shape(item[1])
            for item in data
        )
    except ValueError:  # ragged lists have no shape
        return False


class Wrapped(Dataset[Any]):
    """A dataset made of another one.

    Args:
        source: The other dataset.
    """

    def __init__(self, source: Any) -> None:
        self.source = source


def unwrapped(dataset: Any) -> Any:
    """Return the user's own dataset that a dataset is made of."""
    while isinstance(dataset, Wrapped):
        dataset = dataset.source
    return dataset


def _from_dataset(dataset: Any) -> Split:
    kind = type(unwrapped(dataset)).__name__
    inputs, targets = [], []
    for index in range(len(dataset)):
        one, target = read_example(dataset, index)
        inputs.append(one)
        targets.append(target)
    if not inputs:
        raise DataError("a split has no examples. Leave the task out, or give it some.")
    try:
        stacked = torch.stack(inputs), torch.stack(targets)
    except RuntimeError as error:
        raise DataError(f"the examples of {kind} differ in shape: {error}.") from error
    split = Split(*stacked)
    _warn_if_random(dataset, kind, stacked[0])
    return split


#: Datasets that have been warned of.
_random: weakref.WeakSet[Any] = weakref.WeakSet()


def _warn_if_random(dataset: Any, kind: str, inputs: Tensor) -> None:
    """Warn once if the examples of a dataset, read again, differ from those in memory."""
    places = torch.linspace(0, len(inputs) - 1, min(_N_AGAIN, len(inputs))).round().long().tolist()
    with seeding.unchanged():  # reading again draws no number that a later call would draw
        is_random = any(
            not torch.equal(read_example(dataset, place)[0], inputs[place])
            for place in places
            for _ in range(_N_READINGS)
        )
    if not is_random or not _is_first(unwrapped(dataset)):
        return
    warnings.warn(
        f"an example of {kind}, read again, has other inputs, and a dataset that is read into memory is read once: "
        "each epoch sees the same random draw. Take what is random out of the dataset and give it as "
        "Training(augment=...), or let LazyDataset read the examples anew in each epoch.", stacklevel=5,
    )  # fmt: skip


def _is_first(dataset: Any) -> bool:
    """Return whether a dataset has not been warned of before, and note that it has."""
    try:
        is_first = dataset not in _random
        _random.add(dataset)
    except (TypeError, ValueError):  # one that cannot be hashed, compared or referred to weakly
        return True
    return is_first


def fitted(values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `values` on `device`; floating-point values also get the network's type `dtype`."""
    return values.to(device, dtype if values.is_floating_point() else None)


def load(split: Split, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a split on `device`, as a network of type `dtype` reads them."""
    inputs, targets = split.load()
    return fitted(inputs, dtype, device), fitted(targets, dtype, device)
