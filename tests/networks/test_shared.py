"""Baselines without freezing: owned weights keep learning."""

import functools
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Task, Training, UniformCycles
from daynight.errors import CapacityError, DataError, NetworkError, SettingError
from daynight.testing import toy_network, toy_stream

ADAM = functools.partial(torch.optim.Adam, lr=0.01)


def make_clock(consolidation, stream=None, n_cycles=2, capacity=None, **more):
    training = more.pop("training", Training(batch_size=10, optimizer=ADAM))
    capacity = capacity or Capacity(free_at_end=0.5, days=3)
    agent = Agent(
        more.pop("network", toy_network),
        capacity=capacity,
        consolidation=consolidation,
        training=training,
        **more,
    )
    return Clock(agent, stream or toy_stream(3), policy=UniformCycles(n_cycles), wake=Epochs(4), night=Epochs(4))


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
@settings(max_examples=20)
@given(n_cycles=st.integers(1, 5), p=st.floats(0.3, 0.9), seed=st.integers(0, 3))
def test_owned_set_grows_by_the_same_counts_as_with_freezing(consolidation, n_cycles, p, seed):
    owned = []
    for name in (consolidation, "freeze"):
        clock = make_clock(name, n_cycles=n_cycles, capacity=Capacity(free_at_end=p, days=3), seed=seed)
        maps = []
        for _ in range(3):
            clock.step()
            maps.append({layer: owners.clone() for layer, owners in clock.agent.network.owners.items()})
        owned.append(clock.agent.owned)
        for earlier, later in itertools.pairwise(maps):
            for layer, owners in earlier.items():
                assert torch.equal(later[layer][owners >= 0], owners[owners >= 0])
        for layer, weight in clock.agent.network.weights.items():
            assert not weight.detach()[maps[-1][layer] < 0].any()
        assert clock.agent.n_steps == 3 * (4 * 4 + 4 * 4)
    assert owned[0] == owned[1]


def test_rehearsal_moves_what_is_owned_and_remembers():
    clock = make_clock("rehearse")
    clock.step()
    before = {name: weight.detach().clone() for name, weight in clock.agent.network.weights.items()}
    owned = {name: owners == 0 for name, owners in clock.agent.network.owners.items()}
    history = clock.run()
    after = clock.agent.network.weights
    assert all(bool((after[name] != before[name])[mask].any()) for name, mask in owned.items())
    assert (history.accuracy[-1] >= 0.9).all()


def test_fine_tuning_forgets_what_rehearsal_keeps():
    # The same inputs with other labels each day: what helps the last task hurts the others, but for their heads.
    inputs, labels = toy_stream(1, n_train=60)[0].train.load()
    days = [
        Task(train=(x, y), test=(x, y), n_outputs=2)
        for x, y in ((inputs, labels), (inputs.flip(1), labels), (-inputs.flip(1), labels))
    ]
    training = Training(batch_size=10, optimizer=functools.partial(torch.optim.SGD, lr=0.3))
    given = {"capacity": Capacity(keep_per_night=1.0), "training": training, "network": lambda: toy_network(6, 3)}
    scores = {name: make_clock(name, days, **given).run().accuracy[-1] for name in ("fine-tune", "rehearse")}
    assert scores["rehearse"].mean() > scores["fine-tune"].mean()


def test_a_day_without_free_weights_learns_with_what_is_owned():
    clock = make_clock("fine-tune", capacity=Capacity(keep_per_night=1.0))
    history = clock.run()
    assert clock.agent.owned == (112, 0, 0)
    assert [record.density for record in history.select(kind="prune")] == [1.0] * 6
    with pytest.raises(CapacityError, match="all 112 maskable weights are owned"):
        make_clock("freeze", capacity=Capacity(keep_per_night=1.0)).run()


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
@pytest.mark.parametrize("engine", ["auto", "dense", "sparse"])
def test_engines_agree_without_freezing(consolidation, engine):
    ends = []
    for name in ("module", engine):
        training = Training(batch_size=10, optimizer=ADAM, engine=name)
        clock = make_clock(consolidation, training=training, network=lambda: toy_network(6, 16).double())
        clock.run()
        ends.append((clock.agent.network, clock.history.accuracy))
    for name, owners in ends[0][0].owners.items():
        assert torch.equal(owners, ends[1][0].owners[name])
        assert torch.allclose(ends[0][0].weights[name], ends[1][0].weights[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
def test_a_day_that_is_given_up_leaves_no_trace(consolidation):
    clock, other = make_clock(consolidation), make_clock(consolidation)
    clock.step()
    other.step()
    agent, probe = clock.agent, toy_stream(3)[0].test.inputs
    before = agent.predict(probe, 0)
    clock.to_dusk()
    assert not torch.equal(agent.predict(probe, 0), before)
    agent.abandon_day()
    assert torch.equal(agent.predict(probe, 0), before)
    assert (clock.run().accuracy[-1] == other.run().accuracy[-1]).all()


@pytest.mark.parametrize("consolidation", ["freeze", "rehearse", "fine-tune"])
def test_forks_from_the_first_dusk_are_whole_runs_whatever_their_capacity(consolidation):
    base = make_clock(consolidation, capacity=Capacity(free_at_end=0.9, days=3))
    base.to_dusk()
    for p in (0.5, 0.8):
        capacity = Capacity(free_at_end=p, days=3)
        fork = base.fork(capacity=capacity, policy=UniformCycles(3))
        whole = make_clock(consolidation, n_cycles=3, capacity=capacity)
        assert (fork.run().accuracy == whole.run().accuracy)[-1].all()
        for name, weight in whole.agent.network.weights.items():
            assert torch.equal(weight, fork.agent.network.weights[name])


def test_capacity_cannot_change_after_a_night():
    clock = make_clock("freeze")
    clock.step()
    with pytest.raises(Exception, match="1 nights have passed with this capacity"):
        clock.fork(capacity=Capacity(free_at_end=0.8, days=3))


def test_private_numbers_of_shared_networks_are_those_of_the_heads():
    clock = make_clock("rehearse")
    clock.run()
    head, biases = 8 * 2 + 2, 8 + 8
    assert [record.private for record in clock.agent.days] == [head + biases, head, head]


def test_what_cannot_be_rehearsed_is_refused_before_training():
    data = (torch.zeros(9, 6), torch.full((9,), 0.5))
    regression = Task(train=data, test=data)
    with pytest.raises(DataError, match="has no class labels"):
        make_clock("rehearse", [regression]).run()
    convolution = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 2, 1), nn.Flatten())
    with pytest.raises(NetworkError, match="heads of type Conv1d cannot be joined"):
        make_clock("rehearse", network=convolution, head="3").run()
    with pytest.raises(SettingError, match="consolidation must be"):
        make_clock("freze")
    with pytest.raises(CapacityError, match="day 3 is beyond the 3 days"):
        make_clock("rehearse", toy_stream(4)).run()


def test_norms_are_shared():
    network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    clock = make_clock("rehearse", network=network)
    history = Clock(clock.agent, toy_stream(3), policy=OneShot(), wake=Epochs(10), night=Epochs(10)).run()
    assert (history.accuracy[-1] >= 0.8).all()


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
def test_a_night_that_would_keep_nothing_is_refused_before_training(consolidation):
    clock = make_clock(consolidation, capacity=Capacity(free_at_end=0.9999, days=3))
    with pytest.raises(CapacityError, match=r"day 0: the night would keep none of the \d+ maskable weights. Keep more"):
        clock.run()
    assert clock.agent.n_steps == 0
