"""An agent or a clock that is interrupted resumes as if nothing had happened, or abandons the day."""

import functools
import inspect
import os
import signal
import sys
from types import CodeType
from typing import ClassVar

import attrs
import pytest
import torch

from daynight import (
    Agent,
    Capacity,
    Clock,
    Cycle,
    Epochs,
    LazyDataset,
    OneShot,
    Progress,
    Record,
    SleepPolicy,
    Steps,
    Task,
    Training,
    UniformCycles,
)
from daynight.errors import DataError, PolicyError, StateError, TrainingError
from daynight.testing import toy_network, toy_stream


def make_agent(**settings):
    defaults = {"capacity": Capacity(free_at_end=0.5, days=3), "training": Training(batch_size=10)}
    return Agent(toy_network, **{**defaults, **settings})


@pytest.mark.parametrize("way_on", ["sleep", "finish"])
def test_interrupted_rem_goes_on_within_what_is_left(way_on):
    class Stop(Exception):
        pass

    agent = make_agent()
    task = toy_stream(1)[0]
    agent.wake(task, Epochs(2))

    def interrupt(event):
        if isinstance(event, Record) and event.phase == "rem" and event.cycle == 1:
            raise Stop

    with pytest.raises(Stop):
        agent.sleep(UniformCycles(2), Epochs(6), interrupt)
    assert agent.phase == "night"
    spent = agent.n_steps - 8
    assert 12 < spent < 24
    assert agent.predict(task.test.inputs, 0).shape == (20, 2)
    events = []
    if way_on == "sleep":
        agent.sleep(UniformCycles(3), Epochs(6), events.append)
        assert events[-1].night_steps == 24
    else:
        agent.finish_night(events.append)
        assert (events[-1].night_steps, events[-1].unspent_steps) == (spent, 24 - spent)
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


@pytest.mark.parametrize("kind", [Record, Progress])
def test_interrupted_wake_goes_on_as_if_it_had_not_been(kind):
    class Stop(Exception):
        pass

    def interrupt(event):
        if isinstance(event, kind) and event.step > 20:
            raise Stop

    whole, parts = make_agent(), make_agent()
    task = toy_stream(1)[0]
    whole.wake(task, Epochs(8))
    with pytest.raises(Stop):
        parts.wake(task, Epochs(8), interrupt)
    assert (parts.phase, parts.n_steps) == ("wake", 24 if kind is Record else 25)
    with pytest.raises(StateError, match="sleep: day 0 has had no whole wake yet"):
        parts.sleep(OneShot(), Epochs(1))
    parts.wake(task, Epochs(100))  # keeps the budget it has
    for agent in (whole, parts):
        agent.sleep(OneShot(), Epochs(1))
        assert agent.days[0].wake_steps == 32
    assert torch.equal(whole.predict(task.test.inputs, 0), parts.predict(task.test.inputs, 0))


def test_interrupted_loading_leaves_the_agent_between_days():
    class Stop(Exception):
        pass

    class View:
        fails = False

        def __call__(self, inputs):
            if self.fails and len(inputs) > 10:
                raise Stop
            return inputs

    task, view = toy_stream(1)[0], View()
    task = attrs.evolve(task, train=attrs.evolve(task.train, view=view))
    agent, view.fails = make_agent(), True
    with pytest.raises(Stop):
        agent.wake(task, Epochs(1))
    assert agent.phase == "between days"
    view.fails = False
    agent.wake(task, Epochs(1))
    assert agent.phase == "dusk"


@pytest.mark.parametrize("day", [0, 1])
@pytest.mark.parametrize("settings", [{}, {"biases": "freeze-after-first"}, {"restart": "keep"}, {"restart": "redraw"}])
def test_day_that_has_gone_wrong_is_abandoned_and_lived_again(day, settings):
    stream = toy_stream(2)
    stays, agent = make_agent(**settings), make_agent(**settings)
    for index in range(day):
        for each in (stays, agent):
            each.wake(stream[index], Epochs(3))
            each.sleep(OneShot(), Epochs(3))
    with pytest.raises(StateError, match="abandon_day: no day has begun"):
        agent.abandon_day()
    sane, agent.training = agent.training, Training(optimizer=functools.partial(torch.optim.SGD, lr=1e37))
    with pytest.raises(TrainingError, match=rf"day {day}, wake: .*not finite\. Call abandon_day"):
        agent.wake(stream[day], Steps(1))
    agent.abandon_day()
    assert (agent.phase, agent.day, agent.n_steps) == ("between days", day, stays.n_steps + 1)
    agent.training = sane
    for each in (stays, agent):
        each.wake(stream[day], Epochs(2))
        each.sleep(UniformCycles(2), Epochs(2))
    assert agent.owned == stays.owned
    for index in range(day + 1):
        inputs = stream[index].test.inputs
        assert torch.equal(agent.predict(inputs, index), stays.predict(inputs, index))


def test_wake_that_has_gone_wrong_is_not_sealed():
    agent = make_agent(training=Training(optimizer=functools.partial(torch.optim.SGD, lr=1e37)))
    with pytest.raises(TrainingError, match=r"day 0, wake: .*Call abandon_day"):
        agent.wake(toy_stream(1)[0], Epochs(1))
    agent.abandon_day()
    agent = make_agent()
    agent.wake(toy_stream(1)[0], Epochs(1))
    next(iter(agent.network.weights.values())).detach().fill_(torch.inf)
    with pytest.raises(TrainingError, match="not finite"):
        agent.finish_night()
    agent.abandon_day()
    assert (agent.day, agent.phase, sum(agent.network.count(0).values())) == (0, "between days", 0)


class Stop(Exception):
    pass


class StopAt:
    """Interrupts at the n-th event that it hears."""

    def __init__(self, n):
        self.left = n

    def __call__(self, event):
        self.left -= 1
        if self.left == 0:
            raise Stop


def make_clock(hook=()):
    return Clock(make_agent(), toy_stream(2), policy=UniformCycles(2), wake=Epochs(2), night=Epochs(3), on_event=hook)


def evaluations(history):
    return {(r.day, r.phase, r.task, r.score) for r in history.select(kind="evaluation")}


def test_run_that_is_interrupted_at_any_event_lacks_nothing_in_the_end():
    heard = []
    expected = make_clock(heard.append).run()
    for n in range(1, len(heard) + 1):
        clock = make_clock(StopAt(n))
        with pytest.raises(Stop):
            clock.run()
        history = clock.run()
        days = [(r.day, r.owned, r.wake_steps, r.night_steps) for r in history.select(kind="day")]
        assert days == [(r.day, r.owned, r.wake_steps, r.night_steps) for r in expected.select(kind="day")]
        assert len(evaluations(history)) == len(history.select(kind="evaluation")) == len(evaluations(expected))
        assert history.accuracy.shape == (2, 2)


def test_night_that_the_agent_finished_by_itself_is_in_the_history():
    def interrupt(event):
        if isinstance(event, Record) and event.kind == "prune":
            raise Stop

    clock = make_clock(interrupt)
    with pytest.raises(Stop):
        clock.run()
    clock.agent.finish_night()
    clock.hooks.clear()
    history = clock.run()
    assert history.n_days == 2
    assert [(r.day, r.task) for r in history.select(kind="evaluation", phase="dawn")] == [(0, 0), (1, 0), (1, 1)]


def test_clock_that_lives_an_abandoned_day_again_keeps_nothing_of_the_first_try():
    def interrupt(event):
        if isinstance(event, Record) and (event.kind, event.day) == ("prune", 1):
            raise Stop

    clock, expected = make_clock(interrupt), make_clock().run()
    with pytest.raises(Stop):
        clock.run()
    clock.agent.abandon_day()
    clock.hooks.clear()
    history = clock.run()
    assert evaluations(history) == evaluations(expected)
    assert [(r.kind, r.day, r.phase, r.cycle, r.loss) for r in history] == [
        (r.kind, r.day, r.phase, r.cycle, r.loss) for r in expected
    ]


class Interrupting:
    """Raises SIGINT as the n-th function of daynight is entered, which is where Python looks for signals."""

    counts: ClassVar[dict[CodeType, bool]] = {}  # whether a function counts; most calls are PyTorch's

    def __init__(self, n):
        self.n, self.n_calls = n, 0

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if code not in self.counts:
            is_own = f"daynight{os.sep}" in code.co_filename and "tests" not in code.co_filename
            # What is raised in a generator as it is cleared away is lost.
            self.counts[code] = is_own and not code.co_flags & inspect.CO_GENERATOR
        if self.counts[code]:
            self.n_calls += 1
            if self.n_calls == self.n:
                signal.raise_signal(signal.SIGINT)

    def __enter__(self):
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(None)


def short_life():
    training = Training(batch_size=20)
    return Clock(make_agent(training=training), toy_stream(2), policy=UniformCycles(2), wake=Epochs(1), night=Epochs(2))


def test_ctrl_c_in_any_function_leaves_a_life_that_goes_on():
    expected = short_life().run()
    clock = short_life()
    with Interrupting(0) as counter:
        clock.run()
    n_heard = 0
    for n in torch.linspace(1, counter.n_calls, 100).long().tolist():
        clock, scores = short_life(), {}
        try:
            with Interrupting(n):
                clock.run()
        except KeyboardInterrupt:
            n_heard += 1
        for record in clock.history.select(kind="evaluation", phase="dawn"):
            scores[record.task] = record.score
        history = clock.run()
        assert clock.agent.n_steps == 2 * (2 + 4)
        assert clock.agent.owned == tuple(record.owned for record in expected.select(kind="day"))
        assert all(history.accuracy[-1, task] == score for task, score in scores.items())
        assert [r.task for r in history.select(kind="evaluation", phase="dawn")] == [0, 0, 1]
        assert torch.is_grad_enabled()
    assert n_heard > 90


def test_forks_after_an_interrupted_measurement_have_budgets_of_their_own():
    fails = []

    def metric(outputs, targets):
        if fails:
            raise KeyboardInterrupt
        return 0.5

    class Reacting(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep="dawn", length=1.0 if night.score else 0.5)

    agent = make_agent(training=Training(batch_size=10, metric=metric))
    clock = Clock(agent, toy_stream(1), policy=Reacting(), wake=Epochs(1), night=Epochs(2))
    clock.to_dusk()
    fails.append(1)
    with pytest.raises(KeyboardInterrupt):
        clock.agent.sleep(Reacting(), Epochs(2))
    fails.clear()
    forks = [clock.fork(policy=OneShot()), clock.fork(policy=OneShot(), night=Steps(20)), clock]
    assert [fork.run().select(kind="day")[0].night_steps for fork in forks] == [8, 20, 8]
    assert [fork.agent.n_steps for fork in forks] == [12, 24, 12]


def test_day_whose_task_cannot_be_read_leaves_no_trace():
    class Unreadable(torch.utils.data.Dataset):
        targets = torch.arange(40) % 2
        n_read = 0

        def __len__(self):
            return 40

        def __getitem__(self, index):
            Unreadable.n_read += 1
            if Unreadable.n_read == self.fails_at:
                raise OSError("gone")
            return torch.zeros(6) + index % 2, index % 2

    agent, first = make_agent(), toy_stream(1)[0]
    agent.wake(first, Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    before = agent.predict(first.test.inputs, 0)
    for n in range(1, 60, 7):
        Unreadable.n_read, Unreadable.fails_at = 0, None
        task = Task(train=LazyDataset(Unreadable()), test=first.test)
        Unreadable.n_read, Unreadable.fails_at = 0, n
        with pytest.raises(DataError, match=r"example \d+ of Unreadable cannot be read: OSError"):
            agent.wake(task, Epochs(2))
        if agent.phase != "between days":
            agent.abandon_day()
        assert torch.equal(agent.predict(first.test.inputs, 0), before)


class BreaksLater(SleepPolicy):
    """Reacts, and breaks a rule after a cycle."""

    def cycles(self, night):
        assert night.loss is not None
        night = yield Cycle(keep=0.8, length=0.2)
        yield Cycle(keep=0.9, length=0.2)


def test_a_rule_broken_in_the_midst_of_a_night_says_that_it_is_open():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=10))
    agent.wake(toy_stream(1)[0], Epochs(1))
    with pytest.raises(PolicyError, match="the density goes up") as caught:
        agent.sleep(BreaksLater(), Epochs(4))
    assert agent.phase == "night"
    if hasattr(caught.value, "add_note"):
        assert "has gone back to the end of cycle 0 and is open there" in caught.value.__notes__[-1]
    agent.finish_night()
    assert agent.day == 1
