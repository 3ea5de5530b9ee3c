"""Schedulers take the steps of each phase on copies, before training."""

import pytest
import torch
from torch.optim import lr_scheduler

from daynight import Agent, Capacity, Clock, Cycle, Epochs, OneShot, SleepPolicy, Steps, Training, UniformCycles
from daynight.errors import SettingError
from daynight.testing import toy_network, toy_stream
from daynight.training import schedules


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def warm(optimizer, n_steps):
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
             lr_scheduler.CosineAnnealingLR(optimizer, n_steps - 4)]  # fmt: skip
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[4])


def tight(optimizer, n_steps):
    return lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=n_steps - 1)


def long(optimizer, n_steps):
    if n_steps < 8:
        raise ValueError("too short")
    return lr_scheduler.ExponentialLR(optimizer, 0.99)


def late(optimizer, n_steps):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step - 30))


class Rated(SleepPolicy):
    """The first of two cycles follows a rate of its own."""

    def cycles(self, night):
        yield Cycle(keep=0.9, length=0.2, rate=lambda share, cut: 1.0)
        yield Cycle(keep="dawn", length=0.8)


class Reacts(SleepPolicy):
    def cycles(self, night):
        yield Cycle(keep="dawn", length=0.1 if night.loss > 0 else 0.2)


def agent_of(scheduler, **settings):
    training = Training(batch_size=10, optimizer=sgd, scheduler=scheduler, **settings)
    return Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=training)


def clock_of(scheduler, policy, wake=4, night=3, **settings):
    # 4 steps an epoch
    return Clock(agent_of(scheduler, **settings), toy_stream(2), policy=policy, wake=Epochs(wake), night=Epochs(night))


@pytest.mark.parametrize(("scheduler", "policy", "message"), [
    (warm, UniformCycles(3), "a REM, at step 4 of 4: ZeroDivisionError"),
    (long, UniformCycles(3), "a REM, for 4 steps: .*too short"),
    (tight, OneShot(), "a REM, at step 12 of 12: "),
    (late, Reacts(), None),
    (long, OneShot(), None),
    (long, Reacts(), None),
    (tight, Reacts(), "a wake, at step 16 of 16: "),
])  # fmt: skip
def test_a_scheduler_that_fails_in_a_phase_is_refused_before_training(scheduler, policy, message):
    clock = clock_of(scheduler, policy)
    if message is None:
        clock.check()
        return
    for call in (clock.check, clock.step, clock.run):
        with pytest.raises(SettingError, match=f"scheduler fails in {message}"):
            call()
    assert (clock.agent.day, clock.agent.phase, clock.agent.n_steps) == (0, "between days", 0)


def test_an_agent_without_a_clock_tries_each_phase_before_it_begins():
    task, agent = toy_stream(1)[0], agent_of(late)
    with pytest.raises(SettingError, match="a wake, at step 30 of 31: ZeroDivisionError"):
        agent.wake(task, Steps(31))
    assert agent.phase == "between days"
    agent.wake(task, Steps(8))
    with pytest.raises(SettingError, match="a REM, at step 30 of 40: ZeroDivisionError"):
        agent.sleep(OneShot(), Steps(40))
    assert agent.phase == "dusk"
    agent.sleep(UniformCycles(4), Steps(40))
    assert agent.day == 1


@pytest.mark.parametrize("carries", [False, True])
@pytest.mark.parametrize("policy", [OneShot(), UniformCycles(3), UniformCycles(5), UniformCycles(20), Rated()])
@pytest.mark.parametrize("night", [Epochs(3), Epochs(3, price=0.1), Steps(17, price=0.5), Steps(7), Steps(0)])
def test_the_phases_are_those_of_the_run(policy, night, carries):
    if night == Steps(0) and isinstance(policy, Rated):
        return
    made = []

    class Counts:
        def __init__(self, optimizer, n_steps):
            self.optimizer, self.row = optimizer, [n_steps, 0]
            made.append(self.row)

        def step(self):
            self.row[1] += 1

    agent, task = agent_of(Counts, carry_optimizer=carries), toy_stream(2)[0]
    snapshot = agent.night(task, night)
    expected = schedules.of_night(policy.plan(snapshot), snapshot, carries)
    agent.wake(task, Steps(3))
    made.clear()
    agent.sleep(policy, night)
    ran = made[len(set(expected)) :]  # after the trials
    assert ran == [[phase.n_steps, phase.n_taken] for phase in expected]
    assert sorted(map(tuple, made[: len(set(expected))])) == sorted({tuple(row) for row in ran})


def test_a_phase_is_tried_once_and_long_ones_not_at_all(monkeypatch):
    made = []

    def scheduler(optimizer, n_steps):
        made.append(n_steps)
        return lr_scheduler.ConstantLR(optimizer)

    monkeypatch.setattr(schedules, "MOST_STEPS", 20)
    clock = clock_of(scheduler, UniformCycles(3), wake=5)  # 20 steps; a REM has 4
    for _ in range(2):
        clock.check()
        assert [n for n in made if n != 100] == [4]  # with the wake, there would be more than 20 steps


def test_trials_change_no_bit():
    def states(tries):
        clock = clock_of(lr_scheduler.CosineAnnealingLR, UniformCycles(3))
        if tries:
            clock.check()
        clock.run()
        return clock.agent.network.state()

    first, second = states(False), states(True)
    assert all(torch.equal(first[name], value) for name, value in second.items())
