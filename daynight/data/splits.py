"""Splits: examples with their targets, in memory or read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from daynight.errors import DataError
from daynight.support import checks, threads


class LazyInputs:
    """The inputs of a torch dataset, read one batch at a time.

    Args:
        dataset: A map-style dataset of pairs (input, target).
        n_workers: Number of processes that read ahead; 0 reads in this process.
        index: Indices (int64) of the examples in `dataset`; None is all examples.
    """

    def __init__(self, dataset: Any, n_workers: int = 0, index: Tensor | None = None) -> None:
        self._dataset, self._n_workers = dataset, n_workers
        self._index = torch.arange(len(dataset)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor) -> LazyInputs:
        """Return the inputs at the indices `index` (int64), without reading them."""
        return LazyInputs(self._dataset, self._n_workers, self._index[index])

    def read(self) -> Tensor:
        """Return all inputs: (n, ...)."""
        return next(self.batches([torch.arange(len(self))]))

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield one batch of inputs (batch, ...) for each tensor of indices (int64).

        Raises:
            DataError: If examples cannot be read as tensors of one shape.
        """
        loader: DataLoader[Any] = DataLoader(
            _InputsOf(self._dataset),
            batch_sampler=[self._index[index].tolist() for index in indices],
            num_workers=self._n_workers,
            generator=torch.Generator(),  # without it, the loader draws a number from the global generator
        )
        try:
            yield from loader
        except DataError:
            raise
        except (TypeError, RuntimeError, ValueError) as error:
            raise DataError(f"examples of {type(self._dataset).__name__} cannot be read as a batch: {error}") from error


class _InputsOf(Dataset[Any]):
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Tensor:
        return read_example(self._dataset, index)[0]


def read_example(dataset: Any, index: int) -> tuple[Tensor, Tensor]:
    """Return one example of a torch dataset as tensors.

    Raises:
        DataError: If the example cannot be read, or is not a pair (input, target) of tensors, arrays or numbers.
    """
    which = f"example {index} of {type(dataset).__name__}"
    try:
        item = dataset[index]
    except Exception as error:
        raise DataError(f"{which} cannot be read: {error!r}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{which} is not a pair (input, target). Without targets nothing can be learnt.")
    try:
        return torch.as_tensor(item[0]), torch.as_tensor(item[1])
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{which} cannot be read as tensors: {error}. For images, give the dataset "
            "transform=torchvision.transforms.ToTensor()."
        ) from error


class LazyDataset:
    """A torch dataset whose inputs are read when they are needed, and not kept; for tasks larger than memory.

    Pass it as a split of a `Task`. The targets are kept in memory, since they are checked before training.

    Args:
        dataset: A map-style dataset of pairs (input, target). An index must give the same example each time.
        targets: All targets, in the order of the dataset. None takes the dataset's attribute ``targets``, which
            torchvision's datasets have. If the dataset has no such attribute, every example is read once.
        n_workers: Number of processes that read ahead; 0 reads in this process.

    Raises:
        DataError: If `dataset` is not map-style, or the targets do not fit.
        SettingError: If `n_workers` is not valid.
    """

    def __init__(self, dataset: Any, *, targets: Any = None, n_workers: int = 0) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise DataError(
                f"LazyDataset: dataset must have a length and be indexed by numbers, not {type(dataset).__name__}."
            )
        self.inputs = LazyInputs(dataset, checks.integer("LazyDataset: n_workers", n_workers, least=0))
        if targets is None:
            targets = getattr(dataset, "targets", None)
        if targets is None:
            found = [read_example(dataset, index)[1] for index in range(len(dataset))]
            targets = torch.stack(found) if found else found
        self.targets = targets


Pair = tuple[Any, Any]


def as_inputs(inputs: Any) -> Tensor:
    """Return a tensor or array as a network reads it: unsigned bytes are pixels and become 0 to 1.

    Args:
        inputs: Tensor or array of any shape. uint8 is divided by 255; other types stay unchanged.

    Raises:
        DataError: If `inputs` cannot be converted to a tensor.
    """
    tensor = _read("inputs", inputs)
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.get_default_dtype()).div_(255)
    return tensor


def _read(what: str, values: Any) -> Tensor:
    if values is None:
        raise DataError(f"the {what} are None. Without inputs and targets nothing can be learnt.")
    try:
        if hasattr(values, "to_numpy"):
            values = _of_table(values)
        elif isinstance(values, np.ndarray) and any(stride < 0 for stride in values.strides):
            values = values.copy()
        return _shared(values) if isinstance(values, np.ndarray) else torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the {what} cannot be read as a tensor: {error}. Give numbers: of a table, number its texts, and give "
            "table.to_numpy(dtype='float32')."
        ) from error


def _shared(values: np.ndarray) -> Tensor:
    """Return an array as a tensor in the same memory. A read-only array gives no warning: nothing writes to it."""
    if values.flags.writeable:
        return torch.as_tensor(values)
    with threads.quiet("The given NumPy array is not writable"):
        return torch.as_tensor(values)


def _of_table(table: Any) -> np.ndarray:
    """Return the numbers of a table or column, such as one of pandas, as floating point if columns differ in type."""
    values = np.array(table.to_numpy())
    if values.dtype == object:
        values = np.array(table.to_numpy(dtype="float64", na_value=np.nan))
    return values.astype("float32") if values.dtype == bool and values.ndim > 1 else values


def _examples(what: str, values: Any) -> Tensor:
    tensor = _read(what, values)
    if tensor.layout != torch.strided:
        raise DataError(f"the {what} are sparse ({tensor.layout}). Make them dense with to_dense().")
    if tensor.dim() < 1:
        raise DataError(f"the {what} are a single number, and need a first dimension that counts the examples.")
    # Networks compute with 32 bits, in which a large 64-bit number is infinite.
    narrow = tensor.float() if tensor.dtype == torch.float64 else tensor
    if tensor.is_floating_point() and not checks.all_finite(narrow):
        first = int(torch.isfinite(narrow).reshape(len(narrow), -1).all(1).logical_not().nonzero()[0])
        raise DataError(
            f"the {what} hold values that are not finite as 32-bit numbers, first in example {first}. Clean, fill or "
            "scale them first."
        )
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
        shape = tuple(tensor.shape)
        raise DataError(f"labels must have the shape (n,), not {shape}. Give several outputs as floating point.")
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
        return Split(data.inputs, data.targets)
    if isinstance(data, tuple | list) and len(data) == 2:
        return Split(*data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Tensor):
        return _from_dataset(data)
    raise DataError(
        f"examples must be a pair (inputs, targets) or a torch dataset of such pairs, not "
        f"{type(data).__name__}. "
        + (
            "Give its dataset."
            if isinstance(data, DataLoader)
            else "Without targets nothing can be learnt. A task is ((inputs, targets), (test inputs, test targets))."
        )
    )


def _from_dataset(dataset: Any) -> Split:
    kind = type(dataset).__name__
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
    return Split(*stacked)


def fitted(values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `values` on `device`; floating-point values also get the network's type `dtype`."""
    return values.to(device, dtype if values.is_floating_point() else None)


def load(split: Split, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a split on `device`, as a network of type `dtype` reads them."""
    inputs, targets = split.load()
    return fitted(inputs, dtype, device), fitted(targets, dtype, device)
