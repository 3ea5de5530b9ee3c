"""Things that go wrong in a night: it goes back to its last good cycle, and stays open there."""

import os
import signal
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, LazyDataset, Progress, Steps, Task, Training, UniformCycles
from daynight.errors import DataError, TrainingError
from daynight.testing import toy_network, toy_stream

N_CYCLES, N_STEPS = 4, 24


class Faulty(nn.Module):
    """A network with a norm, which does what it is told when it trains."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        if self.training and torch.is_grad_enabled():
            Fault.of_network()
        return self.head(self.second(torch.relu(self.norm(self.first(inputs)))).relu())


class Fault:
    """What happens, once its time has come. `armed` counts the optimizer steps until then."""

    kind, armed = "", -1

    @classmethod
    def comes(cls, where):
        if cls.kind.partition(" ")[0] != where or cls.armed < 0:
            return False
        cls.armed -= 1
        return cls.armed < 0

    @classmethod
    def of_network(cls):
        if cls.comes("network"):
            raise ZeroDivisionError("in the network")
        if cls.comes("memory"):
            raise MemoryError("out of memory")
        if cls.comes("cuda"):
            raise torch.OutOfMemoryError("CUDA out of memory")

    @classmethod
    def of_loss(cls, outputs, targets):
        loss = nn.functional.cross_entropy(outputs, targets)
        if cls.comes("loss"):
            raise KeyError("in the loss")
        if cls.comes("nan"):
            return loss * float("nan")
        if cls.comes("interrupt"):
            os.kill(os.getpid(), signal.SIGINT)
        return loss


class Data(torch.utils.data.Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        if Fault.comes("data"):
            raise OSError("the disk is gone")
        return self.inputs[index], int(self.targets[index])


FAULTS = {
    "network": ZeroDivisionError, "memory": MemoryError, "cuda": torch.OutOfMemoryError, "loss": KeyError,
    "nan": TrainingError, "interrupt": KeyboardInterrupt, "data": DataError, "hook": RuntimeError,
}  # fmt: skip


def make(kind, **settings):
    task = toy_stream(1)[0]
    if kind == "data":
        inputs, targets = task.train.load()
        task = Task(train=LazyDataset(Data(inputs, targets)), test=task.test, n_outputs=2)
    # An engine may compute a network by itself; what is to be asked each time is the network here.
    engine = "module" if kind in ("network", "memory", "cuda") else "auto"
    training = Training(batch_size=10, loss=Fault.of_loss, engine=engine, **settings)
    return Agent(Faulty, capacity=Capacity(free_at_end=0.4, days=2), training=training), task


def state(agent):
    """Give copies of all that the night may move: weights, owners, statistics."""
    module = agent.network.module
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    tensors |= {f"owners {name}": owners for name, owners in agent.network.owners.items()}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.fixture(autouse=True)
def _disarm():
    yield
    Fault.kind, Fault.armed = "", -1


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("cycle", [0, 1, 3])
@pytest.mark.parametrize("settings", [{}, {"carry_optimizer": True}], ids=str)
@pytest.mark.parametrize("way_on", ["sleep", "finish"])
def test_a_night_goes_back_to_its_last_good_cycle(kind, cycle, settings, way_on):
    agent, task = make(kind, **settings)
    agent.wake(task, Epochs(2))
    states = [state(agent)]
    n_before = agent.n_steps

    def arm(event):
        if isinstance(event, Progress) and event.cycle == cycle and not Fault.kind:
            Fault.kind, Fault.armed = kind, 25 if kind == "data" else 3
            if kind == "hook":
                raise RuntimeError("in the hook")

    class Watched(UniformCycles):
        """Notes the state at the end of each cycle, as the night goes on to the next."""

        def cycles(self, night):
            for one in super().cycles(night):
                yield one
                agent.state()  # brings the network up to date
                states.append(state(agent))

    with pytest.raises(FAULTS[kind]) as caught:
        agent.sleep(Watched(N_CYCLES), Steps(N_STEPS), arm)
    back = f"the end of cycle {cycle - 1}" if cycle else "dusk"
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    if kind == "nan" or sys.version_info >= (3, 11):
        assert f"In day 0, cycle {cycle}, at step" in text
        assert f"the night has gone back to {back} and is open there. Call sleep to resume it" in text
    good, now = states[-1], state(agent)
    assert all(torch.equal(now[name], good[name]) for name in good)
    assert agent.phase == "night"
    spent = agent.n_steps - n_before
    assert cycle * N_STEPS // N_CYCLES <= spent <= N_STEPS
    Fault.kind, Fault.armed = "", -1
    inputs = task.test.load()[0]
    assert torch.isfinite(agent.predict(inputs, 0)).all()
    if way_on == "sleep":
        agent.sleep(UniformCycles(2), Steps(N_STEPS))
        assert agent.days[0].night_steps == N_STEPS
    else:
        agent.finish_night()
        assert agent.days[0].night_steps == spent
    assert agent.owned == (sum(agent.capacity.owned_after(tuple(agent.network.sizes.values()), 1)),)
    agent.verify()


def test_a_request_to_terminate_leaves_the_night_open():
    agent, task = make("loss")
    clock = Clock(agent, [task], policy=UniformCycles(N_CYCLES), wake=Epochs(1), night=Steps(N_STEPS))

    def terminate(event):
        if isinstance(event, Progress) and event.cycle == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    clock.hooks.append(terminate)
    with pytest.raises(SystemExit) as caught:
        clock.run()
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert agent.phase == "night"
    clock.hooks.remove(terminate)
    clock.run()
    assert agent.days[0].night_steps == N_STEPS
    agent.verify()


def test_a_request_to_terminate_that_somebody_else_hears_is_theirs():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        agent, task = make("loss")
        clock = Clock(
            agent, [task], policy=UniformCycles(2), wake=Epochs(1), night=Steps(4),
            on_event=lambda event: heard or os.kill(os.getpid(), signal.SIGTERM),
        )  # fmt: skip
        clock.run()
        assert heard == [signal.SIGTERM]
        assert agent.day == 1
    finally:
        signal.signal(signal.SIGTERM, before)


class Counts(torch.utils.data.Dataset):
    """Counts how often each example is read."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets, self.read = inputs, targets.tolist(), Counter()

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.read[index] += 1
        return self.inputs[index], self.targets[index]


def test_examples_that_show_whether_outputs_are_finite_are_read_once_a_day():
    task = toy_stream(1)[0]
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(batch_size=10))
    data = Counts(task.train.inputs, task.train.targets)
    lazy = Task(train=LazyDataset(data), test=task.test, n_outputs=2)
    agent.wake(lazy, Epochs(1))
    data.read.clear()
    agent.sleep(UniformCycles(3), Steps(3))  # three cycles of one step, and a batch in each
    assert data.read.total() <= 30
