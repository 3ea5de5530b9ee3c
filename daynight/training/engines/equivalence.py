"""Proof that a chain may replace a network: one training step of each, compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from daynight.networks import tracing
from daynight.networks.masked import MaskedNetwork
from daynight.networks.tracing import Part
from daynight.support import seeding
from daynight.training.engines.arena import Arena
from daynight.training.engines.engine import Engine, Loss

#: How much gradients may differ, as a share of the norm of the gradient: a thousand rounding errors, and never more
#: than a tenth.
_ROUNDINGS, _MOST = 1000, 0.1


def holds(parts: Sequence[Part], network: MaskedNetwork, inputs: Tensor, targets: Tensor, loss: Loss) -> bool:
    """Return whether a chain has the loss, the gradients and the buffers of the network.

    Code in a network's ``forward`` can do things that a trace does not see: detach, switch gradients off, update a
    buffer, or use a weight twice. The network and PyTorch's global generator do not change.

    Args:
        parts: The chain.
        network: The network, during a day.
        inputs: A batch, as the network reads it.
        targets: The targets of the batch.
        loss: Function of (outputs, targets) to a scalar.
    """
    expected = _step(tracing.uncut(network), network, inputs, targets, loss)
    try:
        found = _step(parts, network, inputs, targets, loss)
    except Exception:  # Parts run the user's own code, possibly on shapes that it was not written for.
        return False
    return len(expected) == len(found) and all(map(_is_close, expected, found))


def _step(
    parts: Sequence[Part], network: MaskedNetwork, inputs: Tensor, targets: Tensor, loss: Loss
) -> list[Tensor | None]:
    """Return the loss, the gradients by the numbers that may move, and the buffers of one step."""
    with tracing.borrowed(network.module), seeding.forked(0, "prove", device=inputs.device):
        engine = Engine(parts, network, "dense", None, len(inputs), narrows=False)
        slots = engine.slots()
        arena = Arena(slots) if slots else None
        engine.bind()
        value = engine.gradients(inputs.clone(), targets, loss)
        by_arena: dict[int, Tensor] = {}
        if arena is not None and arena.vector.grad is not None:
            by_arena = {id(parameter): gradient for parameter, gradient in arena.spread(arena.vector.grad)}
        gradients = []
        for item in network.trainables():
            gradient = by_arena.get(id(item.parameter), item.parameter.grad)
            gradients.append(gradient if gradient is None or item.mask is None else gradient * item.mask)
        return [value, *gradients, *(buffer.detach().clone() for buffer in network.module.buffers())]


def _is_close(expected: Tensor | None, found: Tensor | None) -> bool:
    if expected is None or found is None:
        # A layer that no part reads has no gradient from autograd, and a gradient of zero in an arena.
        other = found if expected is None else expected
        return other is None or (expected is None and not bool(other.any()))
    if not expected.is_floating_point():
        return torch.equal(expected, found)
    limit = min(_ROUNDINGS * torch.finfo(expected.dtype).eps, _MOST) * float(expected.double().norm())
    return float((expected.double() - found.double()).norm()) <= limit
