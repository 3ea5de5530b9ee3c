"""Which units of a chain of parts have an effect on the outputs: those that a later part reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from daynight.networks.tracing import Part

#: Kinds of parts that compute each unit (feature or channel) only from the same unit of their inputs.
PASSING = ("relu", "unitwise", "dropout")


def is_layer(part: Part) -> bool:
    """Return whether a part has a weight for each pair of an output and an input."""
    return part.kind in ("linear", "convolution")


def read_units(
    parts: Sequence[Part], weights: Mapping[str, Tensor], n_places: Sequence[int], n_least: int = 0
) -> list[Tensor | None]:
    """Return which units before each part, and after the last part, have an effect on the chain's outputs.

    Args:
        parts: The chain.
        weights: By name of a layer, its weights (outputs, inputs, ...). The layer reads the inputs that have a weight
            other than zero. A layer without an entry reads all its inputs.
        n_places: For each part that flattens, the number of features that it makes from a channel; 0 if unknown.
        n_least: Number of inputs that a layer counts as reading if it reads none.

    Returns:
        For each of these places, bool (units,); None if all units are read.
    """
    read: list[Tensor | None] = [None]
    for part, n in zip(reversed(parts), reversed(n_places), strict=True):
        before = after = read[0]
        if is_layer(part):
            before = _inputs_read(weights[part.name], after, n_least) if part.name in weights else None
        elif part.kind == "flatten":
            # A channel is read if one of its places is read.
            before = after.view(-1, n).any(1) if after is not None and n else None
        elif part.kind == "other":
            before = None
        read.insert(0, before)
    return read


def flattened(units: Tensor, n_places: int) -> Tensor:
    """Return the features (int64) that a flattening makes from some channels, each of which has `n_places`."""
    return (units[:, None] * n_places + torch.arange(n_places, device=units.device)).reshape(-1)


def _inputs_read(weight: Tensor, outputs: Tensor | None, n_least: int) -> Tensor | None:
    """Return which inputs of a layer are read for `outputs`; None if all inputs are read."""
    rows = weight if outputs is None else weight[outputs]
    read = rows.flatten(2).any(2).any(0) if rows.dim() > 2 else rows.any(0)
    if not bool(read.any()):
        read[:n_least] = True
    return None if bool(read.all()) else read
