"""The convolution of the engine: without outputs that no part reads, and without inputs that it does not read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from daynight.training.engines.arena import Slot
from daynight.training.engines.stages import Stage, Units, bias_of, trained

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_FUNCTIONS: dict[type[nn.Module], Any] = {nn.Conv1d: torch.conv1d, nn.Conv2d: torch.conv2d, nn.Conv3d: torch.conv3d}


class NarrowConvolution(Stage):
    """A convolution of some of its input channels to some of its output channels.

    Args:
        layer: The layer, of one group, padded with zeros.
        inputs: The input channels that the layer gets; None is all of them.
        outputs: The output channels to compute; None is all of them.
        mine: Which weights the day's task may move: bool, of the weight's shape.
    """

    def __init__(self, layer: Convolution, inputs: Units, outputs: Units, mine: Tensor) -> None:
        places = torch.arange(mine.numel(), device=mine.device).view(mine.shape)
        places = places if outputs is None else places[outputs]
        places = places if inputs is None else places[:, inputs]
        self._shape = places.shape
        self._weight = Slot(layer.weight, places.reshape(-1), mine.reshape(-1)[places.reshape(-1)])
        self._bias = bias_of(layer, outputs)
        self._convolve: Callable[[Tensor, Tensor, Tensor | None], Tensor] = functools.partial(
            _FUNCTIONS[type(layer)], stride=layer.stride, padding=layer.padding, dilation=layer.dilation
        )

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return trained(self._weight, self._bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, given channels, ...) to outputs (batch, computed channels, ...)."""
        weight = self._weight.values.view(self._shape).detach().requires_grad_()
        bias = None if self._bias is None else self._bias.values.detach().requires_grad_()
        self._inputs = inputs.detach().requires_grad_()
        self._leaves = [leaf for leaf in (weight, bias) if leaf is not None]
        with torch.enable_grad():
            self._outputs = self._convolve(self._inputs, weight, bias)
        return self._outputs.detach()

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Write the gradients by weight and bias into the arena, and return the gradient by the inputs."""
        wanted = [*self._leaves, self._inputs] if needs_inputs else self._leaves
        gradients = torch.autograd.grad(self._outputs, wanted, gradient)
        for slot, value in zip(self.slots(), gradients, strict=False):
            slot.gradient.copy_(value.reshape(-1))
        return gradients[-1] if needs_inputs else None
