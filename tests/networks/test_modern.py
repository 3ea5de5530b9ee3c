"""Networks beyond chains of linear and convolution layers: attention, recurrence, embeddings, norms, raw parameters."""

import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision import models as vision

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Steps, Task, TaskStream, Training, UniformCycles
from daynight.errors import NetworkError
from daynight.networks.anatomy import dissect
from daynight.networks.masked import FREE, MaskedNetwork

N, LENGTH = 24, 5


class Reader(nn.Module):
    """Reads whole numbers, by one of several layers; its decoder and its embedding share a weight."""

    def __init__(self, kind):
        super().__init__()
        self.embed = nn.Embedding(7, 8, padding_idx=0)
        self.place = nn.Parameter(torch.randn(LENGTH, 8))
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.kind = kind
        if kind == "transformer":
            self.body = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.1)
        elif kind == "attention":
            self.body = nn.MultiheadAttention(8, 2, kdim=8, vdim=4, add_bias_kv=True, batch_first=True)
            self.values = nn.Linear(8, 4)
        elif kind == "cell":
            self.body = nn.GRUCell(8, 8)
        else:
            self.body = getattr(nn, kind)(8, 8, num_layers=2, batch_first=True, bidirectional=False)
        self.norm, self.act = nn.LayerNorm(8), nn.PReLU(8)
        self.decode = nn.Linear(8, 7, bias=False)
        self.decode.weight = self.embed.weight
        self.head = nn.Linear(7, 2)

    def forward(self, numbers):
        seen = self.embed(numbers) + self.place
        if self.kind == "transformer":
            read = self.body(seen)[:, -1]
        elif self.kind == "attention":
            read = self.body(seen, seen, self.values(seen))[0][:, -1]
        elif self.kind == "cell":
            read = seen.new_zeros(len(seen), 8)
            for step in seen.unbind(1):
                read = self.body(step, read)
        else:
            read = self.body(seen)[0][:, -1]
        return self.head(self.decode(self.act(self.norm(read * self.scale[:, 0, 0]))))


KINDS = ["transformer", "attention", "RNN", "LSTM", "GRU", "cell"]


def numbers_stream():
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(3):
        inputs = torch.randint(0, 7, (N + 10, LENGTH), generator=generator)
        labels = (inputs.sum(1) > 14).long()
        tasks.append(Task(train=(inputs[:N], labels[:N]), test=(inputs[N:], labels[N:]), n_outputs=2))
    return TaskStream(tasks)


def live_checked(agent, stream, policy=None):
    """Run all days; after each, check that no finished task has moved, and that counts are exact."""
    clock, seen = Clock(agent, stream, policy=policy or UniformCycles(2), wake=Epochs(2), night=Epochs(2)), []
    for day in range(len(stream)):
        clock.step()
        seen.append(agent.predict(stream[day].test.load()[0], day))
        assert all(torch.equal(agent.predict(stream[i].test.load()[0], i), before) for i, before in enumerate(seen))
        sizes = tuple(agent.network.sizes.values())
        assert agent.owned[day] == sum(agent.capacity.owned_after(sizes, day + 1)) - sum(agent.owned[:day])
        for name, owners in agent.network.owners.items():
            assert not agent.network.weights[name][owners == FREE].any()
    agent.verify()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restart", ["zero", "redraw"])
def test_layers_of_all_kinds_forget_nothing(kind, restart, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enable_nested_tensor|.*nested tensor")
        settings = {"training": Training(batch_size=8), "private": ["place"]}
        agent = Agent(lambda: Reader(kind), capacity=Capacity(free_at_end=0.4, days=3), restart=restart, **settings)
        live_checked(agent, numbers_stream())
        agent.save(tmp_path / "agent.dn")
        other = Agent.load(tmp_path / "agent.dn", lambda: Reader(kind))
    inputs = numbers_stream()[0].test.load()[0]
    assert all(torch.equal(other.predict(inputs, task), agent.predict(inputs, task)) for task in range(3))


def test_what_the_tensors_of_modern_layers_are():
    anatomy = dissect(Reader("transformer"), private=["place"])
    assert list(anatomy.masked) == ["embed", "body.self_attn.in_proj_weight", "body.self_attn.out_proj", "body.linear1",
                                    "body.linear2"]  # fmt: skip
    assert set(anatomy.biases) == {f"body.{name}" for name in (
        "self_attn.in_proj_bias", "self_attn.out_proj.bias", "linear1.bias", "linear2.bias")}  # fmt: skip
    norms = {f"{norm}.{name}" for norm in ("norm", "body.norm1", "body.norm2") for name in ("weight", "bias")}
    assert set(anatomy.private) == norms | {"scale", "act.weight", "place"}
    assert list(dissect(Reader("LSTM"), exclude=["place"]).masked) == [
        "embed", *(f"body.weight_{gate}_l{layer}" for layer in (0, 1) for gate in ("ih", "hh"))
    ]  # fmt: skip
    assert dissect(Reader("LSTM"), exclude=["place"]).frozen == ("place",)
    attention = dissect(Reader("attention"), private=["place", "values"])
    assert {"body.q_proj_weight", "body.k_proj_weight", "body.v_proj_weight"} < set(attention.masked)
    assert {"body.bias_k", "body.bias_v"} < set(attention.biases)
    assert {"values.weight", "values.bias"} < set(attention.private)  # what is named comes first


def test_tied_weights_are_counted_once():
    assert MaskedNetwork(Reader("GRU"), private=["place"]).sizes["embed"] == 7 * 8
    assert "decode" not in MaskedNetwork(Reader("GRU"), private=["place"]).sizes


def small(norm):
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(128, 2))  # fmt: skip


NETWORKS = {
    "batch norm": lambda: small(nn.BatchNorm2d(8)),
    "group norm": lambda: small(nn.GroupNorm(2, 8)),
    "instance norm": lambda: small(nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
    "layer norm": lambda: small(nn.LayerNorm([8, 6, 6])),
    "ResNet": lambda: vision.ResNet(vision.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2),
    "ViT": lambda: vision.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=2),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_norms_forget_nothing(name):
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(3):
        inputs, labels = torch.rand(20, 3, 8, 8, generator=generator), torch.arange(20) % 2
        tasks.append(Task(train=(inputs[:16], labels[:16]), test=(inputs[16:], labels[16:]), n_outputs=2))
    agent = Agent(
        NETWORKS[name], capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=8),
        private=["encoder.pos_embedding"] if name == "ViT" else (),
    )  # fmt: skip
    live_checked(agent, TaskStream(tasks))


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 2)),
         r"0 \(Linear\) computes its weight from others before each forward"),
        (old_weight_norm, r"0 \(Linear\) computes its weight from others"),
    ],
)  # fmt: skip
def test_weights_that_are_computed_from_others_are_refused(network, message):
    with pytest.raises(NetworkError, match=message):
        dissect(network())


def test_quantized_layers_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear})
    with pytest.raises(NetworkError, match=r"0\.0 \(Linear\) is quantized"):
        dissect(nn.Sequential(quantized, nn.Linear(3, 2)))


@pytest.mark.parametrize(
    "part",
    [
        nn.Embedding(5, 3, max_norm=1.0),
        nn.EmbeddingBag(5, 3, max_norm=2.0),
        nn.Embedding.from_pretrained(torch.ones(5, 3), freeze=True, max_norm=1.0),
    ],
)
def test_embeddings_that_write_to_their_weight_are_refused_if_weights_freeze(part):
    network = nn.Sequential(OrderedDict(words=part, hidden=nn.Linear(3, 4), head=nn.Linear(4, 2)))
    for settings in ({}, {"exclude": ["words"]}, {"private": ["words"]}):
        if "private" in settings and part.weight.requires_grad:
            assert MaskedNetwork(network, **settings).sizes  # a task's own copy is moved by its own day only
            continue
        with pytest.raises(NetworkError, match=r"^words: an embedding with max_norm= writes to its weight"):
            MaskedNetwork(network, **settings)
    assert MaskedNetwork(network, freezes=False).sizes


class Packed(nn.Module):
    """Reads texts of different lengths, filled up with 0; a text without words is an error of PyTorch."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4, padding_idx=0)
        self.read, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, inputs):
        lengths = (inputs != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.words(inputs), lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.read(packed)[1][0])


class Inverse(nn.Module):
    """Has no value for inputs of zeros."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, inputs):
        if bool((inputs == 0).all(1).any()):
            raise ValueError("an input has no norm")
        return self.head(self.hidden(inputs / inputs.norm(dim=1, keepdim=True)).relu())


@pytest.mark.parametrize("network", [Packed, Inverse])
def test_networks_that_refuse_inputs_of_zeros(network):
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randint(1, 9, (40, 5), generator=draw), torch.arange(40) % 2
    if network is Packed:
        for index in range(40):
            inputs[index, 1 + index % 5 :] = 0
    else:
        inputs = inputs.float()
    agent = Agent(network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=8))
    agent.wake(Task(train=(inputs[:32], labels[:32]), test=(inputs[32:], labels[32:])), Steps(3))
    agent.sleep(OneShot(), Steps(2))
    outputs = agent.predict(inputs, 0)
    assert all(torch.equal(agent.predict(inputs[n : n + 1], 0), outputs[n : n + 1]) for n in range(0, 40, 7))
