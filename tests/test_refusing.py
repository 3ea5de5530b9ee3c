"""What no checkpoint can be made of, or be gone on with."""

import functools
import gc
import subprocess
import sys

import attrs
import numpy as np
import pytest
import torch
from resumable import Dropping, clock, killed, resumed, sgd

from daynight import Agent, Clock, Epochs, TaskStream, UniformCycles, criteria
from daynight.errors import DamagedFileError, DataError, PolicyError, SettingError
from daynight.testing import toy_network, toy_stream

pytestmark = pytest.mark.usefixtures("at_every_step")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"policy": UniformCycles(3)}, r"another policy \(UniformCycles\(n=2\) then, UniformCycles\(n=3\) now\)"),
        ({"night": Epochs(3)}, r"another night \(.* then, .* now\)"),
        ({"training": {"clip_norm": 1.0}}, r"another training.clip_norm \(None then, 1.0 now\)"),
        ({"training": {"optimizer": sgd}}, "another training.optimizer.*"),
        (
            {"restart": "keep", "biases": "freeze-after-first"},
            r"another biases .*, another restart \('zero' then, 'keep' now\)",
        ),
        ({"consolidation": "fine-tune"}, r"another consolidation \('freeze' then, 'fine-tune' now\)"),
        ({"days": 3}, r"another capacity \(.*"),
        ({"criterion": criteria.random}, r"another criterion \(.*"),
        ({"network": lambda: toy_network(8)}, "another network.*"),
    ],
)
def test_another_run_is_refused(change, what, tmp_path):
    killed(tmp_path, 13)
    with pytest.raises(SettingError, match=rf"clock\.dn is of a run with {what}\. Give what it was begun with"):
        resumed(tmp_path, **change)


def test_a_run_in_which_nothing_was_lived_gives_way_to_another(tmp_path):
    for n in (2, 3):
        assert resumed(tmp_path, policy=UniformCycles(n)).policy.n == n
    resumed(tmp_path, policy=UniformCycles(3)).to_dusk()
    with pytest.raises(SettingError, match="another policy"):
        resumed(tmp_path, policy=UniformCycles(2))


class Busier(Dropping):
    """The same layers, and other code."""

    def forward(self, inputs):
        return super().forward(inputs) * 2


class Drier(Dropping):
    """The same code and layers, and another setting."""

    def __init__(self):
        super().__init__()
        self.layers[3].p = 0.1


def test_another_network_of_ones_own_is_refused(tmp_path):
    killed(tmp_path, 13, network=Dropping)
    for other in (toy_network, Busier, Drier):
        with pytest.raises(SettingError, match=r"is of a run with another network"):
            resumed(tmp_path, network=other)
    resumed(tmp_path, network=Dropping)


def test_other_tasks_are_refused(tmp_path):
    killed(tmp_path, 13)
    with pytest.raises(DataError, match=r"is of a run whose task of day 0 was not the one"):
        resumed(tmp_path, make_stream=lambda days: toy_stream(days, seed=7))
    with pytest.raises(DataError, match=r"is of a run whose task of day 0 was not the one"):
        resumed(tmp_path, make_stream=otherwise_tested)


def otherwise_tested(days):
    """Give the toy tasks with other labels in their tests."""
    tasks = [
        attrs.evolve(task, test=(task.test.load()[0], 1 - task.test.targets)) for task in toy_stream(days)
    ]  # fmt: skip
    return TaskStream(tasks)


def test_an_agent_with_other_days_is_refused(tmp_path):
    killed(tmp_path, 13)
    run = clock()
    run.run(until=1)
    with pytest.raises(SettingError, match="is of an agent with 0 days behind it, and this one has others"):
        Clock(run.agent, run.stream, policy=run.policy, wake=run.wake, night=run.night, checkpoint=tmp_path).resume()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = killed(tmp_path, 13) / "clock.dn"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"clock\.dn is damaged"):
        resumed(tmp_path)
    first = clock()
    first.run()
    first.agent.save(path)
    with pytest.raises(DamagedFileError, match="holds 'agent', and not 'clock'"):
        resumed(tmp_path)


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    code = """
import pathlib, sys
from daynight.support.atomic import of_folder
lock = of_folder(pathlib.Path(sys.argv[1]))
print(1)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = resumed(tmp_path)
    resumed(tmp_path)  # in one process it is the same work
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"another process is at work in {tmp_path}. Wait for it or stop it" in found.stderr
    del run
    gc.collect()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_policy_that_changes_its_mind_is_found_out(tmp_path):
    class Moody(UniformCycles):
        mood = 0.7

        def cycles(self, night):
            for cycle in super().cycles(night):
                yield attrs.evolve(cycle, length=cycle.length * type(self).mood)

    killed(tmp_path, 15, policy=Moody(2))
    again = resumed(tmp_path, policy=Moody(2))
    Moody.mood = 0.8
    with pytest.raises(PolicyError, match=r"was begun as .* and the policy now yields"):
        again.run()
    again.agent.finish_night()


def test_every_must_be_a_time(tmp_path):
    whole = clock()
    for every in (-1, float("nan"), "often"):
        with pytest.raises(SettingError, match="every: seconds between checkpoints"):
            Clock(whole.agent, whole.stream, policy=whole.policy, wake=whole.wake, night=whole.night,
                  checkpoint=tmp_path, every=every)  # fmt: skip


class Pointed:
    """Holds the address of something."""

    def __init__(self):
        self.name = repr(object())

    def __call__(self, inputs):
        return inputs


class Counting(torch.optim.SGD):
    """Has a state that it does not tell."""

    n = 0

    def step(self, closure=None):
        self.n += 1
        return super().step(closure)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": lambda parameters: Counting(parameters, lr=0.1)}, "a step changes its n, which state_dict"),
        ({"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=np.float32(0.1))}, "Use Python's own numbers"),
        ({"augment": functools.partial(torch.add, other=object())}, "with this training.augment"),
        ({"transform": Pointed()}, r"with this training.transform: it is or holds .* 0x"),
    ],
    ids=["counts", "float32", "object", "address"],
)
def test_what_cannot_be_kept_or_known_again_is_said_at_once(training, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        resumed(tmp_path, training=training)


def test_methods_written_in_c_are_functions_like_any(tmp_path):
    training = {"transform": torch.Tensor.float}
    run = resumed(killed(tmp_path, 13, training=training), training=training)
    run.run()
    run.agent.save(tmp_path / "agent.dn")
    Agent.load(tmp_path / "agent.dn", training=run.agent.training)


def test_an_optimizer_that_no_file_can_keep_is_refused_before_anything_is_trained(tmp_path):
    class Odd(torch.optim.SGD):
        def state_dict(self):
            return {**super().state_dict(), "function": print}

    with pytest.raises(SettingError, match=r"Training: with this optimizer no checkpoint can be made: state\.function"):
        resumed(tmp_path, training={"optimizer": lambda parameters: Odd(parameters, lr=0.1)})
