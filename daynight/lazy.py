"""Examples that stay where they are until they are needed, for tasks larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from daynight.errors import DataError
from daynight.support import checks


class LazyInputs:
    """The inputs of a torch dataset, read one batch at a time.

    Args:
        dataset: A map-style dataset of pairs (input, target).
        n_workers: Number of processes that read ahead; 0 reads in this one.
        index: Which of its examples (int64); None is all.
    """

    def __init__(self, dataset: Any, n_workers: int = 0, index: Tensor | None = None) -> None:
        self._dataset, self._n_workers = dataset, n_workers
        self._index = torch.arange(len(dataset)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor) -> LazyInputs:
        """Give some of them (int64), still unread."""
        return LazyInputs(self._dataset, self._n_workers, self._index[index])

    def read(self) -> Tensor:
        """Read all of them: (n, ...)."""
        return next(self.batches([torch.arange(len(self))]))

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Read one batch for each index (int64): (batch, ...).

        Raises:
            DataError: If examples cannot be read as tensors of one shape.
        """
        loader: DataLoader[Any] = DataLoader(
            _InputsOf(self._dataset),
            batch_sampler=[self._index[index].tolist() for index in indices],
            num_workers=self._n_workers,
            generator=torch.Generator(),  # else the loader would draw a number from the global one
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
    """Read one example of a torch dataset as tensors.

    Raises:
        DataError: If it cannot be read, or is no pair (input, target) of what a tensor can be made of.
    """
    which = f"example {index} of {type(dataset).__name__}"
    try:
        item = dataset[index]
    except Exception as error:
        raise DataError(f"{which} cannot be read: {error!r}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{which} is no pair (input, target). Without targets nothing is learnt.")
    try:
        return torch.as_tensor(item[0]), torch.as_tensor(item[1])
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{which} cannot be read as tensors: {error}. For images, give the dataset "
            "transform=torchvision.transforms.ToTensor()."
        ) from error


class LazyDataset:
    """A torch dataset whose inputs are read when they are needed, and not kept; for tasks larger than memory.

    Give it where a `Task` takes examples. Its targets are kept, since they are checked before anything is trained.

    Args:
        dataset: A map-style dataset of pairs (input, target), which gives the same example whenever it is asked.
        targets: All targets, in its order. None takes its attribute ``targets``, which torchvision's datasets have, or
            else reads every example once.
        n_workers: Number of processes that read ahead; 0 reads in this one.

    Raises:
        DataError: If it is no map-style dataset, or its targets do not fit.
        SettingError: If `n_workers` is no such number.
    """

    def __init__(self, dataset: Any, *, targets: Any = None, n_workers: int = 0) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise DataError(
                f"LazyDataset: dataset must have a length and be indexed by numbers, not {type(dataset).__name__}."
            )
        self.inputs = LazyInputs(dataset, checks.whole("LazyDataset: n_workers", n_workers, least=0))
        if targets is None:
            targets = getattr(dataset, "targets", None)
        if targets is None:
            found = [read_example(dataset, index)[1] for index in range(len(dataset))]
            targets = torch.stack(found) if found else found
        self.targets = targets
