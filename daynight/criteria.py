"""Pruning criteria: functions that score each weight of a layer. A prune keeps the weights with the highest scores.

Write your own as one function of a `Layer`, and pass it to ``Agent(criterion=...)``.
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
    """One layer at the time of a prune, as a criterion reads it.

    Args:
        name: Name of the layer.
        weight: A copy of the layer's weights: floating point, any shape. Pruned weights are zero.
        start: Function that returns the weights at the beginning of the day, same shape.
        gradient: Function that returns the gradient of the mean training loss, same shape.
        generator: Random generator on the CPU; named by seed, day and cycle.
        squared_jacobian: Function that returns the squared derivatives of the outputs, same shape.
    """

    def __init__(
        self,
        name: str,
        weight: Tensor,
        start: Callable[[], Tensor],
        gradient: Callable[[], Tensor],
        generator: torch.Generator,
        squared_jacobian: Callable[[], Tensor] | None = None,
    ) -> None:
        self.name, self.weight, self.generator = name, weight, generator
        self._start, self._gradient, self._squared_jacobian = start, gradient, squared_jacobian or _missing

    @property
    def start(self) -> Tensor:
        """The weights at the beginning of the day, after the free weights were restarted; same shape."""
        return self._start()

    @property
    def gradient(self) -> Tensor:
        """The gradient of the current network's mean loss over some of the day's training examples; same shape."""
        return self._gradient()

    @property
    def squared_jacobian(self) -> Tensor:
        """For each weight, the sum over the outputs of (d output / d weight)^2; same shape, 0 or more.

        In a union of tasks, an example has the outputs of its own task only. It is the mean over some of the day's
        training examples: 2,048 or, in a night whose cycles have trained on fewer, as many as they have on average, but
        at least 256, and at most all. The network is in evaluation mode. It is an estimate: the derivative of a sum of
        outputs with random signs has this square on average. Of weights with 16 bits, it has 32. Source: Bekas,
        Kokiopoulou & Saad, "An estimator for the diagonal of a matrix", Applied Numerical Mathematics 57, 2007.
        """
        return self._squared_jacobian()


def _missing() -> Tensor:
    raise SettingError("this layer was made without squared derivatives of outputs: Layer(..., squared_jacobian=...).")


def magnitude(layer: Layer) -> Tensor:
    """Score each weight by its absolute value, as PackNet does.

    Source: Mallya & Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning", CVPR 2018.
    """
    return layer.weight.abs()


def gradient_times_weight(layer: Layer) -> Tensor:
    """Score each weight by how much its removal changes the loss, to first order: abs(gradient * weight).

    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017.
    """
    return (layer.gradient * layer.weight).abs()


def output_change(layer: Layer) -> Tensor:
    """Score each weight by how much its removal changes the outputs, to first order: weight^2 * `squared_jacobian`.

    The score is the mean squared change of the outputs, summed over them. Unlike the gradient of the loss, it does not
    vanish when the training examples are learnt. It is twice the saliency of Optimal Brain Damage for half the squared
    error of the outputs, in the Gauss-Newton (Levenberg-Marquardt) form.

    Source: LeCun, Denker & Solla, "Optimal Brain Damage", NeurIPS 1989, sections 2.1 and 2.2.
    """
    squares = layer.squared_jacobian
    return layer.weight.to(squares.dtype).square() * squares


def movement(layer: Layer) -> Tensor:
    """Score each weight by how far it has moved away from zero during the day: weight^2 - start^2.

    Movement pruning sums -gradient * weight over the steps of the training. For gradient descent with small steps this
    sum is, up to the learning rate as a factor, the integral of weight d(weight), which is half of the difference of
    the squares. Optimizers that rescale gradients, such as Adam, move along the rescaled gradients.

    Source: Sanh, Wolf & Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, equation 4.
    """
    return layer.weight.square() - layer.start.square()


def random(layer: Layer) -> Tensor:
    """Score each weight at random: a baseline for other criteria."""
    scores = torch.rand(layer.weight.shape, generator=layer.generator, dtype=torch.float64)
    return scores.to(layer.weight.device)


def looks_back(criterion: Criterion) -> bool:
    """Return whether a criterion may read `Layer.start`. A user's criterion may, if only in some layers or nights."""
    return not any(criterion is one for one in (magnitude, gradient_times_weight, output_change, random))


def check(criterion: Criterion) -> None:
    """Try a criterion on a small layer.

    Raises:
        SettingError: If the criterion fails, or does not return a floating-point score for each weight.
    """
    weight = torch.tensor([[0.1, 0.0, -0.2], [0.3, -0.4, 0.5]])
    other = torch.tensor([[0.5, -0.25, 0.0], [1.0, 2.0, -3.0]])
    layer = Layer("probe", weight.clone(), other.clone, other.clone, torch.Generator(), other.square)
    scored(criterion, layer, weight, "a layer of 2 x 3 weights")


def scored(criterion: Criterion, layer: Layer, weight: Tensor, where: str) -> Tensor:
    """Return the scores of a layer, checked.

    Args:
        criterion: The criterion.
        layer: The layer for the criterion, which may write to its tensors.
        weight: The layer's weights.
        where: Name of the layer in errors.

    Raises:
        SettingError: If the criterion fails, does not return a floating-point score for each weight, or returns a score
            that is not finite although all weights are.
    """
    try:
        scores: Any = criterion(layer)
    except DaynightError:
        raise
    except Exception as error:
        raise SettingError(
            f"criterion failed on {where}: {error!r}. It must be a function of a Layer that returns a score for each "
            "weight. A loss belongs to the training: Training(loss=...).", page="policies",
        ) from error  # fmt: skip
    name = getattr(criterion, "__name__", repr(criterion))
    if not isinstance(scores, Tensor) or not _fits(scores, weight):
        what = checks.shown(scores)
        if isinstance(scores, Tensor):
            what = f"{scores.dtype} {tuple(scores.shape)}, {scores.layout}, on {scores.device}"
        raise SettingError(
            f"criterion {name} must return a floating-point score for each weight, and for {where}, of the shape "
            f"{tuple(weight.shape)}, returned {what}."
        )
    if not checks.all_finite(scores) and checks.all_finite(weight):
        raise SettingError(
            f"criterion {name} returns scores that are not finite for {where}, whose weights are. A prune ranks them: "
            "return a finite number for each weight. If float16 cannot hold them, use bfloat16 or float32."
        )
    return scores


def _fits(scores: Tensor, weight: Tensor) -> bool:
    """Return whether `scores` can be scores of the weights: floating point, dense, and of the same shape."""
    is_dense = scores.layout is torch.strided and not scores.is_meta
    return is_dense and scores.shape == weight.shape and scores.is_floating_point()
