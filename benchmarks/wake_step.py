"""What a wake step does besides its matrix products, added one thing after another, and how long each takes.

Data are random, with the shape of one task of MNIST: 12,000 examples with 784 inputs, of which 656 are not always zero.
Each row takes the same steps as the row above it and does something more, in plain PyTorch without autograd; the last
row is daynight. Takes about a minute on one thread.

    python benchmarks/wake_step.py --out wake_step.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable

import machine
import torch
from torch import Tensor
from torch.nn import functional

import daynight as dn
from daynight.support.atomic import replacing

N, BATCH_SIZE, LIVE, HIDDEN, N_OUTPUTS = 12_000, 128, 656, 256, 2
N_STEPS = N // BATCH_SIZE
SHAPES = ((HIDDEN, LIVE), (HIDDEN, HIDDEN), (N_OUTPUTS, HIDDEN))


class Steps:
    """The steps of a wake, written by hand.

    Args:
        gathers: Whether each batch is gathered from all examples, in a new order each epoch. Otherwise all batches are
            the first one.
        is_whole: Whether biases, ReLU and the loss are computed.
        adam: Whether Adam takes a step.
    """

    def __init__(self, gathers: bool, is_whole: bool, adam: bool) -> None:
        self.gathers, self.is_whole, self.adam = gathers, is_whole, adam
        self.inputs, self.targets = torch.rand(N, LIVE), torch.randint(0, N_OUTPUTS, (N,))
        sizes = [n_out * n_in for n_out, n_in in SHAPES] + [n_out for n_out, _ in SHAPES]
        self.vector = torch.nn.Parameter(torch.randn(sum(sizes)) * 0.05)
        self.vector.grad = torch.zeros_like(self.vector)
        self.optimizer = torch.optim.Adam([self.vector], lr=1e-4, fused=True)
        self.values = _split(self.vector.detach(), sizes)
        self.gradients = _split(self.vector.grad, sizes)

    def epoch(self) -> None:
        """Take the steps of an epoch, without an incomplete batch at its end."""
        with torch.no_grad():
            for index in torch.randperm(N)[: N_STEPS * BATCH_SIZE].split(BATCH_SIZE):
                if self.gathers:
                    self.step(self.inputs.index_select(0, index), self.targets.index_select(0, index))
                else:
                    self.step(self.inputs[:BATCH_SIZE], self.targets[:BATCH_SIZE])

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take a step: forward pass, backward pass, and Adam."""
        given, kept = inputs, [inputs]
        for layer, weight in enumerate(self.values[:3]):
            if self.is_whole:
                given = torch.addmm(self.values[3 + layer], given, weight.t())
                given = given if layer == 2 else given.relu_()
            else:
                given = given @ weight.t()
            kept.append(given)
        gradient = given
        if self.is_whole:
            logarithms = torch.log_softmax(given, 1)
            functional.nll_loss(logarithms, targets)
            gradient = logarithms.exp_().scatter_(1, targets[:, None], -1, reduce="add").mul_(1 / BATCH_SIZE)
        for layer in (2, 1, 0):
            torch.mm(gradient.t(), kept[layer], out=self.gradients[layer])
            if self.is_whole:
                torch.sum(gradient, 0, out=self.gradients[3 + layer])
            if layer:
                gradient = gradient @ self.values[layer]
                if self.is_whole:
                    torch.ops.aten.threshold_backward.grad_input(gradient, kept[layer], 0, grad_input=gradient)
        if self.adam:
            self.optimizer.step()


class Daynight:
    """The same wake with an agent."""

    def __init__(self) -> None:
        inputs = torch.zeros(N_STEPS * BATCH_SIZE, 784)
        inputs[:, :LIVE] = torch.rand(len(inputs), LIVE)
        examples = (inputs, torch.randint(0, N_OUTPUTS, (len(inputs),)))
        self.task = dn.Task(train=examples, test=(inputs[:10], examples[1][:10]), n_outputs=N_OUTPUTS)

    def epochs(self, n: int) -> list[float]:
        """Return the seconds of each epoch of a wake except the first."""
        agent = dn.Agent(dn.models.MLP(784, HIDDEN, HIDDEN), capacity=dn.Capacity(free_at_end=0.99, days=5))
        ends = list[float]()

        def note(event: dn.Record | dn.Progress) -> None:
            if isinstance(event, dn.Record) and event.kind == "epoch":
                ends.append(event.elapsed_seconds or 0.0)

        agent.wake(self.task, dn.Epochs(n + 1), note)
        return [end - begin for begin, end in itertools.pairwise(ends)]


def main() -> None:
    """Measure all rows in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, metavar="R", help="epochs of each row (10)")
    parser.add_argument("--out", metavar="FILE", help="write the raw numbers as JSON")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    print(machine.line(machine.describe()), flush=True)
    rows: dict[str, Callable[[], None]] = {
        "matrix products": Steps(False, False, False).epoch,
        "and batches": Steps(True, False, False).epoch,
        "and biases, ReLU, loss": Steps(True, True, False).epoch,
        "and Adam": Steps(True, True, True).epoch,
    }
    daynight = Daynight()
    daynight.epochs(1)
    seconds: dict[str, list[float]] = {name: [] for name in [*rows, "daynight"]}
    for _ in range(settings.rounds):
        for name, epoch in rows.items():
            began = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - began)
        seconds["daynight"] += daynight.epochs(1)
    floor = statistics.median(seconds["matrix products"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<30}{median / N_STEPS * 1e3:8.3f} ms a step{median / floor:8.2f} of the products")
    if settings.out:
        with replacing(settings.out) as path:
            path.write_text(json.dumps({"machine": machine.describe(), "n_steps": N_STEPS, "seconds": seconds}) + "\n")


def _split(vector: Tensor, sizes: list[int]) -> list[Tensor]:
    parts = list(vector.split(sizes))
    return [part.view(SHAPES[index]) if index < len(SHAPES) else part for index, part in enumerate(parts)]


if __name__ == "__main__":
    main()
