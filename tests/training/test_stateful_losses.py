"""Losses and metrics that keep values from call to call."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Training
from daynight.errors import SettingError
from daynight.testing import toy_network, toy_stream


class Running(nn.Module):
    """Divides by a running mean, in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(()))

    def forward(self, outputs, targets):
        loss = functional.cross_entropy(outputs, targets)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return loss / self.mean


class InPlace(Running):
    def forward(self, outputs, targets):
        loss = functional.cross_entropy(outputs, targets)
        self.mean.mul_(0.9).add_(loss.detach(), alpha=0.1)
        return loss / self.mean


class Counts:
    def __init__(self):
        self.n = 0

    def __call__(self, outputs, targets):
        self.n += 1
        return functional.cross_entropy(outputs, targets) / (1 + 0.01 * self.n)


class Late(Counts):
    """Keeps a list, which matters after five calls."""

    def __init__(self):
        self.seen = []

    def __call__(self, outputs, targets):
        self.seen.append(float(outputs.detach().mean()))
        return functional.cross_entropy(outputs, targets) * (2.0 if len(self.seen) > 5 else 1.0)


def counting():
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return functional.cross_entropy(outputs, targets) / len(calls)

    return loss


class Notes(nn.Module):
    """Keeps the last value and a table that it makes at its first call, on which no result depends."""

    table = last = None

    def forward(self, outputs, targets):
        if self.table is None:
            self.table = torch.eye(outputs.shape[1])
        self.last = functional.cross_entropy(outputs, self.table[targets])
        return self.last


def noisy(outputs, targets):
    return functional.cross_entropy(outputs + 0.1 * torch.randn_like(outputs), targets)


def weighed(loss, outputs, targets):
    return 2 * loss(outputs, targets)


KEEPING = {
    "buffer": Running, "in place": InPlace, "attribute": Counts, "list": Late, "closure": counting,
    "partial": lambda: functools.partial(weighed, Running()), "method": lambda: Counts().__call__,
}  # fmt: skip
NOT = {"notes": Notes, "noisy": lambda: noisy, "module": lambda: nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))}


def clock_of(loss, **settings):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=10, loss=loss))
    return Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(2), night=Epochs(2), **settings)


@pytest.mark.parametrize("name", KEEPING)
def test_a_loss_whose_values_depend_on_earlier_calls_has_no_checkpoint(name, tmp_path):
    clock = clock_of(KEEPING[name](), checkpoint=tmp_path)
    with pytest.raises(SettingError, match=r"with this loss no checkpoint .* other values after other calls"):
        clock.run()
    assert clock.agent.n_steps == 0
    clock_of(KEEPING[name]()).run(until=1)


@pytest.mark.parametrize("name", NOT)
def test_a_loss_whose_values_do_not_depend_on_earlier_calls_has_one(name, tmp_path):
    clock_of(NOT[name](), checkpoint=tmp_path).run()
    again = clock_of(NOT[name](), checkpoint=tmp_path)
    assert again.resume()


@pytest.mark.parametrize("name", sorted(KEEPING.keys() - {"closure", "method"}))
def test_checks_change_nothing_that_a_loss_keeps(name):
    def weights(n_checks):
        clock = clock_of(KEEPING[name]())
        for _ in range(n_checks):
            clock.check()
        clock.run()
        return clock.agent.network.state()

    first, second = weights(0), weights(2)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_checks_reset_no_metric():
    class Gathers:
        def __init__(self):
            self.reset()

        def reset(self):
            self.found = []

        def update(self, outputs, targets):
            self.found.append(float((outputs.argmax(1) == targets).float().mean()))

        def compute(self):
            return self.found[-1]

    metric = Gathers()
    metric.found.append(0.5)
    training = Training(batch_size=10, metric=metric)
    Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=training).check(toy_stream(1)[0])
    assert metric.found == [0.5]
