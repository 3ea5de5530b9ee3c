"""Which units of a chain of parts are read by a later part, and which are reached from the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from daynight.networks.sequences import CONVOLUTIONS
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


def reached_units(parts: Sequence[Part], weights: Mapping[str, Tensor], n_places: Sequence[int]) -> list[Tensor | None]:
    """Return which units before each part, and after the last part, depend on the chain's inputs.

    A unit that no input reaches has the same value for all inputs, such as that of its bias.

    Args:
        parts: The chain.
        weights: As in `read_units`. All outputs of a layer without an entry are reached.
        n_places: As in `read_units`.

    Returns:
        For each of these places, bool (units,); None if all units are reached.
    """
    reached: list[Tensor | None] = [None]
    for part, n in zip(parts, n_places, strict=True):
        after = before = reached[-1]
        if is_layer(part):
            after = _outputs_reached(weights[part.name], before) if part.name in weights else None
        elif part.kind == "flatten":
            after = before.repeat_interleave(n) if before is not None and n else None
        elif part.kind == "other":
            after = None
        reached.append(after)
    return reached


def n_places_of(parts: Sequence[Part]) -> list[int]:
    """Return, for each part that flattens, how many features it makes from a channel; 0 if unknown, and for others.

    A chain that begins with a flattening gets the features themselves, so that each feature is a channel of one place.
    """
    return [_n_places(parts, index) if part.kind == "flatten" else 0 for index, part in enumerate(parts)]


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


def _outputs_reached(weight: Tensor, inputs: Tensor | None) -> Tensor | None:
    """Return which outputs of a layer are reached from `inputs`; None if all outputs are reached."""
    reached = (weight if inputs is None else weight[:, inputs]).flatten(1).any(1)
    return None if bool(reached.all()) else reached


def _n_places(parts: Sequence[Part], index: int) -> int:
    if index == 0:
        return 1
    before = next((part for part in reversed(parts[:index]) if part.kind not in PASSING), None)
    after = next((part for part in parts[index + 1 :] if part.kind not in PASSING), None)
    if before is None or after is None or (before.kind, after.kind) != ("convolution", "linear"):
        return 0
    assert isinstance(before.module, CONVOLUTIONS)
    assert isinstance(after.module, nn.Linear)
    return after.module.in_features // before.module.out_channels
