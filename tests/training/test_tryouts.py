"""What a task sees of earlier ones, chosen by trials: ``sees="best"``."""

import datetime
import functools
import itertools

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resumable import Dropping, Killed, Killer, outcome
from test_stateful_losses import Running

from daynight import (
    Agent,
    Capacity,
    Clock,
    Epochs,
    History,
    OneShot,
    Progress,
    Record,
    Seconds,
    Steps,
    Task,
    TaskStream,
    Training,
    UniformCycles,
    Until,
)
from daynight.errors import DataError, SettingError, StateError, TrainingError
from daynight.loggers import CSVLogger, scalars
from daynight.nights.budgets import Budget, Ledger, StepLedger
from daynight.testing import FakeTimer, toy_network, toy_stream

STREAM = toy_stream(6).hold_out(0.3)
INPUTS = STREAM[0].test.load()[0]


def made(network=toy_network, training=None, **settings):
    capacity = Capacity(keep_per_task=0.1, min_per_layer=1)
    return Agent(network, capacity=capacity, training=training or Training(batch_size=8), seed=5, **settings)


def live(agent, index, steps=20, **settings):
    agent.wake(STREAM[index], Steps(steps), **settings)
    agent.sleep(OneShot(), Steps(4))
    return agent


def aged(n=3, sees="none", **settings):
    agent = made(**settings)
    for index in range(n):
        live(agent, index, sees=sees)
    return agent


def trials_of(heard):
    return [event for event in heard if isinstance(event, Record) and event.kind == "trial"]


def asked(label):
    return label if label in ("all", "none") else list(map(int, label.split()))


def same(one, two):
    one, two = one.network.state(), two.network.state()
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def expected_labels(found, sight, needed):
    """Return which trials should have been made, in their order, from the losses that they gave."""
    losses = {record.sees: record.validation_loss for record in found}
    known = {}
    candidates = [("all", frozenset(needed)), ("none", frozenset())]
    for label, owners in candidates + [(str(task), frozenset(owners)) for task, owners in sight.items()]:
        known.setdefault(owners, label)
    order = list(known.values())
    singles = sorted((label for label in order if label.isdecimal()), key=losses.__getitem__)
    best = singles[:1]
    for single in singles[1:]:
        label = " ".join(map(str, sorted(map(int, [*best[0].split(), single]))))
        if frozenset().union(*(sight[int(task)] for task in label.split())) in known:
            continue
        order.append(label)
        if losses[label] >= losses[best[0]]:
            break
        best = [label]
    return order


SEES = st.one_of(st.sampled_from(["none", "all"]), st.integers(0, 9).map(lambda n: [n]))


@settings(max_examples=12)
@given(
    past=st.lists(SEES, min_size=0, max_size=4), n_steps=st.integers(55, 90), retires=st.booleans(),
    network=st.sampled_from([toy_network, Dropping]), restart=st.sampled_from(["zero", "redraw", "keep"]),
)  # fmt: skip
def test_a_day_is_that_of_what_was_chosen_with_the_rest_of_the_budget(past, n_steps, retires, network, restart):
    agent = made(network, restart=restart)
    for index, sees in enumerate(past):
        if not isinstance(sees, str):
            sees = [sees[0] % index] if index else "all"
        live(agent, index, sees=sees)
    if retires and agent.day > 1:
        agent.retire(0)
    before = {task: agent.predict(INPUTS, task) for task in agent.living}
    state = {name: tensor.clone() for name, tensor in agent.network.state().items()}
    sight, needed, n_before, heard = dict(agent.network.sight.of), agent.network.sight.needed, agent.n_steps, []

    def hook(event):
        heard.append(event)
        if agent.phase == "between days":
            now = agent.network.state()
            assert all(torch.equal(tensor, now[name]) for name, tensor in state.items())
        assert all(torch.equal(agent.predict(INPUTS, task), outputs) for task, outputs in before.items())

    alike, twin, task = agent.fork(), agent.fork(), STREAM[5]
    agent.wake(task, Steps(n_steps), hook, sees="best")
    found = trials_of(heard)
    n_tried = sum(record.trial_steps for record in found)
    assert agent.n_steps - n_before == n_steps
    assert [record.sees for record in found] == (expected_labels(found, sight, needed) if before else [])
    assert len({record.trial_steps for record in found}) <= 1
    assert n_tried <= n_steps // 5
    assert all(record.trial_steps > 0 for record in found)
    assert [record.step for record in found] == [
        n_before + sum(record.trial_steps for record in found[: n + 1]) for n in range(len(found))
    ]
    chosen = min(found, key=lambda record: record.validation_loss).sees if found else "all"
    twin.wake(task, Steps(n_steps - n_tried), sees=asked(chosen))
    assert same(agent, twin)
    again = []
    alike.wake(task, Steps(n_steps), again.append, sees="best")
    assert same(agent, alike)
    timeless = functools.partial(attrs.evolve, elapsed_seconds=None)
    assert list(map(timeless, trials_of(again))) == list(map(timeless, found))
    for one in (agent, twin):
        one.sleep(UniformCycles(2), Steps(6))
    assert same(agent, twin)
    record, other = agent.days[-1], twin.days[-1]
    assert (record.sees, record.trial_steps, record.wake_steps) == (chosen, n_tried, n_steps)
    assert (other.sees, other.trial_steps, other.wake_steps) == (None, None, n_steps - n_tried)
    assert all(torch.equal(agent.predict(INPUTS, task), outputs) for task, outputs in before.items())
    agent.verify()


def test_epochs_and_schedulers_go_by_what_is_left():
    asked_for = []

    def schedule(optimizer, n_steps):
        asked_for.append(n_steps)
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=n_steps)

    agent = aged(training=Training(batch_size=8, scheduler=schedule))
    asked_for.clear()
    heard = []
    agent.wake(STREAM[3], Epochs(30), heard.append, sees="best")
    found = trials_of(heard)
    n_steps, n_tried = 30 * 4, sum(record.trial_steps for record in found)
    twin = aged(training=Training(batch_size=8, scheduler=schedule))
    twin.wake(STREAM[3], Steps(n_steps - n_tried), sees=asked(min(found, key=lambda one: one.validation_loss).sees))
    assert same(agent, twin)
    assert {n_steps - n_tried, found[0].trial_steps} <= set(asked_for)


def test_a_scheduler_that_a_trial_is_too_short_for_is_refused_before_training():
    def schedule(optimizer, n_steps):
        assert n_steps != 2
        return torch.optim.lr_scheduler.StepLR(optimizer, 10)

    agent = aged(training=Training(batch_size=8, scheduler=schedule), n=1)
    n_before = agent.n_steps
    with pytest.raises(SettingError, match=r"^Training: scheduler fails in a trial of sees='best', for 2 steps"):
        agent.wake(STREAM[3], Steps(20), sees="best")
    assert (agent.phase, agent.n_steps) == ("between days", n_before)


@pytest.mark.parametrize("is_deadline", [False, True])
def test_trials_end_in_their_share_of_a_time(is_deadline):
    seconds = 0.05 if is_deadline else 0.01
    timer = FakeTimer(seconds)
    wall = timer.wall() + datetime.timedelta(seconds=60)
    agent, heard = aged(), []
    deadline = Until(f"{wall:%H:%M}", longest=120, timer=timer)
    left = 60.0 if is_deadline else 6.0
    budget = deadline if is_deadline else Seconds(6.0, timer=timer)
    began = timer.now()
    ends = []

    def hook(event):
        heard.append(event)
        if isinstance(event, Record) and event.kind == "trial":
            ends.append(timer.now() - began)

    agent.wake(STREAM[3], budget, hook, sees="best")
    found = trials_of(heard)
    assert 5 <= len(found) <= 7  # of three tasks that see none: all, none, each, and perhaps two or three together
    assert max(ends) <= left / 5 + seconds
    assert all(abs(two - one - left / 35) < 1.1 * seconds for one, two in itertools.pairwise([0.0, *ends]))
    assert timer.now() - began <= left
    assert timer.now() - began > left - 2 * seconds
    assert agent.n_steps - 72 == round((timer.now() - began) / seconds)
    assert sum(record.trial_steps for record in found) == round(ends[-1] / seconds)


def test_a_wake_without_time_has_trials_without_steps():
    agent = aged()
    heard = []
    agent.wake(STREAM[3], Seconds(0, timer=FakeTimer()), heard.append, sees="best")
    assert {record.trial_steps for record in trials_of(heard)} == {0}
    assert agent.phase == "dusk"


def with_trials(n):
    return TaskStream([attrs.evolve(task, sees="best") for task in toy_stream(n)])


def clock(folder=None, hook=(), wake=None, network=Dropping, **settings):
    agent = made(network, **settings)
    return Clock(
        agent, with_trials(3).hold_out(0.3), policy=UniformCycles(2), wake=wake or Steps(50), night=Steps(6),
        on_event=hook, checkpoint=folder, every=0.0,
    )  # fmt: skip


def budget_of(is_timed):
    return Seconds(0.5, timer=FakeTimer(0.01)) if is_timed else Steps(50)


@functools.cache
def undisturbed(is_timed):
    """Return the events of a run that nobody kills, its outcome, and what each day sees. Call it `at_every_step`."""
    heard = []
    whole = clock(None, heard.append, budget_of(is_timed))
    whole.run()
    return heard, outcome(whole), [record.sees for record in whole.history.select(kind="day")]


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize(
    ("is_timed", "place", "n_later"),
    [(False, 2, -1), (False, 3, 0), (False, 4, 2), (True, 3, -1)],
    ids=["in a trial", "at its end", "after all", "in seconds"],
)
def test_a_run_that_is_killed_in_a_trial_ends_as_one_that_was_not(is_timed, place, n_later, tmp_path):
    heard, expected, sees = undisturbed(is_timed)
    assert [seen is None for seen in sees] == [False] * 3
    ends = [n for n, event in enumerate(heard) if isinstance(event, Record) and event.kind == "trial"]
    with pytest.raises(Killed):
        clock(tmp_path, Killer(ends[place] + n_later), budget_of(is_timed)).run()
    again = clock(tmp_path, (), budget_of(is_timed))
    again.run()
    assert outcome(again) == expected


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("is_timed", [False, True])
def test_a_wake_that_is_killed_after_its_trials_knows_them(is_timed, tmp_path):
    def new(folder=None, hook=()):
        return clock(folder, hook, Seconds(0.5, timer=FakeTimer(0.01)) if is_timed else Steps(50))

    def kill(event):
        if isinstance(event, Progress) and event.day == 2 and first.agent.phase == "wake":
            raise Killed

    first = new(tmp_path, kill)
    with pytest.raises(Killed):
        first.run()
    again = new(tmp_path)
    again.resume()
    assert again.agent.phase == "wake"
    whole = new()
    whole.run()
    n_tried = sum(record.trial_steps for record in whole.history.select(kind="trial", day=2))
    assert again.agent.n_steps == whole.agent.days[1].step + n_tried
    again.run()
    assert outcome(again) == outcome(whole)


def test_an_interrupted_trial_begins_anew():
    agent = aged()
    other = agent.fork()

    def interrupt(event):
        if isinstance(event, Record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.wake(STREAM[3], Steps(100), interrupt, sees="best")
    assert (agent.phase, agent.n_steps) == ("between days", other.n_steps)
    for one in (agent, other):
        one.wake(STREAM[3], Steps(100), sees="best")
    assert same(agent, other)


def test_trials_change_nothing_that_a_loss_keeps():
    agent, heard = aged(training=Training(batch_size=8, loss=Running())), []
    agent.wake(STREAM[3], Steps(100), heard.append, sees="best")
    found = trials_of(heard)
    twin = aged(training=Training(batch_size=8, loss=Running()))
    label = min(found, key=lambda one: one.validation_loss).sees
    twin.wake(STREAM[3], Steps(100 - sum(one.trial_steps for one in found)), sees=asked(label))
    assert same(agent, twin)


def test_if_all_trials_fail_the_wake_says_why():
    def huge(parameters):
        return torch.optim.SGD(parameters, lr=1e30)

    agent = aged()
    agent.training = attrs.evolve(agent.training, optimizer=huge)
    before, heard = agent.predict(INPUTS, 0), []
    with pytest.raises(TrainingError, match=r"^day 3, wake: "):
        agent.wake(STREAM[3], Steps(100), heard.append, sees="best")
    assert all(record.validation_loss != record.validation_loss for record in trials_of(heard))
    agent.abandon_day()
    assert agent.phase == "between days"
    assert torch.equal(agent.predict(INPUTS, 0), before)


class Undivided(StepLedger):
    rest = Ledger.rest  # a user's own ledger has no other


@attrs.frozen
class Odd(Budget):
    def open(self, steps_per_epoch):
        return Undivided(100)


@pytest.mark.parametrize(
    ("task", "budget", "error", "message"),
    [
        (toy_stream(4)[3], Steps(100), DataError, r"^task 'toy 3' has no validation split, on which sees='best' comp"),
        (STREAM[3], Steps(34), SettingError, r"sees='best' may need 7 trials, .* 34 steps\. Give the wake 35 st"),
        (STREAM[3], Odd(), SettingError, r"^sees='best' divides the budget of the wake, and Undivided cannot be d"),
    ],
)  # fmt: skip
def test_what_cannot_be_tried_is_refused_before_training(task, budget, error, message):
    agent = aged()
    n_before = agent.n_steps
    if error is DataError:
        with pytest.raises(error, match=message):
            agent.check(attrs.evolve(task, sees="best"))
    with pytest.raises(error, match=message):
        agent.wake(task, budget, sees="best")
    assert (agent.phase, agent.n_steps) == ("between days", n_before)
    with pytest.raises(error, match=message):
        Clock(agent, [attrs.evolve(task, sees="best")], policy=OneShot(), wake=budget, night=Steps(1),
              first_day=3).check()  # fmt: skip
    agent.wake(STREAM[3], Steps(35), sees="best")


@pytest.mark.parametrize(
    ("wishes", "wake", "error", "message"),
    [
        ({"sees": "best", "validation": None}, Steps(50), DataError, "has no validation split, on which sees='best'"),
        ({"sees": "best"}, Steps(9), SettingError, "may need 2 trials"),
        ({"sees": ["tomorrow"]}, Steps(9), StateError, "sees: task 'tomorrow' has not been learnt"),
        ({"sees": [2]}, Steps(9), StateError, "sees: task 2 has not been learnt"),
    ],
)
def test_a_clock_refuses_it_before_its_first_day(wishes, wake, error, message):
    stream = [*STREAM[:2], attrs.evolve(STREAM[2], **wishes)]
    run = Clock(made(), stream, policy=OneShot(), wake=wake, night=Steps(1))
    with pytest.raises(error, match=message):
        run.run()
    assert run.agent.n_steps == 0


def test_a_task_says_what_it_sees():
    names = ["a", "b", "c"]
    tasks = [attrs.evolve(task, name=name) for task, name in zip(STREAM, names, strict=False)]
    tasks[1] = attrs.evolve(tasks[1], sees="none")
    tasks[2] = attrs.evolve(tasks[2], sees=["b"])
    run = Clock(made(), tasks, policy=OneShot(), wake=Steps(5), night=Steps(1))
    run.run()
    assert dict(run.agent.network.sight.of) == {0: range(1), 1: {1}, 2: {1, 2}}
    agent = made()
    for task in tasks:
        agent.wake(task, Steps(5))
        agent.sleep(OneShot(), Steps(1))
    assert same(agent, run.agent)
    with pytest.raises(DataError, match=r"'a': a task that succeeds another sees what that task sees: leave sees="):
        attrs.evolve(tasks[0], succeeds="a", sees="none")
    with pytest.raises(SettingError, match="sees must be one of"):
        attrs.evolve(tasks[0], sees="some")
    assert attrs.evolve(tasks[0], succeeds="a", sees="all").sees == "all"


@pytest.mark.parametrize("way", ["rehearse", "fine-tune"])
def test_only_frozen_weights_can_be_left_out(way):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), consolidation=way)
    with pytest.raises(SettingError, match="only with consolidation='freeze'"):
        agent.wake(STREAM[0], Steps(50), sees="best")


def test_records_of_trials_are_in_files_and_reports(tmp_path):
    log = CSVLogger(tmp_path / "log.csv")
    run = clock(hook=log, network=toy_network)
    history = run.run()
    trials = history.select(kind="trial")
    assert [record.sees for record in history.select(kind="trial", day=1)] == ["all", "none"]
    history.to_csv(tmp_path / "run.csv")
    history.to_json(tmp_path / "run.json")
    assert History.from_csv(tmp_path / "run.csv") == History.from_json(tmp_path / "run.json") == history
    assert (tmp_path / "log.csv").read_text() == (tmp_path / "run.csv").read_text()
    frame = history.to_frame()
    assert list(frame[frame.kind == "trial"].sees) == [record.sees for record in trials]
    history.report(tmp_path / "run.html")
    assert "<h2>Trials</h2>" in (tmp_path / "run.html").read_text()
    assert scalars(trials[0]) == {
        "trial loss/sees all": trials[0].validation_loss, "trial score/sees all": trials[0].validation_score
    }  # fmt: skip
    run.agent.save(tmp_path / "agent.dn")
    assert Agent.load(tmp_path / "agent.dn").days == run.agent.days
    assert all(record.sees and record.wake_steps == 50 for record in run.agent.days)


def test_reports_without_trials_are_as_before(tmp_path):
    run = Clock(made(), STREAM[:2], policy=OneShot(), wake=Steps(5), night=Steps(1))
    run.run().report(tmp_path / "run.html")
    assert "Trials" not in (tmp_path / "run.html").read_text()
    run.history.to_csv(tmp_path / "run.csv")
    assert (tmp_path / "run.csv").read_text().splitlines()[0].endswith("elapsed_seconds")


def test_a_task_that_helps_is_seen():
    """Two tasks of other inputs, and then the first one again with few examples."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 6, generator=generator)
    labels = [(inputs[:, first] * inputs[:, first + 1] > 0).long() for first in (0, 3)]

    def task(which, some):
        data = inputs[some], labels[which][some]
        held = inputs[500:], labels[which][500:]
        return Task(train=data, validation=held, test=held)

    training = Training(batch_size=20, optimizer=lambda parameters: torch.optim.Adam(parameters, 1e-2))
    agent = Agent(lambda: toy_network(6, 32), capacity=Capacity(keep_per_task=0.3), training=training, restart="redraw")
    for which in (0, 1):
        agent.wake(task(which, slice(0, 400)), Steps(800), sees="none")
        agent.sleep(OneShot(), Steps(200))
    agent.wake(task(0, slice(400, 460)), Steps(400), sees="best")
    agent.sleep(OneShot(), Steps(50))
    assert agent.days[-1].sees == "0"
