"""What the tasks of an agent gain if all their weights train on, with the masks that the nights have left.

Each task keeps its mask: its own weights, and those of earlier tasks. All owned weights, and the biases and heads of
all tasks, train on all data: a step has equally many images of each task, and the loss is the mean over the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

import daynight as dn
from daynight.data.splits import load
from daynight.networks.sight import owned_by


class Unfrozen(nn.Module):
    """The network of an agent with linear layers, whose tasks all train.

    Args:
        agent: The agent, after its last day.
    """

    def __init__(self, agent: dn.Agent) -> None:
        super().__init__()
        network = agent.network
        self.weights = nn.ParameterList(weight.detach().clone() for weight in network.weights.values())
        self.masks = [
            [owned_by(owners, network.sight.of[task]) for owners in network.owners.values()] for task in agent.living
        ]
        self.biases = nn.ModuleList(
            nn.ParameterList(network.private_of(task)[f"{name}.bias"].clone() for name in network.weights)
            for task in agent.living
        )
        self.heads = nn.ModuleList(network.heads.alone(task).requires_grad_(True) for task in agent.living)

    def forward(self, inputs: Tensor, task: int) -> Tensor:
        """Map images (batch, ...) to the outputs of a task."""
        found = inputs.flatten(1)
        for weight, mask, bias in zip(self.weights, self.masks[task], self.biases[task], strict=True):
            found = functional.linear(found, weight * mask, bias).relu()
        outputs: Tensor = self.heads[task](found)
        return outputs


def scores(
    agent: dn.Agent, tasks: Sequence[dn.Task], epochs: float, seed: int, batch_size: int = 128,
    trained: Sequence[int] | None = None,
) -> list[float]:  # fmt: skip
    """Train on, and return the accuracy of each task on its test images.

    Args:
        agent: An agent that has finished the tasks, with biases of each task. It does not change.
        tasks: The tasks.
        epochs: Epochs of all data of the tasks that train.
        seed: Names the order of the images.
        batch_size: Images of a step, of all tasks together.
        trained: Indices of the tasks that train; None is all. The others may lose, and are not guarded.
    """
    network, generator = Unfrozen(agent), torch.Generator().manual_seed(seed)
    places = range(len(tasks)) if trained is None else trained
    data = {place: load(tasks[place].train, torch.float32, torch.device("cpu")) for place in places}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    n_each, n_all = batch_size // len(data), sum(len(targets) for _, targets in data.values())
    orders = {place: order(len(targets), n_each, generator) for place, (_, targets) in data.items()}
    for _ in range(round(epochs * n_all / batch_size)):
        losses = []
        for task, (inputs, targets) in data.items():
            index = next(orders[task])
            losses.append(functional.cross_entropy(network(inputs[index], task), targets[index]))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    found = []
    for task, one in enumerate(tasks):
        inputs, targets = load(one.test, torch.float32, torch.device("cpu"))
        with torch.no_grad():
            found.append(float((network(inputs, task).argmax(1) == targets).double().mean()))
    return found


def order(n: int, n_each: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the places of the images of each batch: pass after pass in random order."""
    while True:
        yield from torch.randperm(n, generator=generator).split(n_each)
