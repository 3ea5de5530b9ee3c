import torch
from torch import nn

from daynight.networks import liveness
from daynight.networks.tracing import Part


def part(kind, name=""):
    return Part(kind, nn.Identity(), name)


CHAIN = [part("convolution", "c"), part("relu"), part("flatten"), part("linear", "l"), part("linear", "head")]
#: The last layer is not masked, and so reads all; of the one before, output 1 reads feature 3 alone.
WEIGHTS = {"l": torch.tensor([[0, 0, 0, 0], [0, 0, 0, 2]]), "c": torch.tensor([[[1], [0], [0]], [[0], [0], [4]]])}


def test_units_are_read_through_layers_and_flattenings():
    # Feature 3 is the second place of channel 1, which reads input 2.
    read = liveness.read_units(CHAIN, WEIGHTS, [0, 0, 2, 0, 0])
    inputs, channels, again, features, hidden, end = read
    assert inputs.tolist() == [False, False, True]
    assert channels.tolist() == again.tolist() == [False, True]
    assert features.tolist() == [False, False, False, True]
    assert hidden is end is None


def test_what_is_unknown_is_read_whole():
    assert liveness.read_units(CHAIN, {}, [0, 0, 2, 0, 0]) == [None] * 6
    assert liveness.read_units(CHAIN, WEIGHTS, [0] * 5)[2] is None
    others = [part("linear", "l"), part("other"), part("linear", "l")]
    assert liveness.read_units(others, WEIGHTS, [0, 0, 0])[1] is None


def test_a_layer_that_reads_nothing_can_be_taken_to_read_something():
    nothing = {"l": torch.zeros(2, 3)}
    chain = [part("linear", "l")]
    assert liveness.read_units(chain, nothing, [0])[0].tolist() == [False, False, False]
    assert liveness.read_units(chain, nothing, [0], n_least=1)[0].tolist() == [True, False, False]


def test_channels_become_features():
    assert liveness.flattened(torch.tensor([0, 2]), 3).tolist() == [0, 1, 2, 6, 7, 8]
