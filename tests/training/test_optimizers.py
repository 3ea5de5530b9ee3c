"""Optimizers of many kinds: several at once, some that hold others, some with modes, and what they keep."""

import copy
import functools
import itertools

import pytest
import torch
from resumable import clock, killed, outcome, resumed
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, Clock, Cycle, Epochs, OneShot, SleepPolicy, Steps, Training, UniformCycles, rates
from daynight.errors import SettingError, TrainingError
from daynight.history import Progress, Record
from daynight.networks.masked import MaskedNetwork
from daynight.storage.checkpoints import check_packs
from daynight.testing import toy_network, toy_stream
from daynight.training.optimizer import Optimization
from daynight.training.together import Together, held_by


def muon_and_adamw(parameters):
    """Return two optimizers: one of matrices, and one of biases and norms."""
    return [
        torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=0.02),
        torch.optim.AdamW([p for p in parameters if p.ndim != 2], lr=0.01),
    ]


def two_rates(parameters):
    return (torch.optim.SGD(parameters[:2], lr=0.2, momentum=0.9), torch.optim.Adam(parameters[2:], lr=0.01))


class Lookahead(torch.optim.Optimizer):
    """Goes a part of the way from where it was six steps ago to where its inner optimizer is; has its groups."""

    def __init__(self, inner):
        super().__init__([p for group in inner.param_groups for p in group["params"]], {})
        self.inner, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        self.inner.step()
        for parameter in [p for group in self.param_groups for p in group["params"]]:
            state = self.state[parameter]
            if not state:
                state["n"], state["slow"] = 0, parameter.detach().clone()
            state["n"] += 1
            if state["n"] % 6 == 0:
                state["slow"] += 0.5 * (parameter.detach() - state["slow"])
                parameter.data.copy_(state["slow"])

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "own": super().state_dict()}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        super().load_state_dict(state["own"])


class KeepingLinks(Lookahead):
    """The same, which takes care of its groups itself."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.inner.param_groups = self.param_groups


def lookahead(parameters):
    return Lookahead(torch.optim.SGD(parameters, lr=0.1, momentum=0.9))


def keeping_links(parameters):
    return KeepingLinks(torch.optim.Adam(parameters, lr=0.02))


def lookahead_of_two(parameters):
    return Lookahead(Together(two_rates(parameters)))


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD: gradients are taken at y, and the weights to use are the mean x, at which it is in `eval`."""

    def __init__(self, parameters, lr=0.5, beta=0.9):
        super().__init__(parameters, {"lr": lr, "beta": beta, "k": 0, "is_training": False})

    def _each(self):
        return [(group, p, self.state[p]) for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def train(self):
        for group, p, state in self._each():
            if not group["is_training"] and "z" in state:
                p.lerp_(state["z"], 1 - group["beta"])
        for group in self.param_groups:
            group["is_training"] = True

    @torch.no_grad()
    def eval(self):
        for group, p, state in self._each():
            if group["is_training"] and "z" in state:
                p.lerp_(state["z"], 1 - 1 / group["beta"])
        for group in self.param_groups:
            group["is_training"] = False

    @torch.no_grad()
    def step(self, closure=None):
        assert all(group["is_training"] for group in self.param_groups), "not in training mode"
        for group in self.param_groups:
            share = 1 / (group["k"] + 1)
            for p in group["params"]:
                if p.grad is None:
                    continue
                z = self.state[p].setdefault("z", p.detach().clone())
                # y moves with x, the mean of all z, and with z.
                p.lerp_(z, share)
                p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - share) - 1))
                z.add_(p.grad, alpha=-group["lr"])
            group["k"] += 1


def night_network(width=4):
    """Return a network within its second night: some weights are frozen at values, some at zero, and some are free."""
    torch.manual_seed(0)
    network = MaskedNetwork(nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                          nn.Linear(width, 2)))  # fmt: skip
    for remainder in (0, 1):
        network.begin_day(2)
        network.release(
            {name: torch.arange(w.numel()).reshape(w.shape) % 3 == remainder for name, w in network.weights.items()}
        )
        if remainder == 0:
            network.end_day()
    return network


def examples(n=12):
    inputs = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    return inputs, (inputs[:, 0] > 0).long()


def plain(network, make, n_steps, mode=None):
    """Train a copy of a network in a plain loop, in which frozen numbers get their values back, and return it."""
    module, held = copy.deepcopy(network.module), network.held()
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    masks = {name: held.get(name.removesuffix(".weight")) for name in named if name.endswith(".weight")}
    made = make(list(named.values()))
    optimizers = list(made) if isinstance(made, list | tuple) else [made]
    inputs, targets = examples()
    module.train()
    for _ in range(n_steps):
        if mode:
            optimizers[0].train()
        for parameter in named.values():
            parameter.grad = None
        functional.cross_entropy(module(inputs), targets).backward()
        before = {name: p.detach().clone() for name, p in named.items()}
        for name, parameter in named.items():
            if masks.get(name) is not None:
                parameter.grad.mul_(masks[name])
        for optimizer in optimizers:
            optimizer.step()
        for name, parameter in named.items():
            if masks.get(name) is not None:
                parameter.data.copy_(torch.where(masks[name], parameter, before[name]))
    if mode:
        optimizers[0].eval()
    return module


def trained(network, make, n_steps, engine="module", **settings):
    optimization = Optimization(network, Training(optimizer=make, engine=engine, **settings), functional.cross_entropy,
                                n_steps)  # fmt: skip
    network.module.train()
    for _ in range(n_steps):
        optimization.step(*examples())
    optimization.flush()
    return network.module


HOLDING = [muon_and_adamw, two_rates, lookahead, keeping_links, lookahead_of_two]


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


# Optimizers with modes


def test_steps_with_modes_are_those_of_a_plain_loop():
    network = night_network()
    before = {name: weight.detach().clone() for name, weight in network.weights.items()}
    held, expected = network.held(), plain(network, ScheduleFree, 9, mode="train")
    found = dict(trained(network, ScheduleFree, 9, "auto").named_parameters())
    for name, value in expected.named_parameters():
        torch.testing.assert_close(found[name], value, msg=name)
    for name, weight in network.weights.items():
        assert torch.equal(weight[~held[name]], before[name][~held[name]])


def test_looking_at_a_network_does_not_change_how_an_optimizer_with_modes_trains_it():
    whole, watched = night_network(), night_network()
    ends = []
    for network, looks in ((whole, False), (watched, True)):
        optimization = Optimization(network, Training(optimizer=ScheduleFree), functional.cross_entropy, 9)
        for _ in range(9):
            optimization.step(*examples())
            if looks:
                optimization.flush()
                optimization.flush()
        optimization.flush()
        ends.append(network.module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def minus_loss(outputs, targets):
    return -float(functional.cross_entropy(outputs.detach(), targets))


@pytest.mark.parametrize("is_part", [False, True], ids=["alone", "a part"])
def test_dusk_prune_and_dawn_are_at_the_weights_of_evaluation_mode(is_part):
    made, modes = [], []

    def make(parameters):
        made.append(ScheduleFree(parameters[:-1] if is_part else parameters))
        return [made[-1], torch.optim.SGD(parameters[-1:], lr=0.1)] if is_part else made[-1]

    def note(event):
        if isinstance(event, Record):
            modes.append(made[-1].param_groups[0]["is_training"])

    run = clock(hook=note, training={"optimizer": make, "metric": minus_loss}, policy=OneShot(), wake=Epochs(8))
    run.to_dusk()
    made[-1].eval()  # does nothing: it is in evaluation mode
    network, (inputs, targets) = run.agent.network, run.stream[0].test.load()
    weights = {name: weight.detach().clone() for name, weight in network.weights.items()}
    dusk = float(run.history.scores("dusk")[0, 0])
    assert dusk == pytest.approx(minus_loss(network.module.eval()(inputs), targets))
    made[-1].train()
    assert abs(dusk - minus_loss(network.module(inputs), targets)) > 1e-3
    made[-1].eval()
    for name, weight in network.weights.items():
        weight.data.copy_(weights[name])
    n_made = len(made)
    run.run(until=1)
    assert len(made) > n_made
    owned = network.owners["body.1"] == 0
    size = weights["body.1"].abs()
    assert size[owned].min() >= size[~owned].max()
    assert not any(modes)
    before = run.agent.predict(inputs, 0)
    made[-1].eval()
    assert torch.equal(run.agent.predict(inputs, 0), before)
    dawn = float(run.history.scores("dawn")[0, 0])
    assert dawn == pytest.approx(minus_loss(before, targets), rel=1e-5)
    run.agent.verify()


@pytest.mark.usefixtures("at_every_step")
def test_predictions_within_a_phase_are_at_the_weights_of_evaluation_mode():
    made, found = [], []

    def make(parameters):
        made.append(ScheduleFree(parameters))
        return made[-1]

    def look(event):
        if isinstance(event, Progress) and (event.day, event.phase) == (0, "wake") and event.step:
            predicted = run.agent.predict(inputs, 0)
            state = {id(p): s for p, s in made[-1].state.items()}
            modes.append(made[-1].param_groups[0]["is_training"])
            # Back to y and z by hand: x = (y - (1 - beta) z) / beta.
            named = dict(run.agent.network.module.named_parameters())
            xs = {name: p.detach().clone() for name, p in named.items()}
            made[-1].train()
            by_hand = {name: (p.detach() - 0.1 * state[id(p)]["z"]) / 0.9 for name, p in named.items()}
            made[-1].eval()
            for name, p in named.items():
                p.data.copy_(xs[name])
                torch.testing.assert_close(by_hand[name], xs[name])
            found.append(torch.equal(run.agent.predict(inputs, 0), predicted))

    modes = []
    run = clock(hook=look, training={"optimizer": make})
    inputs = run.stream[0].test.load()[0]
    run.run()
    assert found == [True] * 4
    assert not any(modes)
    unwatched = clock(training={"optimizer": ScheduleFree})
    unwatched.run()
    assert outcome(run)[1] == outcome(unwatched)[1]


@pytest.mark.parametrize("carries", [False, True])
def test_an_optimizer_with_modes_gives_no_value_to_what_was_pruned(carries):
    run = clock(training={"optimizer": ScheduleFree, "carry_optimizer": carries}, policy=UniformCycles(4), days=3)
    for _ in range(3):
        run.step()
        run.agent.verify()
    # Weights of no task are redrawn or zero at dawn, as with any other optimizer.
    usual = clock(training={"optimizer": two_rates}, policy=UniformCycles(4), days=3)
    usual.run()
    assert run.agent.n_free == usual.agent.n_free


# What optimizers are made of


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


class Counting(torch.optim.SGD):
    """Keeps a number under a name, not under a parameter; its rate grows with it."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05)

    def step(self, closure=None):
        self.state["n"] = self.state.get("n", 0) + 1
        for group in self.param_groups:
            group["lr"] = 0.05 * min(1.0, self.state["n"] / 20)
        return super().step(closure)


class CountingApart(torch.optim.SGD):
    """Keeps a number in an attribute, which `state_dict` does not contain."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05)
        self.n = 0

    def step(self, closure=None):
        self.n += 1
        return super().step(closure)


class HiddenByName(torch.optim.SGD):
    """Keeps momentum by the names of parameters, which a new one does not find again."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05)
        self._kept = {}

    @torch.no_grad()
    def step(self, closure=None):
        for index, parameter in enumerate(p for group in self.param_groups for p in group["params"]):
            if parameter.grad is not None:
                kept = self._kept.setdefault(index, torch.zeros_like(parameter))
                kept.mul_(0.9).add_(parameter.grad)
                parameter.sub_(kept, alpha=0.05)

    def state_dict(self):
        return {**super().state_dict(), "kept": dict(self._kept)}

    def load_state_dict(self, state):
        super().load_state_dict({name: value for name, value in state.items() if name != "kept"})


class Forgetful(HiddenByName):
    """The same, and its attributes look as if nothing were missing."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._kept = {index: torch.zeros_like(value) for index, value in state["kept"].items()}


def test_a_number_that_is_kept_by_name_stays_from_cycle_to_cycle():
    made = []

    def make(parameters):
        made.append(Counting(parameters))
        return made[-1]

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=1), training=Training(
        batch_size=10, optimizer=make, carry_optimizer=True))  # fmt: skip
    agent.wake(toy_stream(1)[0], Epochs(1))
    agent.sleep(UniformCycles(3), Epochs(3))
    assert made[-1].state["n"] == 12


@pytest.mark.usefixtures("at_every_step")
def test_a_number_that_is_kept_by_name_is_resumed(tmp_path):
    settings = {"optimizer": Counting, "carry_optimizer": True}
    whole = clock(training=settings)
    whole.run()
    again = resumed(killed(tmp_path, 16, training=settings), training=settings)
    again.run()
    assert outcome(again) == outcome(whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (CountingApart, "a step changes its n, which state_dict"),
        (HiddenByName, "takes other steps|a step changes its _kept"),
        (Forgetful, "takes other steps|a step changes its _kept"),
    ],
)
def test_what_a_new_optimizer_does_not_take_over_is_refused_before_training(make, message, tmp_path):
    run = clock(tmp_path, training={"optimizer": make})
    with pytest.raises(SettingError, match=f"with this optimizer no checkpoint can be made: .*({message})"):
        run.run()
    assert run.agent.n_steps == 0
    clock(training={"optimizer": make}).run()  # without checkpoints, it is as good as any


class LateList(torch.optim.SGD):
    """Keeps a list outside its state, on which its steps depend from the sixth on."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05)
        self.kept = []

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["n"] = state.get("n", 0) + 1
            self.kept += [1] if state["n"] > 5 else []
        self.param_groups[0]["lr"] = 0.05 / (1 + len(self.kept))
        return super().step(closure)


class LateClosure(torch.optim.SGD):
    """Keeps in a variable of a function what matters every fourth step."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05)
        counts = itertools.count(1)
        self.next = lambda: next(counts)

    def step(self, closure=None):
        self.param_groups[0]["lr"] = 0.05 * (1 + self.next() // 4)
        return super().step(closure)


class LateScheduler:
    def __init__(self, optimizer, n_steps):
        self.optimizer, self.n, self.seen = optimizer, 0, []

    def step(self):
        self.n += 1
        self.seen += [self.n] if self.n > 5 else []
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 / (1 + len(self.seen))

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


class Unread(LateScheduler):
    def load_state_dict(self, state):
        raise KeyError("m")


def slow(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def hidden(optimizer, n_steps):
    counts = itertools.count(1)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / next(counts))


@pytest.mark.parametrize("settings", [
    {"optimizer": LateList}, {"optimizer": LateClosure}, {"optimizer": LateClosure, "scheduler": hidden},
    {"optimizer": slow, "scheduler": LateScheduler}, {"optimizer": slow, "scheduler": hidden},
    {"optimizer": slow, "scheduler": Unread},
])  # fmt: skip
def test_what_matters_only_after_a_few_steps_is_found_and_the_right_part_is_named(settings, tmp_path):
    run = clock(tmp_path, training=settings)
    named = "scheduler" if settings["optimizer"] is slow else "optimizer"
    with pytest.raises(SettingError, match=f"with this {named} no checkpoint can be made"):
        run.run()
    assert run.agent.n_steps == 0
    clock(training=settings).run()


def test_an_optimizer_that_fails_to_load_is_refused_before_training(tmp_path):
    class Broken(torch.optim.SGD):
        def __init__(self, parameters):
            super().__init__(parameters, lr=0.1)

        def load_state_dict(self, state):
            raise KeyError("param_groups")

    run = clock(tmp_path, training={"optimizer": Broken})
    with pytest.raises(SettingError, match=r"does not take over its state_dict\(\): KeyError\('param_groups'\)"):
        run.run()
    assert run.agent.n_steps == 0


FUSED = [
    functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    functools.partial(torch.optim.Adagrad, lr=0.1, fused=True),
    functools.partial(torch.optim.AdamW, lr=0.01, fused=True),
]


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("make", FUSED, ids=lambda make: make.func.__name__)
def test_fused_optimizers_are_resumed(make, tmp_path):
    whole = clock(training={"optimizer": make})
    whole.run()
    again = resumed(killed(tmp_path, 16, training={"optimizer": make}), training={"optimizer": make})
    again.run()
    assert outcome(again) == outcome(whole)


class ByNorm(torch.optim.Optimizer):
    """Steps of one length: divides by the norm of the gradient."""

    def __init__(self, parameters, lr=0.05):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if norm == 0:
            raise ZeroDivisionError("the gradient is zero")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=float(group["lr"] / norm))


def test_optimizers_are_tried_on_a_gradient_that_is_not_zero(tmp_path):
    network = night_network()
    expected = plain(network, ByNorm, 6)
    for name, value in trained(network, ByNorm, 6, "auto").named_parameters():
        torch.testing.assert_close(value, dict(expected.named_parameters())[name])
    run = clock(tmp_path, training={"optimizer": ByNorm})
    run.run()
    assert run.agent.n_steps == 2 * 4 * 2


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm])
def test_the_trial_of_checkpoints_has_gradients_of_all_parameters(kind):
    def build():
        return nn.Sequential(nn.Linear(6, 8), kind(8), nn.ReLU(), nn.Linear(8, 2))

    agent = Agent(build, capacity=Capacity(free_at_end=0.6, days=1))
    check_packs(Training(optimizer=ByNorm), agent.network)


class InTypes(torch.optim.SGD):
    """Has types and shapes of PyTorch in its groups, as others have for what they keep."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.05, momentum=0.9)
        for group in self.param_groups:
            group["state_dtype"], group["shape"], group["where"] = torch.float32, torch.Size([2]), torch.device("cpu")

    def step(self, closure=None):
        assert all(group["state_dtype"] is torch.float32 for group in self.param_groups)
        assert all(type(group["shape"]) is torch.Size for group in self.param_groups)
        return super().step(closure)


@pytest.mark.usefixtures("at_every_step")
def test_types_in_parameter_groups_are_resumed(tmp_path):
    whole = clock(training={"optimizer": InTypes})
    whole.run()
    again = resumed(killed(tmp_path, 16, training={"optimizer": InTypes}), training={"optimizer": InTypes})
    again.run()
    assert outcome(again) == outcome(whole)


class Adaptive(torch.optim.Optimizer):
    """Finds its rate, as learning-rate-free ones do: its steps add settings to its groups, and change their kinds."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 1, "d": 1e-3, "weight_decay": 0.1, "last": None})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["n"] = group.get("n", 0) + 1
            moved = [p for p in group["params"] if p.grad is not None]
            group["d"] = torch.as_tensor(group["d"]) * 1.05
            group["last"] = [float(p.grad.abs().sum()) for p in moved]
            group["weight_decay"] *= 0.9
            for p in moved:
                p.mul_(1 - 1e-3 * group["weight_decay"]).sub_(group["d"] * p.grad.sign() * group["lr"])


def decaying(parameters):
    """Return Adam whose decay a hook changes, under a name of its own, too."""
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)

    def change(optimizer, *_):
        for group in optimizer.param_groups:
            group["n"] = group.get("n", 0) + 1
            group["weight_decay"] *= 0.9

    optimizer.register_step_post_hook(change)
    return optimizer


def in_order(optimizer, n_steps):
    schedulers = torch.optim.lr_scheduler
    first = schedulers.LinearLR(optimizer, 0.5, 1.0, 2)
    return schedulers.SequentialLR(optimizer, [first, schedulers.CosineAnnealingLR(optimizer, n_steps)], [2])


def chained(optimizer, n_steps):
    schedulers = torch.optim.lr_scheduler
    first = schedulers.ConstantLR(optimizer, 0.5, 2)
    return schedulers.ChainedScheduler([first, schedulers.MultiStepLR(optimizer, [2, 5])], optimizer)


class Remembering(torch.optim.lr_scheduler.LRScheduler):
    """Adds an attribute in its first step."""

    def get_lr(self):
        if self.last_epoch:
            self.seen = [*getattr(self, "seen", []), self.last_epoch]
        return [rate / (1 + len(getattr(self, "seen", []))) for rate in self.base_lrs]


def remembering(optimizer, n_steps):
    return Remembering(optimizer)


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("n", [5, 16], ids=["wake", "night"])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": Adaptive}, {"optimizer": Adaptive, "carry_optimizer": True}, {"optimizer": decaying},
        *({"scheduler": scheduler} for scheduler in (in_order, chained, remembering)),
        {"optimizer": Adaptive, "scheduler": in_order},
    ],
    ids=lambda settings: "-".join(str(getattr(value, "__name__", value)) for value in settings.values()),
)  # fmt: skip
def test_settings_that_steps_have_changed_are_resumed(settings, n, tmp_path):
    whole = clock(training=settings)
    whole.run()
    again = resumed(killed(tmp_path, n, training=settings), training=settings)
    again.run()
    assert outcome(again) == outcome(whole)


class SignSGD(torch.optim.Optimizer):
    def __init__(self, parameters, lr=0.01):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign(), alpha=-group["lr"])


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("kind", [SignSGD, Counting, ByNorm])
def test_a_run_with_an_optimizer_of_ones_own_is_resumed_in_the_same_process(kind, tmp_path):
    fresh = type(kind.__name__, (kind,), {"__module__": __name__, "step": kind.__dict__["step"]})
    killed(tmp_path, 16, training={"optimizer": fresh})
    again = resumed(tmp_path, training={"optimizer": fresh})
    again.run()
    whole = clock(training={"optimizer": fresh})
    whole.run()
    assert outcome(again) == outcome(whole)


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
