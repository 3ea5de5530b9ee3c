"""Tensors by name: what of them belongs to a part of an agent, whose names have a prefix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def parted(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors whose names do not begin with a prefix, and the others by their names without it."""
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return rest, own


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names with a prefix."""
    return {prefix + name: tensor for name, tensor in tensors.items()}
