"""Sub-networks of tasks: plain, compact, and in files for other programs."""

import functools
import warnings

import onnxruntime
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models as vision

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Steps, Task, TaskStream, Training, UniformCycles
from daynight.errors import ExportError, SettingError, StateError
from daynight.networks.compact import compact
from daynight.networks.prediction import CHUNK
from daynight.testing import toy_network, toy_stream


def halved(inputs):
    return inputs / 2


class Counting(nn.Module):
    """Branches in Python on the number of inputs, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs) * (2.0 if float(inputs.detach().sum()) > 1e9 else 1.0))


def image_stream(n_tasks=2, size=8):
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(n_tasks):
        inputs, labels = torch.rand(20, 3, size, size, generator=generator), torch.arange(20) % 2
        tasks.append(Task(train=(inputs[:16], labels[:16]), test=(inputs[16:], labels[16:]), n_outputs=2))
    return TaskStream(tasks)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 12, 3), nn.SiLU(),
        nn.Conv2d(12, 6, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(24, 10), nn.Tanh(), nn.Linear(10, 2),
    )  # fmt: skip


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(24, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.lstm(inputs.transpose(1, 2).flatten(2))[0][:, -1])


NETWORKS = {
    "MLP": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(),
                                 nn.Linear(20, 2)),
    "convolutional": convolutional,
    "batch norm": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                                        nn.Linear(216, 2)),
    "ResNet": lambda: vision.ResNet(vision.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2),
    "LSTM": Rows,
}  # fmt: skip


def lived(network, stream, free=0.5, **settings):
    training = Training(batch_size=8, **settings.pop("training", {}))
    agent = Agent(
        network, capacity=Capacity(free_at_end=free, days=len(stream), min_per_layer=1), training=training, **settings
    )
    Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3)).run()
    return agent


@functools.cache
def lived_as(name):
    """Return an agent for all tests that only read it."""
    return lived(NETWORKS[name], image_stream())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_subnetwork_computes_the_same_bits(name):
    agent = lived_as(name)
    inputs = torch.rand(CHUNK, 3, 8, 8)
    for task in range(2):
        module = agent.subnetwork(task)
        assert type(module) is type(agent.network.module)
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert torch.equal(module(inputs), agent.predict(inputs, task))
    agent.verify()


def test_a_task_is_exported_by_its_name(tmp_path):
    agent = Agent(toy_network, capacity=Capacity(keep_per_task=0.3))
    for task in toy_stream(2):
        agent.wake(task, Steps(2))
        agent.sleep(OneShot(), Steps(1))
    for name, task in (("by_name", "toy 1"), ("by_index", 1)):
        agent.export(task, tmp_path / f"{name}.pt")
    found, expected = (torch.load(tmp_path / f"{name}.pt") for name in ("by_name", "by_index"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    with pytest.raises(StateError, match="'other' has not been learnt"):
        agent.export("other", tmp_path / "other.pt")


@pytest.mark.parametrize(
    "settings",
    [{"consolidation": "rehearse"}, {"consolidation": "fine-tune"}, {"exclude": ["body.1"]},
     {"biases": "freeze-after-first"}],
    ids=str,
)  # fmt: skip
def test_subnetworks_of_all_ways_to_consolidate(settings):
    stream = toy_stream(3, n_classes=3) if settings.get("consolidation") == "rehearse" else toy_stream(3)
    agent = lived(toy_network, stream, **settings)
    inputs = torch.randn(CHUNK, 6)
    for task in range(3):
        module = agent.subnetwork(task)
        assert torch.allclose(module(inputs), agent.predict(inputs, task), atol=1e-6)
        small = agent.subnetwork(task, compact=True)
        assert torch.allclose(small(inputs), agent.predict(inputs, task), atol=1e-5)


@pytest.mark.parametrize("name", ["MLP", "convolutional"])
def test_a_compact_form_is_smaller_and_computes_the_same(name):
    agent = lived(NETWORKS[name], image_stream(), free=0.98)
    inputs = torch.randn(CHUNK, 3, 8, 8)
    for task in range(2):
        small, whole = agent.subnetwork(task, compact=True), agent.subnetwork(task)
        assert torch.allclose(small(inputs), agent.predict(inputs, task), atol=1e-6)
        sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in (small, whole)]
        assert sizes[0] < sizes[1] / 4


@given(seed=st.integers(0, 10**6), density=st.floats(0.0, 0.5), padding=st.integers(0, 1), pool=st.booleans())
@settings(max_examples=60, deadline=None)
def test_compact_forms_of_random_networks_compute_the_same(seed, density, padding, pool):
    torch.manual_seed(seed)
    pooling = [nn.AvgPool2d(2, padding=padding)] if pool else []
    module = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=padding), nn.Sigmoid(), *pooling, nn.Conv2d(5, 4, 2, padding=padding), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(6), nn.GELU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    inputs = torch.randn(9, 2, 6, 6)
    module(inputs)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(torch.rand_like(parameter) < density if parameter.dim() > 1 else 1)
    module.eval().requires_grad_(False)
    layers = {name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    small = compact(module, layers, inputs)
    other = torch.randn(50, 2, 6, 6)
    assert torch.allclose(small(other), module(other), atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ["pt", "safetensors", "pt2", "onnx"])
def test_what_is_exported_computes_the_same(name, form, tmp_path):
    agent = lived_as(name)
    path, inputs = tmp_path / f"task.{form}", torch.rand(7, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent.export(1, path)
        if form in ("pt", "safetensors"):
            module = NETWORKS[name]().eval()
            read = torch.load(path, weights_only=True) if form == "pt" else safetensors.torch.load_file(path)
            module.load_state_dict(read)
            outputs = module(inputs)
        elif form == "pt2":
            outputs = torch.export.load(path).module()(inputs)
        else:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            outputs = torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])
    assert torch.allclose(outputs, agent.predict(inputs, 1), atol=1e-5)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_a_transform_is_exported_too(form, tmp_path):
    agent = lived(NETWORKS["MLP"], image_stream(), training={"transform": halved})
    path, inputs = tmp_path / f"task.{form}", torch.rand(3, 3, 8, 8)
    agent.export(0, path, compact=True)
    if form == "pt2":
        outputs = torch.export.load(path).module()(inputs)
    else:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])
    assert torch.allclose(outputs, agent.predict(inputs, 0), atol=1e-5)


def test_what_cannot_be_exported_is_refused_and_leaves_what_was_there(tmp_path, monkeypatch):
    agent = lived(Counting, toy_stream(2))
    (tmp_path / "task.pt2").write_text("before")
    with pytest.raises(ExportError, match=r"torch.export cannot follow the network, or its transform: .*A state dict"):
        agent.export(0, tmp_path / "task.pt2")
    with pytest.raises(SettingError, match=r"path must end in .pt, .safetensors, .pt2, .onnx, which name the format"):
        agent.export(0, tmp_path / "task.bin")

    def read_otherwise(path, **settings):
        *state, (name, bias) = read(path, **settings).items()
        return {**dict(state), name: bias + 1e-3}

    read = torch.load
    monkeypatch.setattr(torch, "load", read_otherwise)
    with pytest.raises(ExportError, match=r"the outputs of \.pt differ from the agent's by up to 0\.001, more than"):
        agent.export(0, tmp_path / "task.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["task.pt2"]
    assert (tmp_path / "task.pt2").read_text() == "before"


def test_tasks_that_are_not_finished_have_no_subnetwork():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3))
    for call in (agent.subnetwork, lambda task: agent.export(task, "x.pt")):
        with pytest.raises(StateError, match="has not been learnt"):
            call(0)
    agent.wake(toy_stream(3)[0], Steps(1))
    with pytest.raises(StateError, match=r"subnetwork: task 0 is not finished\. Call finish_night"):
        agent.subnetwork(0)
    agent.sleep(OneShot(), Steps(1))
    assert isinstance(agent.subnetwork(0), nn.Module)


class Sorted(nn.Module):
    """Computes with an operation that ONNX does not have."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(torch.special.bessel_j0(self.body(inputs)))


def test_operations_that_onnx_does_not_have_are_named(tmp_path):
    agent = lived(Sorted, toy_stream(1))
    agent.export(0, tmp_path / "task.pt2")
    with pytest.raises(ExportError, match=r"torch.onnx has no form for a part of the network: .*bessel_j0"):
        agent.export(0, tmp_path / "task.onnx")
    assert not (tmp_path / "task.onnx").exists()
