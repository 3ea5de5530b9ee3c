"""Files of agents with functions and networks of a user's own, which are known again."""

import functools
import threading

import attrs
import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Training
from daynight.errors import NetworkError, SealError, SettingError
from daynight.storage.agents import check_code, code_of
from daynight.storage.identity import describe, describe_structure, digest
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


class Kept(nn.Module):
    """Changes its attributes when it runs, in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.way, self.n_calls, self.tables, self.last, self.seen = way, 0, {}, None, []
        self.register_buffer("table", None)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        table = torch.linspace(0, 1, 6)
        if self.way == "dict":
            table = self.tables.setdefault((str(inputs.device), 6), table)
        elif self.way == "buffer":
            self.table = table if self.table is None else self.table
        elif self.way == "counter":
            self.n_calls += 1
        features = self.body(inputs * table)
        if self.way == "attribute":
            self.last = features
        elif self.way == "list":
            self.seen = [features.detach()]
        return self.head(features.relu())


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("way", ["dict", "buffer", "counter", "attribute", "list"])
def test_what_a_network_keeps_in_use_is_not_other_code(way, is_used, tmp_path):
    given = Kept(way)
    if is_used and way not in ("buffer", "counter"):  # a filled buffer is a tensor of the network, a count a setting
        given(torch.ones(2, 6))
    saved(tmp_path / "agent.dn", given)
    agent = Agent.load(tmp_path / "agent.dn", lambda: Kept(way))  # a warning would be an error
    inputs = toy_stream(2)[0].test.load()[0]
    before = agent.predict(inputs, 0)
    agent.save(tmp_path / "again.dn")
    assert torch.equal(Agent.load(tmp_path / "again.dn", lambda: Kept(way)).predict(inputs, 0), before)


def test_files_from_before_are_still_known(tmp_path):
    """Older files have the digest of all attributes."""
    saved(tmp_path / "agent.dn", lambda: Kept("counter"))
    agent = Agent.load(tmp_path / "agent.dn", lambda: Kept("counter"))
    digested, *versions = code_of(agent.network)
    structure = describe_structure(agent.network.module, "head", agent.snapshot)
    older = attrs.evolve(agent.about(), code=(digest(structure), *versions))
    assert older.code[0] != digested
    check_code(older, agent.network, agent.snapshot)
    with pytest.warns(UserWarning, match="saved with a network of other code"):
        check_code(attrs.evolve(older, code=("0" * 20, *versions)), agent.network, agent.snapshot)


@pytest.mark.parametrize("way", ["dict", "counter", "list"])
def test_a_run_is_resumed_with_a_network_that_keeps_values(way, tmp_path):
    saved(tmp_path / "agent.dn", lambda: Kept(way))

    def clock(is_used):
        agent = Agent.load(tmp_path / "agent.dn", lambda: Kept(way))
        if is_used:
            agent.predict(toy_stream(2)[0].test.load()[0], 0)
        return Clock(
            agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Epochs(1), checkpoint=tmp_path / "run"
        )

    first = clock(is_used=True)
    first.resume()  # writes the first checkpoint
    del first
    second = clock(is_used=False)
    second.run()
    assert second.agent.day == 2


def test_an_agent_whose_weights_were_changed_from_outside_is_not_saved(tmp_path):
    saved(tmp_path / "agent.dn", Bent)
    agent = Agent.load(tmp_path / "agent.dn", Bent)
    before = (tmp_path / "agent.dn").read_bytes()
    with torch.no_grad():
        agent.network.module.layers[0].weight.mul_(2)
    with pytest.raises(SealError, match=r"layers\.0\.weight"):
        agent.save(tmp_path / "agent.dn")
    assert (tmp_path / "agent.dn").read_bytes() == before


def test_all_tensors_that_do_not_fit_a_file_are_named_at_once(tmp_path):
    saved(tmp_path / "agent.dn", Bent)

    class More(Bent):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    message = r"first is in this network and not in the saved one\. .* The same holds for module\.second"
    with pytest.raises(NetworkError, match=message):
        Agent.load(tmp_path / "agent.dn", More)
