"""Nights that choose what they keep, in files: runs resume to the bit, and what could not be chosen is refused."""

import itertools

import attrs
import pytest
import torch
from resumable import Dropping, Killed, Killer, lived_through, outcome

from daynight import Agent, Capacity, Clock, Controlled, Epochs, Seconds, Training, UniformCycles, recommended_policy
from daynight.errors import DamagedFileError, SettingError
from daynight.history import COLUMNS, History, record_of
from daynight.support import archive
from daynight.testing import FakeTimer, toy_network, toy_stream

NEED = Capacity(free_at_end=0.5, days=4, share="need", least=0.5, loan=1.0, tolerance=0.0)
STREAM = toy_stream(4).hold_out(0.25)


def made(network=toy_network, capacity=NEED, **more):
    return Agent(network, capacity=capacity, training=Training(batch_size=10), seed=3, **more)


def clock(folder=None, policy=None, night=None, agent=None, **settings):
    return Clock(
        agent or made(**settings), STREAM, policy=policy or UniformCycles(8), wake=Epochs(2), night=night or Epochs(4),
        checkpoint=folder, every=0,
    )  # fmt: skip


def went_back(history):
    """Return the days whose nights went back to before a prune: the number of weights then rises."""
    return {
        day
        for day in range(4)
        for one, other in itertools.pairwise(history.select(kind="prune", day=day))
        if other.owned > one.owned
    }


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize(
    ("network", "policy"),
    [(toy_network, UniformCycles(8)), (Dropping, recommended_policy(16)), (Dropping, Controlled(0.3, 0.1))],
    ids=["uniform", "recommended", "controlled"],
)
def test_runs_that_are_killed_again_and_again_have_the_same_bits(network, policy, tmp_path):
    whole = clock(policy=policy, network=network)
    whole.run()
    run = lived_through(lambda: clock(tmp_path, policy, network=network), least=9, span=7, n_kills=9)
    assert outcome(run) == outcome(whole)
    assert went_back(whole.history)


@pytest.mark.usefixtures("at_every_step")
def test_a_run_can_be_killed_at_each_event_of_a_night(tmp_path):
    whole = clock()
    heard = []
    whole.hooks.append(heard.append)
    whole.run(until=1)
    assert went_back(whole.history) == {0}
    night = next(n for n, event in enumerate(heard) if event.phase == "nrem")
    for n in range(night, len(heard), 2):
        first = clock(tmp_path / str(n))
        first.hooks.append(Killer(n))
        with pytest.raises(Killed):
            first.run(until=1)
        again = clock(tmp_path / str(n))
        again.run(until=1)
        assert outcome(again) == outcome(whole)


@pytest.mark.usefixtures("at_every_step")
def test_nights_in_seconds_resume_with_exact_counts(tmp_path):
    def new():
        return clock(tmp_path, night=Seconds(2, timer=FakeTimer(0.05, 0.1)))

    run = lived_through(new, least=6, span=9, n_kills=5)
    sizes = tuple(run.agent.network.sizes.values())
    assert NEED.allows(sizes, [tuple(run.agent.network.count(day).values()) for day in range(4)])
    run.agent.verify()


def test_a_run_goes_on_only_with_the_same_capacity(tmp_path):
    clock(tmp_path).to_dusk()
    with pytest.raises(SettingError, match=r"another capacity \(.*'need', .*tolerance=0.0\) then, .*loan=0.5"):
        clock(tmp_path, capacity=attrs.evolve(NEED, loan=0.5)).run()


def test_an_agent_goes_on_from_its_file_or_as_a_fork_with_the_same_bank(tmp_path):
    whole = clock()
    whole.run()
    first = clock()
    first.run(until=2)
    first.agent.save(tmp_path / "agent.dn")
    loaded = Agent.load(tmp_path / "agent.dn")
    assert loaded.capacity == NEED
    assert [day.bank for day in loaded.days] == [day.bank for day in whole.agent.days[:2]]
    for agent in (loaded, first.agent.fork()):
        Clock(agent, STREAM, policy=first.policy, wake=first.wake, night=first.night).run()
        ours, theirs = agent.state()[1], whole.agent.state()[1]
        assert [name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])] == []
    at_dusk = clock()
    at_dusk.to_dusk()
    twin = at_dusk.fork()
    twin.run()
    assert outcome(twin) == outcome(whole)


def test_files_of_equal_shares_have_what_they_had(tmp_path):
    plain = clock(capacity=Capacity(free_at_end=0.5, days=4))
    plain.run(until=2)
    plain.agent.save(tmp_path / "agent.dn")
    values, _ = archive.read(tmp_path / "agent.dn", "agent")
    assert values["capacity"].keys() == {"free_at_end", "days", "keep_per_night", "ranking", "min_per_layer"}
    plain.history.to_csv(tmp_path / "history.csv")
    assert not {"share", "bank_before", "bank"} & set((tmp_path / "history.csv").read_text().split("\n")[0].split(","))
    chosen = clock()
    chosen.run(until=2)
    chosen.agent.save(tmp_path / "agent.dn")
    values, _ = archive.read(tmp_path / "agent.dn", "agent")
    assert values["capacity"].keys() - {"free_at_end", "days", "keep_per_night", "ranking", "min_per_layer"} == {
        "share", "least", "loan", "tolerance",
    }  # fmt: skip
    chosen.history.to_csv(tmp_path / "history.csv")
    assert History.from_csv(tmp_path / "history.csv") == chosen.history


def test_new_fields_of_records_come_last():
    assert COLUMNS[-3:] == ("share", "bank_before", "bank")
    row = {"kind": "day", "day": 1, "phase": "dawn", "step": 9}
    assert record_of({**row, "bank": -3}).bank == -3
    assert record_of(row).bank is None
    with pytest.raises(ValueError, match="share must be a whole number"):
        record_of({**row, "share": -3})


def test_counts_that_no_night_could_choose_are_refused(tmp_path):
    run, path = clock(), tmp_path / "agent.dn"
    run.run(until=2)
    run.agent.save(path)
    values, tensors = archive.read(path, "agent")
    owned = run.agent.owned
    for capacity, is_right in (
        ({**values["capacity"], "most": 9.0}, True), ({**values["capacity"], "least": 1.0, "loan": 0.0}, False),
        ({**values["capacity"], "days": 1}, False), ({**values["capacity"], "least": 0.0}, False),
        ({**values["capacity"], "share": "equal", "tolerance": 0.02}, False),
    ):  # fmt: skip
        archive.write(path, "agent", {**values, "capacity": capacity}, tensors)
        if is_right:
            assert Agent.load(path).owned == owned
        else:
            with pytest.raises(DamagedFileError, match="has no valid description of an agent"):
                Agent.load(path)
