"""PackNet with iterative pruning as a good PyTorch user would write it: one file, autograd, and no other library.

`speed.py` compares with it. It is the same algorithm as daynight's at its defaults: per-layer magnitude pruning to
exact counts, a private head and private biases per task, free weights that start at zero at each wake but the first,
and a new fused Adam at each wake and each REM. Of daynight it uses only the data, and `Capacity` for the counts, so
that both keep the same number of weights.

Frozen and pruned weights need no mask in the forward pass. Their gradient is always zero, and then Adam without decay
does not move them; pruned weights were set to zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from daynight import Capacity, Split, Task

Examples = tuple[Tensor, Tensor]
FREE = -1
BATCH_SIZE = 128


class PlainLoop:
    """A network 784:256:256 with a head per task, and who owns each of its weights.

    Args:
        seed: Seed of PyTorch's global generator, which makes all random numbers.
        capacity: How many weights each layer may keep each night.
        n_rounds: N, rounds of pruning and retraining in a night.
    """

    def __init__(self, seed: int, capacity: Capacity, n_rounds: int) -> None:
        torch.manual_seed(seed)
        self.layers = [nn.Linear(784, 256), nn.Linear(256, 256)]
        self.owners = [torch.full_like(layer.weight, FREE, dtype=torch.int16) for layer in self.layers]
        self.sizes = tuple(layer.weight.numel() for layer in self.layers)
        self.heads: list[nn.Linear] = []
        self.biases: list[list[Tensor]] = []
        self.capacity, self.n_rounds = capacity, n_rounds
        #: Seconds and epochs of each stretch of training.
        self.wakes: list[tuple[float, float]] = []
        self.rems: list[tuple[float, float]] = []

    def learn(self, train: Examples, epochs: float, budget: float) -> None:
        """Run a day: train on a task, then prune and retrain in rounds within a budget of epochs."""
        day = len(self.heads)
        self.heads.append(nn.Linear(256, 2))
        for owners in self.owners:
            owners[owners == FREE] = day
        steps_per_epoch = -(-len(train[0]) // BATCH_SIZE)
        seconds = self._fit(day, batches(*train), round(epochs * steps_per_epoch))
        self.wakes.append((seconds, round(epochs * steps_per_epoch) / steps_per_epoch))

        night = batches(*train)
        dawn_density = self.capacity.dawn_density(self.sizes, day)
        n_steps, spent = round(budget * steps_per_epoch), 0
        for n in range(1, self.n_rounds + 1):
            density = dawn_density ** (n / self.n_rounds) if n < self.n_rounds else dawn_density
            self._prune(day, self.capacity.kept(self.sizes, day, density))
            end = round(n / self.n_rounds * n_steps)
            seconds = self._fit(day, night, end - spent)
            self.rems.append((seconds, (end - spent) / steps_per_epoch))
            spent = end
        self.biases.append([layer.bias.detach().clone() for layer in self.layers])

    @torch.no_grad()
    def accuracy(self, task: int, test: Examples) -> float:
        """Return the share of test examples that are classified correctly with the weights that `task` sees."""
        hidden = test[0]
        for layer, owners, bias in zip(self.layers, self.owners, self.biases[task], strict=True):
            visible = layer.weight * ((owners >= 0) & (owners <= task))
            hidden = functional.linear(hidden, visible, bias).relu_()
        return float((self.heads[task](hidden).argmax(1) == test[1]).float().mean())

    @property
    def free_fraction(self) -> float:
        """Fraction of the weights of both layers that no task owns."""
        return sum(int((owners == FREE).sum()) for owners in self.owners) / sum(self.sizes)

    def _fit(self, day: int, given: Iterator[Examples], n_steps: int) -> float:
        """Take optimizer steps, and return the seconds that they took."""
        first, second, head = *self.layers, self.heads[day]
        network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        # A layer whose weights may all move, as on the first day, needs no mask.
        held = [owners == day for owners in self.owners]
        masked = [
            (layer.weight, mask.float()) for layer, mask in zip(self.layers, held, strict=True) if not bool(mask.all())
        ]
        began = time.perf_counter()
        for _ in range(n_steps):
            inputs, targets = next(given)
            loss = functional.cross_entropy(network(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for weight, mask in masked:
                assert weight.grad is not None
                weight.grad.mul_(mask)
            optimizer.step()
        return time.perf_counter() - began

    @torch.no_grad()
    def _prune(self, day: int, counts: Sequence[int]) -> None:
        """Keep the largest of the weights that the day's task holds, as many in each layer as `counts` says."""
        for layer, owners, count in zip(self.layers, self.owners, counts, strict=True):
            held = owners == day
            scores = torch.where(held, layer.weight.abs(), -1.0).flatten()
            kept = torch.zeros(scores.numel(), dtype=torch.bool)
            kept[scores.topk(count).indices] = True
            dropped = held & ~kept.view_as(held)
            layer.weight[dropped] = 0
            owners[dropped] = FREE


def load(split: Split) -> Examples:
    """Return inputs float32 (n, 784) from 0 to 1, and targets (n,)."""
    return split.inputs.flatten(1).float().div_(255), split.targets


def batches(inputs: Tensor, targets: Tensor) -> Iterator[Examples]:
    """Yield batches without end, in a new order each epoch."""
    while True:
        order = torch.randperm(len(inputs))
        yield from zip(inputs[order].split(BATCH_SIZE), targets[order].split(BATCH_SIZE), strict=True)


def run(
    tasks: Sequence[Task], capacity: Capacity, n_rounds: int, epochs: float, budget: float, seed: int
) -> dict[str, object]:
    """Learn the tasks one after another, and measure.

    Args:
        tasks: The tasks, with their images as bytes. As in daynight, only one at a time is in memory as floats.
        capacity: How many weights each layer may keep each night.
        n_rounds: N, rounds in a night.
        epochs: Epochs of each wake.
        budget: Epochs of each night.
        seed: Seed of the run.
    """
    began = time.perf_counter()
    loop = PlainLoop(seed, capacity, n_rounds)
    for task in tasks:
        loop.learn(load(task.train), epochs, budget)
    accuracy = [loop.accuracy(index, load(task.test)) for index, task in enumerate(tasks)]
    return {
        "seconds": time.perf_counter() - began,
        "wakes": loop.wakes,
        "rems": loop.rems,
        "accuracy": accuracy,
        "free_fraction": loop.free_fraction,
    }
