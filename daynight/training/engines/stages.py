"""Stages: each computes one part of the chain, forward and backward. The stages without weights are here."""

from __future__ import annotations

import abc
from typing import Any

import torch
from torch import Tensor, fx, nn

from daynight.training.engines.arena import Slot

Units = Tensor | None
"""Some of a layer's units (features or channels), which a stage reads or computes: int64, ascending; None is all."""


class Stage(abc.ABC):
    """Computes one part; the gradients by its parameters go to slots (see `daynight.training.engines.arena`)."""

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return []

    def bind(self) -> None:  # noqa: B027 - most stages have nothing to do
        """Make views of the slots, after these are put into arenas."""

    def missed(self) -> list[Slot]:
        """Return the slots that do not have the whole gradient after a step; their parameters' ``grad`` has the rest.

        The gradient of such a slot is zero if `backward` has not computed it.
        """
        return []

    @abc.abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to outputs, both (batch, units, ...), and keep the tensors that `backward` needs."""

    @abc.abstractmethod
    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Write the gradients by the slots, and return the gradient by the inputs of the last `forward`.

        Args:
            gradient: Gradient by the outputs, of their shape; may be overwritten.
            needs_inputs: Whether the gradient by the inputs is needed. If not, None is returned.
        """


class Autograd(Stage):
    """Any module, by PyTorch's autograd. The gradient by each parameter goes to its ``grad``.

    Args:
        module: The module.
        needs_inputs: Whether the gradient by its inputs is ever needed. If not, they are given as a plain loop gives
            them, since a module may do other things with inputs that need a gradient.
        is_unitwise: Whether the module computes each unit or channel of each example alone, without random numbers.
    """

    def __init__(self, module: nn.Module, needs_inputs: bool, is_unitwise: bool = False) -> None:
        self._module, self._needs_inputs = module, needs_inputs
        self._copies = _writes_in_place(module)
        self._is_unitwise = is_unitwise

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the module."""
        # Random numbers are drawn in the order of memory, which differs after a sparse layer.
        is_moved = inputs.dim() == 2 or (is_turned(inputs) and not self._is_unitwise)
        self._inputs = inputs.contiguous() if is_moved else inputs
        if inputs.is_floating_point():
            self._inputs = self._inputs.detach().requires_grad_(self._needs_inputs)
        with torch.enable_grad():
            given = self._inputs.clone() if self._copies else self._inputs
            # Turned images have the memory of a batch of channels, in PyTorch's format "channels last".
            self._outputs: Tensor = (
                self._module(given.transpose(0, 1)).transpose(0, 1) if is_turned(given) else self._module(given)
            )
        outputs: Tensor = self._outputs.detach()
        return outputs

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Run autograd."""
        if self._outputs.requires_grad:
            torch.autograd.backward(self._outputs, gradient)
        return self._inputs.grad if needs_inputs else None


class Relu(Stage):
    """ReLU. It overwrites its inputs if it can, so that less data must stay in the processor's cache.

    Args:
        owns_inputs: Whether no other stage needs the inputs, so that ReLU can overwrite them. It always overwrites
            gradients.
    """

    def __init__(self, owns_inputs: bool) -> None:
        self._owns_inputs = owns_inputs

    def forward(self, inputs: Tensor) -> Tensor:
        """Set negative values to zero."""
        self._outputs = inputs.relu_() if self._owns_inputs else inputs.relu()
        return self._outputs

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Return the gradient where the outputs are positive, and zero elsewhere."""
        backward: Any = torch.ops.aten.threshold_backward.grad_input
        return backward(gradient, self._outputs, 0, grad_input=gradient) if needs_inputs else None


class Dropout(Stage):
    """Dropout, drawn for all units of the layer, so that leaving out units does not change it for the other units.

    Args:
        p: Probability of dropping, above 0 and below 1.
        units: The units of the inputs; None is all of them.
        width: Number of units of the layer.
    """

    def __init__(self, p: float, units: Units, width: int) -> None:
        self._p, self._units, self._width = p, units, width

    def forward(self, inputs: Tensor) -> Tensor:
        """Set some values to zero, and scale up the others."""
        shape = list(inputs.shape)
        shape[1] = shape[1] if self._units is None else self._width
        # The draw of torch.nn.Dropout on a CPU, for tensors of the layer's full width: in the order of memory, but for
        # that which sparse layers give to (batch, units) and to images.
        keeps_order = self._units is None and inputs.dim() > 2 and not is_turned(inputs)
        empty = torch.empty_like(inputs) if keeps_order else inputs.new_empty(shape)
        noise = empty.bernoulli_(1 - self._p).div_(1 - self._p)
        self._noise = noise if self._units is None else noise.index_select(1, self._units)
        return inputs * self._noise

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Return the gradient with the same values dropped and scaled."""
        return gradient * self._noise if needs_inputs else None


class Flatten(Stage):
    """All dimensions after the first become one."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, ...) to outputs (batch, features)."""
        self._shape = inputs.shape
        return inputs.flatten(1)

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Return the gradient in the shape of the inputs."""
        return gradient.reshape(self._shape) if needs_inputs else None


def is_turned(images: Tensor) -> bool:
    """Return whether images (batch, channels, height, width) are stored as (channels, height, width, batch) alone."""
    return images.dim() == 4 and not images.is_contiguous() and images.permute(1, 2, 3, 0).is_contiguous()


def bias_of(layer: nn.Module, outputs: Units) -> Slot | None:
    """Return the slot of a layer's bias for some of its outputs; None if it has no bias."""
    return Slot(layer.bias, outputs) if isinstance(layer.bias, nn.Parameter) else None


def trained(*slots: Slot | None) -> list[Slot]:
    """Return those of `slots` that are not None and whose parameter is trained."""
    return [slot for slot in slots if slot is not None and slot.parameter.requires_grad]


def _writes_in_place(module: nn.Module) -> bool:
    """Return whether a module may write into its inputs, which autograd does not allow for leaves."""
    nodes = [node for part in module.modules() if isinstance(part, fx.GraphModule) for node in part.graph.nodes]
    calls = {str(getattr(node.target, "__name__", node.target)) for node in nodes}
    return (
        not nodes  # a module that was not traced may do anything
        or any(name.endswith("_") or name == "setitem" for name in calls)
        or any(node.kwargs.get("inplace") for node in nodes)
        or any(getattr(part, "inplace", False) for part in module.modules())
    )
