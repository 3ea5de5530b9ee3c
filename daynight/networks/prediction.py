"""Predictions whose bits do not depend on the time of the call, or on the size of its batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daynight.data.splits import Split, fitted
from daynight.networks.masked import MaskedNetwork
from daynight.support import interrupts

#: Every prediction is computed in chunks of this many examples, the last one padded with copies of an example. So the
#: same kernel computes all predictions, and the size of a caller's batch cannot change a bit. It is not padded with
#: zeros, since networks may refuse these, such as a text without words.
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
    with interrupts.deferred(), network.viewing(task) as compute:
        for start in range(0, max(1, len(inputs)), CHUNK):
            chunk = inputs[start : start + CHUNK]
            n_padded = CHUNK - len(chunk)
            # Always a copy: a transform, or a network's first layer, may write into its inputs.
            padding = chunk[:1] if len(chunk) else chunk.new_zeros(1, *chunk.shape[1:])
            chunk = torch.cat([chunk, padding.expand(n_padded, *chunk.shape[1:])])
            outputs = compute(chunk if transform is None else transform(chunk))
            parts.append(outputs[: CHUNK - n_padded])
    return torch.cat(parts)


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
    portions = split.batches(torch.arange(len(split)).split(PORTION))
    return torch.cat(
        [predict(network, fitted(inputs, network.dtype, device), task, transform) for inputs, _ in portions]
    )
