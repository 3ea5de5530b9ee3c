"""Threads: agents in several threads are as alone, an agent in training is not touched, and locks go round in order."""

import copy
import pickle
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

import daynight as dn
from daynight.errors import StateError
from daynight.support import seeding, threads
from daynight.testing import toy_network, toy_stream

STREAM = toy_stream(2)
INPUTS = STREAM[0].test.inputs


def new_agent(**settings):
    capacity, training = dn.Capacity(free_at_end=0.4, days=3), dn.Training(batch_size=10)
    return dn.Agent(toy_network, capacity=capacity, training=training, **settings)


def in_a_thread(do):
    """Run a function in another thread, and return its result or the error that it raised."""
    found = []

    def run():
        try:
            found.append(do())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_lives_in_threads_end_as_alone_and_predictions_beside_them_are_right():
    script = Path(__file__).parents[2] / "benchmarks" / "threads.py"
    few = ["--threads", "4", "--lives", "14", "--predictions", "40", "--seeds", "1", "--steps", "4"]
    found = subprocess.run([sys.executable, script, *few], capture_output=True, check=False, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert '"lives as alone": 14' in found.stdout


CALLS = {
    "predict": lambda agent: agent.predict(INPUTS, 0),
    "identify": lambda agent: agent.identify(INPUTS),
    "drift": lambda agent: agent.drift(0, INPUTS),
    "evaluate": lambda agent: agent.evaluate(STREAM[0], 0),
    "verify": lambda agent: agent.verify(),
    "subnetwork": lambda agent: agent.subnetwork(0, compact=True),
    "export": lambda agent: agent.export(0, "never.pt"),
    "sizes": lambda agent: agent.sizes(),
    "save": lambda agent: agent.save("never.dn"),
    "fork": lambda agent: agent.fork(),
    "check": lambda agent: agent.check(STREAM[1]),
    "wake": lambda agent: agent.wake(STREAM[1], dn.Steps(1)),
    "sleep": lambda agent: agent.sleep(dn.OneShot(), dn.Steps(1)),
    "finish_night": lambda agent: agent.finish_night(),
    "abandon_day": lambda agent: agent.abandon_day(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("phase", ["wake", "sleep"])
def test_an_agent_that_one_thread_trains_refuses_all_others(call, phase, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lives = []
    for is_asked in (False, True):
        agent, said = new_agent(), []

        def ask(event, agent=agent, said=said, is_asked=is_asked):
            if is_asked and event.step > 16 and isinstance(event, dn.Record) and event.day == 1 and not said:
                said.append(in_a_thread(lambda: CALLS[call](agent)))

        agent.wake(STREAM[0], dn.Steps(8))
        agent.sleep(dn.OneShot(), dn.Steps(8))
        agent.wake(STREAM[1], dn.Steps(8), ask if phase == "wake" else lambda event: None)
        agent.sleep(dn.UniformCycles(2), dn.Steps(8), ask if phase == "sleep" else lambda event: None)
        lives.append(agent.network.state())
    assert isinstance(said[0], StateError)
    assert str(said[0]).startswith(f"{call}: another thread is training this agent, in its {phase}.")
    assert all(torch.equal(tensor, lives[1][name]) for name, tensor in lives[0].items())
    assert not list(tmp_path.iterdir())
    agent.verify()


@pytest.mark.parametrize("call", ["wake", "sleep", "finish_night", "abandon_day"])
@pytest.mark.parametrize("kind", ["epoch", "prune"])
def test_a_hook_cannot_end_or_begin_what_has_called_it(call, kind):
    agent = new_agent()

    def meddle(event):
        if isinstance(event, dn.Record) and event.kind == kind:
            CALLS[call](agent)

    agent.wake(STREAM[0], dn.Steps(4))
    with pytest.raises(StateError) as error:
        agent.sleep(dn.OneShot(), dn.Steps(4), meddle)
    assert str(error.value) == (
        f"{call}: the agent is in its sleep, which has called this function, for example as a hook. Call {call} when "
        "sleep has returned."
    )
    agent.finish_night()  # the night has stayed open
    agent.verify()


def test_a_hook_in_a_wake_or_at_the_end_of_finish_night_cannot_meddle_either():
    agent = new_agent()
    with pytest.raises(StateError, match="the agent is in its wake"):
        agent.wake(STREAM[0], dn.Steps(4), lambda event: agent.abandon_day())
    agent.wake(STREAM[0], dn.Steps(4))
    with pytest.raises(StateError, match="the agent is in its finish_night"):
        agent.finish_night(lambda event: agent.abandon_day() if event.kind == "prune" else None)


def test_the_last_hook_of_a_day_may_save_and_begin_the_next_day(tmp_path):
    agent = new_agent()

    def after(event):
        if isinstance(event, dn.Record) and event.kind == "day" and event.day == 0:
            agent.save(tmp_path / "agent.dn")
            agent.wake(STREAM[1], dn.Steps(2))

    agent.wake(STREAM[0], dn.Steps(4))
    agent.sleep(dn.OneShot(), dn.Steps(4), after)
    assert agent.phase == "dusk"
    assert dn.Agent.load(tmp_path / "agent.dn").day == 1


def test_hooks_of_the_training_predict_as_before():
    agent, found = new_agent(), []

    def ask(event):
        if isinstance(event, dn.Record):
            found.append(agent.predict(INPUTS, 0))

    agent.wake(STREAM[0], dn.Steps(8), ask)
    assert torch.equal(found[-1], agent.predict(INPUTS, 0))


def test_predictions_in_several_threads_wait_for_each_other():
    agent, wrong = new_agent(), []
    agent.wake(STREAM[0], dn.Steps(4))
    agent.sleep(dn.OneShot(), dn.Steps(4))
    agent.wake(STREAM[1], dn.Steps(4))
    agent.sleep(dn.OneShot(), dn.Steps(4))
    expected = [agent.predict(INPUTS, task) for task in range(2)]

    def ask(task):
        wrong.extend(n for n in range(30) if not torch.equal(agent.predict(INPUTS, task), expected[task]))

    asking = [threading.Thread(target=ask, args=(n % 2,)) for n in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda keeper: pickle.loads(pickle.dumps(keeper))])
def test_a_copy_of_a_keeper_is_new(again):
    keeper = threads.Keeper()
    with keeper.long("wake"), again(keeper).long("wake"):
        pass


def test_an_agent_can_be_copied_in_depth():
    agent = copy.deepcopy(new_agent())
    agent.wake(STREAM[0], dn.Steps(2))


def test_turns_go_round_in_the_order_in_which_threads_ask():
    turns, order, asked = threads.Turns(), [], []

    def take(number):
        turns.take()
        order.append(number)
        turns.give()

    turns.take()
    for number in range(5):
        asked.append(threading.Thread(target=take, args=(number,)))
        asked[-1].start()
        while turns.n_waiting <= number:
            pass
    turns.pass_on()
    assert order == [0, 1, 2, 3, 4]
    turns.give()
    for thread in asked:
        thread.join()


def drawn_numbers():
    return torch.randn(1).item(), random.random(), np.random.rand()  # noqa: NPY002


def test_generators_are_as_before_after_another_thread_had_its_turn():
    came, go = threading.Event(), threading.Event()

    def other():
        came.set()
        with seeding.forked(7, "other"):
            found.append(drawn_numbers())
            go.set()

    found = []
    with seeding.forked(7, "other"):
        found.append(drawn_numbers())
    with seeding.forked(0, "mine"):
        wanted = [drawn_numbers() for _ in range(4)]
    before = seeding.state()
    with seeding.forked(0, "mine"):
        drawn = [drawn_numbers() for _ in range(2)]
        thread = threading.Thread(target=other)
        thread.start()
        came.wait()
        while not seeding.TURNS.n_waiting:
            pass
        seeding.give_way()
        assert go.is_set()
        drawn += [drawn_numbers() for _ in range(2)]
    thread.join()
    assert drawn == wanted
    assert found[0] == found[1]
    after = seeding.state()
    assert torch.equal(before["cpu"], after["cpu"])
    assert before["python"] == after["python"]


def test_modules_of_other_threads_are_not_traced(monkeypatch):
    inner = nn.Linear(3, 3)
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, inputs):
            if isinstance(inputs, fx.Proxy):  # while it is traced
                seen.append(in_a_thread(lambda: inner(torch.ones(2, 3))))
            return self.head(self.first(inputs).relu())

    agent = dn.Agent(Watched, capacity=dn.Capacity(free_at_end=0.4, days=2), training=dn.Training(batch_size=10))
    agent.wake(STREAM[0], dn.Steps(2))
    assert seen
    assert all(torch.equal(outputs, inner(torch.ones(2, 3))) for outputs in seen)


def test_filters_of_warnings_are_put_back_by_threads_at_the_same_time():
    before = list(warnings.filters)
    inside = []

    def second():
        with threads.quiet():
            inside.append(list(warnings.filters))

    thread = threading.Thread(target=second)
    with threads.quiet():
        thread.start()
    thread.join()
    assert inside[0][1:] == before
    assert warnings.filters == before
