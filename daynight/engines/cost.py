"""Which engine computes a layer faster: an estimate from shapes and density alone, so that it never varies."""

from __future__ import annotations

import torch
from torch import Tensor

#: Cost of one visible weight of a sparse layer for one example, in multiply-adds of a dense product: of its outputs, of
#: the gradient by its weight, and of that by its inputs. Rounded from what benchmarks/kernels.py measures.
FORWARD, BY_WEIGHT, BY_INPUTS = 2.0, 4.0, 4.0
#: What a sparse layer costs beyond that each step, in the same unit: its calls. Tuned on whole nights. That benchmark
#: finds more, for there each layer changes the layout of what it is given; in a chain only the first of several does.
OVERHEAD = 2_000_000.0


def sparse_is_faster(n_visible: int, shape: tuple[int, int], batch_size: int, needs_inputs: bool) -> bool:
    """Tell whether a linear layer is computed faster from the list of its visible weights.

    Args:
        n_visible: Number of visible weights.
        shape: Outputs and inputs of the matrix that would be used instead.
        batch_size: Examples a step.
        needs_inputs: Whether the gradient by the inputs is wanted.
    """
    dense = shape[0] * shape[1] * batch_size * (2 + needs_inputs)
    each = FORWARD + BY_WEIGHT + (BY_INPUTS if needs_inputs else 0.0)
    return n_visible * batch_size * each + OVERHEAD < dense


def can_be_sparse(weight: Tensor) -> bool:
    """Tell whether the kernels of the sparse engine exist for a weight: in single or double precision, on a CPU."""
    return weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
