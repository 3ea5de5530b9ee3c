"""The linear layer of the dense engine: matrix products, written straight into the arena."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daynight.training.engines.arena import Slot
from daynight.training.engines.stages import Stage, Units, bias_of, trained


class DenseLinear(Stage):
    """A linear layer, as a matrix of some of its outputs (rows) and inputs (columns).

    A step takes three products: the outputs are inputs W^T + b; the gradient by W is (gradient by outputs)^T inputs;
    the gradient by the inputs is (gradient by outputs) W. Inputs that are always zero and outputs that no part reads
    are left out, which has no effect on these.

    Args:
        layer: The layer.
        inputs: The inputs that the layer gets; None is all of them.
        outputs: The outputs to compute; None is all of them.
        mine: Which weights the day's task may move: bool, of the weight's shape; None is all of them.
    """

    def __init__(self, layer: nn.Linear, inputs: Units, outputs: Units, mine: Tensor | None) -> None:
        places = _rectangle(layer.weight, inputs, outputs)
        self._weight = Slot(layer.weight, places, mine if mine is None else mine.reshape(-1)[_all(places)])
        self._shape = (
            layer.out_features if outputs is None else len(outputs),
            layer.in_features if inputs is None else len(inputs),
        )
        self._bias = bias_of(layer, outputs)

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return trained(self._weight, self._bias)

    def bind(self) -> None:
        """View the weight and its gradient as matrices."""
        self._matrix = self._weight.values.view(self._shape)
        self._by_weight = self._weight.gradient.view(self._shape)
        self._offset = None if self._bias is None else self._bias.values
        self._by_bias = [slot.gradient for slot in trained(self._bias)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, given) to outputs (batch, computed), in the memory layout of the inputs."""
        self._inputs = inputs
        # After a sparse layer, inputs are stored as (units, batch). Then few outputs take a fifth of the time.
        self._is_turned = not inputs.is_contiguous()
        bias = self._offset
        if self._is_turned:
            turned = inputs.t()
            return (self._matrix @ turned if bias is None else torch.addmm(bias[:, None], self._matrix, turned)).t()
        return inputs @ self._matrix.t() if bias is None else torch.addmm(bias, inputs, self._matrix.t())

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Write the gradients by weight and bias into the arena, and return the gradient by the inputs."""
        by_outputs = gradient.t().contiguous() if self._is_turned else gradient.t()
        torch.mm(by_outputs, self._inputs, out=self._by_weight)
        for by_bias in self._by_bias:
            torch.sum(by_outputs, 1, out=by_bias)
        if not needs_inputs:
            return None
        return (self._matrix.t() @ by_outputs).t() if self._is_turned else gradient @ self._matrix


def _all(places: Tensor | None) -> Tensor | slice:
    return slice(None) if places is None else places


def _rectangle(weight: Tensor, inputs: Units, outputs: Units) -> Tensor | None:
    """Return the places of the given rows and columns in a flattened matrix, row by row; None if these are all."""
    if inputs is None and outputs is None:
        return None
    n_out, n_in = weight.shape
    rows = torch.arange(n_out, device=weight.device) if outputs is None else outputs
    columns = torch.arange(n_in, device=weight.device) if inputs is None else inputs
    return (rows[:, None] * n_in + columns).reshape(-1)
