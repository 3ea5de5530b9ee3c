import pytest
import torch

from daynight import metrics


def test_accuracy_by_hand():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]])
    assert metrics.accuracy(outputs, torch.tensor([0, 1, 0, 0])) == 0.75


def test_mean_squared_error_by_hand():
    assert metrics.mean_squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])) == 2.5


def test_r_squared_by_hand():
    targets = torch.tensor([[0.0], [2.0]])
    assert metrics.r_squared(targets, targets) == 1.0
    assert metrics.r_squared(torch.ones(2, 1), targets) == 0.0
    assert metrics.r_squared(torch.tensor([[1.0], [2.0]]), targets) == pytest.approx(0.5)
    assert metrics.r_squared(torch.ones(2, 1), torch.ones(2, 1)) == 0.0
