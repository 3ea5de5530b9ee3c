"""Runs that can be killed at anything their hook hears, and what comes out of them."""

import functools

import attrs
import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, Training, UniformCycles
from daynight.testing import toy_network, toy_stream


class Killed(BaseException):
    """Stands for the end of the process: nobody catches it."""


class Killer:
    """A hook that kills at the n-th thing it hears."""

    def __init__(self, n):
        self.left = n

    def __call__(self, event):
        self.left -= 1
        if self.left < 0:
            raise Killed


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)


class Dropping(nn.Module):
    """Draws random numbers as it trains, and keeps running statistics."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(12, 2)

    def forward(self, inputs):
        return self.head(self.layers(inputs))


def clock(
    folder=None,
    hook=(),
    policy=None,
    network=toy_network,
    night=None,
    wake=None,
    days=2,
    make_stream=toy_stream,
    every=0.0,
    **settings,
):
    training = Training(batch_size=16, **settings.pop("training", {}))
    capacity = settings.pop("capacity", Capacity(free_at_end=0.6, days=days))
    agent = Agent(network, capacity=capacity, training=training, seed=3, **settings)
    stream = make_stream(days).hold_out(0.2)
    return Clock(
        agent, stream, policy=policy or UniformCycles(2), wake=wake or Epochs(2), night=night or Epochs(2),
        on_event=hook, checkpoint=folder, every=every,
    )  # fmt: skip


def resumed(*args, **settings):
    """Return a clock that has taken over its checkpoint."""
    run = clock(*args, **settings)
    run.resume()
    return run


def outcome(clock):
    """Return all that a run has made, but for the seconds that it took."""
    about, tensors, today = clock.agent.state()
    assert today is None
    timeless = functools.partial(attrs.evolve, elapsed_seconds=None)
    return (
        attrs.evolve(about, days=tuple(map(timeless, about.days))),
        {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        [timeless(record) for record in clock.history],
    )


def killed(folder, n, **settings):
    """Return the folder of a run that was killed at the n-th event that its hook received."""
    with pytest.raises(Killed):
        clock(folder, Killer(n), **settings).run()
    return folder


def lived_through(new, least, span, n_kills):
    """Run clocks of one checkpoint folder, each of which is killed after some events, until one ends; return that one.

    Args:
        new: Makes a clock.
        least: Fewest events that a clock hears.
        span: The numbers of events are `least` and up to so many more, in turn.
        n_kills: There must be more kills than this.
    """
    for n in range(1, 200):
        run = new()
        run.hooks.append(Killer(least + n % span))
        try:
            run.run()
        except Killed:
            continue
        break
    assert n > n_kills
    return run
