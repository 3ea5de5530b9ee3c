"""Predictions whose bits do not depend on the time of the call, or on the size of its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from daynight.data.splits import Split, fitted
from daynight.networks.masked import MaskedNetwork
from daynight.support import interrupts

#: Every prediction is computed in chunks of this many examples, the last one padded with copies of an example. So the
#: same kernel computes all predictions, and the size of a caller's batch cannot change a bit.
CHUNK = 256
#: Number of examples of a split that are read and prepared at a time: a multiple of `CHUNK`, so that chunks do not
#: depend on it.
PORTION = 16 * CHUNK


def predict(
    network: MaskedNetwork, inputs: Tensor, task: int | None, transform: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the outputs of a task, computed in chunks of fixed size.

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
        for start in range(0, max(1, len(inputs)), CHUNK):
            chunk = inputs[start : start + CHUNK]
            whole = padded(chunk, CHUNK)
            outputs = compute(whole if transform is None else transform(whole))
            parts.append(outputs[: len(chunk)])
    return torch.cat(parts)


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
