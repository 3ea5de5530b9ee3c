"""From scores to masks of exactly k weights that a prune keeps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from daynight.errors import TrainingError


def keep_top(scores: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Return the mask of the k candidates with the highest scores; among equals, those that come first.

    Args:
        scores: Floating point, any shape and memory format.
        candidates: Which weights may be kept: bool, same shape.
        k: Number to keep, from 0 to the number of candidates.

    Returns:
        bool, same shape, with exactly k set.

    Raises:
        TrainingError: If the score of a candidate is not a number.
    """
    # reshape follows logical order, so that ties are broken alike in every memory format.
    index = torch.nonzero(candidates.reshape(-1))[:, 0]
    values = scores.reshape(-1)[index]
    n = len(index)
    assert 0 <= k <= n, (k, n)
    if bool(values.isnan().any()):
        raise TrainingError("weights to be ranked are not a number. Lower the learning rate or clip gradients.")
    if k in (0, n):
        kept = index[:k]
    else:
        # kthvalue counts from the smallest. All above the threshold are kept, and then ties until there are k.
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
    """Return per layer the mask of its ``counts[name]`` highest candidates (see `keep_top`)."""
    return {name: keep_top(scores[name], candidates[name], counts[name]) for name in scores}


def keep_top_globally(
    scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], k: int, min_per_layer: int = 0
) -> dict[str, Tensor]:
    """Return per layer the mask of the k highest candidates of all layers ranked together.

    Args:
        scores: Per layer, floating point.
        candidates: Per layer, bool of the same shape.
        k: Number to keep in total.
        min_per_layer: Least number of candidates that each layer keeps, as far as it has that many.

    Returns:
        Per layer, bool of the same shape; exactly k are set in total.
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

    A score becomes its square divided by the sum of the squares of all candidates of its layer that are not below it:
    the relative distortion if the layer were pruned down to that weight. The order within a layer stays.

    Source: Lee et al., "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", ICLR 2021, equation 4.

    Args:
        scores: Per layer, floating point. If a layer has one below zero, all its scores are shifted up to zero.
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
