"""The agent against the study's algorithm written out by hand, step by step, on the same random draws."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, Epochs, ExplicitCycles, Training, models
from daynight.support import seeding
from daynight.testing import toy_stream

SEED, BATCH, WAKE, LENGTHS, FREE, DAYS = 3, 16, 6, (1, 3, 2), 0.6, 3


def by_hand(network, stream, biases):
    """Algorithm 1 of the study, on two hidden layers; gives the weights and who owns them."""
    layers = [network.body[1], network.body[3]]
    owner = [torch.full_like(layer.weight, -1) for layer in layers]
    for day, task in enumerate(stream):
        inputs, labels = task.train.load()
        inputs = inputs.double()
        with seeding.forked(SEED, "head", day):
            head = nn.Linear(8, 2).double()
        held = [who == -1 for who in owner]
        moving = [layer.weight for layer in layers] + list(head.parameters())
        if day == 0 or biases == "per-task":
            moving += [layer.bias for layer in layers]
        n_epoch = math.ceil(len(inputs) / BATCH)

        def retrain(n_steps, order, moving=moving, held=held, inputs=inputs, labels=labels, head=head):
            optimizer = torch.optim.Adam(moving, lr=1e-3)
            frozen = [layer.weight.detach().clone() for layer in layers]
            for _ in range(n_steps):
                batch = next(order)
                hidden = functional.relu(layers[0](inputs[batch]))
                loss = functional.cross_entropy(head(functional.relu(layers[1](hidden))), labels[batch])
                for parameter in [*network.parameters(), *head.parameters()]:
                    parameter.grad = None
                loss.backward()
                for layer, mask in zip(layers, held, strict=True):
                    layer.weight.grad[~mask] = 0
                optimizer.step()
                with torch.no_grad():
                    for layer, mask, before in zip(layers, held, frozen, strict=True):
                        layer.weight[~mask] = before[~mask]

        def orders(name, day=day, inputs=inputs):
            generator = seeding.generator(SEED, name, day, "order")
            while True:
                yield from torch.randperm(len(inputs), generator=generator).split(BATCH)

        retrain(WAKE * n_epoch, orders("wake"))
        order, budget, spent = orders("night"), sum(LENGTHS) * n_epoch, 0
        for cycle, share in enumerate((1 / 6, 4 / 6, 1)):
            for index, layer in enumerate(layers):
                n = layer.weight.numel()
                free_before, free_after = (math.floor(n * FREE ** (d / DAYS) + 0.5) for d in (day, day + 1))
                total_before, total_after = (
                    sum(math.floor(m * FREE ** (d / DAYS) + 0.5) for m in (48, 64)) for d in (day, day + 1)
                )
                density = ((total_before - total_after) / total_before) ** ((cycle + 1) / 3)
                k = max(free_before - free_after, math.floor(free_before * density + 0.5))
                k = free_before - free_after if cycle == 2 else k
                ranked = torch.where(held[index], layer.weight.detach().abs(), -1).flatten().sort(descending=True)
                mask = torch.zeros(n, dtype=torch.bool)
                mask[ranked.indices[:k]] = True
                held[index] = mask.reshape(layer.weight.shape)
                with torch.no_grad():
                    layer.weight[(owner[index] == -1) & ~held[index]] = 0
            end = math.floor(share * budget + 0.5)
            retrain(end - spent, order)
            spent = end
        for index, mask in enumerate(held):
            owner[index][mask] = day
    return [layer.weight.detach() for layer in layers], owner


@pytest.mark.parametrize("biases", ["per-task", "freeze-after-first"])
def test_agent_is_the_algorithm_written_out_by_hand(biases):
    stream = toy_stream(DAYS)
    agent = Agent(
        lambda: models.MLP(6, 8, 8).double(),
        capacity=Capacity(free_at_end=FREE, days=DAYS),
        training=Training(batch_size=BATCH),
        biases=biases,
        seed=SEED,
    )
    network = copy.deepcopy(agent.network.module)
    for task in stream:
        agent.wake(task, Epochs(WAKE))
        agent.sleep(ExplicitCycles(LENGTHS), Epochs(sum(LENGTHS)))
    weights, owners = by_hand(network, stream, biases)
    for name, weight, owner in zip(agent.network.weights, weights, owners, strict=True):
        assert torch.equal(agent.network.owners[name].double(), owner)
        assert torch.allclose(agent.network.weights[name], weight, rtol=0, atol=1e-9)
