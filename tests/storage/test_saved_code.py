"""Files of agents with functions and networks of a user's own, which are known again."""

import functools
import threading

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Training
from daynight.errors import NetworkError, SettingError
from daynight.storage.agents import code_of
from daynight.storage.identity import describe
from daynight.testing import toy_stream


class Bent(nn.Module):
    """A network of a user's own."""

    def __init__(self, slope=0.0):
        super().__init__()
        self.slope = slope
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(slope), nn.Linear(8, 2))

    def forward(self, inputs):
        return self.layers(inputs)


class Bowed(Bent):
    """The same weights, and other code."""

    def forward(self, inputs):
        return self.layers(torch.tanh(inputs))


def saved(path, network, **functions):
    agent = Agent(network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=10, **functions))
    Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Epochs(1)).run(until=1)
    agent.save(path)


def test_a_network_of_other_code_is_taken_with_a_warning(tmp_path, monkeypatch):
    saved(tmp_path / "agent.dn", Bent)
    agent = Agent.load(tmp_path / "agent.dn", Bent)
    for other in (Bowed, lambda: Bent(0.1)):
        with pytest.warns(
            UserWarning, match="the agent was saved with a network of other code, or with other settings"
        ):
            Agent.load(tmp_path / "agent.dn", other).verify()
    # Another Python may tell the same code otherwise.
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    Agent.load(tmp_path / "agent.dn", Bowed)
    agent.verify()


LOCK = threading.Lock()


class Locked(Bent):
    """One of which nobody can tell whether it is the same, for it uses what has no description."""

    def forward(self, inputs):
        with LOCK:
            return super().forward(inputs)


def test_a_network_that_cannot_be_told_apart_is_taken(tmp_path):
    agent = Agent(Locked, capacity=Capacity(free_at_end=0.5, days=2))
    with pytest.raises(SettingError):
        describe(Locked)
    assert code_of(agent.network) is None
    saved(tmp_path / "agent.dn", Locked)
    Agent.load(tmp_path / "agent.dn", Bent).verify()


@pytest.mark.parametrize("name", ["loss", "metric"])
def test_an_agent_goes_on_with_the_loss_and_metric_that_it_had(name, tmp_path):
    own = {
        "loss": functools.partial(nn.functional.cross_entropy, label_smoothing=0.1),
        "metric": lambda outputs, targets: (outputs.argmax(1) == targets).float().mean(),
    }
    functions = {name: own[name]}
    saved(tmp_path / "own.dn", Bent, **functions)
    with pytest.raises(SettingError, match=f"saved with the {name} .*, and training has .*: its (losses|scores) would"):
        Agent.load(tmp_path / "own.dn", Bent, training=Training())
    Agent.load(tmp_path / "own.dn", Bent, training=Training(**functions))
    saved(tmp_path / "usual.dn", Bent)
    with pytest.raises(SettingError, match=f"saved with the {name} none of its own, and training has"):
        Agent.load(tmp_path / "usual.dn", Bent, training=Training(**functions))


def test_a_network_with_other_layers_is_said_to_be_another_than_that_of_the_file(tmp_path):
    saved(tmp_path / "agent.dn", Bent)
    with pytest.raises(NetworkError, match=r"the network is not the one that '.*agent.dn' was saved with"):
        Agent.load(tmp_path / "agent.dn", lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)))
