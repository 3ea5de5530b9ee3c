"""`Selection`: which of the day's weights a prune keeps, by capacity, criterion and ranking."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from daynight import criteria
from daynight.criteria import Criterion, Layer
from daynight.networks.connectivity import Connections
from daynight.networks.masked import MaskedNetwork
from daynight.pruning.capacity import Capacity, Room
from daynight.pruning.masks import keep_connected, keep_top_globally, keep_top_per_layer, layer_adaptive


@attrs.frozen(kw_only=True, eq=False)
class Selection:
    """Chooses the weights that a prune keeps.

    Attributes:
        network: The network, during a day.
        capacity: How layers are ranked.
        room: How many weights the task holds at dusk, and owns at dawn.
        criterion: Function that scores the weights.
        gradients: Function that returns by layer the gradient of the mean training loss; called only if the criterion
            reads a gradient.
        squared_jacobian: Function of a random generator that returns by layer the squared derivatives of the outputs;
            called only if the criterion reads them.
        generator: Function that returns a random generator. Equal arguments give the same stream of numbers.
        start: By layer, the weights at the beginning of the day, if the criterion reads them.
        cycle: Index of the night's cycle, which names the random generators.
        connections: Function that returns how the layers are connected; called only if the capacity is connected.
    """

    network: MaskedNetwork
    capacity: Capacity
    room: Room
    criterion: Criterion
    gradients: Callable[[], Mapping[str, Tensor]]
    squared_jacobian: Callable[[torch.Generator], Mapping[str, Tensor]]
    generator: Callable[..., torch.Generator]
    start: Mapping[str, Tensor]
    cycle: int
    connections: Callable[[], Connections]
    #: By layer, the score of each weight.
    scores: dict[str, Tensor] = attrs.field(init=False)

    @scores.default
    def _scores(self) -> dict[str, Tensor]:
        gradients, scores = functools.cache(self.gradients), {}
        squares = functools.cache(lambda: self.squared_jacobian(self.generator("jacobian", self.cycle)))
        for name, weight in self.network.weights.items():
            # A criterion gets copies, since it may write to them.
            start, gradient = functools.partial(_at, self.start, name), functools.partial(_from, gradients, name)
            generator = self.generator("prune", self.cycle, name)
            square = functools.partial(_from, squares, name)
            layer = Layer(name, weight.detach().clone(), start, gradient, generator, square)
            scores[name] = criteria.scored(self.criterion, layer, weight, f"layer {name!r}")
        return scores

    def masks(self, keep: float, held: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return per layer the mask of the held weights to keep, as many as `Room.kept` says for density `keep`."""
        scores, counts = self.scores, self.room.kept(keep)
        if self.capacity.ranking == "layer":
            found = keep_top_per_layer(scores, held, dict(zip(self.network.sizes, counts, strict=True)))
        else:
            if self.capacity.ranking == "balanced":
                scores = layer_adaptive(scores, held)
            found = keep_top_globally(scores, held, counts[0], self.capacity.min_per_layer)
        if not self.capacity.connected:
            return found
        today = self.network.held()
        seen = {name: shown & ~today[name] for name, shown in self.network.shown().items()}
        return keep_connected(scores, held, found, seen, self.connections())

    def squares(self, held: Mapping[str, Tensor]) -> float:
        """Return the sum of the squares of the held weights."""
        weights = self.network.weights
        return sum(float(weights[name].detach()[mask].double().square().sum()) for name, mask in held.items())


def _at(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name].clone()


def _from(tensors: Callable[[], Mapping[str, Tensor]], name: str) -> Tensor:
    return tensors()[name].clone()
