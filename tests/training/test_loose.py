"""Parameters that no engine computes with: trained in place, or gathered if few of their numbers may move."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight.networks import tracing
from daynight.networks.masked import MaskedNetwork
from daynight.training.loose import Loose
from daynight.training.optimizer import Optimization
from daynight.training.settings import Training

ADAM = functools.partial(torch.optim.Adam, lr=0.1, eps=1e-3)


def loose(n_frozen, layout=torch.contiguous_format):
    parameter = nn.Parameter(torch.arange(1.0, 37.0).view(1, 4, 3, 3).contiguous(memory_format=layout))
    mask = torch.ones_like(parameter, dtype=torch.bool)
    mask[0, 0].view(-1)[:n_frozen] = False
    return Loose(parameter, mask), parameter, mask


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("n_frozen", [1, 9])
def test_numbers_that_may_not_move_get_their_bits_back_and_have_no_gradient(n_frozen, layout):
    item, parameter, mask = loose(n_frozen, layout)
    before = parameter.detach().clone()
    parameter.grad = torch.ones_like(parameter)
    item.mute()
    assert torch.equal(parameter.grad, mask.float())
    with torch.no_grad():
        parameter.fill_(torch.nan)
    item.hold()
    assert torch.equal(parameter[~mask], before[~mask])
    assert bool(parameter[mask].isnan().all())


def test_gradients_in_another_layout_are_muted():
    item, parameter, mask = loose(1)
    parameter.grad = torch.ones_like(parameter).contiguous(memory_format=torch.channels_last)
    item.mute()
    assert torch.equal(parameter.grad, mask.float())
    parameter.grad = None
    item.mute()
    assert parameter.grad is None


class Skipping(nn.Module):
    """Leaves out its knot in all passes from the third on."""

    def __init__(self):
        super().__init__()
        self.first, self.knot, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.n = 0

    def forward(self, inputs):
        hidden = functional.relu(self.first(inputs))
        self.n += 1
        return self.head(hidden if self.n > 2 else hidden + torch.tanh(self.knot(hidden)))


def optimization(engine, module, n_kept=5):
    """Return a network during a day, pruned to a few weights a layer, and its optimization, as Trainer makes it."""
    torch.manual_seed(0)
    network = MaskedNetwork(module().double())
    network.begin_day(2)
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in network.weights.items()}
    for mask in masks.values():
        mask.view(-1)[:n_kept] = True
    network.release(masks)
    parts = tracing.uncut(network) if engine != "module" else None
    made = Optimization(network, Training(optimizer=ADAM, engine=engine), functional.cross_entropy, 9, parts)
    return network, made


def batch():
    return torch.randn(10, 6, generator=torch.Generator().manual_seed(1)).double(), torch.arange(10) % 2


def test_a_step_optimizes_only_the_numbers_that_may_move():
    network, made = optimization("auto", Skipping)
    before = {name: weight.detach().clone() for name, weight in network.weights.items()}
    made.step(*batch())
    for name, mask in network.held().items():
        after = network.weights[name].detach()
        assert torch.equal(after[~mask], before[name][~mask])
        assert not torch.equal(after[mask], before[name][mask])
    moments = sum(state["exp_avg"].numel() for state in made.state()["optimizer"]["state"].values())
    biases = sum(p.numel() for name, p in network.module.named_parameters() if "bias" in name or "head" in name)
    assert moments <= biases + 2 * 16  # two layers of five numbers, aligned


def test_a_parameter_that_gets_no_gradient_any_more_stays_as_with_the_network_itself():
    (network, made), (other, expected) = optimization("auto", Skipping), optimization("module", Skipping)
    assert made.state()["gathers"]
    for step in range(5):
        if step == 4:  # a new one resumes after it has given up gathering
            made.flush()
            state = made.state()
            made = Optimization(network, Training(optimizer=ADAM), functional.cross_entropy, 9, tracing.uncut(network))
            made.restore(state)
        made.step(*batch())
        expected.step(*batch())
        for name, parameter in network.module.named_parameters():
            other_parameter = other.module.get_parameter(name)
            assert torch.allclose(parameter, other_parameter, rtol=0, atol=1e-10), (step, name)
    assert not made.state()["gathers"]
