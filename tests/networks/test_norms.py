"""Statistics of norm layers after a prune that no training follows."""

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Clock, Cycle, Epochs, OneShot, SleepPolicy, Steps, Task, Training
from daynight.errors import SettingError
from daynight.networks import norms
from daynight.storage import agents
from daynight.testing import toy_stream

INPUTS = 100 * torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def task(inputs=INPUTS):
    labels = (inputs[:, 0] > 0).long()
    return Task(train=(inputs[:48], labels[:48]), test=(inputs[48:], labels[48:]), n_outputs=2)


def network(norm=nn.BatchNorm1d, **settings):
    return nn.Sequential(nn.Linear(6, 16), norm(16, **settings), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 2))


def agent_of(make=network, **settings):
    training = Training(batch_size=8, **settings)
    return Agent(make, capacity=Capacity(free_at_end=0.5, days=1), training=training)


def statistics(agent, transform=lambda inputs: inputs):
    """Return the statistics that batch norm must have: mean and variance of the layer before, on all training data."""
    module = agent.subnetwork(0)
    before = module[0](transform(INPUTS[:48]))
    return before.mean(0), before.var(0), module[1]


class EndsWithPrune(SleepPolicy):
    """Trains for half of the night, and then prunes once more."""

    def cycles(self, night):
        yield Cycle(keep=0.8, length=0.5)
        yield Cycle(keep="dawn", length=0.0)


@pytest.mark.parametrize("end", ["finish_night", "no steps", "a prune"])
def test_statistics_are_taken_anew_where_no_step_follows_the_last_prune(end):
    agent = agent_of(transform=torch.sin)
    agent.wake(task(), Steps(20))
    if end == "finish_night":
        agent.finish_night()
    elif end == "no steps":
        agent.sleep(OneShot(), Steps(0))
    else:
        agent.sleep(EndsWithPrune(), Steps(8))
        assert agent.days[0].night_steps == 4
    mean, variance, norm = statistics(agent, torch.sin)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, rtol=1e-4)
    agent.verify()


def test_statistics_of_a_night_that_trains_are_those_of_its_steps():
    runs = []
    for settings in ({}, {"norm_statistics": "running"}, {"norm_statistics": "anew"}):
        agent = agent_of(**settings)
        agent.wake(task(), Steps(20))
        agent.sleep(OneShot(), Steps(2))
        runs.append(agent)
    usual, running, anew = runs
    assert torch.equal(usual.predict(INPUTS, 0), running.predict(INPUTS, 0))
    mean, variance, norm = statistics(anew)
    assert torch.allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-3)
    assert torch.allclose(norm.running_var, variance, rtol=1e-4)
    mean, _, norm = statistics(usual)
    assert not torch.allclose(norm.running_mean, mean, rtol=0.01, atol=1e-3)
    weights = [run.subnetwork(0)[0].weight for run in (usual, anew)]
    assert torch.equal(*weights)


def test_a_task_without_its_own_statistics_would_be_guesswork():
    agent = agent_of()
    agent.wake(task(), Epochs(30))
    at_dusk = {name: buffer.clone() for name, buffer in agent.network.module[1].named_buffers()}
    agent.sleep(OneShot(), Steps(0))
    taken = agent.evaluate(task(), 0)[1]
    old = agent.subnetwork(0)
    old[1].load_state_dict(at_dusk, strict=False)
    _, labels = task().test.load()
    score = float((old(INPUTS[48:]).argmax(1) == labels).float().mean())
    assert taken >= score


class Frozen(nn.Module):
    """Keeps its norm layer in evaluation mode, as people do who fine-tune a pretrained network."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, inputs):
        return self.head(torch.relu(self.norm(self.body(inputs))))


def test_statistics_that_training_does_not_change_stay():
    for make in (Frozen, lambda: network(momentum=0.0)):
        agent = agent_of(make)
        agent.wake(task(), Steps(5))
        agent.finish_night()
        norm = next(part for part in agent.subnetwork(0).modules() if isinstance(part, nn.BatchNorm1d))
        assert not norm.running_mean.any()
        assert bool((norm.running_var == 1).all())


def test_layers_get_back_their_settings_and_no_random_number_is_drawn():
    module = network(momentum=None)
    module.train()
    module[2].eval()
    state = torch.get_rng_state()
    norms.take_anew(module, INPUTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in module] == [True, True, False, True, True]
    assert module[1].momentum is None
    assert torch.allclose(module[1].running_mean, module[0](INPUTS).mean(0), atol=1e-4)
    before = module[1].running_mean.clone()
    norms.take_anew(module, INPUTS[:1])  # one example has no variance
    assert torch.equal(module[1].running_mean, before)


def test_instance_norms_take_theirs_anew_too():
    layers = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.InstanceNorm1d(4, track_running_stats=True), nn.Flatten(), nn.Linear(20, 2)
    )
    inputs = torch.randn(8, 2, 5)
    norms.take_anew(layers, inputs)
    assert torch.allclose(layers[1].running_mean, layers[0](inputs).mean((0, 2)), atol=1e-6)


def test_networks_without_norms_draw_nothing_and_setting_is_checked(tmp_path):
    with pytest.raises(SettingError, match=r"Training: norm_statistics must be one of 'running', 'anew', not 'new'\."):
        Training(norm_statistics="new")
    agent = agent_of()
    assert "norm_statistics" not in agents.to_json(agent.about())["training"]
    agent = agent_of(norm_statistics="anew")
    agent.wake(task(), Steps(5))
    agent.finish_night()
    agent.save(tmp_path / "agent.dn")
    assert Agent.load(tmp_path / "agent.dn", network).training.norm_statistics == "anew"


def test_a_checkpoint_knows_whether_statistics_are_taken_anew(tmp_path):
    def clock(**settings):
        agent = Agent(lambda: network(nn.BatchNorm1d), capacity=Capacity(free_at_end=0.5, days=2),
                      training=Training(batch_size=10, **settings))  # fmt: skip
        return Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Epochs(1), checkpoint=tmp_path / "a")

    clock(norm_statistics="anew").run(until=1)
    with pytest.raises(SettingError, match=r"another training\.norm_statistics \('anew' then, the default now\)"):
        clock().run()
    assert len(clock(norm_statistics="anew").run().accuracy) == 2
