"""Masks of exactly k weights that a prune keeps, made from scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daynight.errors import TrainingError


def keep_top(scores: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Return the mask of the k candidates with the highest scores; of equal scores, the first are kept.

    Args:
        scores: Floating point, any shape and memory format.
        candidates: Which weights may be kept: bool, same shape.
        k: Number to keep, from 0 to the number of candidates.

    Returns:
        bool, same shape; exactly k are True.

    Raises:
        TrainingError: If the score of a candidate is not a number.
    """
    # reshape follows logical order, so that ties are broken in the same way in every memory format.
    index = torch.nonzero(candidates.reshape(-1))[:, 0]
    values = scores.reshape(-1)[index]
    n = len(index)
    assert 0 <= k <= n, (k, n)
    if bool(values.isnan().any()):
        raise TrainingError("weights to be ranked are not a number. Lower the learning rate or clip gradients.")
    if k in (0, n):
        kept = index[:k]
    else:
        # kthvalue counts from the smallest. All scores above the threshold are kept, then scores equal to it, up to k.
        threshold = values.kthvalue(n - k + 1).values
        above, equal = values > threshold, torch.nonzero(values == threshold)[:, 0]
        room = k - int(torch.count_nonzero(above))
        kept = torch.cat([index[above], index[equal[:room]]])
    mask = torch.zeros(candidates.numel(), dtype=torch.bool, device=candidates.device)
    mask[kept] = True
    return mask.reshape(candidates.shape)


def keep_top_per_layer(
    scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], counts: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return per layer the mask of the ``counts[name]`` candidates with the highest scores (see `keep_top`)."""
    return {name: keep_top(scores[name], candidates[name], counts[name]) for name in scores}


def keep_top_globally(
    scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], k: int, min_per_layer: int = 0
) -> dict[str, Tensor]:
    """Return per layer the mask of the k candidates with the highest scores, all layers ranked together.

    Args:
        scores: Per layer, floating point.
        candidates: Per layer, bool of the same shape.
        k: Number to keep in total.
        min_per_layer: Least number of candidates that each layer keeps; a layer with fewer candidates keeps all.

    Returns:
        Per layer, bool of the same shape; exactly k are True in total.
    """
    floors = {
        name: keep_top(scores[name], mask, min(min_per_layer, int(torch.count_nonzero(mask))))
        for name, mask in candidates.items()
    }
    rest = torch.cat([(mask & ~floors[name]).reshape(-1) for name, mask in candidates.items()])
    flat = torch.cat([scores[name].reshape(-1) for name in candidates])
    chosen = keep_top(flat, rest, k - sum(int(torch.count_nonzero(floor)) for floor in floors.values()))
    parts = chosen.split([mask.numel() for mask in candidates.values()])
    return {
        name: floors[name] | part.reshape(mask.shape)
        for (name, mask), part in zip(candidates.items(), parts, strict=True)
    }


def layer_adaptive(scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return scores rescaled per layer, so that layers can be ranked together without starving the small ones.

    Each score becomes its square, divided by the sum of the squares of all scores in its layer that are not lower
    (candidates only). This is the relative distortion from pruning the layer down to that weight. The order of scores
    within a layer stays the same.

    Source: Lee et al., "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", ICLR 2021, equation 4.

    Args:
        scores: Per layer, floating point. If a layer has scores below zero, all its scores are shifted so that
            the lowest is zero.
        candidates: Per layer, bool of the same shape.

    Returns:
        Per layer, float64 of the same shape; zero except at candidates.
    """
    found = {}
    for name, mask in candidates.items():
        values = scores[name].detach()[mask].double()
        if len(values):
            values = values - values.min().clamp(max=0)
            if not bool(values.square().sum().isfinite()):
                values = values / values.max()
        order = values.argsort(stable=True)
        squares = values[order].square()
        # Summed from the smallest, since the largest differ by orders of magnitude.
        left = squares.sum() - squares.cumsum(0) + squares
        rescaled = torch.empty_like(values)
        rescaled[order] = torch.where(squares > 0, squares / left.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        found[name] = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        found[name][mask] = rescaled
    return found
