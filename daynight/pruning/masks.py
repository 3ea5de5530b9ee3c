"""Masks of exactly k weights that a prune keeps, made from scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from daynight.errors import TrainingError
from daynight.networks.connectivity import Connections


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


def keep_in_turn(scores: Tensor, groups: Iterable[Tensor], k: int) -> Tensor:
    """Return the mask of k candidates: all of the first groups, and those with the highest scores of the group after.

    Args:
        scores: As in `keep_top`.
        groups: Candidates: bool, same shape. One that is in several groups counts in the first.
        k: Number to keep, from 0 to the number of candidates.
    """
    kept = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for group in groups:
        left = group & ~kept
        n = min(k, int(torch.count_nonzero(left)))
        kept |= keep_top(scores, left, n)
        k -= n
    return kept


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


def keep_connected(
    scores: Mapping[str, Tensor],
    candidates: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    seen: Mapping[str, Tensor],
    connections: Connections,
) -> Mapping[str, Tensor]:
    """Return masks of as many candidates in each layer, in which weights in vain give way to others of their layer.

    What is not in vain stays. In place of the rest, each layer keeps the candidates with the highest scores that would
    not be in vain either; if these are too few, then candidates into units that are read, so that there is a path
    through all layers if there can be one. This is repeated until nothing changes. If weights are still in vain then, a
    weight that connects some of them takes the place of one without which no unit is cut off.

    Args:
        scores: Per layer, floating point.
        candidates: Per layer, bool of the same shape.
        masks: Per layer, which candidates would be kept by scores alone: bool of the same shape.
        seen: Per layer, which weights there are besides, and stay: bool of the same shape.
        connections: How the layers are connected.

    Returns:
        Per layer, bool of the same shape. A layer keeps a weight in vain only if it keeps all candidates that would not
        be in vain beside those that are kept and are not.
    """

    def useful(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return connections.useful({name: seen[name] | mask for name, mask in kept.items()})

    possible = useful(candidates)
    while True:
        on_paths = useful(masks)
        sound = {name: mask & on_paths[name] for name, mask in masks.items()}
        if _are_equal(sound, masks):
            return masks
        safe, found = useful(sound), dict(masks)
        # From the last layer to the first, so that each layer knows which units are read now.
        for name in reversed(connections.layers):
            read = connections.read({other: seen[other] | mask for other, mask in found.items()})[name]
            leads_on = candidates[name] & possible[name]
            if read is not None:
                leads_on[~read] = False
            groups = sound[name], candidates[name] & safe[name], leads_on, candidates[name]
            found[name] = keep_in_turn(scores[name], groups, int(torch.count_nonzero(masks[name])))
        if _are_equal(found, masks):
            bridges = {name: candidates[name] & ~mask & on_paths[name] & ~safe[name] for name, mask in masks.items()}
            there = {name: (seen[name] | mask) & on_paths[name] for name, mask in masks.items()}
            if not _bridge(found, scores, bridges, sound, there, connections.layers):
                return masks
        masks = found


def _bridge(
    masks: dict[str, Tensor],
    scores: Mapping[str, Tensor],
    bridges: Mapping[str, Tensor],
    sound: Mapping[str, Tensor],
    there: Mapping[str, Tensor],
    layers: Sequence[str],
) -> bool:
    """Exchange one weight in masks for one that connects weights in vain, and return whether there was any.

    Args:
        masks: Per layer, which weights are kept; one layer is changed.
        scores: Per layer, floating point.
        bridges: Per layer, candidates that would connect weights in vain.
        sound: Per layer, which of the kept weights are not in vain.
        there: Per layer, which weights are not in vain, those that stay in any case included.
        layers: Names of the layers, from the first to the last.
    """
    for name in layers:
        if not bool(bridges[name].any()):
            continue
        spare = masks[name] & ~sound[name]
        if not bool(spare.any()):
            # An input of the first layer need not be read, and an output of the last need not be reached.
            spare, pairs = sound[name].clone(), there[name].flatten(1).view(*there[name].shape[:2], -1)
            if name != layers[0]:
                spare[:, pairs.sum((0, 2)) < 2] = False
            if name != layers[-1]:
                spare[pairs.sum((1, 2)) < 2] = False
        if n := int(torch.count_nonzero(spare)):
            lowest = spare & ~keep_top(scores[name], spare, n - 1)
            masks[name] = masks[name] & ~lowest | keep_top(scores[name], bridges[name], 1)
            return True
    return False


def _are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(mask, second[name]) for name, mask in first.items())


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
