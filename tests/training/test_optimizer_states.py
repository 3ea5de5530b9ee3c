"""What optimizers and schedulers keep from step to step: it is resumed, or refused before training."""

import functools
import itertools

import pytest
import torch
from optimizer_kinds import night_network, plain, trained
from resumable import clock, killed, outcome, resumed
from torch import nn

from daynight import Agent, Capacity, Epochs, Training, UniformCycles
from daynight.errors import SettingError
from daynight.storage.checkpoints import check_packs
from daynight.testing import toy_network, toy_stream


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
