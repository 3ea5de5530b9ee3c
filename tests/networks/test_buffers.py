"""Networks with buffers to which training gives another shape or type, such as a memory that grows."""

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Steps, Task, Training, UniformCycles
from daynight.errors import DaynightError, NetworkError

EXAMPLES = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
TRAINING = Training(batch_size=8)


def task(seed):
    labels = (EXAMPLES.sum(1) + EXAMPLES[:, seed] > EXAMPLES.sum(1).median()).long()
    return Task(train=(EXAMPLES[:32], labels[:32]), test=(EXAMPLES[32:], labels[32:]), n_outputs=2)


class Remembers(nn.Module):
    """Holds something of what it has seen in training in a buffer, and computes with it."""

    def __init__(self, start, change, width=8):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(6, width), nn.BatchNorm1d(width), nn.Linear(width, 2)
        self.change = change
        self.inner = nn.Module()
        self.inner.register_buffer("kept", start.clone())

    def forward(self, inputs):
        found = torch.relu(self.norm(self.body(inputs)))
        if self.training:
            self.inner.kept = self.change(self.inner.kept, found.detach())
        return self.head(found - self.inner.kept.double().sum().tanh().to(found))


def grow(kept, found):
    return torch.cat([kept, found[:2]])[-50:]


def shrink(kept, found):
    return kept[: max(1, len(kept) - 1)] + found.mean()


def spread(kept, found):
    return kept.expand(8, 8) * 0.9 + found.mean()


def widen(kept, found):
    return kept.double() + found.double().mean()


def count(kept, found):
    return torch.cat([kept, found.argmax(1)])[-20:]


KINDS = {
    "grows": lambda: Remembers(torch.zeros(0, 8), grow), "shrinks": lambda: Remembers(torch.ones(40), shrink),
    "is spread": lambda: Remembers(torch.ones(1, 8), spread),
    "gets another type": lambda: Remembers(torch.ones(1), widen),
    "whole numbers": lambda: Remembers(torch.zeros(0, dtype=torch.int64), count),
}  # fmt: skip


def made(network, seed=0):
    return Agent(network, capacity=Capacity(free_at_end=0.3, days=3), training=TRAINING, seed=seed)


def same(agent, seen):
    return all(torch.equal(agent.predict(EXAMPLES, index), before) for index, before in enumerate(seen))


@pytest.mark.parametrize("kind", KINDS)
def test_files_give_buffers_their_shapes(kind, tmp_path):
    agent, seen = made(KINDS[kind]), []
    start = agent.network.module.inner.kept
    for day in range(3):
        agent.wake(task(day), Steps(5))
        agent.sleep(OneShot(), Steps(4))
        seen.append(agent.predict(EXAMPLES, day))
        assert same(agent, seen)
    now = agent.network.module.inner.kept
    assert (now.shape, now.dtype) != (start.shape, start.dtype)
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", KINDS[kind], training=TRAINING)
    other.verify()
    assert same(other, seen)
    assert same(agent.fork(), seen)
    for index, before in enumerate(seen):
        with torch.no_grad():
            assert torch.allclose(other.subnetwork(index)(EXAMPLES), before, atol=1e-6)
    for index in range(3):
        assert other.network.seen_by(index)["inner.kept"].shape == agent.network.seen_by(index)["inner.kept"].shape


@pytest.mark.parametrize("kind", KINDS)
def test_days_that_are_given_up_restore_buffers(kind):
    agent = made(KINDS[kind])
    agent.wake(task(0), Steps(5))
    agent.abandon_day()
    assert torch.equal(agent.network.module.inner.kept, KINDS[kind]().inner.kept)
    agent.wake(task(0), Steps(5))
    before = agent.network.module.inner.kept.clone()

    def fail(event):
        raise KeyError("stop")

    with pytest.raises(KeyError):
        agent.sleep(UniformCycles(2), Steps(4), on_event=fail)
    assert torch.equal(agent.network.module.inner.kept, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", ["wake", "nrem", "rem"])
def test_runs_are_resumed_with_buffers_of_other_shapes(kind, last, tmp_path):
    tasks = [task(0), task(1)]

    def clock(hooks=(), checkpoint=None):
        return Clock(
            made(KINDS[kind]), tasks, policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2), on_event=hooks,
            checkpoint=checkpoint,
        )  # fmt: skip

    whole = clock()
    whole.run()

    def stop(event):
        if event.day == 1 and event.phase == last:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        clock([stop], tmp_path).run()
    resumed = clock((), tmp_path)
    resumed.run()
    for index in range(2):
        assert torch.equal(resumed.agent.predict(EXAMPLES, index), whole.agent.predict(EXAMPLES, index))


def test_other_networks_are_still_refused(tmp_path):
    agent = made(KINDS["grows"])
    agent.wake(task(0), Steps(5))
    agent.sleep(OneShot(), Steps(4))
    agent.save(tmp_path / "agent.dn")
    with pytest.raises(NetworkError, match=r"body\.weight is \(9, 6\) .* Give the network that was saved"):
        Agent.load(tmp_path / "agent.dn", lambda: Remembers(torch.zeros(0, 8), grow, width=9), training=TRAINING)

    def narrow():
        network = Remembers(torch.zeros(0, 8), grow)
        network.norm.running_mean = torch.zeros(7)
        return network

    with pytest.raises(DaynightError, match=r"norm\.running_mean is \(7,\) .* and was saved as \(8,\)"):
        Agent.load(tmp_path / "agent.dn", narrow, training=TRAINING)
