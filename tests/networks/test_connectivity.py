"""Which weights are in vain, against a search of all paths of the graph of units."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from daynight.errors import NetworkError
from daynight.networks.connectivity import Connections, in_vain
from daynight.networks.masked import MaskedNetwork


def on_paths(masks):
    """Return per layer which places (outputs, inputs) are on a path if they had a weight, by a search.

    Args:
        masks: For each layer, bool (outputs, inputs); a layer with more inputs than the one before has outputs gets
            each output of that several times, one after the other, as after a flattening.
    """
    edges = []
    for layer, mask in enumerate(masks):
        n_places = mask.shape[1] // len(masks[layer - 1]) if layer else 1
        for output, unit in itertools.product(*map(range, mask.shape)):
            if mask[output, unit]:
                edges.append(((layer, unit // n_places), (layer + 1, output)))
    forward, backward = {}, {}
    for source, target in edges:
        forward.setdefault(source, []).append(target)
        backward.setdefault(target, []).append(source)
    n_places = [mask.shape[1] // len(before) for before, mask in itertools.pairwise(masks)]
    reached = visited([(0, unit) for unit in range(masks[0].shape[1])], forward)
    read = visited([(len(masks), unit) for unit in range(len(masks[-1]))], backward)
    return [
        [[(layer, unit // n) in reached and (layer + 1, output) in read for unit in range(mask.shape[1])]
         for output in range(len(mask))]
        for layer, (mask, n) in enumerate(zip(masks, [1, *n_places], strict=True))
    ]  # fmt: skip


def visited(begin, neighbours):
    """Return the nodes that can be reached from some."""
    found, left = set(begin), list(begin)
    while left:
        for node in neighbours.get(left.pop(), ()):
            if node not in found:
                found.add(node)
                left.append(node)
    return found


def mlp(widths):
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    return nn.Sequential(
        *itertools.chain.from_iterable((layer, nn.ReLU()) for layer in layers), nn.Linear(widths[-1], 2)
    )


def masks_of(network, seed, density):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator) < density for name, weight in network.weights.items()
    }  # fmt: skip


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(0, 1000), st.floats(0.1, 0.9))
def test_useful_places_of_mlps_are_those_of_a_search(widths, seed, density):
    network = MaskedNetwork(mlp(widths))
    masks = masks_of(network, seed, density)
    useful = Connections.of(network, torch.rand(3, widths[0])).useful(masks)
    assert [mask.tolist() for mask in useful.values()] == on_paths(list(masks.values()))


class Convolutional(nn.Module):
    """As users write it: functions between the layers, and one module for all of them."""

    def __init__(self, channels, n_features):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels[0], channels[1], 3, padding=1), nn.Conv2d(*channels[1:], 2)
        self.norm, self.pool, self.relu = nn.BatchNorm2d(channels[1]), nn.MaxPool2d(2), nn.ReLU()
        self.hidden, self.head = nn.Linear(4 * channels[2], n_features), nn.Linear(n_features, 2)

    def forward(self, inputs):
        found = self.pool(self.relu(self.norm(self.first(inputs))))
        found = functional.max_pool2d(self.relu(self.second(found)), 2)
        return self.head(functional.relu(self.hidden(found.flatten(1))))


@given(st.lists(st.integers(1, 4), min_size=3, max_size=3), st.integers(1, 4), st.integers(0, 1000), st.data())
def test_useful_places_of_convolutions_are_those_of_a_search(channels, n_features, seed, data):
    network = MaskedNetwork(Convolutional(channels, n_features))
    masks = masks_of(network, seed, data.draw(st.sampled_from([0.05, 0.1, 0.3])))
    useful = Connections.of(network, torch.rand(3, channels[0], 10, 10)).useful(masks)
    found = [mask.flatten(2).any(2) if mask.dim() == 4 else mask for mask in masks.values()]
    expected = on_paths(found)
    for mask, places in zip(useful.values(), expected, strict=True):
        assert mask.flatten(2).any(2).tolist() == places if mask.dim() == 4 else mask.tolist() == places
        if mask.dim() == 4:  # all places of a kernel are alike
            assert torch.equal(mask.flatten(2).all(2), mask.flatten(2).any(2))


def test_what_is_in_vain_by_hand():
    # Two inputs, two hidden units, two more, and the head. Unit 1 of the first layer is not read by any weight; unit 1
    # of the second is read by the head, and nothing reaches it but the bias of unit 1 before it.
    network = MaskedNetwork(mlp([2, 2, 2]))
    network.begin_day(2)
    keep = {"0": torch.tensor([[True, False], [True, True]]), "2": torch.tensor([[True, False], [False, False]])}
    network.release(keep)
    network.end_day()
    connections = Connections.of(network, torch.rand(3, 2))
    vain = in_vain(network, connections, 0)
    assert vain["0"].tolist() == [[False, False], [True, True]]
    assert vain["2"].tolist() == [[False, False], [False, False]]
    # The next task reads that unit, by a weight of its own: for the first task, nothing has changed.
    network.begin_day(2)
    network.release({"0": torch.zeros(2, 2).bool(), "2": torch.tensor([[False, False], [False, True]])})
    network.end_day()
    assert all(torch.equal(mask, vain[name]) for name, mask in in_vain(network, connections, 0).items())
    assert not any(mask.any() for mask in in_vain(network, connections, 1).values())


def test_a_unit_with_nothing_but_a_bias_is_reached_by_nothing():
    network = MaskedNetwork(mlp([2, 2, 2]))
    network.begin_day(2)
    network.release(
        {"0": torch.tensor([[True, True], [False, False]]), "2": torch.tensor([[True, True], [True, True]])}
    )
    network.end_day()
    vain = in_vain(network, Connections.of(network, torch.rand(3, 2)), 0)
    assert vain["2"].tolist() == [[False, True], [False, True]]


def test_without_freezing_all_tasks_see_all_weights():
    network = MaskedNetwork(mlp([1, 1, 1]), freezes=False)
    for masks in ({"0": [[True]], "2": [[False]]}, {"0": [[False]], "2": [[True]]}):
        network.begin_day(2)
        network.release({name: torch.tensor(mask) for name, mask in masks.items()})
        network.end_day()
    connections = Connections.of(network, torch.rand(3, 1))
    assert not any(mask.any() for task in (0, 1) for mask in in_vain(network, connections, task).values())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, inputs):
        found = torch.relu(self.first(inputs))
        return self.head(found + self.second(found))


class Reading(nn.Module):
    """Reads the weight of a layer again, in a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, inputs):
        found = torch.relu(self.second(torch.relu(self.first(inputs))))
        return self.head(functional.linear(found, self.second.weight))


@pytest.mark.parametrize(
    ("module", "inputs", "layer"),
    [(Residual(), torch.rand(3, 3), "second"), (Reading(), torch.rand(3, 3), "second"),
     (nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 2)), torch.zeros(3, 2).long(), "0"),
     (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2)), torch.rand(3, 4, 3, 3), "0")],
)  # fmt: skip
def test_layers_that_are_not_in_a_chain_are_refused(module, inputs, layer):
    with pytest.raises(NetworkError, match=rf"which units each masked layer reads, and {layer} is not found to be"):
        Connections.of(MaskedNetwork(module), inputs)


def test_parts_of_unknown_kind_connect_all_with_all():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 2), nn.Softmax(1), nn.Linear(2, 2))
    network = MaskedNetwork(module)
    masks = {name: torch.zeros_like(weight).bool() for name, weight in network.weights.items()}
    masks["0"][0, 0] = True
    useful = Connections.of(network, torch.rand(3, 2)).useful(masks)
    assert useful["0"].all()
    assert useful["2"].all()


def test_a_pool_along_another_dimension_connects_all_with_all():
    # (batch, units) is one example of so many channels for it, so that it mixes units.
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(2, 4), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, inputs):
            return self.head(torch.relu(self.second(functional.max_pool1d(self.first(inputs), 2))))

    network = MaskedNetwork(Pooled())
    masks = {name: torch.zeros_like(weight).bool() for name, weight in network.weights.items()}
    masks["second"][0, 1] = True
    assert Connections.of(network, torch.rand(3, 2)).useful(masks)["first"].all()


def test_a_module_with_hooks_connects_all_with_all():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Linear(2, 2))
    masks = {"0": torch.tensor([[True, True], [False, False]]), "2": torch.ones(2, 2).bool()}
    assert Connections.of(MaskedNetwork(module), torch.rand(3, 2)).useful(masks)["2"].tolist() == [[True, False]] * 2
    module[1].register_forward_hook(lambda part, inputs, outputs: outputs.flip(1))
    assert Connections.of(MaskedNetwork(module), torch.rand(3, 2)).useful(masks)["2"].all()
