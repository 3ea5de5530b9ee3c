"""The linear layer of the sparse engine: one multiply-add for each visible weight and example."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from daynight.support import threads
from daynight.training.engines.arena import Slot
from daynight.training.engines.stages import Stage, Units, bias_of, trained

#: Cost of one visible weight of a sparse layer for one example, in multiply-adds of a dense product: for the outputs,
#: the gradient by the weight, and the gradient by the inputs. Rounded from measurements by benchmarks/kernels.py.
FORWARD, BY_WEIGHT, BY_INPUTS = 2.0, 4.0, 4.0
#: Additional cost of a sparse layer per step, in the same unit: its calls. Tuned on whole nights. The benchmark
#: measures more, since each layer in it changes the layout of its inputs; in a chain of sparse layers, only the first
#: one does.
OVERHEAD = 2_000_000.0


def sparse_is_faster(n_visible: int, shape: tuple[int, int], batch_size: int, needs_inputs: bool) -> bool:
    """Return whether a linear layer is computed faster from the list of its visible weights.

    Args:
        n_visible: Number of visible weights.
        shape: Numbers of outputs and inputs of the dense engine's matrix.
        batch_size: Examples per step.
        needs_inputs: Whether the gradient by the inputs is needed.
    """
    dense = shape[0] * shape[1] * batch_size * (2 + needs_inputs)
    each = FORWARD + BY_WEIGHT + (BY_INPUTS if needs_inputs else 0.0)
    return n_visible * batch_size * each + OVERHEAD < dense


def can_be_sparse(weight: Tensor) -> bool:
    """Return whether the sparse engine has kernels for a weight: in single or double precision, on a CPU."""
    return weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)


class SparseLinear(Stage):
    """A linear layer, as the list of its visible weights, row by row.

    Activations are laid out as (units, batch), so that each weight is one multiply-add over a batch that is
    contiguous in memory. With the inputs X and the gradient by the outputs G in that layout, and the sparse weight S:

    - outputs S X: ``embedding_bag`` sums, for each output, the rows of X that its weights read, times the weights;
    - gradient by the inputs S^T G: the same, with the weights listed column by column;
    - gradient by weight (i, j), the product of row i of G and row j of X: ``sampled_addmm``.

    The weights that are left out have no effect on these: weights that are not visible are zero, and the gradient by a
    weight is zero if no part reads its output or its input is always zero.

    Args:
        layer: The layer.
        inputs: The inputs that the layer gets; None is all of them.
        outputs: The outputs to compute; None is all of them.
        visible: Which weights are not zero: bool, of the weight's shape.
        mine: Which weights the day's task may move: bool, of the weight's shape.
    """

    def __init__(self, layer: nn.Linear, inputs: Units, outputs: Units, visible: Tensor, mine: Tensor) -> None:
        n_out, n_in = layer.weight.shape
        rows, columns = numbered(outputs, n_out, visible), numbered(inputs, n_in, visible)
        listed = visible & (rows >= 0)[:, None] & (columns >= 0)
        places = torch.nonzero(listed.reshape(-1))[:, 0]
        self._weight = Slot(layer.weight, places, mine.reshape(-1)[places])
        self._bias = bias_of(layer, outputs)
        self._rows, self._columns = rows[places // n_in], columns[places % n_in]
        self._shape = (n_out if outputs is None else len(outputs), n_in if inputs is None else len(inputs))
        self._row_starts = starts(self._rows, self._shape[0])
        self._by_column = self._columns.argsort(stable=True)
        self._rows_by_column = self._rows[self._by_column]
        self._column_starts = starts(self._columns[self._by_column], self._shape[1])
        ends = torch.cat([self._row_starts, torch.tensor([len(places)], device=places.device)])
        with threads.quiet(category=UserWarning):  # about CSR tensors being in beta
            self._pattern = torch.sparse_csr_tensor(
                ends, self._columns, torch.zeros_like(self._weight.values), self._shape
            )

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return trained(self._weight, self._bias)

    def bind(self) -> None:
        """View the bias as a column."""
        self._offset = None if self._bias is None else self._bias.values[:, None]
        self._by_bias = [slot.gradient for slot in trained(self._bias)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, given) to outputs (batch, computed), which are stored as (computed, batch)."""
        self._inputs = inputs.t().contiguous()
        outputs = multiply(self._columns, self._row_starts, self._weight.values, self._inputs)
        if self._offset is not None:
            outputs += self._offset
        return outputs.t()

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Write the gradients by weight and bias into the arena, and return the gradient by the inputs."""
        gradient = gradient.t().contiguous()
        if len(self._weight):
            products = torch.sparse.sampled_addmm(self._pattern, gradient, self._inputs.t(), beta=0.0)
            self._weight.gradient.copy_(products.values())
        for by_bias in self._by_bias:
            torch.sum(gradient, 1, out=by_bias)
        if not needs_inputs:
            return None
        weights = self._weight.values[self._by_column]
        return multiply(self._rows_by_column, self._column_starts, weights, gradient).t()


def multiply(columns: Tensor, starts: Tensor, weights: Tensor, dense: Tensor) -> Tensor:
    """Return the product of a sparse matrix (rows, k), given row by row, and a dense one (k, batch)."""
    return functional.embedding_bag(columns, dense, starts, mode="sum", per_sample_weights=weights)


def starts(sorted_rows: Tensor, n_rows: int) -> Tensor:
    """Return, for each of `n_rows` rows, the index of its first number: int64 (n_rows,)."""
    return torch.searchsorted(sorted_rows, torch.arange(n_rows, device=sorted_rows.device))


def numbered(units: Units, width: int, like: Tensor) -> Tensor:
    """Return the place of each unit of a layer in a stage: int64 (width,), -1 for units that are left out."""
    if units is None:
        return torch.arange(width, device=like.device)
    numbers = torch.full((width,), -1, device=like.device)
    numbers[units] = torch.arange(len(units), device=like.device)
    return numbers
