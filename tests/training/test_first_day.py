"""Clocks whose stream begins after the agent's first days: the data of those may be gone."""

import sys

import numpy as np
import pytest
from resumable import Killed, Killer
from terminal import Terminal

from daynight import Agent, Capacity, Clock, Epochs, History, OneShot, Record, Training, UniformCycles, plots
from daynight.errors import DataError, SettingError, StateError
from daynight.testing import toy_network, toy_stream

STREAM = toy_stream(4)


def make_agent(**settings):
    capacity = Capacity(free_at_end=0.5, days=4)
    return Agent(toy_network, capacity=capacity, training=Training(batch_size=16), seed=3, **settings)


def make_clock(agent, stream, **settings):
    return Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2), **settings)


def days_behind(n, **settings):
    agent = make_agent(**settings)
    make_clock(agent, STREAM).run(until=n)
    return agent


def weights(agent):
    return {name: tensor.numpy().tobytes() for name, tensor in agent.state()[1].items()}


@pytest.mark.parametrize("consolidation", ["freeze", "fine-tune", "rehearse"])
def test_days_with_their_own_data_alone_are_those_of_a_whole_stream(consolidation):
    whole = make_agent(consolidation=consolidation)
    history = make_clock(whole, STREAM).run()
    agent = make_agent(consolidation=consolidation)
    for day, task in enumerate(STREAM):
        clock = make_clock(agent, [task], first_day=day)
        own = clock.run()
        assert clock.is_over
        assert own.accuracy[day, day] == history.accuracy[day, day]
        assert np.isnan(own.accuracy[:day]).all()
        assert np.isnan(own.accuracy[day, :day]).all()
    assert weights(agent) == weights(whole)
    assert agent.n_steps == whole.n_steps


def test_later_tasks_of_the_stream_are_tested_at_each_dawn():
    whole = make_clock(make_agent(), STREAM).run()
    clock = make_clock(days_behind(1), STREAM[1:], first_day=1)
    assert len(clock.run(until=0)) == 0  # days are counted from the agent's first
    assert clock.run(until=3).n_days == 2
    history = clock.run()
    assert np.isnan(history.accuracy[:, 0]).all()
    np.testing.assert_array_equal(history.accuracy[1:, 1:], whole.accuracy[1:, 1:])


@pytest.mark.parametrize("consolidation", ["freeze", "rehearse"])
@pytest.mark.parametrize("n", [1, 7, 12, 16])
def test_a_night_that_was_killed_goes_on_without_the_data_of_earlier_days(consolidation, n, tmp_path, at_every_step):
    before = days_behind(2, consolidation=consolidation)
    before.save(tmp_path / "agent.dn")

    def tonight(hook=()):
        kept = STREAM[:2] if consolidation == "rehearse" else ()
        agent = Agent.load(tmp_path / "agent.dn", toy_network, kept=kept)
        return make_clock(agent, STREAM[2:3], first_day=2, on_event=hook, checkpoint=tmp_path / "night", every=0)

    with pytest.raises(Killed):
        tonight(Killer(n)).run()
    clock = tonight()
    clock.run()
    make_clock(before, STREAM).run(until=3)
    assert weights(clock.agent) == weights(before)
    assert len(tonight().run()) == len(clock.history)  # the night is over, and its history is there
    with pytest.raises(SettingError, match=r"another first_day \(2 then, 1 now\).* It is before day 3\."):
        make_clock(
            days_behind(2, consolidation=consolidation), STREAM[1:3], first_day=1, checkpoint=tmp_path / "night"
        ).resume()


def test_another_task_than_the_checkpoints_is_refused_with_its_day(tmp_path):
    agent = days_behind(2)
    agent.save(tmp_path / "agent.dn")
    make_clock(agent, STREAM[2:3], first_day=2, checkpoint=tmp_path / "night").run()
    again = Agent.load(tmp_path / "agent.dn", toy_network)
    with pytest.raises(DataError, match="a run whose task of day 2 was not the one"):
        make_clock(again, STREAM[3:], first_day=2, checkpoint=tmp_path / "night").resume()


def test_what_a_first_day_cannot_be():
    agent = days_behind(1)
    with pytest.raises(SettingError, match=r"too late: the agent is at day 1, .* Set first_day to 1 or less"):
        make_clock(agent, STREAM[2:], first_day=2)
    for wrong in (-1, 0.5, "1", None):
        with pytest.raises(SettingError, match="first_day must be"):
            make_clock(agent, STREAM[1:], first_day=wrong)
    with pytest.raises(DataError, match=r"the task of day 0 was 'toy 0', and .* it is 'toy 1'.*first_day of the clock"):
        make_clock(agent, STREAM[1:]).run()
    with pytest.raises(SettingError, match=r"first_day=1: .* nothing to do. For a task to come, give first_day=2,"):
        make_clock(days_behind(2), STREAM[1:2], first_day=1).run()


@pytest.mark.parametrize("phase", ["wake", "dusk", "night"])
def test_a_day_under_way_goes_on_with_its_task_alone(phase):
    agent = days_behind(2)

    def stop(event):
        if isinstance(event, Record) and event.kind == ("epoch" if phase == "wake" else "prune"):
            raise ZeroDivisionError

    clock = make_clock(agent, STREAM[2:3], first_day=2, on_event=stop)
    if phase == "dusk":
        clock.to_dusk()
    else:
        with pytest.raises(ZeroDivisionError):
            clock.run()
    assert agent.phase == phase
    other = make_clock(agent, STREAM[3:], first_day=2)
    for live in (other.run, other.step, other.to_dusk, lambda: agent.check(STREAM[3])):
        with pytest.raises(
            StateError, match="day 2 has begun and can be continued only with its task, task 'toy 2', not with"
        ):
            live()
    again = make_clock(agent, toy_stream(4)[2:3], first_day=2)  # the same data, read anew
    again.run()
    assert agent.day == 3


def test_shapes_are_those_of_the_days_behind():
    wider = toy_stream(1, n_features=7)
    with pytest.raises(DataError, match="shape"):
        make_clock(days_behind(1), wider, first_day=1).run()


def test_forks_figures_and_reports_know_of_earlier_days(tmp_path):
    clock = make_clock(days_behind(2), STREAM[2:], first_day=2, progress=True)
    clock.to_dusk()
    twin = clock.fork(policy=OneShot())
    assert twin.first_day == 2
    twin.run()
    clock.run()
    assert twin.history.accuracy.shape == clock.history.accuracy.shape == (4, 4)
    for draw in (plots.accuracy, plots.capacity, plots.hypnogram):
        draw(clock.history)
    last = clock.history.accuracy[-1]
    joined = History([*make_clock(make_agent(), STREAM).run(until=2), *clock.history])
    mean = (joined.accuracy[1, :2].sum() + last[2:].sum()) / 4
    for history, said in (
        (clock.history, f"mean accuracy at the last dawn {np.nanmean(last):.4f}"),
        (
            joined,
            f"mean score of 4 tasks, each when last tested, {mean:.4f}",
        ),
    ):
        history.report(tmp_path / "report.html")
        assert said in (tmp_path / "report.html").read_text()


def test_progress_is_that_of_the_run(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    clock = make_clock(days_behind(3), STREAM[3:], first_day=3, progress=True)
    clock.run()
    shown = sys.stderr.getvalue()
    assert "day 3 (4/4)" in shown
    assert " 0%" in shown
    assert "100%" in shown
