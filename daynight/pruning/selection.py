"""`Selection`: which of the day's weights a prune keeps, by capacity, criterion and ranking."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from daynight import criteria
from daynight.criteria import Criterion, Layer
from daynight.networks.masked import MaskedNetwork
from daynight.pruning.capacity import Capacity
from daynight.pruning.masks import keep_top_globally, keep_top_per_layer, layer_adaptive


@attrs.frozen(kw_only=True, eq=False)
class Selection:
    """Chooses the weights that a prune keeps.

    Attributes:
        network: The network, in a day.
        capacity: How many weights the task may own at dawn.
        criterion: Scores them.
        gradients: Computes by layer the gradient of the mean training loss; called only if the criterion asks.
        generator: Makes a generator of random numbers named by what it is given.
        start: By layer, the weights as they were when the day began, if the criterion looks at them.
        cycle: Index of the night's cycle, which names random numbers.
    """

    network: MaskedNetwork
    capacity: Capacity
    criterion: Criterion
    gradients: Callable[[], Mapping[str, Tensor]]
    generator: Callable[..., torch.Generator]
    start: Mapping[str, Tensor]
    cycle: int
    #: By layer, the score of each weight.
    scores: dict[str, Tensor] = attrs.field(init=False)

    @scores.default
    def _scores(self) -> dict[str, Tensor]:
        gradients, scores = functools.cache(self.gradients), {}
        for name, weight in self.network.weights.items():
            # Copies, which a criterion may write to.
            start, gradient = functools.partial(_at, self.start, name), functools.partial(_from, gradients, name)
            generator = self.generator("prune", self.cycle, name)
            layer = Layer(name, weight.detach().clone(), start, gradient, generator)
            scores[name] = criteria.scored(self.criterion, layer, weight, f"layer {name!r}")
        return scores

    def masks(self, keep: float, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Choose exactly as many weights as a density of the day's means, among those that are held."""
        sizes = self.network.sizes
        counts = self.capacity.kept(tuple(sizes.values()), self.network.n_tasks, keep)
        scores = self.scores
        if self.capacity.ranking == "layer":
            return keep_top_per_layer(scores, held, dict(zip(sizes, counts, strict=True)))
        if self.capacity.ranking == "balanced":
            scores = layer_adaptive(scores, held)
        return keep_top_globally(scores, held, counts[0], self.capacity.min_per_layer)

    def squares(self, held: Mapping[str, Tensor]) -> float:
        """Sum the squares of the weights that are held."""
        weights = self.network.weights
        return sum(float(weights[name].detach()[mask].double().square().sum()) for name, mask in held.items())


def _at(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name].clone()


def _from(tensors: Callable[[], Mapping[str, Tensor]], name: str) -> Tensor:
    return tensors()[name].clone()
