"""Examples that stay where they are until they are needed, for tasks larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from daynight import checks
from daynight.errors import DataError


class LazyInputs:
    """The inputs of a torch dataset, read one batch at a time.

    Args:
        dataset: A map-style dataset of pairs (input, target).
        n_workers: Number of processes that read ahead; 0 reads in this one.
    """

    def __init__(self, dataset: Any, n_workers: int = 0) -> None:
        self._dataset, self._n_workers = dataset, n_workers

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Tensor) -> LazyInputs:
        """Give some of them (int64), still unread."""
        return LazyInputs(Subset(self._dataset, index.tolist()), self._n_workers)

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
            batch_sampler=[index.tolist() for index in indices],
            num_workers=self._n_workers,
            generator=torch.Generator(),  # else the loader would draw a number from the global one
        )
        try:
            yield from loader
        except (TypeError, RuntimeError, ValueError) as error:
            raise DataError(f"examples of {type(self._dataset).__name__} cannot be read as a batch: {error}") from error


class _InputsOf(Dataset[Any]):
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Tensor:
        return torch.as_tensor(self._dataset[index][0])


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
            targets = [dataset[index][1] for index in range(len(dataset))]
        self.targets = targets
