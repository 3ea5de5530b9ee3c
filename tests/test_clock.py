import sys

import attrs
import numpy as np
import pytest
import torch
from terminal import Terminal
from torch import nn

from daynight import (
    Agent,
    Capacity,
    Clock,
    Cycle,
    Epochs,
    OneShot,
    Progress,
    Record,
    SleepPolicy,
    Task,
    TaskStream,
    Training,
    UniformCycles,
)
from daynight.errors import CapacityError, DataError, PolicyError, SettingError, StateError
from daynight.testing import toy_network, toy_stream


def make_clock(stream=None, *, policy=None, days=3, capacity=None, **settings):
    stream = toy_stream(days) if stream is None else stream
    agent = Agent(
        toy_network,
        capacity=capacity or Capacity(free_at_end=0.5, days=days),
        training=Training(batch_size=10),
    )
    return Clock(agent, stream, policy=policy or UniformCycles(2), wake=Epochs(2), night=Epochs(3), **settings)


def without_times(history):
    return [
        [getattr(record, name) for name in Record.__slots__ if not name.endswith("seconds") and name != "__weakref__"]
        for record in history
    ]


def test_run_turns_every_day_and_tells_what_happened():
    clock = make_clock()
    history = clock.run()
    assert clock.is_over
    assert history.n_days == 3
    assert np.isnan(history.accuracy[np.triu_indices(3, 1)]).all()
    assert not np.isnan(history.accuracy[np.tril_indices(3)]).any()
    # Nothing is forgotten: a task's column does not change after its dawn.
    for task in range(3):
        assert len(set(history.accuracy[task:, task])) == 1
    assert [len(history.select(kind="evaluation", phase=phase)) for phase in ("dusk", "dawn")] == [6, 6]
    assert history.records[-1].step == clock.agent.n_steps == 3 * 4 * 5


def test_same_seed_gives_the_same_history_but_for_times():
    first, second = make_clock().run(), make_clock().run()
    assert without_times(first) == without_times(second)


def test_run_can_stop_and_go_on():
    whole, parts = make_clock(), make_clock()
    parts.run(until=1)
    assert parts.agent.day == 1
    parts.run(until=1)
    parts.step()
    assert without_times(parts.run()) == without_times(whole.run())
    with pytest.raises(SettingError, match="all 3 days of the stream are over"):
        parts.step()
    assert len(parts.run()) == len(whole.history)


def test_day_that_was_interrupted_goes_on():
    class Stop(Exception):
        pass

    def interrupt(event):
        if isinstance(event, Record) and (event.kind, event.day) == ("prune", 1):
            raise Stop

    clock = make_clock(on_event=interrupt)
    with pytest.raises(Stop):
        clock.run()
    assert (clock.agent.day, clock.agent.phase) == (1, "night")
    clock.hooks.clear()
    assert clock.run().n_days == 3


def test_hooks_hear_records_and_signs_of_life():
    heard, counted = [], []
    clock = make_clock(on_event=[heard.append, counted.append])
    history = clock.run()
    assert [event for event in heard if isinstance(event, Record)] == list(history)
    signs = [event for event in heard if isinstance(event, Progress)]
    # A day is 8 steps of wake and two REMs of 6; a sign as each begins, and one every 25 steps.
    assert [sign.step for sign in signs] == [0, 8, 14, 20, 25, 28, 34, 40, 48, 50, 54]
    assert [(sign.phase, sign.cycle) for sign in signs[:4]] == [("wake", None), ("rem", 0), ("rem", 1), ("wake", None)]
    assert all(sign.n_cycles == 2 for sign in signs if sign.phase == "rem")
    assert len(counted) == len(heard)


def test_progress_bar_shows_day_phase_cycle_loss_and_time_left(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    make_clock(progress=True).run()
    last = sys.stderr.getvalue().split("\r")[-1]
    for part in ("day 2 (3/3) REM 2/2, loss 0.", "100%", " left"):
        assert part in last


def test_forks_at_dusk_are_what_whole_runs_are():
    base = make_clock()
    base.to_dusk()
    for policy in (UniformCycles(2), OneShot()):
        fork = base.fork(policy=policy)
        assert without_times(fork.run()) == without_times(make_clock(policy=policy).run())
    assert (base.agent.phase, base.agent.n_steps, base.history.n_days) == ("dusk", 8, 0)
    assert without_times(base.run()) == without_times(make_clock().run())
    between = base.fork()
    assert between.is_over
    assert between.history == base.history


def test_fork_in_the_midst_of_a_phase_is_refused():
    clock = make_clock()
    seen = []

    def fork(event):
        if isinstance(event, Progress):
            with pytest.raises(StateError, match="fork: an agent can be copied between days and at dusk, not in its"):
                clock.fork()
            seen.append(event.phase)

    clock.hooks.append(fork)
    clock.run(until=1)
    assert set(seen) == {"wake", "rem"}


def test_days_that_will_not_be_lived_need_not_be_possible():
    clock = make_clock(toy_stream(5), days=2)
    assert clock.run(until=2).n_days == 2
    with pytest.raises(CapacityError, match="day 2 is beyond the 2 days"):
        clock.run()
    until_full = make_clock(toy_stream(9), capacity=Capacity(keep_per_night=0.3))
    assert until_full.run(until=4).n_days == 4
    assert until_full.agent.n_free == 0


@pytest.mark.parametrize("until", ["a", 1.5, -1, True])
def test_until_must_be_a_day(until):
    with pytest.raises(SettingError, match="until must be a whole number from 0 up"):
        make_clock().run(until=until)


def test_random_numbers_that_a_hook_draws_change_nothing():
    def draw(event):
        torch.manual_seed(1)
        torch.rand(3)

    def run(*hooks):
        agent = Agent(
            lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)),
            capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=10),
        )  # fmt: skip
        clock = Clock(agent, toy_stream(1), policy=OneShot(), wake=Epochs(9), night=Epochs(9), on_event=hooks)
        return without_times(clock.run())

    assert run() == run(draw)


def test_evaluations_are_timed_apart_from_the_day():
    def slow(event):
        if isinstance(event, Record) and event.kind == "evaluation":
            times.append(event.elapsed_seconds)

    times = []
    history = make_clock(on_event=slow).run()
    assert len(times) == 12
    assert sum(seconds is None for seconds in times) == 6  # those of earlier tasks were carried over
    assert all(seconds is None or seconds > 0 for seconds in times)
    for day in history.select(kind="day"):
        own = [r for r in history.select(day=day.day) if r.kind in ("epoch", "prune")]
        assert day.elapsed_seconds >= max(r.elapsed_seconds for r in own)


def test_stream_may_be_a_plain_list():
    task = toy_stream(1)[0]
    pair = ((task.train.inputs, task.train.targets), (task.test.inputs, task.test.targets))
    assert make_clock([pair, pair], days=2).run().n_days == 2


class TooLong(SleepPolicy):
    def cycles(self, night):
        yield Cycle(keep="dawn", length=1.0 if night.day < 2 else 1.5)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"policy": TooLong()}, PolicyError, r"TooLong\(\) on day 2, cycle 0: overspends"),
        ({"capacity": Capacity(free_at_end=0.5, days=2)}, CapacityError, "day 2 is beyond the 2 days"),
        ({"capacity": Capacity(free_at_end=0.999, days=3)}, CapacityError, r"layer 'body\.1' .* would get no new"),
        ({"capacity": Capacity(keep_per_night=0.6)}, CapacityError, "day 2: all 112 maskable weights are owned"),
        ({"stream": TaskStream([*toy_stream(2), toy_stream(1, n_features=5)[0]])}, DataError,
         r"day 2, task 'toy 0': inputs have the shape \(5,\), and those of day 0 \(6,\)"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_later_is_refused_before_training(settings, error, message):
    clock = make_clock(**settings)
    with pytest.raises(error, match=message):
        clock.run()
    assert clock.agent.n_steps == 0
    assert len(clock.history) == 0


def test_policy_of_another_kind_is_refused():
    with pytest.raises(SettingError, match=r"Did you mean OneShot\(\.\.\.\)"):
        make_clock(policy=OneShot)
    for policy in (0, "x"):
        with pytest.raises(SettingError, match=f"the policy must be a SleepPolicy, .*, not {policy!r}"):
            make_clock().fork(policy=policy)
    with pytest.raises(SettingError, match=r"night must be a budget, .*, not 0"):
        make_clock().fork(night=0)
    with pytest.raises(SettingError, match="until must be a whole number from 0 up, not -1"):
        make_clock().check(-1)


@pytest.mark.parametrize("name", ["wake", "night", "agent"])
def test_budget_or_agent_of_another_kind_is_refused(name):
    clock = make_clock()
    settings = {"agent": clock.agent, "wake": Epochs(1), "night": Epochs(1)} | {name: 72}
    with pytest.raises(SettingError, match=rf"{name} must be .*, not 72"):
        Clock(settings.pop("agent"), toy_stream(1), policy=OneShot(), **settings)


def test_hook_that_is_no_function_is_refused():
    for hooks in (3, [3]):
        with pytest.raises(SettingError, match="on_event must be a function or several functions, not "):
            make_clock(on_event=hooks)


def test_step_alone_refuses_a_bad_night_before_its_wake():
    class Rises(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep=0.6, length=0.1)
            yield Cycle(keep=0.8, length=0.1)

    clock = make_clock(policy=Rises())
    with pytest.raises(PolicyError, match="the density goes up"):
        clock.step()
    assert clock.agent.n_steps == 0


def test_a_fork_refuses_what_is_no_hook():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
    clock = Clock(agent, toy_stream(1), policy=UniformCycles(2), wake=Epochs(1), night=Epochs(1))
    with pytest.raises(SettingError, match="on_event must be a function or several functions, not 3"):
        clock.fork(on_event=3)


def test_a_run_with_nothing_to_do_warns():
    stream = toy_stream(2)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=10))
    clock = Clock(agent, stream, policy=OneShot(), wake=Epochs(1), night=Epochs(1))
    clock.run()
    clock.run()  # it is done, and says so by giving the same history
    other = Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(1), night=Epochs(1))
    with pytest.warns(UserWarning, match="nothing to do: the agent had lived 2 days before this clock was made"):
        assert len(other.run()) == 0


def test_tasks_that_were_learnt_are_known_by_their_names(tmp_path):
    tasks = [attrs.evolve(task, name=name) for task, name in zip(toy_stream(4), "abcd", strict=True)]
    agent = make_clock(days=4).agent
    Clock(agent, [tasks[0], tasks[2]], policy=OneShot(), wake=Epochs(1), night=Epochs(1)).run()
    agent.save(tmp_path / "agent.dn")
    for known in (agent, Agent.load(tmp_path / "agent.dn", toy_network, training=agent.training)):
        # One that came late, and the day's alone.
        for wrong, place in ((tasks[:3], 1), (tasks[3:], 0)):
            clock = Clock(known, wrong, policy=OneShot(), wake=Epochs(1), night=Epochs(1))
            with pytest.raises(DataError, match=f"the task of day {place} was '[ac]', and in the stream it is '[bd]'"):
                clock.run()
        assert known.task_names == ("a", "c")
        with pytest.raises(DataError, match="the stream has 1 tasks, and the agent 2 days behind it"):
            Clock(
                known, tasks[:1], policy=OneShot(), wake=Epochs(1), night=Epochs(1), checkpoint=tmp_path / "folder"
            ).resume()
        known.evaluate(attrs.evolve(tasks[0], name="a in the rain"), 0)
        numbered = [attrs.evolve(task, name=str(n)) for n, task in enumerate((tasks[0], tasks[2]))]
        Clock(known, numbered, policy=OneShot(), wake=Epochs(1), night=Epochs(1)).check()


def test_days_of_one_agent_have_inputs_of_one_kind():
    tasks = list(toy_stream(2))
    inputs, labels = tasks[1].train.load()
    whole = Task(train=((10 * inputs).long(), labels), test=((10 * inputs).long(), labels))
    with pytest.raises(DataError, match="inputs are whole numbers, and those of day 0 floating point"):
        make_clock([tasks[0], whole], days=2).check()
