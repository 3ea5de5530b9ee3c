"""Lives on each device that is at hand: on a CPU everywhere, and on a GPU where there is one."""

import functools

import pytest
import torch
from torch import nn

import daynight as dn
from daynight.networks.masked import FREE
from daynight.study import fine_tuning, from_scratch, memory, multinet, nights, packnet

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
on_each = pytest.mark.parametrize("device", DEVICES)

ADAM = functools.partial(torch.optim.Adam, lr=0.003, fused=True)
SGD = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.01)


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2),
    )  # fmt: skip


def stream(n_tasks=3, n=40):
    generator, tasks = torch.Generator().manual_seed(0), []
    for _ in range(n_tasks):
        labels = torch.arange(n) % 2
        inputs = torch.randn(n, 3, 4, 4, generator=generator)
        inputs[labels == 1] += torch.randn(3, 4, 4, generator=generator)
        tasks.append(dn.Task(train=(inputs, labels), test=(inputs[:10], labels[:10]), n_outputs=2))
    return dn.TaskStream(tasks)


def agent(device, network=convolutional, optimizer=ADAM, **settings):
    training = dn.Training(batch_size=8, optimizer=optimizer, **settings.pop("training", {}))
    capacity = dn.Capacity(free_at_end=0.7, days=3)
    return dn.Agent(network, capacity=capacity, training=training, device=device, seed=1, **settings)


def live(device, policy, **settings):
    """Live three days, and make sure at each dawn that nothing earlier has moved and all counts hold."""
    lived, seen = agent(device, **settings), []
    probe = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    clock = dn.Clock(lived, stream(), policy=policy, wake=dn.Epochs(2), night=dn.Epochs(2))
    while not clock.is_over:
        clock.step()
        sizes = tuple(lived.network.sizes.values())
        counts = tuple(
            sum(lived.network.count(task)[name] for task in range(lived.day)) for name in lived.network.sizes
        )
        assert counts == lived.capacity.owned_after(sizes, lived.day)
        for name, weight in lived.network.weights.items():
            assert weight.device.type == device
            assert not weight[lived.network.owners[name] == FREE].any()
        if lived.consolidation.freezes:
            lived.verify()
            seen.append(lived.predict(probe, lived.day - 1))
            for task, before in enumerate(seen):
                assert torch.equal(lived.predict(probe, task), before)
    return clock


KINDS = {
    "decay": {"optimizer": SGD},
    "carried": {"training": {"carry_optimizer": True}},
    "clipped": {"training": {"clip_norm": 0.5}},
    "dense": {"training": {"engine": "dense"}},
    "sparse": {"training": {"engine": "sparse"}, "network": dense},
    "module": {"training": {"engine": "module"}},
    "frozen biases": {"biases": "freeze-after-first"},
    "redrawn": {"restart": "redraw"},
    "kept": {"restart": "keep"},
    "rehearsal": {"consolidation": "rehearse"},
    "fine-tuning": {"consolidation": "fine-tune"},
    "gradients": {"criterion": dn.criteria.gradient_times_weight},
    "random": {"criterion": dn.criteria.random},
}
POLICIES = {
    "once": dn.OneShot(),
    "uniform": dn.UniformCycles(3),
    "recommended": dn.recommended_policy(),
    "geometric": dn.GeometricCycles(3, 4.0),
}


@on_each
@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("network", [dense, convolutional])
def test_lives_keep_every_promise(device, policy, network):
    clock = live(device, POLICIES[policy], network=network)
    assert clock.agent.n_steps == 3 * 20


@on_each
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_lives_of_every_kind_keep_every_promise(device, kind):
    live(device, dn.UniformCycles(2), **KINDS[kind])


@on_each
def test_a_life_is_the_same_again(device):
    with torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
        first, second = (live(device, dn.UniformCycles(2)) for _ in range(2))
    for name, weight in first.agent.network.weights.items():
        assert torch.equal(weight, second.agent.network.weights[name])
    assert first.history.accuracy[-1].tolist() == second.history.accuracy[-1].tolist()


@on_each
def test_what_was_learnt_on_a_device_is_known_on_a_cpu(device, tmp_path):
    learnt = live(device, dn.UniformCycles(2)).agent
    learnt.save(tmp_path / "agent.dn")
    loaded = dn.Agent.load(tmp_path / "agent.dn", convolutional, training=learnt.training)
    back = dn.Agent.load(tmp_path / "agent.dn", convolutional, training=learnt.training, device=device)
    probe = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    assert loaded.owned == learnt.owned
    loaded.verify()
    for task in range(3):
        expected = learnt.predict(probe, task)
        assert expected.device.type == device
        assert torch.equal(back.predict(probe, task), expected)
        torch.testing.assert_close(loaded.predict(probe, task), expected.cpu(), rtol=1e-2, atol=1e-2)  # of TF32


@on_each
def test_a_life_that_was_stopped_goes_on_from_its_checkpoint(device, tmp_path):
    whole = live(device, dn.UniformCycles(2), network=dense)
    path = tmp_path / "clock.dn"
    settings = {"policy": dn.UniformCycles(2), "wake": dn.Epochs(2), "night": dn.Epochs(2), "checkpoint": path}
    first = dn.Clock(agent(device, network=dense), stream(), **settings)
    first.step()
    second = dn.Clock(agent(device, network=dense), stream(), **settings)
    assert second.resume()
    assert second.agent.day == 1
    second.run()
    for name, weight in whole.agent.network.weights.items():
        assert torch.equal(weight, second.agent.network.weights[name])


@on_each
@pytest.mark.parametrize("method", [packnet, memory, multinet, fine_tuning, from_scratch])
def test_methods_of_the_study_live_there(device, method, tmp_path):
    settings = {"free_at_end": 0.7, "state": tmp_path / "state"} if method in (packnet, memory, multinet) else {}
    found = method(
        stream(), seed=0, network=convolutional, wake=dn.Epochs(2), night=dn.Epochs(2), device=device,
        training=dn.Training(batch_size=8, optimizer=ADAM), **settings,
    )  # fmt: skip
    assert 0.4 < found["mean_accuracy"] <= 1


@on_each
def test_single_nights_are_slept_there(device):
    devices = set()

    def noted(inputs):
        devices.add(inputs.device.type)
        return inputs

    found = nights.one_night(
        stream(), seed=0, day=1, network=convolutional, free_at_end=0.7, wake=dn.Epochs(2), night=dn.Epochs(2),
        policy=dn.OneShot(), usual=dn.UniformCycles(2), device=device,
        training=dn.Training(batch_size=8, optimizer=ADAM, transform=noted),
    )  # fmt: skip
    assert found["night_steps"] == 10
    assert devices == {device}
