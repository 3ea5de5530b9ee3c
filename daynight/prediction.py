"""Predictions that do not depend on who asks, when, or how many at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daynight.network import MaskedNetwork

#: Every prediction is computed in chunks of this many examples, the last one padded with zeros, so that one
#: kernel computes them all and the size of a caller's batch cannot change a bit.
CHUNK = 256


def predict(
    network: MaskedNetwork, inputs: Tensor, task: int, transform: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Compute the outputs of a task, in chunks of fixed size.

    Args:
        network: The network.
        inputs: (n, ...), as the network reads them, on its device.
        task: Index of a finished task, or of the day's.
        transform: Applied to each chunk first.

    Returns:
        (n, outputs of the task).
    """
    parts = []
    with network.viewing(task) as compute:
        for start in range(0, max(1, len(inputs)), CHUNK):
            chunk = inputs[start : start + CHUNK]
            n_padded = CHUNK - len(chunk)
            if n_padded:
                chunk = torch.cat([chunk, chunk.new_zeros(n_padded, *chunk.shape[1:])])
            outputs = compute(chunk if transform is None else transform(chunk))
            parts.append(outputs[: CHUNK - n_padded])
    return torch.cat(parts)
