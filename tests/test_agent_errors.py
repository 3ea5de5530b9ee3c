"""What an agent does when something is wrong or is interrupted."""

import functools
import re

import pytest
import torch
from torch import nn

from daynight import (
    Agent,
    Capacity,
    Clock,
    Cycle,
    Epochs,
    OneShot,
    Record,
    SleepPolicy,
    Steps,
    Task,
    Training,
    UniformCycles,
    models,
)
from daynight.errors import CapacityError, DataError, NetworkError, PolicyError, SettingError, StateError, TrainingError
from daynight.testing import toy_network, toy_stream


def make_agent(**settings):
    defaults = {"capacity": Capacity(free_at_end=0.5, days=3), "training": Training(batch_size=10)}
    return Agent(toy_network, **{**defaults, **settings})


class Dives(SleepPolicy):
    """Breaks a rule at its second cycle, and reacts, so that nobody knows before."""

    def cycles(self, night):
        night = yield Cycle(keep=0.5 if night.score >= 0 else 0.4, length=0.5)
        yield Cycle(keep=0.9, length=0.5)


def test_reactive_policy_that_breaks_a_rule_leaves_the_night_open():
    agent = make_agent()
    agent.wake(toy_stream(1)[0], Epochs(2))
    with pytest.raises(PolicyError, match=r"Dives\(\) on day 0, cycle 1: the density goes up, from 0\.5 to 0\.9"):
        agent.sleep(Dives(), Epochs(4))
    assert (agent.phase, agent.n_steps) == ("night", 16)
    with pytest.raises(StateError, match="day 0 has had its wake: call sleep, or finish_night"):
        agent.wake(toy_stream(1)[0], Epochs(1))
    events = []
    agent.sleep(UniformCycles(2), Epochs(100), events.append)
    assert agent.phase == "between days"
    assert (events[-1].night_steps, events[-1].unspent_steps) == (16, 0)
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


def test_static_policy_that_breaks_a_rule_is_refused_before_anything_is_pruned():
    class TooLong(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep=0.5, length=0.5)
            yield Cycle(keep="dawn", length=0.6)

    agent = make_agent()
    agent.wake(toy_stream(1)[0], Epochs(1))
    with pytest.raises(PolicyError, match="overspends"):
        agent.sleep(TooLong(), Epochs(4))
    assert (agent.phase, agent.n_free) == ("dusk", 0)


class Lingers(SleepPolicy):
    """Spends all of the budget before it gets to the dawn density."""

    def __init__(self, share):
        self.share = share

    def cycles(self, night):
        yield Cycle(keep=0.8 if night.loss > 0 else 0.9, length=self.share)


def test_reactive_night_whose_budget_runs_out_is_pruned_to_the_dawn_density():
    agent, events = make_agent(), []
    agent.wake(toy_stream(1)[0], Epochs(1))
    agent.sleep(Lingers(1.0), Epochs(2), events.append)
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)
    assert [e.kind for e in events if hasattr(e, "kind")][-2:] == ["prune", "day"]


def test_reactive_night_that_ends_early_above_the_dawn_density_stays_open():
    agent = make_agent()
    agent.wake(toy_stream(1)[0], Epochs(1))
    with pytest.raises(PolicyError, match="never reaches the dawn density"):
        agent.sleep(Lingers(0.5), Epochs(2))
    agent.finish_night()
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


def test_loss_that_is_not_finite_says_where():
    training = Training(optimizer=functools.partial(torch.optim.SGD, lr=1e30))
    agent = make_agent(training=training)
    with pytest.raises(TrainingError, match=r"day 0, wake: the loss is not finite\. Lower the learning rate"):
        agent.wake(toy_stream(1)[0], Epochs(50))


@pytest.mark.parametrize("call", [lambda a: a.sleep(OneShot(), Epochs(1)), lambda a: a.finish_night()])
def test_night_before_the_wake_is_refused(call):
    with pytest.raises(StateError, match=r"day 0 has had no whole wake yet\. Call wake first"):
        call(make_agent())


def test_predict_refuses_what_it_cannot_know():
    agent = make_agent()
    with pytest.raises(StateError, match="task 0 has not been learnt: none has so far"):
        agent.predict(torch.rand(1, 6), 0)
    agent.wake(toy_stream(1)[0], Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    for task in (1, -1, 0.0, True):
        with pytest.raises(StateError, match="has not been learnt: task 0 has so far"):
            agent.predict(torch.rand(1, 6), task)
    with pytest.raises(DataError, match=r"inputs must have the shape \(n, 6\), not \(1, 7\)"):
        agent.predict(torch.rand(1, 7), 0)


def named(name, seed=0):
    task = toy_stream(1, seed=seed)[0]
    return Task(train=task.train, test=task.test, name=name)


def test_a_name_asks_the_task_that_has_it():
    agent = make_agent()
    agent.wake(named("mon"), Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    inputs = torch.rand(1, 6)
    assert torch.equal(agent.predict(inputs, "mon"), agent.predict(inputs, 0))
    with pytest.raises(StateError, match="task 'tue' has not been learnt: task 0 has so far"):
        agent.predict(torch.rand(1, 6), "tue")


def test_a_night_with_a_name_that_is_learnt_is_warned_of():
    agent = make_agent()
    agent.wake(named("mon"), Epochs(1))
    agent.sleep(OneShot(), Epochs(1))

    def tonight(name):
        budgets = {"wake": Epochs(1), "night": Epochs(1)}
        return Clock(agent.fork(), [named(name)], first_day=1, policy=OneShot(), **budgets)

    tonight("tue").check()
    with pytest.warns(UserWarning, match="two tasks have the name 'mon'"):
        tonight("mon").check()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused_before_it_begins(mode):
    agent, task = make_agent(), toy_stream(1)[0]
    for call in (agent.check, lambda task: agent.wake(task, Epochs(1))):
        with mode(), pytest.raises(StateError, match=rf"torch.{mode.__name__} is on around this call, and training"):
            call(task)
    agent.wake(task, Epochs(1))
    with mode(), pytest.raises(StateError, match=rf"sleep: torch.{mode.__name__} is on around this call"):
        agent.sleep(OneShot(), Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    with torch.inference_mode():
        made = make_agent()
    with pytest.raises(StateError, match=r"was made or loaded within torch\.inference_mode, and cannot be trained"):
        made.wake(task, Epochs(1))
    with mode():
        agent.predict(task.test.inputs, 0)
        agent.evaluate(task, 0)
        agent.verify()


def test_day_with_another_shape_is_refused_before_training():
    agent = make_agent()
    agent.wake(toy_stream(1)[0], Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    with pytest.raises(
        DataError, match=r"day 1, task 'toy 0': inputs have the shape \(5,\), and those of day 0 \(6,\)"
    ):
        agent.wake(toy_stream(1, n_features=5)[0], Epochs(1))
    assert agent.phase == "between days"


def test_network_that_cannot_read_the_task_is_refused_before_training():
    agent = Agent(lambda: models.MLP(7, 5, 5), capacity=Capacity(free_at_end=0.5, days=2))
    with pytest.raises(NetworkError, match=r"the network cannot read inputs of shape \(6,\)"):
        agent.wake(toy_stream(1)[0], Epochs(1))


def test_batch_of_one_under_batch_norm_is_refused_before_training():
    network = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    agent = Agent(network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=13))
    with pytest.raises(DataError, match="40 examples in batches of 13 leave a batch of one"):
        agent.wake(toy_stream(1)[0], Epochs(1))


def test_capacity_that_is_none_is_refused():
    with pytest.raises(SettingError, match=r"capacity must be a Capacity, such as .* not 0\.95"):
        Agent(toy_network, capacity=0.95)


def test_prune_whose_hook_fails_is_taken_back():
    agent, task = make_agent(), toy_stream(1)[0]
    agent.wake(task, Epochs(1))

    def fail(event):
        if isinstance(event, Record) and event.kind == "prune":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agent.sleep(OneShot(), Epochs(2), fail)
    assert all(bool(held.all()) for held in agent.network.held().values())
    agent.sleep(UniformCycles(2), Epochs(2))
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


def test_day_whose_hook_fails_is_over_all_the_same():
    agent, task = make_agent(), toy_stream(1)[0]
    agent.wake(task, Epochs(1))

    def fail(event):
        if isinstance(event, Record) and event.kind == "day":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agent.sleep(OneShot(), Epochs(2), fail)
    assert (agent.phase, agent.day, agent.n_steps) == ("between days", 1, 12)
    agent.wake(task, Epochs(1))


def test_wake_goes_on_only_with_its_own_task():
    agent, (first, second) = make_agent(), toy_stream(2)

    def fail(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agent.wake(first, Epochs(1), fail)
    with pytest.raises(StateError, match="day 0 has begun and can be continued only with its task, task 'toy 0', not"):
        agent.wake(second, Epochs(1))
    agent.wake(first, Epochs(1))


def test_what_is_no_task_or_budget_is_refused():
    agent, task = make_agent(), toy_stream(1)[0]
    with pytest.raises(DataError, match=r"the task must be a Task\(train=\.\.\., test=\.\.\.\), not tuple"):
        agent.wake((1, 2), Epochs(1))
    with pytest.raises(SettingError, match=r"the wake's budget must be a budget, such as .* not 72"):
        agent.wake(task, 72)
    agent.wake(task, Epochs(1))
    with pytest.raises(SettingError, match=r"the night's budget must be a budget, such as .* not 72"):
        agent.sleep(OneShot(), 72)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, "the loss must give one number for outputs (7, 2) and"),
        ({"metric": lambda outputs, targets: outputs}, "the metric must give one number for outputs (20, 2) and"),
        ({"optimizer": torch.optim.LBFGS}, "that steps without a closure, not LBFGS"),
        ({"optimizer": lambda parameters: None}, "that steps without a closure, not NoneType"),
    ],
)
def test_training_functions_that_do_not_work_are_refused_before_training(settings, message):
    agent = make_agent(training=Training(batch_size=10, **settings))
    with pytest.raises(SettingError, match=f"Training: .*{re.escape(message)}"):
        agent.wake(toy_stream(1)[0], Epochs(1))
    assert agent.phase == "between days"


def test_agent_settings_of_the_wrong_kind_are_refused():
    with pytest.raises(SettingError, match=r"training must be a Training, such as .*, not \{'batch_size': 3\}"):
        make_agent(training={"batch_size": 3})
    with pytest.raises(SettingError, match="device='gpu' cannot be used here: "):
        make_agent(device="gpu")
    with pytest.raises(SettingError, match=r"seed must be a whole number from 0 up, not 1\.5"):
        make_agent(seed=1.5)


def test_evaluation_of_another_task_or_split_is_refused():
    agent, task = make_agent(), toy_stream(1)[0]
    agent.wake(task, Epochs(1))
    with pytest.raises(DataError, match=r"task 'toy 0' has no 'validation' split, only train, test\. See hold_out"):
        agent.evaluate(task, 0, "validation")
    with pytest.raises(DataError, match="has 5 outputs, and the task of day 0 had 2"):
        agent.evaluate(toy_stream(1, n_classes=5)[0], 0)
    with pytest.raises(DataError, match="inputs cannot be read as a tensor"):
        agent.predict("six", 0)


@pytest.mark.parametrize("carry", [False, True])
def test_cycles_without_steps_need_no_optimizer(carry):
    def scheduler(optimizer, n_steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=n_steps)

    agent = make_agent(training=Training(batch_size=10, scheduler=scheduler, carry_optimizer=carry))
    agent.wake(toy_stream(1)[0], Epochs(1))
    agent.sleep(UniformCycles(10), Steps(3))
    assert agent.n_steps == 7
    agent.wake(toy_stream(1)[0], Steps(0))
    agent.sleep(UniformCycles(2), Steps(0))
    assert agent.n_steps == 7


def test_a_day_without_room_has_no_night_and_no_step():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=1 - 1e-6, days=2))
    clock = Clock(agent, toy_stream(2), policy=UniformCycles(2), wake=Epochs(1), night=Epochs(1))
    for act in (lambda: agent.night(toy_stream(2)[0], Epochs(1)), clock.remembered, clock.step, clock.check):
        with pytest.raises(CapacityError, match=r"day 0: layer .* would get no new weight"):
            act()
    assert (agent.phase, agent.n_steps) == ("between days", 0)


class Empty(Steps):
    """A budget whose open does not return a ledger."""

    def open(self, steps_per_epoch):
        return None


def test_a_budget_without_a_ledger_is_refused_before_training():
    for budgets in ({"wake": Steps(3), "night": Empty(3)}, {"wake": Empty(3), "night": Steps(3)}):
        clock = Clock(make_agent(), toy_stream(2), policy=OneShot(), **budgets)
        with pytest.raises(SettingError, match=r"Empty\.open must return a Ledger, not None"):
            clock.run()
        assert clock.agent.n_steps == 0


@pytest.mark.parametrize("folder", [3, "", b"run", ["run"]])
def test_a_checkpoint_that_is_no_folder_is_refused_as_it_is_given(folder):
    with pytest.raises(SettingError, match="a folder must be named by text or a path, not "):
        Clock(make_agent(), toy_stream(2), policy=OneShot(), wake=Steps(3), night=Steps(3), checkpoint=folder)


@pytest.mark.parametrize("turn", [lambda value: value.to(torch.complex64), lambda value: value * 1j])
def test_complex_losses_are_refused_before_training(turn):
    training = Training(batch_size=10, loss=lambda outputs, targets: turn(outputs).sum())
    with pytest.raises(SettingError, match=r"the loss must give one number .*it is complex; take its real part"):
        make_agent(training=training).check(toy_stream(1)[0])
