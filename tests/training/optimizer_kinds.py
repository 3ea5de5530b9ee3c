"""Optimizers of several kinds, and how a plain loop and an `Optimization` train a network with them."""

import copy

import torch
from torch import nn
from torch.nn import functional

from daynight import Training
from daynight.networks.masked import MaskedNetwork
from daynight.training.optimizer import Optimization
from daynight.training.together import Together


def muon_and_adamw(parameters):
    """Return two optimizers: one of matrices, and one of biases and norms."""
    return [
        torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=0.02),
        torch.optim.AdamW([p for p in parameters if p.ndim != 2], lr=0.01),
    ]


def two_rates(parameters):
    return (torch.optim.SGD(parameters[:2], lr=0.2, momentum=0.9), torch.optim.Adam(parameters[2:], lr=0.01))


class Lookahead(torch.optim.Optimizer):
    """Goes a part of the way from where it was six steps ago to where its inner optimizer is; has its groups."""

    def __init__(self, inner):
        super().__init__([p for group in inner.param_groups for p in group["params"]], {})
        self.inner, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        self.inner.step()
        for parameter in [p for group in self.param_groups for p in group["params"]]:
            state = self.state[parameter]
            if not state:
                state["n"], state["slow"] = 0, parameter.detach().clone()
            state["n"] += 1
            if state["n"] % 6 == 0:
                state["slow"] += 0.5 * (parameter.detach() - state["slow"])
                parameter.data.copy_(state["slow"])

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "own": super().state_dict()}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        super().load_state_dict(state["own"])


class KeepingLinks(Lookahead):
    """The same, which takes care of its groups itself."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.inner.param_groups = self.param_groups


def lookahead(parameters):
    return Lookahead(torch.optim.SGD(parameters, lr=0.1, momentum=0.9))


def keeping_links(parameters):
    return KeepingLinks(torch.optim.Adam(parameters, lr=0.02))


def lookahead_of_two(parameters):
    return Lookahead(Together(two_rates(parameters)))


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD: gradients are taken at y, and the weights to use are the mean x, at which it is in `eval`."""

    def __init__(self, parameters, lr=0.5, beta=0.9):
        super().__init__(parameters, {"lr": lr, "beta": beta, "k": 0, "is_training": False})

    def _each(self):
        return [(group, p, self.state[p]) for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def train(self):
        for group, p, state in self._each():
            if not group["is_training"] and "z" in state:
                p.lerp_(state["z"], 1 - group["beta"])
        for group in self.param_groups:
            group["is_training"] = True

    @torch.no_grad()
    def eval(self):
        for group, p, state in self._each():
            if group["is_training"] and "z" in state:
                p.lerp_(state["z"], 1 - 1 / group["beta"])
        for group in self.param_groups:
            group["is_training"] = False

    @torch.no_grad()
    def step(self, closure=None):
        assert all(group["is_training"] for group in self.param_groups), "not in training mode"
        for group in self.param_groups:
            share = 1 / (group["k"] + 1)
            for p in group["params"]:
                if p.grad is None:
                    continue
                z = self.state[p].setdefault("z", p.detach().clone())
                # y moves with x, the mean of all z, and with z.
                p.lerp_(z, share)
                p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - share) - 1))
                z.add_(p.grad, alpha=-group["lr"])
            group["k"] += 1


def night_network(width=4):
    """Return a network within its second night: some weights are frozen at values, some at zero, and some are free."""
    torch.manual_seed(0)
    network = MaskedNetwork(nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                          nn.Linear(width, 2)))  # fmt: skip
    for remainder in (0, 1):
        network.begin_day(2)
        network.release(
            {name: torch.arange(w.numel()).reshape(w.shape) % 3 == remainder for name, w in network.weights.items()}
        )
        if remainder == 0:
            network.end_day()
    return network


def examples(n=12):
    inputs = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    return inputs, (inputs[:, 0] > 0).long()


def plain(network, make, n_steps, mode=None):
    """Train a copy of a network in a plain loop, in which frozen numbers get their values back, and return it."""
    module, held = copy.deepcopy(network.module), network.held()
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    masks = {name: held.get(name.removesuffix(".weight")) for name in named if name.endswith(".weight")}
    made = make(list(named.values()))
    optimizers = list(made) if isinstance(made, list | tuple) else [made]
    inputs, targets = examples()
    module.train()
    for _ in range(n_steps):
        if mode:
            optimizers[0].train()
        for parameter in named.values():
            parameter.grad = None
        functional.cross_entropy(module(inputs), targets).backward()
        before = {name: p.detach().clone() for name, p in named.items()}
        for name, parameter in named.items():
            if masks.get(name) is not None:
                parameter.grad.mul_(masks[name])
        for optimizer in optimizers:
            optimizer.step()
        for name, parameter in named.items():
            if masks.get(name) is not None:
                parameter.data.copy_(torch.where(masks[name], parameter, before[name]))
    if mode:
        optimizers[0].eval()
    return module


def trained(network, make, n_steps, engine="module", **settings):
    optimization = Optimization(network, Training(optimizer=make, engine=engine, **settings), functional.cross_entropy,
                                n_steps)  # fmt: skip
    network.module.train()
    for _ in range(n_steps):
        optimization.step(*examples())
    optimization.flush()
    return network.module


HOLDING = [muon_and_adamw, two_rates, lookahead, keeping_links, lookahead_of_two]
