"""Views are kept while nothing has changed, and no change goes unnoticed."""

import copy
import pickle

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, OneShot, Steps, Training
from daynight.networks import views
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.networks.prediction import predict
from daynight.testing import toy_stream

INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


class Gated(nn.Module):
    """Not a plain sequence."""

    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs) * torch.sigmoid(self.gate(inputs)))


NETWORKS = {
    "plain": lambda: nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 8), nn.Flatten(), nn.Linear(8, 2)),
    "gated": Gated,
}


def lived(make, n_days=2, **settings):
    agent = Agent(make, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10), **settings)
    Clock(agent, toy_stream(3)[:n_days], policy=OneShot(), wake=Steps(6), night=Steps(4)).run()
    return agent


def first(network):
    return next(iter(network.weights.values()))


def in_place(network):
    with torch.no_grad():
        first(network).mul_(2)


def elsewhere(network):
    weight = first(network)
    weight.data = weight.data * 2


def another(network):
    name, weight = next(iter(network.weights.items()))
    network.weights[name] = nn.Parameter(weight.detach() * 2)


def owners(network):
    owners = next(iter(network.owners.values()))
    owners[owners == 0] = FREE


def other_map(network):
    name, owners = next(iter(network.owners.items()))
    network.owners[name] = torch.full_like(owners, FREE)


def biases(network):
    with torch.no_grad():
        next(iter(network.private_of(0).values())).add_(1)


def head(network):
    with torch.no_grad():
        for parameter in network.heads.kept[0].parameters():
            parameter.add_(1)


def other_head(network):
    network.heads.kept[0] = nn.Linear(8, 2)


def double(network):
    network.module.double()


def hook(network):
    next(network.module.children()).register_forward_hook(lambda module, inputs, outputs: outputs * 2)


def own_forward(network):
    next(network.module.children()).forward = lambda inputs: torch.ones(len(inputs), 8)


def watched(agent, monkeypatch):
    """Return a list that gets the index of each task of which a view is made."""
    made, name, visible = [], next(iter(agent.network.weights)), MaskedNetwork.visible

    def heard(network, layer, task):
        if layer == name:
            made.append(task)
        return visible(network, layer, task)

    monkeypatch.setattr(MaskedNetwork, "visible", heard)
    return made


CHANGES = [in_place, elsewhere, another, owners, other_map, biases, head, other_head, hook, own_forward]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("change", CHANGES)
def test_no_change_goes_unnoticed(change, kind):
    network = lived(NETWORKS[kind]).network
    before = [predict(network, INPUTS, task) for task in (0, 1)]
    change(network)
    after = [predict(network, INPUTS, task) for task in (0, 1)]
    twin = copy.deepcopy(network)
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(predict(twin, INPUTS, task), outputs) for task, outputs in enumerate(after))


def test_other_settings_of_a_plain_sequence_are_noticed():
    network = lived(NETWORKS["plain"]).network
    before = predict(network, INPUTS, 0)
    network.module[1].negative_slope = 0.5
    assert not torch.equal(predict(network, INPUTS, 0), before)
    network.module[1] = nn.Tanh()
    after = predict(network, INPUTS, 0)
    network.module[1] = nn.ReLU()
    assert not torch.equal(predict(network, INPUTS, 0), after)


@pytest.mark.parametrize("kind", NETWORKS)
def test_views_are_made_once_until_a_day_begins(kind, monkeypatch):
    agent = copy.deepcopy(lived(NETWORKS[kind]))
    made = watched(agent, monkeypatch)
    outputs = [agent.predict(INPUTS, task) for task in (0, 1)]
    assert all(torch.equal(agent.predict(INPUTS, task), outputs[task]) for _ in range(3) for task in (0, 1))
    assert made == [0, 1]
    agent.wake(toy_stream(3)[2], Steps(3))
    made.clear()
    assert all(torch.equal(agent.predict(INPUTS, task), outputs[task]) for _ in range(2) for task in (0, 1))
    assert made == [0, 1, 0, 1]  # not kept while a day may change what they are made from
    agent.abandon_day()
    made.clear()
    assert all(torch.equal(agent.predict(INPUTS, task), outputs[task]) for _ in range(2) for task in (0, 1))
    assert made == [0, 1]


def test_what_other_tasks_do_is_noticed():
    agent = lived(NETWORKS["plain"])
    outputs = agent.predict(INPUTS, 1)
    agent.predict(INPUTS, 0)
    agent.retire(0)  # its weights stay, for the other sees them
    assert torch.equal(agent.predict(INPUTS, 1), outputs)


def test_copies_have_no_views():
    network = lived(NETWORKS["plain"]).network
    outputs = predict(network, INPUTS, 0)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(predict(twin, INPUTS, 0), outputs)
        in_place(twin)
        assert not torch.equal(predict(twin, INPUTS, 0), outputs)
    assert torch.equal(predict(network, INPUTS, 0), outputs)


def test_views_take_no_more_than_some_bytes(monkeypatch):
    agent = copy.deepcopy(lived(NETWORKS["plain"], n_days=3))
    made = watched(agent, monkeypatch)
    monkeypatch.setattr(views, "KEPT_BYTES", 2 * (6 * 8 + 8 * 8) * 4)
    for task in (0, 1, 2, 1, 2, 0):
        agent.predict(INPUTS, task)
    assert made == [0, 1, 2, 0]
    monkeypatch.setattr(views, "KEPT_BYTES", 0)  # the last one is kept in any case
    for task in (0, 0, 1, 1, 0):
        agent.predict(INPUTS, task)
    assert made == [0, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("kind", NETWORKS)
def test_inference_mode_leaves_nothing_behind(kind):
    agent = lived(NETWORKS[kind])
    with torch.inference_mode():
        inside = agent.predict(INPUTS, 0)
    assert torch.equal(agent.predict(INPUTS, 0), inside)
    assert torch.equal(agent.predict(INPUTS, 0), inside)


def test_a_network_that_writes_to_what_it_sees_finds_it_as_it_was():
    network = lived(Gated).network
    outputs = predict(network, INPUTS, 0)

    def write(inputs):
        with torch.no_grad():
            part.weight.mul_(2)
        return nn.functional.linear(inputs, part.weight, part.bias)

    part = network.module.body
    part.forward = write
    assert torch.equal(predict(network, INPUTS, 0), predict(network, INPUTS, 0))
    assert not torch.equal(predict(network, INPUTS, 0), outputs)
