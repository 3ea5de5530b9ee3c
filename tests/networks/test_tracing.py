"""Which networks are cut into a chain, and where."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, ExplicitCycles, Steps, Task, Training
from daynight.networks import tracing
from daynight.networks.masked import MaskedNetwork
from daynight.training.engines import sparse


def _head_of(module):
    return "head" if hasattr(module, "head") else None


def kinds(module, *shape, **settings):
    network = MaskedNetwork(module, head=_head_of(module), **settings)
    network.begin_day(2)
    before = [value.clone() for value in network.module.state_dict().values()]
    state = torch.get_rng_state()
    parts = tracing.cut(network, torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(network.module.state_dict().values(), before, strict=True))
    return [part.kind for part in parts]


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, inputs):
        return self.head(functional.relu(self.first(torch.flatten(inputs, 1))))


class Branching(Functions):
    def forward(self, inputs):
        return self.head(self.first(-inputs if self.training and inputs.sum() <= 0 else inputs))


class WithConstant(Functions):
    def forward(self, inputs):
        return self.head(self.first(inputs) * torch.rand(5))


class Shared(Functions):
    def __init__(self):
        super().__init__()
        self.middle = nn.Linear(5, 5)

    def forward(self, inputs):
        return self.head(self.middle(functional.relu(self.middle(self.first(inputs)))))


class Tied(Functions):
    def __init__(self):
        super().__init__()
        self.middle, self.last = nn.Linear(5, 5), nn.Linear(5, 5)
        self.last.weight = self.middle.weight

    def forward(self, inputs):
        return self.head(self.last(functional.relu(self.middle(self.first(inputs)))))


class ReadsWeight(Functions):
    def forward(self, inputs):
        return self.head(functional.linear(inputs, self.first.weight * 2, self.first.bias))


class Sequence(Functions):
    def forward(self, inputs):
        return self.head(self.first(inputs).mean(1))


class Dropping(Functions):
    def forward(self, inputs):
        return self.head(functional.dropout(self.first(inputs), 0.5, self.training))


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (Functions, (6,), ["flatten", "linear", "relu", "linear"]),
        (Branching, (6,), ["other"]),
        (WithConstant, (6,), ["other"]),
        (Shared, (6,), ["linear", "other", "relu", "other", "linear"]),
        (Tied, (6,), ["linear", "other", "relu", "other", "linear"]),
        (ReadsWeight, (6,), ["other", "linear"]),
        (Sequence, (3, 6), ["other", "other", "linear"]),
        (Dropping, (6,), ["linear", "other", "linear"]),
    ],
)
def test_chain_is_cut_where_it_is_one(make, shape, expected):
    assert kinds(make(), *shape) == expected


def test_hooks_and_excluded_layers_are_left_to_autograd():
    module = Functions()
    module.first.register_forward_hook(lambda part, given, outputs: outputs * 2)
    assert kinds(module, 6) == ["flatten", "other", "relu", "linear"]
    module = Functions()
    module.register_forward_hook(lambda part, given, outputs: outputs * 2)
    assert kinds(module, 6) == ["other"]
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Linear(5, 2))
    assert kinds(module, 6, exclude=["0"]) == ["other", "relu", "linear", "linear"]


def test_convolutions_that_are_not_plain_are_left_to_autograd():
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 2, 2), nn.Flatten(), nn.Linear(50, 2),
    )  # fmt: skip
    assert kinds(module, 2, 6, 6) == ["convolution", "other", "flatten", "linear"]


@pytest.mark.parametrize("make", [Branching, Shared, Tied, ReadsWeight, Dropping])
def test_networks_of_every_kind_learn_alike_with_every_engine(make):
    inputs, labels = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double(), torch.arange(20) % 2
    task = Task(train=(inputs, labels), test=(inputs, labels))
    outputs = []
    for engine in ("module", "dense", "sparse", "auto"):
        agent = Agent(
            lambda: make().double(),
            head="head",
            capacity=Capacity(free_at_end=0.4, days=2),
            training=Training(batch_size=7, engine=engine, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)),
        )
        for _ in range(2):
            agent.wake(task, Steps(5))
            agent.sleep(ExplicitCycles([1, 2]), Steps(6))
        outputs.append(agent.predict(inputs, 1))
    for other in outputs[1:]:
        assert torch.allclose(outputs[0], other, rtol=0, atol=1e-10)


def test_optimizers_that_look_across_weights_run_the_network_itself():
    class Clipping(torch.optim.SGD):
        def step(self, closure=None):
            torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
            return super().step(closure)

    shapes = []

    def make(parameters):
        shapes.append([tuple(p.shape) for p in parameters])
        optimizer = Clipping(parameters, lr=0.1)
        optimizers.append(optimizer)
        return optimizer

    optimizers = []
    inputs, labels = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    agent = Agent(Functions, capacity=Capacity(free_at_end=0.4, days=1), training=Training(optimizer=make))
    agent.wake(Task(train=(inputs, labels), test=(inputs, labels)), Steps(2))
    assert [tuple(p.shape) for p in optimizers[-1].param_groups[0]["params"]] == shapes[-1]


def test_cost_model_by_hand():
    # 100 weights, batch 10, no gradient by inputs: 100 * 10 * (2 + 4) and the overhead, against 2 products.
    size = int((6_000 + sparse.OVERHEAD) / (2 * 10)) + 1
    assert sparse.sparse_is_faster(100, (1, size), 10, needs_inputs=False)
    assert not sparse.sparse_is_faster(100, (1, size - 2), 10, needs_inputs=False)
    assert sparse.sparse_is_faster(1_000, (1024, 8192), 32, needs_inputs=True)
    assert not sparse.sparse_is_faster(1024 * 8192, (1024, 8192), 32, needs_inputs=True)
    assert not sparse.can_be_sparse(torch.zeros(1, dtype=torch.bfloat16))
