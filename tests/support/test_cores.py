"""Cores: small networks are computed on one thread, unless the user has chosen a number of threads."""

import copy
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import daynight as dn
from daynight.support import cores
from daynight.testing import toy_network, toy_stream

#: Prints the number of threads before a block, in it, in another thread meanwhile, and after it.
COUNTED = """
import threading, torch
from daynight.support import cores
{before}
numbers = [torch.get_num_threads()]
def count():
    numbers.append(torch.get_num_threads())
with cores.OneThread():
    count()
    other = threading.Thread(target=count)
    other.start()
    other.join()
count()
print(*numbers)
"""
needs_setter = pytest.mark.skipif(
    cores.setter() is None or not torch.backends.mkl.is_available(), reason="this PyTorch has no GNU OpenMP, or no MKL"
)


def counted(before="", **environment):
    """Return the numbers that `COUNTED` prints, in a process with the environment's numbers of threads alone."""
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-c", COUNTED.format(before=before)]
    done = subprocess.run(command, env={**own, **environment}, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.fixture
def two_threads(monkeypatch):
    """Let PyTorch compute on two threads, as if it had chosen this number itself."""
    monkeypatch.setattr(cores, "is_chosen", lambda set_number: False)
    monkeypatch.setattr(cores.OneThread, "known", {})
    if cores.setter() is None:
        monkeypatch.setattr(cores, "setter", lambda: torch.set_num_threads)
    torch.set_num_threads(2)


def new_agent(network=toy_network, **settings):
    capacity = dn.Capacity(free_at_end=0.4, days=2)
    return dn.Agent(network, capacity=capacity, training=dn.Training(batch_size=10, **settings))


@needs_setter
def test_a_block_changes_the_number_of_its_own_thread_alone():
    before, inside, other, after = counted()
    assert (inside, other, after) == (1, before, before)


@pytest.mark.parametrize(
    ("before", "environment"),
    [("torch.set_num_threads(2)", {}), ("", {"OMP_NUM_THREADS": "2"}), ("", {"MKL_NUM_THREADS": "2"})],
)
def test_a_number_that_the_user_has_chosen_stays(before, environment):
    assert counted(before, **environment) == [2, 2, 2, 2]


def test_calls_of_an_agent_use_one_thread_and_put_the_number_back(two_threads):
    seen = []

    def note(inputs):
        seen.append(torch.get_num_threads())
        return inputs

    agent, task = new_agent(transform=note), toy_stream(1)[0]
    heard = []
    agent.wake(task, dn.Steps(3), lambda event: heard.append(torch.get_num_threads()))
    assert torch.get_num_threads() == 2
    agent.sleep(dn.OneShot(), dn.Steps(3))
    agent.predict(task.test.inputs, 0)
    agent.evaluate(task, 0)
    agent.verify()
    assert torch.get_num_threads() == 2
    assert set(seen) == set(heard) == {1}


def test_networks_that_are_not_small_keep_the_number(two_threads, monkeypatch):
    monkeypatch.setattr(cores, "LARGE", 1)
    heard = []
    new_agent().wake(toy_stream(1)[0], dn.Steps(3), lambda event: heard.append(torch.get_num_threads()))
    assert set(heard) == {2}


def test_the_number_is_put_back_after_an_error(two_threads):
    def fail():
        with cores.OneThread():
            raise ValueError("in a step")

    with pytest.raises(ValueError, match="in a step"):
        fail()
    assert torch.get_num_threads() == 2


def test_a_number_that_is_chosen_in_a_hook_stays(two_threads):
    with cores.OneThread():
        torch.set_num_threads(3)
    assert torch.get_num_threads() == 3


def test_blocks_within_blocks_put_the_number_back_at_the_end(two_threads):
    with cores.OneThread():
        with cores.OneThread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_short_block_relies_on_what_was_found_before(two_threads, monkeypatch):
    with cores.OneThread():
        pass
    monkeypatch.setattr(cores, "is_chosen", lambda set_number: True)
    with cores.OneThread(is_long=False):
        assert torch.get_num_threads() == 1
    for is_long in (True, False):
        with cores.OneThread(is_long):
            assert torch.get_num_threads() == 2


def test_copies_and_forks_of_an_agent_compute_on_one_thread_too(two_threads):
    agent = new_agent()
    agent.wake(toy_stream(1)[0], dn.Steps(3))
    for twin in (copy.deepcopy(agent), agent.fork()):
        seen = []
        twin.sleep(dn.OneShot(), dn.Steps(3), lambda event, seen=seen: seen.append(torch.get_num_threads()))
        assert seen[:-1] == [1] * (len(seen) - 1)  # the last is called when the night is over


def test_agents_in_several_threads_give_the_same_as_one_in_a_process_with_one_thread(monkeypatch):
    def states(n):
        found = []

        def live():
            agent = new_agent()
            agent.wake(toy_stream(1)[0], dn.Steps(6))
            found.append(agent.network.state())

        lives = [threading.Thread(target=live) for _ in range(n)]
        for life in lives:
            life.start()
        for life in lives:
            life.join()
        return found

    alone = states(1)[0]
    monkeypatch.setattr(cores, "is_chosen", lambda set_number: False)
    monkeypatch.setattr(cores.OneThread, "known", {})
    torch.set_num_threads(2)
    together = states(3)
    assert len(together) == 3
    assert all(torch.equal(state[name], alone[name]) for state in together for name in alone)


def test_a_network_is_small_by_its_largest_product():
    assert cores.LARGE == 2**26
    layers = nn.Sequential(nn.Linear(2**10, 2**9), nn.LayerNorm(2**9), nn.ReLU())  # 2**19 weights
    assert cores.is_small(layers, 127)
    assert not cores.is_small(layers, 128)


def test_the_network_of_the_first_example_is_small():
    network = dn.models.MLP(784, 256, 256)
    assert cores.is_small(network, 256)


@pytest.mark.parametrize("part", [nn.Conv1d(1, 2, 3), nn.LSTM(4, 4), nn.MultiheadAttention(4, 2)])
def test_networks_with_parts_of_other_kinds_are_not_known_to_be_small(part):
    network = nn.Sequential(nn.Linear(4, 4), part)
    assert not cores.is_small(network, 1)
