"""Pruning criteria: functions that give each weight of a layer a score. A prune keeps those with the highest.

Write your own as one function of a `Layer`, and hand it to ``Agent(criterion=...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from daynight.errors import DaynightError, SettingError
from daynight.support import checks

Criterion = Callable[["Layer"], Tensor]


class Layer:
    """What a criterion may look at: one layer, as it is when it is pruned.

    Args:
        name: Of the layer.
        weight: Its weights, a copy: floating point, any shape. What is pruned already is zero.
        start: Gives the weights as they were when the day began, same shape.
        gradient: Gives the gradient of the mean training loss, same shape.
        generator: Draws random numbers, on the CPU; named by seed, day and cycle.
    """

    def __init__(
        self,
        name: str,
        weight: Tensor,
        start: Callable[[], Tensor],
        gradient: Callable[[], Tensor],
        generator: torch.Generator,
    ) -> None:
        self.name, self.weight, self.generator = name, weight, generator
        self._start, self._gradient = start, gradient

    @property
    def start(self) -> Tensor:
        """The weights as they were when the day began, after the free ones were restarted; same shape."""
        return self._start()

    @property
    def gradient(self) -> Tensor:
        """The gradient of the mean loss over some of the day's training examples, as the network is now; same shape."""
        return self._gradient()


def magnitude(layer: Layer) -> Tensor:
    """Score each weight by its absolute value: PackNet's own.

    Source: Mallya & Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning", CVPR 2018.
    """
    return layer.weight.abs()


def gradient_times_weight(layer: Layer) -> Tensor:
    """Score each weight by how much the loss would change without it, to first order: abs(gradient * weight).

    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017.
    """
    return (layer.gradient * layer.weight).abs()


def movement(layer: Layer) -> Tensor:
    """Score each weight by how far it has moved away from zero during the day: weight^2 - start^2.

    Movement pruning adds up -gradient * weight over the steps of the training. Under gradient descent with small steps
    that is the integral of weight d(weight), up to the learning rate: half of the difference of the squares. Optimizers
    that rescale gradients, as Adam does, move along the rescaled ones.

    Source: Sanh, Wolf & Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, equation 4.
    """
    return layer.weight.square() - layer.start.square()


def random(layer: Layer) -> Tensor:
    """Score each weight at random: what a criterion is worth shows against this."""
    scores = torch.rand(layer.weight.shape, generator=layer.generator, dtype=torch.float64)
    return scores.to(layer.weight.device)


def looks_back(criterion: Criterion) -> bool:
    """Tell whether a criterion may look at `Layer.start`: one of a user's may do so in some layers or nights only."""
    return not any(criterion is one for one in (magnitude, gradient_times_weight, random))


def check(criterion: Criterion) -> None:
    """Try a criterion on a small layer.

    Raises:
        SettingError: If it fails, or does not give a floating-point score for each weight.
    """
    weight = torch.tensor([[0.1, 0.0, -0.2], [0.3, -0.4, 0.5]])
    other = torch.tensor([[0.5, -0.25, 0.0], [1.0, 2.0, -3.0]])
    layer = Layer("probe", weight.clone(), other.clone, other.clone, torch.Generator())
    scored(criterion, layer, weight, "a layer of 2 x 3 weights")


def scored(criterion: Criterion, layer: Layer, weight: Tensor, where: str) -> Tensor:
    """Ask a criterion for the scores of a layer.

    Args:
        criterion: The criterion.
        layer: What it may look at, and write to.
        weight: The layer's weights.
        where: Names the layer.

    Raises:
        SettingError: If it fails, does not give a floating-point number for each weight, or gives one that is not
            finite although weights are.
    """
    try:
        scores: Any = criterion(layer)
    except DaynightError:
        raise
    except Exception as error:
        raise SettingError(
            f"criterion failed on {where}: {error!r}. It is a function of a Layer, and gives a score for each weight; "
            "a loss is the training's: Training(loss=...).", page="policies",
        ) from error  # fmt: skip
    name = getattr(criterion, "__name__", repr(criterion))
    if not isinstance(scores, Tensor) or not _fits(scores, weight):
        what = checks.shown(scores)
        if isinstance(scores, Tensor):
            what = f"{scores.dtype} {tuple(scores.shape)}, {scores.layout}, on {scores.device}"
        raise SettingError(
            f"criterion {name} must give a floating-point score for each weight, and for {where}, of the shape "
            f"{tuple(weight.shape)}, gave {what}."
        )
    if not checks.all_finite(scores) and checks.all_finite(weight):
        raise SettingError(
            f"criterion {name} gives scores that are not finite for {where}, whose weights are. A prune ranks them: "
            "give each weight a finite number."
        )
    return scores


def _fits(scores: Tensor, weight: Tensor) -> bool:
    """Tell whether these can be the scores of the weights: as many numbers, and dense ones."""
    is_dense = scores.layout is torch.strided and not scores.is_meta
    return is_dense and scores.shape == weight.shape and scores.is_floating_point()
