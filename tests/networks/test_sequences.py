"""Networks of PyTorch's own modules, one after the other: what is spared to them changes nothing."""

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, OneShot, Steps, Training, models
from daynight.networks import sequences, tracing
from daynight.testing import toy_network, toy_stream


def tied():
    layers = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2)
    layers[2].weight = layers[0].weight
    return nn.Sequential(*layers)


NETWORKS = {
    "MLP": (toy_network, (6,)),
    "ConvNet": (lambda: models.ConvNet(side=8), (3, 8, 8)),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Dropout(0.3), nn.Linear(8, 2)), (6,),
    ),
    "tied": (tied, (6,)),
    "one part twice": (lambda: nn.Sequential(nn.Linear(6, 6), *[nn.ReLU()] * 2, nn.Linear(6, 2)), (6,)),
    "unknown neighbours": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 1, groups=2), nn.Dropout(0.0), nn.Flatten(), nn.Linear(12, 2)), (2, 3),
    ),
}  # fmt: skip


def traced(monkeypatch):
    """Let no network count as plain."""
    monkeypatch.setattr(sequences, "is_plain", lambda module, *others: False)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_sequence_is_listed_as_it_would_be_traced(kind, monkeypatch):
    make, shape = NETWORKS[kind]
    module, inputs = make().eval(), torch.rand(3, *shape)
    layers = {name for name, part in module.named_modules() if isinstance(part, (nn.Linear, *sequences.CONVOLUTIONS))}
    assert sequences.is_plain(module)
    listed = tracing.chain(module, layers, inputs)
    traced(monkeypatch)
    others = tracing.chain(module, layers, inputs)
    assert [(part.kind, part.name) for part in listed] == [(part.kind, part.name) for part in others]
    outputs = inputs
    for part in listed:
        outputs = part.module(outputs)
    assert torch.equal(outputs, module(inputs))


@pytest.mark.parametrize("biases", ["per-task", "freeze-after-first"])
@pytest.mark.parametrize("kind", ["MLP", "nested", "tied"])
def test_predictions_and_lives_are_those_of_any_network(kind, biases, monkeypatch):
    make, inputs, found = NETWORKS[kind][0], torch.randn(40, 6), []
    for is_spared in (True, False):
        if not is_spared:
            traced(monkeypatch)
        agent = Agent(make, capacity=Capacity(free_at_end=0.4, days=2), training=Training(batch_size=10), biases=biases)
        clock = Clock(agent, toy_stream(2), policy=OneShot(), wake=Steps(5), night=Steps(5))
        clock.to_dusk()
        agent.network.module.train()
        found.append([agent.predict(inputs, 0)])
        assert agent.network.module.training
        clock.run()
        found[-1] += [agent.predict(inputs, task) for task in (0, 1)]
    assert all(torch.equal(spared, other) for spared, other in zip(*found, strict=True))


def test_what_is_more_than_a_sequence_is_not_plain():
    more, hooked, own = toy_network(), toy_network(), toy_network()
    more.extra = nn.Linear(6, 6)
    hooked.body[1].register_forward_hook(lambda part, inputs, outputs: outputs * 2)
    own.body[1].forward = lambda inputs: inputs * 2
    subclass = type("Own", (nn.Sequential,), {})(nn.Linear(6, 6), nn.Linear(6, 2))
    across = nn.Sequential(nn.Flatten(0), nn.Linear(6, 2))
    assert not any(map(sequences.is_plain, (more, hooked, own, subclass, across)))
    assert sequences.is_plain(toy_network(), nn.Linear(6, 2))
    assert not sequences.is_plain(toy_network(), nn.LayerNorm(6))


def test_a_task_that_a_clock_has_tried_is_not_tried_again(monkeypatch):
    tried = []

    def note(network, training, task, day, *rest):
        tried.append((task.name, day))

    monkeypatch.setattr("daynight.training.outlook.preflight", note)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10))
    stream = toy_stream(3)
    Clock(agent, stream, policy=OneShot(), wake=Steps(2), night=Steps(2)).run(until=2)
    assert [day for _, day in tried] == [0, 1]
    agent.wake(stream[2], Steps(1))
    agent.abandon_day()
    agent.check(stream[2])
    agent.wake(stream[1], Steps(1))  # another one than that which was tried
    assert [day for _, day in tried] == [0, 1, 2, 2, 2]
