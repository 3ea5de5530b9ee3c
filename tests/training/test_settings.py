"""How a task is learnt: gradient clipping, mixed precision, and what is refused."""

import functools

import pytest
import torch
from resumable import clock, killed, outcome, resumed
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, Steps, Task, TaskStream, Training, UniformCycles
from daynight.errors import SettingError
from daynight.models import MLP
from daynight.storage import agents
from daynight.storage.identity import describe
from daynight.testing import toy_network, toy_stream

SGD = functools.partial(torch.optim.SGD, lr=1.0)


def double():
    return toy_network().double()


def moved_in_one_step(agent, task):
    """Give how far each number moves in the first step of a wake."""
    before = {}

    def note(event):
        if not before:  # the wake begins: its head is there, and nothing has been trained
            before.update({name: p.detach().clone() for name, p in agent.network.module.named_parameters()})

    agent.wake(task, Steps(1), note)
    after = dict(agent.network.module.named_parameters())
    return torch.cat([(after[name].detach() - value).reshape(-1) for name, value in before.items()])


@pytest.mark.parametrize("engine", ["auto", "dense", "sparse", "module"])
@pytest.mark.parametrize("day", [0, 1])
def test_a_clipped_step_is_as_long_as_its_norm_says(engine, day):
    moved = []
    for clip_norm in (None, 0.01, 1e6):
        training = Training(batch_size=30, optimizer=SGD, engine=engine, clip_norm=clip_norm)
        agent = Agent(double, capacity=Capacity(free_at_end=0.3, days=2), training=training, restart="redraw")
        if day:  # frozen weights have gradients, too, which do not count
            agent.wake(toy_stream(2)[0], Steps(0))
            agent.sleep(UniformCycles(1), Steps(0))
        moved.append(moved_in_one_step(agent, toy_stream(2)[day]))
    whole, clipped, free = moved
    assert float(whole.norm()) > 0.05
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(clipped, whole * 0.01 / whole.norm(), rtol=1e-3)
    assert torch.equal(free, whole)


def test_mixed_precision_computes_in_bfloat16_and_forgets_nothing():
    seen = set()

    class Watched(MLP):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            if self.training and torch.is_grad_enabled():
                seen.add(outputs.dtype)
            return outputs

    stream = toy_stream(3)
    agent = Agent(
        lambda: Watched(6, 8, 8), capacity=Capacity(free_at_end=0.4, days=3),
        training=Training(batch_size=10, autocast=torch.bfloat16),
    )  # fmt: skip
    clock, predicted = Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(60), night=Epochs(60)), []
    for day in range(3):
        clock.step()
        inputs = stream[day].test.load()[0]
        predicted.append(agent.predict(inputs, day))
        assert agent.predict(inputs, day).dtype == torch.float32
    assert torch.bfloat16 in seen
    assert all(torch.equal(agent.predict(stream[i].test.load()[0], i), predicted[i]) for i in range(3))
    agent.verify()
    assert clock.history.accuracy[-1].mean() > 0.7
    assert {weight.dtype for weight in agent.network.weights.values()} == {torch.float32}


def test_an_own_loss_and_metric_serve_a_regression():
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(3):
        inputs = torch.randn(60, 6, generator=generator)
        targets = inputs[:, :2] @ torch.randn(2, 2, generator=generator)
        tasks.append(Task(train=(inputs[:40], targets[:40]), test=(inputs[40:], targets[40:])))

    def less_absolute_error(outputs, targets):
        return -float((outputs - targets).abs().mean())

    def schedule(optimizer, n_steps):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, n_steps)

    training = Training(
        batch_size=10, loss=nn.functional.smooth_l1_loss, metric=less_absolute_error, scheduler=schedule, clip_norm=5.0,
        optimizer=functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01),
    )  # fmt: skip
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=training)
    stream = TaskStream(tasks)
    history = Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(20), night=Epochs(20)).run()
    agent.verify()
    assert history.accuracy[-1].min() > -1.0
    assert agent.evaluate(tasks[1], 1)[1] == history.accuracy[1, 1] == history.accuracy[2, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": 0}, "clip_norm must be above 0, not 0"),
        ({"clip_norm": float("nan")}, "clip_norm must be a finite number"),
        ({"accumulate": 0}, "accumulate must be .*1"),
        ({"accumulate": 1.5}, "accumulate must be a whole number"),
        ({"autocast": torch.float16}, r"autocast must be torch.bfloat16 or None, not torch.float16\. Gradients"),
        ({"autocast": "bfloat16"}, "autocast must be torch.bfloat16 or None, not 'bfloat16'"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Training(**settings)


def lived(training, make=double, n_train=40):
    stream = toy_stream(2, n_train=n_train)
    agent = Agent(make, capacity=Capacity(free_at_end=0.5, days=2), training=training, seed=4)
    Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3)).run()
    return agent


@pytest.mark.parametrize("engine", ["auto", "dense", "sparse", "module"])
@pytest.mark.parametrize(("batch_size", "n"), [(5, 2), (4, 3), (3, 7), (7, 6)])
@pytest.mark.parametrize("carries", [False, True], ids=["anew", "carried"])
def test_steps_of_several_batches_are_those_of_one_large_batch(engine, batch_size, n, carries):
    settings = {"optimizer": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
                "engine": engine, "carry_optimizer": carries, "clip_norm": 0.5}  # fmt: skip
    parted = lived(Training(batch_size=batch_size, accumulate=n, **settings))  # 40 examples: the last step has fewer
    whole = lived(Training(batch_size=batch_size * n, **settings))
    assert parted.n_steps == whole.n_steps == 4 * 3 * -(-40 // (batch_size * n))
    for name, weight in whole.network.weights.items():
        torch.testing.assert_close(parted.network.weights[name], weight, rtol=0, atol=1e-9)
        assert torch.equal(parted.network.owners[name], whole.network.owners[name])
    inputs = toy_stream(2)[0].test.load()[0].double()
    torch.testing.assert_close(parted.predict(inputs, 0), whole.predict(inputs, 0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss(label_smoothing=0.1), "private"])
def test_accumulated_losses_and_gradients_are_means_over_examples(loss):
    """Of losses of one's own, of parameters that are trained in place, and of the loss that is recorded."""

    def normed():
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)).double()

    found = []
    for size, n in ((4, 4), (16, 1)):
        training = Training(batch_size=size, accumulate=n, loss=None if loss == "private" else loss, optimizer=SGD)
        agent, records = Agent(normed, capacity=Capacity(free_at_end=0.5, days=1), training=training, seed=1), []
        agent.wake(toy_stream(1)[0], Epochs(2), records.append)
        losses = [record.loss for record in records if getattr(record, "kind", None) == "epoch"]
        found.append((losses, agent.network.module.state_dict()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    for name, value in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], value, rtol=0, atol=1e-9)


def test_an_epoch_of_accumulated_batches_has_fewer_steps():
    task = toy_stream(1)[0]
    assert [Training(batch_size=6, accumulate=n).steps_per_epoch(task) for n in (1, 2, 3, 6, 7, 100)] == [
        7,
        4,
        3,
        2,
        1,
        1,
    ]
    agent = Agent(
        toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=6, accumulate=3)
    )
    agent.wake(task, Epochs(2))
    assert agent.n_steps == 6


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("n", [5, 16], ids=["wake", "night"])
def test_a_run_that_accumulates_is_resumed_to_the_bit(n, tmp_path):
    training = {"accumulate": 2, "optimizer": functools.partial(torch.optim.Adam, lr=0.01)}
    whole = clock(training=training)
    whole.run()
    again = resumed(killed(tmp_path, n, training=training), training=training)
    again.run()
    assert outcome(again) == outcome(whole)


def test_a_run_is_not_resumed_with_another_number_of_batches(tmp_path):
    clock(tmp_path, training={"accumulate": 2}).run(until=1)
    with pytest.raises(SettingError, match=r"another training\.accumulate \(2 then, the default now\)"):
        clock(tmp_path).run()
    with pytest.raises(SettingError, match=r"another training\.accumulate \(2 then, 3 now\)"):
        clock(tmp_path, training={"accumulate": 3}).run()


def test_a_setting_that_came_later_is_left_out_of_files_while_it_has_its_default(tmp_path):
    assert describe(Training(accumulate=1)) == describe(Training())
    assert describe(Training(accumulate=2)) == {**describe(Training()), "accumulate": 2}
    assert "accumulate" not in Training().settings()
    for n in (1, 2):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(accumulate=n))
        agent.wake(toy_stream(1)[0], Steps(2))
        agent.finish_night()
        agent.save(tmp_path / "agent.dn")
        assert ("accumulate" in agents.to_json(agent.about())["training"]) == (n == 2)
        assert Agent.load(tmp_path / "agent.dn", toy_network).training.accumulate == n


def test_augmentations_and_dropout_are_drawn_for_each_batch():
    sizes = []

    def note(inputs):
        sizes.append(len(inputs))
        return inputs

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(
        batch_size=6, accumulate=3, augment=note))  # fmt: skip
    agent.wake(toy_stream(1)[0], Epochs(1))
    assert sizes[-7:] == [6, 6, 6, 6, 6, 6, 4]


def summed(outputs, targets):
    return 0.5 * nn.functional.cross_entropy(outputs, targets, reduction="sum")


def contrast(outputs, targets):
    return nn.functional.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


def random(outputs, targets):
    return nn.functional.cross_entropy(outputs + torch.randn_like(outputs), targets)


@pytest.mark.parametrize(("loss", "said"), [
    (nn.CrossEntropyLoss(reduction="sum"), "sum"), (summed, "sum"), (nn.CrossEntropyLoss(), ""), (random, ""),
    (nn.CrossEntropyLoss(label_smoothing=0.1), ""), (nn.MultiMarginLoss(), ""),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])), "mean"), (nn.CrossEntropyLoss(ignore_index=1), "mean"),
    (contrast, "mean"),
])  # fmt: skip
def test_with_accumulate_a_loss_is_tried_on_parts_of_a_batch(loss, said):
    def check(n):
        training = Training(batch_size=4, accumulate=n, loss=loss)
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=training)
        agent.check(toy_stream(1)[0])
        return agent

    check(1)
    if said == "sum":
        with pytest.raises(SettingError, match=r"the loss is a sum over a batch, and accumulate=5 averages"):
            check(5)
    elif said:
        with pytest.warns(UserWarning, match="not the mean of the losses of its parts"):
            agent = check(5)
        agent.check(toy_stream(1)[0])  # once
    else:
        check(5)
