"""How a task is learnt: gradient clipping, mixed precision, and what is refused."""

import functools

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, Steps, Task, TaskStream, Training, UniformCycles
from daynight.errors import SettingError
from daynight.models import MLP
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
        ({"autocast": torch.float16}, r"autocast must be torch.bfloat16 or None, not torch.float16\. Gradients"),
        ({"autocast": "bfloat16"}, "autocast must be torch.bfloat16 or None, not 'bfloat16'"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Training(**settings)
