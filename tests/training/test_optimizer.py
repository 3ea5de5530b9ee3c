import functools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from daynight.data.batches import HeldBatches
from daynight.data.tasks import Task
from daynight.errors import SettingError, TrainingError
from daynight.history import Progress, Record
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import StepLedger
from daynight.training.optimizer import Optimization
from daynight.training.settings import Training
from daynight.training.trainer import Trainer


def network_at_night(keep=4):
    torch.manual_seed(0)
    network = MaskedNetwork(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2)))
    network.begin_day(2)
    mask = torch.zeros(16, dtype=torch.bool)
    mask[:keep] = True
    network.release({"0": mask.reshape(4, 4)})
    return network


def batches(n=10, batch_size=4):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.arange(4.0 * n).reshape(n, 4) / n
    return HeldBatches(inputs, torch.arange(n) % 2, batch_size, generator)


def test_batches_give_each_example_once_an_epoch_in_new_orders():
    source = batches()
    epochs = []
    for _ in range(2):
        parts = [source.next() for _ in range(3)]
        assert [len(inputs) for inputs, _ in parts] == [4, 4, 2]
        assert source.epoch_ends
        epochs.append(torch.cat([inputs[:, 0] for inputs, _ in parts]))
    assert torch.equal(epochs[0].sort().values, epochs[1].sort().values)
    assert not torch.equal(epochs[0], epochs[1])


def test_one_step_by_hand_moves_only_what_is_held():
    network = network_at_night()
    before = network.weights["0"].detach().clone()
    sgd = functools.partial(torch.optim.SGD, lr=0.5)
    optimization = Optimization(network, Training(optimizer=sgd), functional.cross_entropy, 1)
    inputs, targets = torch.eye(4), torch.tensor([0, 1, 0, 1])
    free = before.clone().requires_grad_(True)
    functional.cross_entropy(network.module[1](inputs @ free.T), targets).backward()
    optimization.step(inputs, targets)
    held = network.held()["0"]
    after = network.weights["0"].detach()
    assert torch.allclose(after[held], (before - 0.5 * free.grad)[held])
    assert torch.equal(after[~held], before[~held])


@pytest.mark.parametrize("is_global", [False, True])
def test_hooks_of_an_optimizer_are_called_at_each_step(is_global):
    called = []
    handles = []

    def note(*_):
        called.append(1)

    def make(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        register = register_optimizer_step_post_hook if is_global else optimizer.register_step_post_hook
        handles.append(register(note))
        return optimizer

    try:
        optimization = Optimization(network_at_night(), Training(optimizer=make), functional.cross_entropy, 3)
        for _ in range(3):
            optimization.step(torch.eye(4), torch.arange(4) % 2)
    finally:
        handles[0].remove()
    assert len(called) == 3


def test_carried_optimizer_forgets_what_was_pruned():
    network = network_at_night()
    made = []

    def make(parameters):
        made.append(torch.optim.Adam(parameters, lr=0.01))
        return made[-1]

    optimization = Optimization(network, Training(optimizer=make, carry_optimizer=True), functional.cross_entropy, 10)
    optimization.step(*batches().next())
    state = made[-1].state[network.weights["0"]]
    assert int((state["exp_avg"] != 0).sum()) == 4
    keep = torch.zeros(4, 4, dtype=torch.bool)
    keep[0, 0] = True
    network.release({"0": keep})
    optimization.forget_pruned()
    assert torch.nonzero(state["exp_avg"]).tolist() == [[0, 0]]
    assert float(state["step"]) == 1.0
    optimization.step(*batches().next())
    assert int((network.weights["0"] != 0).sum()) == 1


def test_scheduler_is_stepped_after_each_step():
    rates, made = [], []

    def linear(optimizer, n_steps):
        assert n_steps == 4
        made.append(optimizer)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)

    training = Training(optimizer=functools.partial(torch.optim.SGD, lr=1.0), scheduler=linear)
    optimization = Optimization(network_at_night(), training, functional.cross_entropy, 4)
    for _ in range(4):
        rates.append(made[-1].param_groups[0]["lr"])
        optimization.step(*batches().next())
    assert rates == [1.0, 0.75, 0.5, 0.25]


def test_augment_and_transform_see_training_batches_in_that_order():
    seen = []

    def note(name, factor):
        def change(inputs):
            seen.append((name, float(inputs.max())))
            return inputs * factor

        return change

    training = Training(augment=note("augment", 2.0), transform=note("transform", 3.0))
    Optimization(network_at_night(), training, functional.cross_entropy, 1).step(
        torch.eye(4), torch.tensor([0, 1, 0, 1])
    )
    assert seen == [("augment", 1.0), ("transform", 2.0)]


def trained(loss, n_steps, ends):
    """Train ten examples in batches of four up to shares of a budget, and return its ledger and the records."""
    inputs = torch.arange(40.0).reshape(10, 4) / 10
    task = Task(train=(inputs, torch.arange(10) % 2), test=(inputs, torch.arange(10) % 2), n_outputs=2)
    trainer = Trainer(task, network_at_night(), Training(batch_size=4, loss=loss), 0, torch.device("cpu"), 0)
    ledger, source, events = StepLedger(n_steps), trainer.new_batches("wake"), []
    trainer.optimize(n_steps, n_steps)
    for end in ends:
        trainer.train(Progress(day=0, phase="wake"), source, ledger, end, events.append)
    return ledger, [event for event in events if isinstance(event, Record)]


def test_train_stops_at_the_share_and_reports_means_by_hand():
    losses = []

    def loss(outputs, targets):
        value = functional.cross_entropy(outputs, targets)
        if outputs.requires_grad:
            losses.append((float(value.detach()), len(outputs)))
        return value

    ledger, records = trained(loss, 8, [0.5])
    # Half of eight steps is one epoch of three (of 4, 4 and 2 examples) and one more. Before them, the engine is tried.
    steps = losses[-4:]
    assert [n for _, n in steps] == [4, 4, 2, 4]
    assert (ledger.spent_steps, [record.step for record in records]) == (4, [3, 4])
    first = sum(value * n for value, n in steps[:3]) / 10
    assert [record.loss for record in records] == [pytest.approx(first), pytest.approx(steps[3][0])]
    ledger, records = trained(loss, 8, [0.5, 1.0])
    assert (ledger.spent_steps, [record.step for record in records]) == (8, [3, 4, 6, 8])


def test_train_refuses_a_loss_that_is_not_finite():
    with pytest.raises(TrainingError, match=r"day 0, wake: the loss is not finite\. Lower the learning rate"):
        trained(lambda outputs, targets: outputs.sum() * torch.nan, 1, [1.0])


def test_weights_stay_frozen_when_a_step_is_interrupted():
    class Interrupted(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            raise KeyboardInterrupt

    network = network_at_night()
    before, held = network.weights["0"].detach().clone(), network.held()["0"]
    training = Training(optimizer=functools.partial(Interrupted, lr=0.1, weight_decay=0.5))
    optimization = Optimization(network, training, functional.cross_entropy, 1)
    with pytest.raises(KeyboardInterrupt):
        optimization.step(*batches().next())
    assert torch.equal(network.weights["0"][~held], before[~held])


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"batch_size": 1.5}, {"optimizer": "adam"}, {"loss": 3}])
def test_training_refuses_settings_that_cannot_work(settings):
    with pytest.raises(SettingError, match="Training: "):
        Training(**settings)


def test_wrappers_around_an_optimizers_step_stay(monkeypatch):
    called, plain = [], torch.optim.SGD.step

    @functools.wraps(plain)
    def wrapped(self, *args, **settings):
        called.append(1)
        return plain(self, *args, **settings)

    monkeypatch.setattr(torch.optim.SGD, "step", wrapped)
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    optimization = Optimization(network_at_night(), Training(optimizer=sgd), functional.cross_entropy, 2)
    for _ in range(2):
        optimization.step(torch.eye(4), torch.arange(4) % 2)
    assert len(called) == 2


def test_hooks_of_all_optimizers_are_heard_from_the_moment_they_come():
    called = []
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    optimization = Optimization(network_at_night(), Training(optimizer=sgd), functional.cross_entropy, 2)
    optimization.step(torch.eye(4), torch.arange(4) % 2)
    handle = register_optimizer_step_post_hook(lambda *_: called.append(1))
    try:
        optimization.step(torch.eye(4), torch.arange(4) % 2)
    finally:
        handle.remove()
    assert called == [1]


def test_scheduler_that_cannot_take_another_step_says_so():
    def once(optimizer, n_steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=2)

    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    training = Training(optimizer=sgd, scheduler=once)
    optimization = Optimization(network_at_night(), training, functional.cross_entropy, 9)
    for _ in range(2):
        optimization.step(torch.eye(4), torch.arange(4) % 2)
    with pytest.raises(SettingError, match=r"the scheduler cannot take another step: ValueError\(.*Tried to step"):
        optimization.step(torch.eye(4), torch.arange(4) % 2)


def test_batches_that_were_interrupted_go_on_with_the_one_that_was_not_given():
    class Failing(HeldBatches):
        def _read(self, indices):
            for batch in super()._read(indices):
                Failing.n_read = getattr(Failing, "n_read", 0) + 1
                if Failing.n_read in (2, 4):
                    raise KeyboardInterrupt
                yield batch

    def given(kind):
        source, found = (
            kind(torch.arange(40.0).reshape(10, 4), torch.arange(10) % 2, 4, torch.Generator().manual_seed(0)),
            [],
        )
        while len(found) < 6:
            try:
                found.append(source.next()[0])
            except KeyboardInterrupt:
                continue
        return torch.cat(found)

    assert torch.equal(given(Failing), given(HeldBatches))


@pytest.mark.parametrize(
    "settings", [{}, {"fused": True}, {"fused": True, "amsgrad": True}, {"fused": True, "weight_decay": 0.1}]
)
def test_direct_steps_of_adam_are_its_own(settings):
    ends = []
    for is_watched in (False, True):
        network, made = network_at_night(), []

        def make(parameters, is_watched=is_watched, made=made):
            optimizer = torch.optim.Adam(parameters, lr=0.01, **settings)
            if is_watched:
                optimizer.register_step_pre_hook(lambda *_: None)
            made.append(optimizer)
            return optimizer

        optimization = Optimization(network, Training(optimizer=make), functional.cross_entropy, 6)
        for n in range(6):
            if n == 3:
                made[0].param_groups[0]["lr"] = 0.1
            optimization.step(torch.eye(4), torch.arange(4) % 2)
        optimization.flush()
        ends.append(network.weights["0"].detach().clone())
    assert torch.equal(*ends) if not settings.get("weight_decay") else torch.allclose(*ends, atol=1e-7)
