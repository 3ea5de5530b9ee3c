"""The methods of the study, on toys."""

import functools
import math
import pickle

import pytest

from daynight import Agent, Capacity, Clock, Epochs, Training, UniformCycles
from daynight.study import fine_tuning, from_scratch, memory, multinet, packnet, states
from daynight.testing import toy_network, toy_stream

SETTINGS = {"network": toy_network, "wake": Epochs(4), "night": Epochs(4), "training": Training(batch_size=10)}


def test_packnet_is_what_an_agent_and_a_clock_do():
    stream = toy_stream(3)
    found = packnet(stream, seed=2, free_at_end=0.5, policy=UniformCycles(2), **SETTINGS)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(batch_size=10), seed=2)
    history = Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(4), night=Epochs(4)).run()
    expected = [[None if math.isnan(value) else value for value in row] for row in history.accuracy.tolist()]
    assert found["accuracy"] == expected
    assert found["mean_accuracy"] == pytest.approx(history.accuracy[-1].mean())
    assert found["owned"] == list(agent.owned)
    assert (found["n_weights"], found["n_steps"], found["forgetting"]) == (112, 3 * 32, 0.0)


def test_runs_that_share_a_first_wake_are_what_they_would_be_alone(monkeypatch):
    stream, wake, n_wakes = toy_stream(3), Agent.wake, []

    def counted(agent, *args, **settings):
        n_wakes.append(agent.day)
        wake(agent, *args, **settings)

    monkeypatch.setattr(Agent, "wake", counted)
    settings = [
        {"free_at_end": p, "policy": UniformCycles(n), "seed": seed}
        for seed in (0, 1)
        for p in (0.4, 0.7)
        for n in (1, 2)
    ]
    shared = [packnet(stream, **SETTINGS, **one) for one in settings]
    assert n_wakes.count(0) == 2
    alone = []
    for one in settings:
        states._dusk.clear()
        alone.append(packnet(stream, **SETTINGS, **one))
    assert shared == alone
    assert len(states._dusk) == 1


@pytest.mark.parametrize("method", [packnet, memory, multinet])
def test_dusks_are_put_by_for_other_processes(method, tmp_path, monkeypatch):
    wake, n_wakes = Agent.wake, []

    def counted(agent, *args, **settings):
        n_wakes.append(agent.day)
        wake(agent, *args, **settings)

    monkeypatch.setattr(Agent, "wake", counted)
    settings = [{"free_at_end": p, "seed": seed} for seed in (0, 1) for p in (0.4, 0.7)]
    found = []
    for index, one in enumerate(settings):
        states._dusk.clear()  # as another process would begin
        found.append(method(toy_stream(3), state=tmp_path / f"{index}.pkl", **SETTINGS, **one))
    assert n_wakes.count(0) == 2
    assert len(list(tmp_path.glob("dusk-*.pkl"))) == 2
    states._dusk.clear()
    assert found == [method(toy_stream(3), **SETTINGS, **one) for one in settings]
    # Other data begin a day 0 of their own.
    method(toy_stream(2), state=tmp_path / "other.pkl", **SETTINGS, **settings[0])
    assert len(list(tmp_path.glob("dusk-*.pkl"))) == 3


@pytest.mark.parametrize("damage", [b"", b"cut", pickle.dumps((1, 2)), pickle.dumps(("another version", None, None))])
def test_states_that_are_of_no_use_are_left_aside(tmp_path, damage):
    settings = {"seed": 0, "free_at_end": 0.5, **SETTINGS}
    expected = packnet(toy_stream(3), **settings)
    for name in ("state.pkl", "dusk"):
        states._dusk.clear()
        state = tmp_path / "state.pkl"
        packnet(toy_stream(3), state=state, **settings)
        (dusk,) = tmp_path.glob("dusk-*.pkl")
        (state if name == "state.pkl" else dusk).write_bytes(damage)
        state = state if name == "state.pkl" else tmp_path / "other.pkl"
        states._dusk.clear()
        assert packnet(toy_stream(3), state=state, **settings) == expected


def test_a_network_that_is_edited_shares_no_wake():
    stream = toy_stream(2)
    sizes = []
    for width in (8, 16):
        namespace = {}
        exec(f"from daynight.testing import toy_network\ndef network(): return toy_network(width={width})", namespace)
        network = namespace["network"]
        network.__module__, network.__qualname__ = "own_network", "network"
        sizes.append(packnet(stream, seed=0, free_at_end=0.5, **{**SETTINGS, "network": network})["n_weights"])
    assert sizes == [112, 352]


@pytest.mark.parametrize(
    "method", [packnet, memory, functools.partial(packnet, restart="keep", biases="freeze-after-first")]
)
def test_methods_with_a_capacity_own_what_it_says(method):
    found = method(toy_stream(3), seed=0, free_at_end=0.5, **SETTINGS)
    assert sum(found["owned"]) == 112 - 24 - 32
    assert found["n_steps"] == 3 * 32


def test_multinet_frees_its_share_and_is_scored_task_by_task():
    found = multinet(toy_stream(3), seed=0, free_at_end=0.5, **SETTINGS)
    assert found["owned"] == [112 - 24 - 32]
    assert found["n_steps"] == 2 * 4 * 12
    assert found["accuracy"][:2] == [[None] * 3] * 2
    assert found["mean_accuracy"] == pytest.approx(sum(found["accuracy"][-1]) / 3)
    assert "forgetting" not in found


def test_fine_tuning_moves_the_whole_network_each_day():
    found = fine_tuning(toy_stream(3), seed=0, **SETTINGS)
    assert found["owned"] == [112, 0, 0]
    assert found["n_steps"] == 3 * 32
    assert found["forgetting"] >= 0.0


def test_from_scratch_takes_a_network_a_task():
    found = from_scratch(toy_stream(3), seed=0, **SETTINGS)
    assert (found["owned"], found["n_weights"], found["n_steps"]) == ([112] * 3, 336, 96)
    assert found["mean_accuracy"] > 0.7
