"""The methods of studies and their states, on toys."""

import contextlib
import functools
import itertools
import math
import os

import pytest
import torch

from daynight import Agent, Capacity, Clock, Epochs, Rewound, Training, UniformCycles
from daynight.storage.checkpoints import Checkpoint
from daynight.study import fine_tuning, from_scratch, memory, multinet, packnet, states
from daynight.testing import toy_network, toy_stream

SETTINGS = {"network": toy_network, "wake": Epochs(4), "night": Epochs(4), "training": Training(batch_size=10)}
ONE = {"seed": 0, "free_at_end": 0.5, **SETTINGS}


@pytest.fixture
def n_wakes(monkeypatch):
    """Return a list of the days on which an agent has begun a wake or resumed one."""
    wake, days = Agent.wake, []

    def counted(agent, *args, **settings):
        days.append(agent.day)
        wake(agent, *args, **settings)

    monkeypatch.setattr(Agent, "wake", counted)
    return days


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


def test_runs_that_share_a_first_wake_are_what_they_would_be_alone(n_wakes):
    stream = toy_stream(3)
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
        states.forget()
        alone.append(packnet(stream, **SETTINGS, **one))
    assert shared == alone
    # A process holds one dusk: another seed's is begun anew.
    n_wakes.clear()
    for seed in (0, 1, 0):
        packnet(stream, **SETTINGS, **settings[0] | {"seed": seed})
    assert n_wakes.count(0) == 3


@pytest.mark.parametrize("method", [packnet, memory, multinet])
def test_dusks_are_stored_for_other_processes(method, tmp_path, n_wakes):
    settings = [{"free_at_end": p, "seed": seed} for seed in (0, 1) for p in (0.4, 0.7)]
    found = []
    for index, one in enumerate(settings):
        states.forget()  # as another process would begin
        found.append(method(toy_stream(3), state=tmp_path / str(index), **SETTINGS, **one))
    assert n_wakes.count(0) == 2
    assert len(list(tmp_path.glob("dusk-*"))) == 2
    states.forget()
    assert found == [method(toy_stream(3), **SETTINGS, **one) for one in settings]
    # Other data begin a day 0 of their own.
    method(toy_stream(2), state=tmp_path / "other", **SETTINGS, **settings[0])
    assert len(list(tmp_path.glob("dusk-*"))) == 3


@pytest.mark.parametrize("method", [packnet, multinet])
@pytest.mark.parametrize("damage", [b"", b"cut"])
def test_damaged_states_are_ignored(method, damage, tmp_path, n_wakes):
    expected = method(toy_stream(3), **ONE)
    method(toy_stream(3), state=tmp_path / "state", **ONE)
    (dusk,), (run,) = tmp_path.glob("dusk-*/*"), (tmp_path / "state").rglob("run/*")
    for damaged, state in ((run, "state"), (dusk, "other")):
        damaged.write_bytes(damage)
        states.forget()
        assert method(toy_stream(3), state=tmp_path / state, **ONE) == expected
    # The damaged dusk was replaced by a good one, and the finished run has nothing left to do.
    states.forget()
    n_wakes.clear()
    for state in ("state", "third"):
        assert method(toy_stream(3), state=tmp_path / state, **ONE) == expected
    assert n_wakes.count(0) == 0


def test_states_of_other_code_or_settings_are_ignored(tmp_path, monkeypatch, n_wakes):
    expected = {p: packnet(toy_stream(3), **ONE | {"free_at_end": p}) for p in (0.5, 0.6)}
    packnet(toy_stream(3), state=tmp_path / "state", **ONE)
    packnet(toy_stream(3), state=tmp_path / "state", **ONE | {"free_at_end": 0.6})
    n_wakes.clear()
    assert packnet(toy_stream(3), state=tmp_path / "state", **ONE) == expected[0.5]
    assert n_wakes == [1, 2]  # from the dusk
    monkeypatch.setattr(states, "library", lambda: "another version")
    assert packnet(toy_stream(3), state=tmp_path / "state", **ONE) == expected[0.5]
    assert n_wakes == [1, 2, 0, 1, 2]


@pytest.mark.parametrize("method", [packnet, memory, multinet])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_had_not_been(method, tmp_path, monkeypatch):
    policy = Rewound(UniformCycles(2), 0.5)
    expected = method(toy_stream(3), policy=policy, **ONE)
    write, n_stops = Checkpoint.write, 0

    def stopped(checkpoint, state_of):
        write(checkpoint, state_of)
        if next(left) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", stopped)
    monkeypatch.setattr(Checkpoint, "is_due", lambda *_: True)
    found = None
    while found is None:
        states.forget()
        left = itertools.count(3 + n_stops, -1)  # each time a few checkpoints further
        with contextlib.suppress(KeyboardInterrupt):
            found = method(toy_stream(3), policy=policy, state=tmp_path / "state", **ONE)
        n_stops += found is None
    assert found == expected
    assert n_stops > 2


def test_states_that_another_process_has_are_left_to_it(tmp_path, n_wakes):
    fcntl = pytest.importorskip("fcntl")
    expected = packnet(toy_stream(3), **ONE)
    states.forget()
    folders = [tmp_path / "state" / states.library() / name for name in ("run", "dusk")]
    with contextlib.ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "clock.dn").write_bytes(b"of the other process")
            handle = os.open(folder, os.O_RDONLY)
            held.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        assert packnet(toy_stream(3), state=tmp_path / "state", **ONE) == expected
        assert {(folder / "clock.dn").read_bytes() for folder in folders} == {b"of the other process"}
    assert not list(tmp_path.glob("dusk-*"))


class Forgetful(torch.optim.SGD):
    """Has a state of which no checkpoint can be made."""

    def step(self, *args):
        self.n_steps = getattr(self, "n_steps", 0) + 1
        return super().step(*args)


def test_runs_of_which_no_checkpoint_can_be_made_go_without(tmp_path, n_wakes):
    training = Training(batch_size=10, optimizer=functools.partial(Forgetful, lr=0.1))
    for method in (packnet, multinet):
        settings = ONE | {"training": training}
        expected = method(toy_stream(3), **settings)
        states.forget()
        assert method(toy_stream(3), state=tmp_path / "state", **settings) == expected
    assert not list(tmp_path.rglob("*.dn"))


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
