"""`Engine`: the stages that compute the gradients of one phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from daynight.metrics import WithinGroups
from daynight.networks import liveness
from daynight.networks.masked import MaskedNetwork
from daynight.networks.sequences import CONVOLUTIONS
from daynight.networks.tracing import Part
from daynight.training.engines import sparse, sparse_convolution
from daynight.training.engines.arena import Slot
from daynight.training.engines.convolution import NarrowConvolution
from daynight.training.engines.dense import DenseLinear
from daynight.training.engines.sparse import SparseLinear
from daynight.training.engines.sparse_convolution import SparseConvolution, Whole
from daynight.training.engines.stages import Autograd, Dropout, Flatten, Relu, Stage, Units
from daynight.training.settings import EngineName

Loss = Callable[[Tensor, Tensor], Tensor]
#: By layer, which weights the day's task holds or sees, and which it may move.
Masks = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


class Engine:
    """Computes gradients of the day's task on the network with its current masks.

    Units and inputs that provably have no effect on the gradients are left out: units that no visible weight reads, and
    inputs that are zero in all training data. A layer with few visible weights is computed sparsely.

    Args:
        parts: The network as a chain (see `daynight.networks.tracing`).
        network: The network, during a day. It is not changed.
        name: ``"auto"`` chooses for each layer by its cost; ``"dense"`` and ``"sparse"`` force that engine;
            ``"module"`` belongs to a chain of one part, and leaves nothing out.
        live: Which of the network's flattened inputs are not always zero; None if unknown.
        batch_size: Examples per step.
        narrows: Whether inputs that are not read may be left out of the batches, too.
        lists: Whether convolutions may be computed from the list of their visible weights.

    Attributes:
        features: Which flattened inputs the batches must contain, (batch, features); None is the inputs
            as the network reads them.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        network: MaskedNetwork,
        name: EngineName,
        live: Units,
        batch_size: int,
        narrows: bool,
        lists: bool = True,
    ) -> None:
        self._name, self._batch_size, self._lists = name, batch_size, lists
        masks = network.shown(), network.movable()
        n_places = liveness.n_places_of(parts)
        # Each layer reads at least one input, since kernels cannot compute with empty matrices.
        read, *wanted = map(_indices, liveness.read_units(parts, masks[0], n_places, n_least=1))
        begins = next((index for index, part in enumerate(parts) if part.kind != "flatten"), 0)
        self.features: Units = None
        if live is not None and parts[begins].kind == "linear":
            self.features = live if read is None or not narrows else live[torch.isin(live, read)]
            if not len(self.features):
                self.features = live[:1]
            parts, wanted, n_places = parts[begins:], wanted[begins:], n_places[begins:]
        self._stages: list[Stage] = []
        self._first = len(parts)  # the first stage with trained parameters: no gradient is needed before it
        given, width = self.features, 0
        for index, (part, outputs, n) in enumerate(zip(parts, wanted, n_places, strict=True)):
            stage = self._stage(part, given, outputs, width, masks)
            self._stages.append(stage)
            if stage.slots() or (isinstance(stage, Autograd) and _trains(part.module)):
                self._first = min(self._first, index)
            given, width = self._after(part, given, outputs, width, n)

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas; parameters without a slot get their gradient in ``grad``."""
        return [slot for stage in self._stages for slot in stage.slots()]

    def bind(self) -> None:
        """Prepare the stages, after all slots are put into arenas."""
        for stage in self._stages:
            stage.bind()

    def missed(self) -> list[Slot]:
        """Return the slots that do not have all of the gradient after a step (see `Stage.missed`)."""
        return [slot for stage in self._stages for slot in stage.missed()]

    def gradients(self, inputs: Tensor, targets: Tensor, loss: Loss, share: float = 1.0) -> Tensor:
        """Compute the gradients by all trained parameters, and return the loss of a batch.

        Args:
            inputs: (batch, features), or as the network reads them if `features` is None.
            targets: The targets of the batch.
            loss: Function of (outputs, targets) to a scalar.
            share: Factor of the gradients, not of the returned loss: the batch's share of the examples of a step.
        """
        with torch.no_grad():
            outputs = inputs
            for stage in self._stages:
                outputs = stage.forward(outputs)
            value, gradient = loss_and_gradient(loss, outputs, targets, share)
            for index in range(len(self._stages) - 1, self._first - 1, -1):
                needs_inputs = index > self._first
                passed = self._stages[index].backward(gradient, needs_inputs)
                if needs_inputs:
                    assert passed is not None  # `equivalence.holds` has excluded chains without gradient
                    gradient = passed
        return value

    @staticmethod
    def _after(part: Part, given: Units, outputs: Units, width: int, n_places: int) -> tuple[Units, int]:
        """Return the computed units after a part (None: all), and the number of all units there (0: unknown)."""
        if part.kind == "linear":
            assert isinstance(part.module, nn.Linear)
            return outputs, part.module.out_features
        if part.kind == "convolution":
            assert isinstance(part.module, CONVOLUTIONS)
            return outputs, part.module.out_channels
        if part.kind == "flatten" and n_places:
            return None if given is None else liveness.flattened(given, n_places), width * n_places
        return (given, width) if part.kind in liveness.PASSING else (None, 0)

    def _stage(self, part: Part, given: Units, outputs: Units, width: int, masks: Masks) -> Stage:
        module = part.module
        if part.kind == "linear":
            assert isinstance(module, nn.Linear)
            return self._linear(module, part.name, given, outputs, masks)
        if part.kind == "convolution":
            return self._convolution(part, given, outputs, masks)
        if part.kind == "relu":
            owners = DenseLinear | SparseLinear | SparseConvolution
            return Relu(owns_inputs=bool(self._stages) and isinstance(self._stages[-1], owners))
        if part.kind == "flatten":
            return Flatten()
        if part.kind == "dropout":
            assert isinstance(module, nn.Dropout)
            return Dropout(module.p, given, width)
        return self._autograd(part, masks)

    def _autograd(self, part: Part, masks: Masks) -> Stage:
        needs_inputs = self._first < len(self._stages)
        found = {
            name: self._sparse(part.module.get_submodule(name), name, size, masks) for name, size in part.sizes.items()
        }
        inner = {name: stage for name, stage in found.items() if stage is not None}
        if inner:
            assert isinstance(part.module, fx.GraphModule)
            return Whole(part.module, needs_inputs, inner)
        return Autograd(part.module, needs_inputs, is_unitwise=part.kind == "unitwise")

    def _convolution(self, part: Part, given: Units, outputs: Units, masks: Masks) -> Stage:
        needs_inputs, layer = self._first < len(self._stages), part.module
        assert isinstance(layer, CONVOLUTIONS)
        units = given, outputs
        stage = self._sparse(layer, part.name, part.sizes.get(part.name, ()), masks, units, needs_inputs, turns=False)
        if stage is not None:
            return stage
        if units == (None, None):
            return Autograd(layer, needs_inputs)
        return NarrowConvolution(layer, given, outputs, masks[1][part.name])

    def _sparse(
        self, layer: nn.Module, name: str, size: tuple[int, ...], masks: Masks,
        units: tuple[Units, Units] = (None, None), needs_inputs: bool = True, turns: bool = True,
    ) -> SparseConvolution | None:  # fmt: skip
        """Return the stage of a convolution from the list of its visible weights; None if it is not to be used."""
        can_be = self._name != "dense" and self._lists and bool(size) and name in masks[0]
        if not can_be or not sparse_convolution.can_be_sparse(layer):
            return None
        (given, outputs), visible = units, masks[0][name]
        if self._name == "auto":
            if not sparse_convolution.are_few(visible):
                return None
            shape = (
                layer.in_channels if given is None else len(given),
                layer.out_channels if outputs is None else len(outputs),
            )
            counts = sparse_convolution.counts_of(layer, visible, shape, size, self._batch_size)
            if not counts.sparse_is_faster(needs_inputs, turns):
                return None
        return SparseConvolution(layer, given, outputs, visible, masks[1][name])

    def _linear(self, layer: nn.Linear, name: str, given: Units, outputs: Units, masks: Masks) -> Stage:
        if name not in masks[1]:  # the head
            return DenseLinear(layer, given, outputs, None)
        visible, movable = masks[0][name], masks[1][name]
        shape = (
            layer.out_features if outputs is None else len(outputs),
            layer.in_features if given is None else len(given),
        )
        needs_inputs = self._first < len(self._stages)
        is_faster = sparse.sparse_is_faster(int(torch.count_nonzero(visible)), shape, self._batch_size, needs_inputs)
        is_chosen = self._name == "sparse" or (self._name == "auto" and is_faster)
        if is_chosen and sparse.can_be_sparse(layer.weight):
            return SparseLinear(layer, given, outputs, visible, movable)
        return DenseLinear(layer, given, outputs, movable)


def loss_and_gradient(loss: Loss, outputs: Tensor, targets: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return a loss, and `share` times its gradient by the outputs."""
    if isinstance(loss, WithinGroups) and loss.function is functional.cross_entropy:
        outputs, loss = loss.masked(outputs, targets), loss.function
    if loss is functional.cross_entropy and not targets.is_floating_point():
        # Without autograd, whose overhead takes longer than the sums: softmax of the outputs, minus 1 at the target,
        # over n.
        logarithms = torch.log_softmax(outputs, 1)
        value = functional.nll_loss(logarithms, targets)
        gradient = logarithms.exp_().scatter_(1, targets[:, None], -1, reduce="add")
        return value, gradient.mul_(share / len(outputs))
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        value = loss(leaf, targets)
        # The loss may also depend on parameters of the network.
        (value if share == 1.0 else value * share).backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def _indices(units: Tensor | None) -> Units:
    return None if units is None else torch.nonzero(units)[:, 0]


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
