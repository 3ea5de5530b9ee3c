"""Batches of a task's examples, in a new random order each epoch."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from daynight.data.splits import Split
from daynight.support import checks, expected


class Replayed:
    """Examples of past days, of which each batch has some.

    Args:
        inputs: (n, ...), as a network reads them, on the device.
        targets: (n,) or (n, outputs).
        n_own: After so many examples of the day, 1 or more, there are
        n_past: so many examples of past days, 1 or more.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, n_own: int, n_past: int) -> None:
        self._examples, self._n_own, self._n_past = _Examples(inputs, targets), n_own, n_past

    def give(self, features: Tensor | None) -> None:
        """Select features (int64) of the flattened inputs; None gives the inputs unchanged."""
        self._examples.give(features)

    def beside(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, or several, with examples of past days, drawn uniformly and independently.

        Where the last few examples of the day are less than `n_own`, the share is the same, and at least one.

        Args:
            inputs: The day's examples.
            targets: Their targets.
            generator: CPU generator that draws the others.
        """
        n_whole, rest = divmod(len(targets), self._n_own)
        n_last = max(1, checks.round_half_up(rest * self._n_past / self._n_own)) if rest else 0
        drawn = torch.randint(len(self._examples.targets), (n_whole * self._n_past + n_last,), generator=generator)
        past_inputs, past_targets = next(self._examples.read([drawn]))
        return self._woven(inputs, past_inputs), self._woven(targets, past_targets)

    def _woven(self, own: Tensor, past: Tensor) -> Tensor:
        if len(own) <= self._n_own:
            return torch.cat([own, past])
        pairs = zip(own.split(self._n_own), past.split(self._n_past), strict=True)
        return torch.cat([part for pair in pairs for part in pair])


class Batches(abc.ABC):
    """Endless batches, in a new random order each epoch.

    Args:
        n: Number of examples.
        batch_size: Examples of the day per batch; the last batch of an epoch may be smaller.
        generator: Random generator that draws the orders.
        replayed: Examples of past days, which each batch has besides; None if there are none.
    """

    def __init__(self, n: int, batch_size: int, generator: torch.Generator, replayed: Replayed | None = None) -> None:
        self._n, self._batch_size, self._generator, self._replayed = n, batch_size, generator, replayed
        self._left: Sequence[Tensor] = ()
        self._epoch: Iterator[tuple[Tensor, Tensor]] | None = None

    def next(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs (batch, ...), or (batch, features) if `give` selected features, and targets."""
        if not self._left:
            self._left, self._epoch = torch.randperm(self._n, generator=self._generator).split(self._batch_size), None
        if self._epoch is None:
            self._epoch = self._read(self._left)
        try:
            batch = next(self._epoch)
        except BaseException:
            self._epoch = None  # an interrupted iterator cannot continue: read again from this batch
            raise
        if self._replayed is not None:
            before = self._generator.get_state()
            try:
                batch = self._replayed.beside(*batch, self._generator)
            except BaseException:  # an interrupt: read and draw this batch again
                self._epoch = None
                self._generator.set_state(before)
                raise
        self._left = self._left[1:]
        return batch

    @property
    def epoch_ends(self) -> bool:
        """Whether the last batch was the last batch of an epoch."""
        return not self._left

    def state(self) -> dict[str, Any]:
        """Return the order of the examples left in the epoch, and the generator's state; `restore` takes both."""
        left = torch.cat(list(self._left)) if self._left else torch.empty(0, dtype=torch.int64)
        return {"left": left, "generator": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned for batches of the same examples.

        Raises:
            ValueError: If it is not an order of some of the examples.
        """
        left = state["left"]
        expected.tensor((len(left),), torch.int64)("the order of the examples", left)
        is_whole = (self._n - len(left)) % self._batch_size == 0
        if len(left) and not (is_whole and 0 <= int(left.min()) <= int(left.max()) < self._n):
            raise ValueError(f"the order of the examples is not one of {self._n:,}")
        if len(torch.unique(left)) != len(left):
            raise ValueError("the order of the examples has one of them twice")
        self._left, self._epoch = state["left"].split(self._batch_size) if len(state["left"]) else (), None
        self._generator.set_state(state["generator"])

    def give(self, features: Tensor | None) -> None:
        """Select features (int64) of the flattened inputs for all further batches; None gives the inputs unchanged."""
        assert features is None

    @abc.abstractmethod
    def _read(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch for each tensor of indices."""


class HeldBatches(Batches):
    """Batches of examples in memory, on the device.

    Args:
        inputs: (n, ...), as a network reads them.
        targets: (n,) or (n, outputs).
        batch_size: Examples of the day per batch; the last batch of an epoch may be smaller.
        generator: Random generator that draws the orders.
        replayed: Examples of past days, which each batch has besides; None if there are none.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator,
        replayed: Replayed | None = None,
    ) -> None:  # fmt: skip
        super().__init__(len(targets), batch_size, generator, replayed)
        self._examples = _Examples(inputs, targets)

    def give(self, features: Tensor | None) -> None:
        """Select features (int64) of the flattened inputs for all further batches; None gives the inputs unchanged."""
        self._examples.give(features)
        if self._replayed is not None:
            self._replayed.give(features)

    def _read(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        return self._examples.read(indices)


def _selected(inputs: Tensor, features: Tensor) -> Tensor:
    """Return the columns `features` of the matrix `inputs`."""
    if inputs.device.type != "cpu" or inputs.dtype not in (torch.float32, torch.float64):
        return inputs.index_select(1, features)
    # NumPy asks for large pages of memory, which are allocated faster, and from which batches are gathered faster.
    kind = np.float32 if inputs.dtype == torch.float32 else np.float64
    selected = torch.from_numpy(np.empty((len(inputs), len(features)), kind))
    return torch.index_select(inputs, 1, features, out=selected)


@attrs.define(eq=False)
class _Examples:
    """The examples that batches are gathered from. They hold no reference to the `Batches`, so no cycle keeps both."""

    whole: Tensor
    targets: Tensor
    inputs: Tensor = attrs.field(init=False, default=attrs.Factory(lambda self: self.whole, takes_self=True))
    features: Tensor | None = attrs.field(init=False, default=None)

    def give(self, features: Tensor | None) -> None:
        if features is not self.features:
            self.features = features
            self.inputs = self.whole if features is None else _selected(self.whole.flatten(1), features)

    def read(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for index in indices:
            # Gathered batch by batch: a permuted copy of the epoch costs one more write and read of memory.
            places = index.to(self.targets.device)
            yield self.inputs.index_select(0, places), self.targets.index_select(0, places)


class LazyBatches(Batches):
    """Batches of examples that are read when they are needed, batch by batch.

    Args:
        split: The examples, with lazy inputs.
        fit: Function that puts numbers on the device, in the network's type.
        batch_size: Examples of the day per batch; the last batch of an epoch may be smaller.
        generator: Random generator that draws the orders.
        replayed: Examples of past days, which each batch has besides; None if there are none.
    """

    def __init__(
        self, split: Split, fit: Callable[[Tensor], Tensor], batch_size: int, generator: torch.Generator,
        replayed: Replayed | None = None,
    ) -> None:  # fmt: skip
        super().__init__(len(split), batch_size, generator, replayed)
        self._split, self._fit = split, fit

    def _read(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        fit = self._fit
        return ((fit(inputs), fit(targets)) for inputs, targets in self._split.batches(indices))
