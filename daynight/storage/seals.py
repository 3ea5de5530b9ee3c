"""Seals: digests, taken at a task's dawn, of all tensors that its predictions use, to detect later changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from daynight.errors import SealError
from daynight.support.digests import digest

Seal = dict[str, str]


def seal(tensors: Mapping[str, Tensor]) -> Seal:
    """Return the SHA-256 of each tensor's type, shape and bits, by its name."""
    return {name: digest(tensor) for name, tensor in tensors.items()}


def check(task: int, sealed: Seal, now: Seal) -> None:
    """Compare a task's seal with the digests of the tensors that its predictions use now.

    Raises:
        SealError: If a tensor has changed.
    """
    moved: Sequence[str] = [name for name in sealed if now.get(name) != sealed[name]]
    if moved:
        raise SealError(
            f"task {task} no longer predicts what it did at its dawn, for these have changed since: "
            f"{', '.join(moved)}. Something other than the agent has written to its network; load the agent from a "
            "file that was saved before."
        )
