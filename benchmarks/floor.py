"""The floor of a wake: the time of its matrix products alone, at the rate that this machine reaches.

A step on 784:256:256:2 needs eight products: three of the forward pass, three gradients of weights, and two gradients
of inputs. Inputs that are zero in all training images of a task are left out, but for a few that make the number of
inputs a multiple of 16, since the products are then faster. All else that a step does (biases, ReLU, loss, optimizer,
batches) is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch import Tensor

BATCH_SIZE, HIDDEN, N_OUTPUTS = 128, 256, 2
#: Products over a multiple of so many inputs are a few percent faster than those over one input less.
ALIGNMENT = 16
#: Number of timed steps: about an epoch of two digits of MNIST.
N_STEPS = 95


def run(train_inputs: Iterable[Tensor]) -> dict[str, object]:
    """Time the products of a wake epoch of each task.

    Args:
        train_inputs: The training inputs (n, 784) of each task.
    """
    epochs, rates, widths = [], [], []
    for inputs in train_inputs:
        n_live = int((inputs != 0).any(0).sum())
        n_live += -n_live % ALIGNMENT
        seconds_per_step = _time_step(n_live)
        epochs.append((seconds_per_step * len(inputs) / BATCH_SIZE, 1.0))
        rates.append(flop_per_step(n_live) / seconds_per_step / 1e9)
        widths.append(n_live)
    return {"wakes": epochs, "rems": [], "gflop_per_second": sum(rates) / len(rates), "live_inputs": widths}


def flop_per_step(n_inputs: int) -> int:
    """Return the number of floating-point operations of the products of a step, two for each multiply-add."""
    first, second, head = n_inputs * HIDDEN, HIDDEN * HIDDEN, HIDDEN * N_OUTPUTS
    return 2 * BATCH_SIZE * (2 * first + 3 * second + 3 * head)


def _time_step(n_inputs: int) -> float:
    """Return the seconds that the products of a step take: the mean over an epoch, the best of three."""
    layers = []
    for n_in, n_out in ((n_inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, N_OUTPUTS)):
        x, w, g = torch.rand(BATCH_SIZE, n_in), torch.rand(n_out, n_in), torch.rand(BATCH_SIZE, n_out)
        layers.append((x, w, g, torch.empty_like(g), torch.empty_like(w), torch.empty_like(x)))

    def step() -> None:
        for x, w, _, outputs, _, _ in layers:
            torch.mm(x, w.t(), out=outputs)
        for index in (2, 1, 0):
            x, w, g, _, by_weight, by_inputs = layers[index]
            torch.mm(g.t(), x, out=by_weight)
            if index:
                torch.mm(g, w, out=by_inputs)

    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(N_STEPS):
            step()
        best = min(best, (time.perf_counter() - began) / N_STEPS)
    return best
