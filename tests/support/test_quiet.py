"""OpenMP's threads wait without computing, and neither bits nor the number of threads depend on it."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from daynight.support import quiet

LIFE = """
import hashlib, json, pickle, sys, threading, torch
import daynight as dn
from daynight.support import quiet
from daynight.testing import toy_network, toy_stream
torch.set_num_threads(2)
agents = []
if len(sys.argv) > 1:
    blob = pickle.dumps(dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2)))
    quiet.idle_threads.clear()
    pickle.loads(blob)
for _ in range(2):
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), training=dn.Training(batch_size=10))
    dn.Clock(agent, toy_stream(2), policy=dn.UniformCycles(2), wake=dn.Epochs(2), night=dn.Epochs(2)).run()
    agents.append(agent)
weights = [hashlib.sha256(each.detach().numpy().tobytes()).hexdigest() for each in agents[0].network.weights.values()]
idle = [thread.name for thread in threading.enumerate() if thread.name == quiet.NAME]
print(json.dumps({"weights": weights, "idle": len(idle), "threads": torch.get_num_threads()}))
"""


def lived(*arguments, **environment):
    """Return what a process with two threads of PyTorch says of the lives of two agents."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", LIFE, *arguments], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("n_threads", "n_cores", "needed"),
    [(1, 1, 0), (1, 8, 0), (2, 1, 1), (2, 2, 1), (2, 4, 3), (8, 16, 2), (16, 16, 1), (64, 128, 2), (2, 64, 0)],
)
def test_needed_teams_make_more_threads_than_cores(n_threads, n_cores, needed):
    assert quiet.n_needed(n_threads, n_cores) == needed
    if needed:
        assert n_threads + needed * (n_threads - 1) > n_cores
        assert needed == 1 or n_threads + (needed - 1) * (n_threads - 1) <= n_cores


@pytest.mark.skipif(sys.platform != "linux", reason="threads wait in this way on Linux")
def test_bits_and_number_of_threads_stay_and_one_team_is_idle():
    usual, chosen = lived(), lived(GOMP_SPINCOUNT="300000")
    assert usual["weights"] == chosen["weights"]
    assert usual["threads"] == chosen["threads"] == 2
    assert usual["idle"] == quiet.n_needed(2, len(os.sched_getaffinity(0)))
    assert chosen["idle"] == 0


@pytest.mark.parametrize("name", quiet.CHOSEN)
def test_what_a_user_has_chosen_stays(monkeypatch, name):
    monkeypatch.setattr(quiet, "idle_threads", [])
    monkeypatch.setattr(quiet, "n_needed", lambda *_: pytest.fail("asked"))
    monkeypatch.setenv(name, "1")
    quiet.wait_quietly()
    assert not quiet.idle_threads


@pytest.mark.skipif(sys.platform != "linux", reason="threads wait in this way on Linux")
def test_an_agent_that_is_unpickled_has_idle_threads_too():
    n = quiet.n_needed(2, len(os.sched_getaffinity(0)))
    assert lived("unpickled")["idle"] == 2 * n  # of the agent, and of its copy, since the first ones are forgotten


def test_first_agents_in_several_threads_make_one_team(monkeypatch):
    monkeypatch.setattr(quiet, "idle_threads", [])
    monkeypatch.setattr(quiet, "n_needed", lambda *_: time.sleep(0.05) or 1)  # all others call meanwhile
    monkeypatch.setattr(quiet, "CHOSEN", ())
    callers = [threading.Thread(target=quiet.wait_quietly) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(quiet.idle_threads) == (sys.platform == "linux")
