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
from daynight.support import seeding, threads

#: Predictions are computed in chunks of this many examples. A chunk of fewer is padded with copies of an example, to
#: this size or to the least size in `SIZES` with which the outputs have the same bits. So the size of a caller's batch
#: cannot change a bit.
CHUNK = 256
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, CHUNK)
#: Sizes are compared on up to this many examples of random numbers, and at least so many, which must be different.
_N_COMPARED, _N_DIFFERENT = 128, 16
#: Number of examples of a split that are read and prepared at a time: a multiple of `CHUNK`, so that chunks do not
#: depend on it.
PORTION = 16 * CHUNK


def predict(
    network: MaskedNetwork, inputs: Tensor, task: int | None, transform: Callable[[Tensor], Tensor] | None = None,
    size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the outputs of a task, with bits that do not depend on the number of inputs.

    Args:
        network: The network.
        inputs: (n, ...), as the network reads them, on the network's device.
        task: Index of a finished task, or of the day's task; None is all outputs of the head that the day trains.
        transform: Applied to each chunk before the network; None is no transform.
        size: Number of examples that are computed at a time, without padding, which takes less time and memory; the
            bits depend on it. None is `CHUNK` at a time, padded.

    Returns:
        (n, outputs of the task).
    """
    parts = []
    with _precise(inputs.device.type), network.viewing(task) as compute:

        def run(whole: Tensor) -> Tensor:
            return compute(whole if transform is None else transform(whole))

        for chunk in inputs.split(size or CHUNK):
            n = len(chunk) if size else CHUNK
            # Hooks would hear of the random numbers by which sizes are compared.
            if len(chunk) < n and not compute.is_heard:
                head = network.heads.of(network.n_tasks if task is None else task)
                known, shapes = _COMPARED.setdefault(network, {}), tuple(tuple(p.shape) for p in head.parameters())
                key = (*chunk.shape[1:], chunk.dtype, chunk.device, torch.get_num_threads(), id(transform), shapes)
                n = known.setdefault(key, Sizes()).least(run, chunk)
            parts.append(run(padded(chunk, n))[: len(chunk)])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _precise(kind: str) -> contextlib.AbstractContextManager[None]:
    """Turn off a caller's autocast, which would change the bits."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


class Sizes:
    """The sizes with which a network's outputs were compared with those of `CHUNK`.

    This relies on kernels that choose the order of their sums by the number of rows, and not by the numbers in them: if
    rows of random numbers have equal bits, all rows have.
    """

    def __init__(self) -> None:
        self._n_calls = 0
        self._draw: Callable[[], Tensor] | None = None  # makes the rows that are compared; None if there are none
        self._outputs = torch.empty(0)  # of these rows, with `CHUNK`
        self._is_equal = {CHUNK: True}

    def least(self, run: Callable[[Tensor], Tensor], chunk: Tensor) -> int:
        """Return the least size that is as large as a chunk and gives equal bits.

        Args:
            run: Computes the outputs of some inputs (batch, ...).
            chunk: Inputs (at most `CHUNK`, ...).
        """
        self._n_calls += 1
        if self._n_calls == 1:
            return CHUNK  # the comparison takes longer than a single call
        if self._n_calls == 2 and (draw := _drawer(chunk)) is not None:
            outputs = _tried(run, draw(), CHUNK)
            self._draw, self._outputs = (None, self._outputs) if outputs is None else (draw, outputs)
        return next(size for size in SIZES if size >= len(chunk) and self._holds(run, size))

    def _holds(self, run: Callable[[Tensor], Tensor], size: int) -> bool:
        if size not in self._is_equal:
            rows = None if self._draw is None else self._draw()[: max(size, _N_DIFFERENT)]
            outputs = None if rows is None else _tried(run, rows, size)
            self._is_equal[size] = outputs is not None and torch.equal(outputs, self._outputs[: len(outputs)])
        return self._is_equal[size]


#: By network, and by what else decides about kernels.
_COMPARED: weakref.WeakKeyDictionary[MaskedNetwork, dict[tuple[Any, ...], Sizes]] = weakref.WeakKeyDictionary()


def _tried(run: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor | None:
    """Return the outputs of rows, computed so many at a time; None if the network or a transform fails.

    It may refuse random numbers, for example as lengths of texts, or a batch of one.
    """
    try:
        with threads.quiet():
            return torch.cat([run(padded(part, size))[: len(part)] for part in rows.split(size)])
    except Exception:  # whatever it raises
        return None


def _drawer(inputs: Tensor) -> Callable[[], Tensor] | None:
    """Return a function that draws random rows in the range of some inputs; None if they would be too much alike."""
    shape, device, dtype = (_N_COMPARED, *inputs.shape[1:]), inputs.device, inputs.dtype
    if not inputs.numel() or dtype.is_complex or dtype == torch.bool:
        return None
    if dtype.is_floating_point:
        low, high = (float(value) for value in inputs.aminmax())

        def draw() -> Tensor:
            drawn = torch.rand(shape, generator=seeding.generator(0, "compared"))
            return (drawn * ((high - low) or 1.0) + low).to(device, dtype)

        return draw
    known = torch.unique(inputs).cpu()

    def pick() -> Tensor:
        places = torch.randint(len(known), shape, generator=seeding.generator(0, "compared"))
        return torch.take(known, places).to(device)

    return pick if len(torch.unique(pick(), dim=0)) >= _N_DIFFERENT else None


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
