"""Hooks of the gradients of parameters that a network has when it is given."""

import functools

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, OneShot, Steps, Task, Training
from daynight.errors import NetworkError

EXAMPLES = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
ENGINES = ("auto", "module", "dense", "sparse")


def task(seed):
    labels = (EXAMPLES.sum(1) + EXAMPLES[:, seed] > EXAMPLES.sum(1).median()).long()
    return Task(train=(EXAMPLES[:32], labels[:32]), test=(EXAMPLES[32:], labels[32:]), n_outputs=2)


class Masks(nn.Module):
    """Lets no gradient reach some units, by hooks that are functions, methods, or partial functions."""

    def __init__(self, kind="function"):
        super().__init__()
        self.body, self.head, self.n_calls = nn.Linear(6, 8), nn.Linear(8, 2), 0
        if kind == "function":
            self.body.weight.register_hook(lambda gradient: gradient * (torch.arange(8) < 4)[:, None])
        elif kind == "method":
            self.body.weight.register_hook(self.masked)
        elif kind == "partial":
            self.body.weight.register_hook(functools.partial(torch.mul, (torch.arange(8) < 4)[:, None]))
        elif kind == "after":
            self.body.weight.register_post_accumulate_grad_hook(self.clear)

    def masked(self, gradient):
        self.n_calls += 1
        return gradient * (torch.arange(8) < 4)[:, None]

    def clear(self, weight):
        self.n_calls += 1
        weight.grad[4:] = 0

    def forward(self, inputs):
        return self.head(torch.relu(self.body(inputs)))


def made(network, engine="auto", **settings):
    return Agent(
        network, capacity=Capacity(free_at_end=0.3, days=3), training=Training(batch_size=8, engine=engine), **settings
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["function", "method", "partial", "after"])
def test_hooks_of_a_given_network_are_called_by_all_engines(kind, engine):
    given = Masks(kind)
    agent = made(given, engine)
    before = agent.network.module.body.weight.detach().clone()
    agent.wake(task(0), Steps(6))
    now = agent.network.module.body.weight.detach()
    assert torch.equal(now[4:], before[4:])
    assert not torch.equal(now[:4], before[:4])
    assert given.n_calls == 0  # a method is that of the copy
    assert agent.network.module.n_calls == (6 if kind in ("method", "after") else 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_hooks_of_a_factorys_network_and_of_forks_are_called(engine):
    agents = [made(lambda: Masks("method"), engine)]
    agents[0].wake(task(0), Steps(2))
    agents.append(agents[0].fork())
    for agent in agents:
        agent.sleep(OneShot(), Steps(3))
        agent.wake(task(1), Steps(4))
        agent.sleep(OneShot(), Steps(3))
        assert agent.network.module.n_calls == 12
    assert torch.equal(agents[0].predict(EXAMPLES, 1), agents[1].predict(EXAMPLES, 1))


def test_hooks_of_frozen_parameters_are_carried_to_forks():
    def network():
        found = Masks("none")
        found.body.bias.register_hook(lambda gradient: gradient * 0)
        return found

    agent = made(network, biases="freeze-after-first")
    agent.wake(task(0), Steps(2))
    agent.sleep(OneShot(), Steps(2))
    agent.wake(task(1), Steps(2))
    twin = agent.fork()
    assert not twin.network.module.body.bias.requires_grad
    twin.sleep(OneShot(), Steps(2))
    assert not bool(twin.network.module.body.bias.detach().sub(agent.network.module.body.bias.detach()).any())


@pytest.mark.parametrize("engine", ENGINES)
def test_hooks_that_write_to_weights_do_not_change_finished_tasks(engine):
    def write(weight):
        weight.data.add_(0.01)

    def network():
        found = Masks("none")
        found.body.weight.register_post_accumulate_grad_hook(write)
        return found

    agent = made(network, engine)
    agent.wake(task(0), Steps(4))
    agent.sleep(OneShot(), Steps(4))
    before = agent.predict(EXAMPLES, 0)
    agent.wake(task(1), Steps(4))
    agent.sleep(OneShot(), Steps(4))
    assert torch.equal(agent.predict(EXAMPLES, 0), before)
    agent.verify()


def test_subnetworks_have_no_hooks_as_before():
    agent = made(Masks)
    agent.wake(task(0), Steps(2))
    agent.sleep(OneShot(), Steps(2))
    assert not agent.subnetwork(0).body.weight._backward_hooks


def hooked_head(n_outputs):
    head = nn.Linear(8, n_outputs)
    head.weight.register_hook(lambda gradient: gradient * 0)
    return head


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_the_head_are_refused_unless_it_is_made(register):
    given = Masks("none")
    getattr(given.head.weight, register)(lambda gradient: None)
    with pytest.raises(NetworkError) as error:
        made(given)
    assert str(error.value) == (
        "head.weight has hooks of its gradient, which would be lost, since each task has a new head. Give make_head=, "
        "a function of the number of outputs that returns a head with these hooks."
    )
    agent = made(given, make_head=hooked_head)
    agent.wake(task(0), Steps(1))
    before = agent.network.heads.live.weight.detach().clone()
    agent.sleep(OneShot(), Steps(4))
    assert torch.equal(agent.network.heads.live.weight, before)
