"""What optimizers are made of: several at once, some that hold others, names of parameters, rates that are tensors."""

import functools

import pytest
import torch
from optimizer_kinds import HOLDING, ScheduleFree, lookahead_of_two, night_network, plain, trained, two_rates
from resumable import clock, killed, outcome, resumed
from torch import nn

from daynight import Agent, Capacity, Clock, Cycle, Epochs, OneShot, SleepPolicy, Steps, Training, UniformCycles, rates
from daynight.errors import SettingError, TrainingError
from daynight.testing import toy_network, toy_stream
from daynight.training.together import held_by


@pytest.mark.parametrize("make", HOLDING)
@pytest.mark.parametrize("engine", ["auto", "module"])
def test_optimizers_of_several_parts_train_as_in_a_plain_loop(make, engine):
    network = night_network()
    before = {name: weight.detach().clone() for name, weight in network.weights.items()}
    held, expected = network.held(), plain(network, make, 8)
    found = dict(trained(network, make, 8, engine).named_parameters())
    for name, value in expected.named_parameters():
        torch.testing.assert_close(found[name], value, msg=name)
    for name, weight in network.weights.items():
        assert torch.equal(weight[~held[name]], before[name][~held[name]])
        assert not torch.equal(weight, before[name])


def halving(optimizer, n_steps):
    return torch.optim.lr_scheduler.StepLR(optimizer, max(1, n_steps // 3), 0.5)


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("carries", [False, True], ids=["anew", "carried"])
@pytest.mark.parametrize("n", [5, 16], ids=["wake", "night"])
@pytest.mark.parametrize("make", [*HOLDING, ScheduleFree], ids=lambda make: make.__name__)
def test_runs_that_are_killed_go_on_to_the_same_bits(make, n, carries, tmp_path):
    settings = {"optimizer": make, "carry_optimizer": carries, "scheduler": halving}
    whole = clock(training=settings)
    whole.run()
    whole.agent.verify()
    killed(tmp_path, n, training=settings)
    again = resumed(tmp_path, training=settings)
    again.run()
    assert outcome(again) == outcome(whole)


@pytest.mark.parametrize("make", [*HOLDING, ScheduleFree], ids=lambda make: make.__name__)
def test_what_a_first_day_has_learnt_stays_to_the_bit(make):
    run = clock(training={"optimizer": make}, policy=UniformCycles(3), wake=Epochs(60), night=Epochs(60))
    run.run(until=1)
    inputs = run.stream[0].test.load()[0]
    before = run.agent.predict(inputs, 0)
    run.run()
    assert torch.equal(run.agent.predict(inputs, 0), before)
    run.agent.verify()
    assert run.history.accuracy[-1].min() >= 0.7


def test_schedulers_and_shaped_rates_reach_every_part():
    seen = []

    class Shaped(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep=night.dawn_density, length=1.0, rate=rates.Linear(1.0, 0.5))

    def make(parameters):
        parts = two_rates(parameters)
        for part in parts:
            part.register_step_pre_hook(
                lambda part, *_: seen.append((type(part).__name__, round(part.param_groups[0]["lr"], 6)))
            )
        return parts

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=Training(
        batch_size=20, optimizer=make, scheduler=lambda o, n: torch.optim.lr_scheduler.StepLR(o, 1, 0.5),
    ))  # fmt: skip
    agent.wake(toy_stream(1)[0], Steps(3))
    wake = seen[-6:]
    assert wake == [("SGD", 0.2), ("Adam", 0.01), ("SGD", 0.1), ("Adam", 0.005), ("SGD", 0.05), ("Adam", 0.0025)]
    agent.sleep(Shaped(), Steps(2))
    assert seen[-4:-2] == [("SGD", 0.2), ("Adam", 0.01)]
    assert 0.1 <= seen[-2][1] < 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: [torch.optim.SGD(parameters, lr=0.1), torch.optim.Adam(parameters[:1], lr=0.1)],
        lambda parameters: (
            torch.optim.Adam(parameters[1:], lr=0.1),
            torch.optim.Adam(parameters[:1], lr=0.1),
            torch.optim.SGD(parameters[-1:], lr=0.1),
        ),
    ],
)
def test_parameters_that_two_optimizers_would_train_are_refused(make):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=Training(optimizer=make))
    with pytest.raises(SettingError, match=r"two of them train the same parameter\. Give each parameter to one of"):
        agent.check(toy_stream(1)[0])


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda parameters: [], "list"),
        (lambda parameters: [torch.optim.SGD(parameters, lr=0.1), None], "NoneType"),
        (lambda p: (torch.optim.SGD(p[1:], lr=0.1), torch.optim.LBFGS(p[:1])), "LBFGS"),
    ],
)
def test_lists_of_anything_else_are_refused(make, kind):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=Training(optimizer=make))
    with pytest.raises(SettingError, match=f"steps without a closure, not {kind}"):
        agent.check(toy_stream(1)[0])


def test_a_list_of_one_optimizer_is_that_optimizer():
    single, listed = (
        trained(night_network(), make, 5, "auto").state_dict()
        for make in (functools.partial(torch.optim.Adam, lr=0.01), lambda p: [torch.optim.Adam(p, lr=0.01)])
    )
    assert all(torch.equal(value, listed[name]) for name, value in single.items())


def test_all_that_an_optimizer_holds_is_found():
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    made = lookahead_of_two(parameters)
    assert [type(one).__name__ for one in held_by(made)] == ["Lookahead", "Together", "SGD", "Adam"]
    made.by_name = {"itself": made}
    assert len(held_by(made)) == 4


@pytest.mark.parametrize("engine", ["auto", "module"])
def test_a_factory_may_ask_for_names(engine):
    names = []

    def by_name(named_parameters):
        named = dict(named_parameters)
        names.append(list(named))
        return torch.optim.SGD(
            [
                {"params": [p for name, p in named.items() if name.endswith("weight")], "lr": 0.1},
                {"params": [p for name, p in named.items() if name.endswith("bias")], "lr": 0.5},
            ]
        )

    def by_shape(parameters):
        return torch.optim.SGD([
            {"params": [p for p in parameters if p.ndim == 2], "lr": 0.1},
            {"params": [p for p in parameters if p.ndim == 1], "lr": 0.5},
        ])  # fmt: skip

    one, two = (trained(night_network(), make, 5, engine).state_dict() for make in (by_name, by_shape))
    assert names == [["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]]
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "make",
    [
        lambda named_parameters: torch.optim.Adam(named_parameters, lr=0.01),  # PyTorch keeps the names in its groups
        lambda named_parameters, lr=0.01: torch.optim.Adam([p for _, p in named_parameters], lr=lr),
    ],
)
@pytest.mark.usefixtures("at_every_step")
def test_named_parameters_train_and_resume_as_others_do(make, tmp_path):
    usual = clock(training={"optimizer": functools.partial(torch.optim.Adam, lr=0.01)})
    usual.run()
    killed(tmp_path, 16, training={"optimizer": make})
    named = resumed(tmp_path, training={"optimizer": make})
    named.run()
    assert outcome(named)[1] == outcome(usual)[1]


class Halving(SleepPolicy):
    """Lets a scheduler run for a part of the night, and shapes the rest."""

    def cycles(self, night):
        yield Cycle(keep=night.dawn_density**0.5, length=0.5)
        yield Cycle(keep=night.dawn_density, length=0.5, rate=rates.Linear(1.0, 0.5))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("carries", [False, True])
def test_rates_that_are_tensors_are_as_those_that_are_numbers(kind, carries):
    shared = torch.tensor(0.01)

    def seen(rate):
        found = []

        def make(parameters):
            optimizer = kind(parameters, lr=rate)
            optimizer.register_step_pre_hook(lambda o, *_: found.append(float(o.param_groups[0]["lr"])))
            return optimizer

        def anneal(optimizer, n_steps):
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)

        training = Training(batch_size=10, optimizer=make, carry_optimizer=carries, scheduler=anneal)
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=training)
        agent.wake(toy_stream(1)[0], Epochs(2))
        agent.sleep(Halving(), Epochs(2))
        return found

    numbers = seen(0.01)
    assert seen(shared) == pytest.approx(numbers)
    assert float(shared) == pytest.approx(0.01)


def test_a_night_of_one_prune_serves_optimizers_of_some_parameters():
    """Parameters that no optimizer trains stay, beside two that train the others."""

    def make(parameters):
        return [torch.optim.SGD(parameters[:1], lr=0.1), torch.optim.Adam(parameters[2:3], lr=0.1)]

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=Training(optimizer=make))
    before = {name: value.clone() for name, value in agent.network.module.named_parameters()}
    Clock(agent, toy_stream(1), policy=OneShot(), wake=Epochs(2), night=Epochs(2)).run()
    after = dict(agent.network.module.named_parameters())
    names = [name for name in before if not name.startswith("head")]
    moved = [name for name in names if not torch.equal(after[name], before[name])]
    assert set(moved) >= {names[0]}
    assert names[1] not in moved


class Failing(torch.optim.SGD):
    """Fails at its fourth step."""

    def __init__(self, parameters, error):
        super().__init__(parameters, lr=0.1)
        self.error, self.n = error, 0

    def step(self, closure=None):
        self.n += 1
        if self.n == 4:
            raise self.error
        super().step()


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError("no inverse"), ZeroDivisionError(), RuntimeError("shape")])
def test_an_optimizer_that_fails_in_training_is_named(error):
    training = Training(batch_size=16, optimizer=functools.partial(Failing, error=error))
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=2), training=training)
    with pytest.raises(
        TrainingError, match=r"day 0, wake: the optimizer failed in a step: .*Call abandon_day"
    ) as found:
        agent.wake(toy_stream(2)[0], Epochs(3))
    assert found.value.__cause__.__cause__ is error
