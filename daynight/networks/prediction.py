"""Predictions whose bits do not depend on the time of the call, or on the size of its batch."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from daynight.data.splits import Split, fitted
from daynight.networks.masked import MaskedNetwork
from daynight.support import interrupts, seeding, threads

#: Predictions are computed in chunks of this many examples. A chunk of fewer is padded with copies of an example, to
#: this size or to the least size in `SIZES` with which the outputs have the same bits. So the size of a caller's batch
#: cannot change a bit.
CHUNK = 256
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, CHUNK)
#: Sizes are compared on this many examples of random numbers, and at least so many of them must be different.
_N_COMPARED, _N_DIFFERENT = 64, 16
#: Number of examples of a split that are read and prepared at a time: a multiple of `CHUNK`, so that chunks do not
#: depend on it.
PORTION = 16 * CHUNK


def predict(
    network: MaskedNetwork, inputs: Tensor, task: int | None, transform: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the outputs of a task, with bits that do not depend on the number of inputs.

    Args:
        network: The network.
        inputs: (n, ...), as the network reads them, on the network's device.
        task: Index of a finished task, or of the day's task; None is all outputs of the head that the day trains.
        transform: Applied to each chunk before the network; None is no transform.

    Returns:
        (n, outputs of the task).
    """
    parts = []
    # A caller's autocast would change the bits.
    plain = torch.autocast(inputs.device.type, enabled=False)
    with interrupts.deferred(), plain, network.viewing(task) as compute:

        def run(whole: Tensor) -> Tensor:
            return compute(whole if transform is None else transform(whole))

        for start in range(0, max(1, len(inputs)), CHUNK):
            chunk = inputs[start : start + CHUNK]
            size = CHUNK
            if len(chunk) < CHUNK:
                head = network.heads.of(network.n_tasks if task is None else task)
                known, shapes = _COMPARED.setdefault(network, {}), tuple(tuple(p.shape) for p in head.parameters())
                key = (*chunk.shape[1:], chunk.dtype, chunk.device, torch.get_num_threads(), id(transform), shapes)
                size = known.setdefault(key, Sizes()).least(run, chunk)
            parts.append(run(padded(chunk, size))[: len(chunk)])
    return torch.cat(parts)


class Sizes:
    """The sizes with which a network's outputs were compared with those of `CHUNK`.

    Kernels choose the order of their sums by the number of rows, and not by the numbers in them. So if rows of random
    numbers have equal bits, all rows have.
    """

    def __init__(self) -> None:
        self._n_calls = 0
        self._rows, self._outputs = torch.empty(0), torch.empty(0)
        self._is_equal = {CHUNK: True}

    def least(self, run: Callable[[Tensor], Tensor], chunk: Tensor) -> int:
        """Return the least size that is as large as a chunk and gives equal bits."""
        self._n_calls += 1
        if self._n_calls == 1:
            return CHUNK  # the comparison takes longer than a single call
        if self._n_calls == 2 and len(rows := _random_like(chunk)):
            # A network may refuse random numbers, for example as lengths of texts.
            with contextlib.suppress(Exception), threads.quiet():
                self._rows, self._outputs = rows, run(padded(rows, CHUNK))[: len(rows)]
        return next(size for size in SIZES if size >= len(chunk) and self._holds(run, size))

    def _holds(self, run: Callable[[Tensor], Tensor], size: int) -> bool:
        if size not in self._is_equal:
            parts = self._rows.split(size) if len(self._rows) else ()
            # A few calls of few rows show what many would.
            found = [run(padded(part, size))[: len(part)] for part in parts[: max(1, _N_DIFFERENT // size)]]
            outputs = torch.cat(found) if found else self._outputs[:0]
            self._is_equal[size] = bool(found) and torch.equal(outputs, self._outputs[: len(outputs)])
        return self._is_equal[size]


#: By network, and by what else decides about kernels.
_COMPARED: weakref.WeakKeyDictionary[MaskedNetwork, dict[tuple[Any, ...], Sizes]] = weakref.WeakKeyDictionary()


def _random_like(inputs: Tensor) -> Tensor:
    """Return inputs of random numbers in the range of some inputs; none if these are too alike, or no real numbers."""
    generator = seeding.generator(0, "compared")
    shape, held = (_N_COMPARED, *inputs.shape[1:]), inputs.flatten()
    if inputs.is_floating_point() and held.numel():
        low, high = (float(value) for value in held.aminmax())
        rows = torch.rand(shape, generator=generator) * ((high - low) or 1.0) + low
    elif inputs.dtype in (torch.int16, torch.int32, torch.int64) and held.numel():
        places = torch.randint(held.numel(), shape, generator=generator)
        rows = held.cpu()[places]
    else:
        return inputs[:0]
    is_rich = len(torch.unique(rows, dim=0)) >= _N_DIFFERENT
    return rows.to(inputs.device, inputs.dtype) if is_rich else inputs[:0]


def padded(inputs: Tensor, n: int) -> Tensor:
    """Return a copy of inputs, filled up to n examples with the last one, or with ones if there are none.

    Zeros need not be a valid example: a network may read lengths from them, or divide by their norm. It is always a
    copy, since a transform, or a network's first layer, may write into its inputs.

    Args:
        inputs: (at most n, ...).
        n: Number of examples.

    Returns:
        (n, ...).
    """
    rest = n - len(inputs)
    last = inputs[-1:].expand(rest, *inputs.shape[1:]) if len(inputs) else inputs.new_ones(n, *inputs.shape[1:])
    return torch.cat([inputs, last])


def outputs_of(
    network: MaskedNetwork,
    split: Split,
    task: int | None,
    transform: Callable[[Tensor], Tensor] | None,
    device: torch.device,
) -> Tensor:
    """Return the outputs of a task for all examples of a split, with few of the split's inputs in memory at a time.

    Args:
        network: The network.
        split: The examples.
        task: As in `predict`.
        transform: As in `predict`.
        device: Device of the network.

    Returns:
        (n, outputs of the task).
    """
    return torch.cat(
        [predict(network, fitted(inputs, network.dtype, device), task, transform) for inputs, _ in portions(split)]
    )


def portions(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets as `Split.load` returns them, in their order, `PORTION` examples at a time."""
    return split.batches(torch.arange(len(split)).split(PORTION))
