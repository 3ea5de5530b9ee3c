"""Parameters that a subclass of a known layer adds to it are those of a module that daynight does not know."""

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, OneShot, Steps
from daynight.errors import NetworkError
from daynight.networks.anatomy import Stored, dissect
from daynight.testing import toy_stream


def with_more(kind, *arguments, **more):
    """Return a layer of a subclass with further parameters of the given shapes."""
    layer = type("Mine", (kind,), {"__module__": __name__})(*arguments)
    for name, shape in more.items():
        layer.register_parameter(name, nn.Parameter(torch.full(shape, 0.1)))
    return layer


LAYERS = {
    "linear": (nn.Linear, (6, 8), {"weight"}, {"bias"}),
    "convolution": (nn.Conv2d, (2, 3, 3), {"weight"}, {"bias"}),
    "transposed": (nn.ConvTranspose1d, (2, 3, 3), {"weight"}, {"bias"}),
    "bilinear": (nn.Bilinear, (2, 3, 4), {"weight"}, {"bias"}),
    "embedding": (nn.Embedding, (5, 4), {"weight"}, set()),
    "lstm": (nn.LSTM, (3, 4, 2), {f"weight_{of}_l{n}" for of in ("ih", "hh") for n in (0, 1)},
             {f"bias_{of}_l{n}" for of in ("ih", "hh") for n in (0, 1)}),
    "cell": (nn.GRUCell, (3, 4), {"weight_ih", "weight_hh"}, {"bias_ih", "bias_hh"}),
    "attention": (nn.MultiheadAttention, (8, 2), {"in_proj_weight", "out_proj.weight"},
                  {"in_proj_bias", "out_proj.bias"}),
}  # fmt: skip


def named(anatomy):
    return {name.removeprefix("0.") for name in anatomy.masked.values()}, {
        name.removeprefix("0.") for name in anatomy.biases
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_what_a_subclass_adds_is_not_sorted_by_its_name(layer):
    kind, arguments, weights, biases = LAYERS[layer]
    vectors = {"weight_scale": (4,), "gain": (4, 1, 1), "weight_bias": (4,), "more_bias": (4,)}
    anatomy = dissect(nn.Sequential(with_more(kind, *arguments, **vectors), nn.Linear(8, 2)))
    assert named(anatomy) == (weights, {*biases, "more_bias"})
    assert set(anatomy.private) == {"0.weight_scale", "0.gain", "0.weight_bias"}
    module = nn.Sequential(with_more(kind, *arguments, adapter=(6, 3), weight_two=(2, 2)), nn.Linear(8, 2))
    with pytest.raises(NetworkError, match=r"0\.adapter \(Mine, \(6, 3\)\), 0\.weight_two .* mask=\['0\.adapter'"):
        dissect(module)
    for mask in (["0"], ["0.adapter", "0.weight_two"], lambda name, part: type(part).__name__ == "Mine"):
        chosen = dissect(module, mask=mask)
        assert named(chosen)[0] == {*weights, "adapter", "weight_two"}
        assert chosen.chosen == ("0.adapter", "0.weight_two")
    mixed = dissect(module, private=["0.adapter"], exclude=["0.weight_two"])
    assert (mixed.private, mixed.frozen, named(mixed)) == (("0.adapter",), ("0.weight_two",), (weights, biases))


class Adapted(nn.Linear):
    """Adds the product of two narrow matrices, as LoRA does, and scales what it returns."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__(n_inputs, n_outputs)
        self.down, self.up = nn.Parameter(torch.randn(n_inputs, 2)), nn.Parameter(torch.randn(2, n_outputs) * 0.1)
        self.weight_scale = nn.Parameter(torch.ones(n_outputs))

    def forward(self, inputs):
        return (super().forward(inputs) + inputs @ self.down @ self.up) * self.weight_scale


def network():
    return nn.Sequential(Adapted(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def lived(**choice):
    """Return an agent after two days, and what it predicted for its first task at the dawn of day 0."""
    agent, stream = Agent(network, capacity=Capacity(free_at_end=0.5, days=3), **choice), toy_stream(2)
    found = []
    for task in stream:
        agent.wake(task, Steps(8))
        agent.sleep(OneShot(), Steps(4))
        found.append(agent.predict(stream[0].test.inputs, 0))
    assert torch.equal(*found)
    agent.verify()
    return agent


MATRICES = ["0.down", "0.up"]


@pytest.mark.parametrize("choice", [{"mask": MATRICES}, {"private": MATRICES}, {"exclude": MATRICES}])
@pytest.mark.parametrize("biases", ["per-task", "freeze-after-first"])
def test_a_finished_task_keeps_what_a_subclass_adds_and_its_file_says_what_it_is(tmp_path, choice, biases):
    agent, inputs = lived(biases=biases, **choice), toy_stream(2)[0].test.inputs
    assert (agent.n_weights > 48 + 64) == ("mask" in choice)
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn", network)
    assert again.network.anatomy == agent.network.anatomy
    assert torch.equal(again.predict(inputs, 0), agent.predict(inputs, 0))


@pytest.mark.parametrize("biases", ["per-task", "freeze-after-first"])
def test_a_file_in_which_names_said_what_a_parameter_is_can_be_read(tmp_path, biases):
    agent, inputs = lived(biases=biases, mask=Stored()), toy_stream(2)[0].test.inputs
    assert list(agent.network.weights) == ["0", "0.weight_scale", "2"]
    assert set(agent.network.anatomy.biases) == {"0.bias", "0.down", "0.up", "2.bias"}
    for name in ("first.dn", "second.dn"):
        agent.save(tmp_path / name)
        read = Agent.load(tmp_path / name, network)
        assert read.network.anatomy == agent.network.anatomy
        assert torch.equal(read.predict(inputs, 0), agent.predict(inputs, 0))
        agent = read
