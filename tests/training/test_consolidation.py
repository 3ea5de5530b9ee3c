"""Ways in which owned weights consolidate: objects, their short names, and one of a user's own."""

import pytest
import torch

from daynight import Agent, Budget, Capacity, Clock, Epochs, Ledger, UniformCycles
from daynight.errors import SettingError
from daynight.testing import toy_network, toy_stream
from daynight.training.consolidation import FineTune, Freeze, Rehearse


class Retrace(Freeze):
    """Freezes what is owned, under a name of its own."""

    name = "mine.Retrace"

    def trained(self, task, kept):
        assert not kept  # since it keeps no tasks
        return task


def lived(consolidation):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), consolidation=consolidation, seed=3)
    Clock(agent, toy_stream(2), policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2)).run()
    return agent


@pytest.mark.parametrize("way", [Freeze(), Rehearse(), FineTune()], ids=repr)
def test_a_short_name_is_the_object(way):
    named, given = lived(way.name), lived(way)
    assert type(named.consolidation) is type(given.consolidation) is type(way)
    one, two = named.network.state(), given.network.state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("melt", r"consolidation must be one of 'freeze', 'rehearse', 'fine-tune', not 'melt'"),
        (None, r"consolidation must be one of 'freeze', 'rehearse', 'fine-tune', not None"),
        (Rehearse, r"consolidation must be an instance: Rehearse\(\), not the class"),
    ],
)
def test_what_is_not_valid_is_refused(wrong, message):
    with pytest.raises(SettingError, match=message):
        Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), consolidation=wrong)


def test_a_way_of_ones_own_is_saved_by_its_name_and_given_again(tmp_path):
    agent, path = lived(Retrace()), tmp_path / "agent.dn"
    agent.verify()
    agent.save(path)
    again = Agent.load(path, consolidation=Retrace())
    assert isinstance(again.consolidation, Retrace)
    again.verify()
    with pytest.raises(SettingError, match=r"mine\.Retrace"):
        Agent.load(path)
    with pytest.raises(SettingError, match=r"mine\.Retrace"):
        Agent.load(path, consolidation=FineTune())


class Unnamed(Rehearse):
    """Has the name of another class."""


class Numbered(Freeze):
    name = 3


@pytest.mark.parametrize("way", [Unnamed(), Numbered()], ids=lambda way: type(way).__name__)
def test_a_way_of_ones_own_has_a_name_of_its_own(way):
    with pytest.raises(SettingError, match=f"class {type(way).__name__} must have a name of its own"):
        Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), consolidation=way)


class Joules(Ledger):
    """Counts what is said in its fields alone."""

    fields, n_steps = ("joules",), 8

    def __init__(self, joules):
        self.joules = joules

    @property
    def spent(self):
        return self.spent_steps / self.n_steps

    def reached(self, share):
        return self.steps_until(share) == 0

    def steps_until(self, share):
        return max(0, round(share * self.n_steps) - self.spent_steps)


class Power(Budget):
    def __init__(self, joules):
        self.joules = joules

    def open(self, steps_per_epoch):
        return Joules(self.joules)


def test_a_ledger_keeps_steps_and_prunes_whatever_its_fields_name(tmp_path):
    ledger = Joules(3)
    ledger.note_step()
    ledger.note_prune()
    again = Joules(0)
    again.restore(ledger.state())
    assert (again.joules, again.spent_steps, again.n_prunes) == (3, 1, 1)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2))
    clock = Clock(agent, toy_stream(2), policy=UniformCycles(2), wake=Epochs(1), night=Power({1}), checkpoint=tmp_path)
    with pytest.raises(SettingError, match=r"night: no checkpoint can be made with .*The ledger's fields must name"):
        clock.resume()
