"""Settings that look alike, and are not the same."""

import copy

import pytest
import torch
from torch import nn

from daynight.identity import describe


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
        (nn.MSELoss(), nn.MSELoss(reduction="sum")),
        (nn.HuberLoss(), nn.HuberLoss(delta=9.0)),
        ({len: 1}, {max: 1}),
        ({torch.relu: 1}, {torch.tanh: 1}),
        (torch.Tensor.float, torch.Tensor.double),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_look_alike_are_told_apart(one, other):
    assert describe(one) == describe(copy.deepcopy(one))
    assert describe(one) != describe(other)
    assert "0x" not in repr(describe(one))
