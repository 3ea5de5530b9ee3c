"""Every engine computes the same: the same survivors, the same weights, the same gradients."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, ExplicitCycles, Steps, Task, Training, models
from daynight.networks import tracing
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.testing import toy_stream
from daynight.training.engines.engine import Engine, loss_and_gradient

ENGINES = ("dense", "sparse", "auto")
OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "decayed sgd": functools.partial(torch.optim.SGD, lr=0.05, weight_decay=0.1),
    "adam": functools.partial(torch.optim.Adam, lr=0.01, eps=1e-3),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, eps=1e-3),
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.001, eps=1e-3),
    "nadam": functools.partial(torch.optim.NAdam, lr=0.01, eps=1e-3, weight_decay=0.01),
}


class Residual(nn.Module):
    """A chain with a knot in it, functions without modules, and an activation that saturates."""

    def __init__(self, width):
        super().__init__()
        self.first, self.knot, self.last = nn.Linear(18, width), nn.Linear(width, width), nn.Linear(width, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, inputs):
        hidden = functional.relu(self.first(inputs.flatten(1)))
        hidden = hidden + torch.tanh(self.knot(hidden))
        return self.head(functional.relu(self.last(hidden)))


def chain(width):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(18, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 9, bias=False), nn.ReLU(),
        nn.Linear(9, 7), nn.Tanh(), nn.Dropout(0.2), nn.Linear(7, 2),
    )  # fmt: skip


def convolutional(width):
    return nn.Sequential(
        nn.Conv2d(2, width, 2, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, 6, 2), nn.ELU(inplace=True),
        nn.MaxPool2d(2, 1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip


def normed(width):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(18, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 6), nn.Linear(6, 2)
    )


class Block(nn.Module):
    """A residual block of convolutions with batch norm, as in residual networks."""

    def __init__(self, width):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, width, 2, bias=False), nn.BatchNorm2d(width)
        self.second, self.again = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(width, 2)

    def forward(self, inputs):
        hidden = functional.relu(self.norm(self.first(inputs)))
        hidden = functional.relu(hidden + self.again(self.second(hidden)))
        return self.head(self.pool(hidden).flatten(1))


def strided(width):
    kernel, stride, dilation = 1 + width % 3, 1 + width % 2, 1 + width // 4 % 2
    return nn.Sequential(
        nn.Conv2d(2, width, kernel, stride, 2, dilation), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(width, 5, (1, 2), 1, (0, 1)), nn.AvgPool2d(2, 1, 1), nn.Conv2d(5, 6, 3, padding="same", bias=False),
        nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 2),
    )  # fmt: skip


class Separable(nn.Module):
    """A residual block of a convolution with groups and one of a single place, as in mobilenets."""

    def __init__(self, width):
        super().__init__()
        width = 2 * width
        self.first, self.norm = nn.Conv2d(2, width, 3, 2, 2, bias=False), nn.BatchNorm2d(width)
        self.deep, self.across = nn.Conv2d(width, width, 3, padding=1, groups=width // 2), nn.Conv2d(width, width, 1)
        self.activation, self.head = nn.Hardswish(inplace=True), nn.Linear(width, 2)

    def forward(self, inputs):
        hidden = self.activation(self.norm(self.first(inputs)))
        hidden = hidden + self.across(self.activation(self.deep(hidden)))
        return self.head(hidden.mean((2, 3)))


NETWORKS = {
    "chain": chain, "convolutional": convolutional, "strided": strided, "normed": normed, "residual": Residual,
    "block": Block, "separable": Separable,
}  # fmt: skip


def make_task(generator, n=14):
    inputs = torch.randn(n, 2, 3, 3, generator=generator, dtype=torch.float64)
    inputs[:, 0, 0] = 0  # what is zero throughout in training is not in the test data
    labels = torch.arange(n) % 2
    return Task(train=(inputs, labels), test=(inputs + 1, labels), n_outputs=2)


def nights(engine, kind, width, optimizer, carry, biases, p, lengths, ranking, seed):
    """Run three days in double precision, and return the owner maps and all that was learnt."""
    agent = Agent(
        lambda: NETWORKS[kind](width).double(),
        capacity=Capacity(free_at_end=p, days=3, min_per_layer=1, ranking=ranking),
        training=Training(batch_size=6, optimizer=OPTIMIZERS[optimizer], carry_optimizer=carry, engine=engine),
        biases=biases,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(3):
        agent.wake(make_task(generator), Steps(4), lambda event: losses.append(event.loss))
        agent.sleep(ExplicitCycles(lengths), Steps(7), lambda event: losses.append(event.loss))
    network = agent.network
    learnt = {name: network.visible(name, 2) for name in network.weights}
    for task in range(3):
        learnt |= {f"{task} {name}": value for name, value in network.private_of(task).items()}
        learnt |= {f"{task} head {name}": value for name, value in network.heads.kept[task].state_dict().items()}
    return network.owners, learnt


@settings(max_examples=80)
@given(
    engine=st.sampled_from(ENGINES),
    kind=st.sampled_from(sorted(NETWORKS)),
    width=st.integers(4, 12),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    carry=st.booleans(),
    biases=st.sampled_from(["freeze-after-first", "per-task"]),
    p=st.floats(0.2, 0.9),
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    ranking=st.sampled_from(["layer", "global"]),
    seed=st.integers(0, 1000),
)
def test_whole_nights_are_those_of_the_network_itself(
    engine, kind, width, optimizer, carry, biases, p, lengths, ranking, seed
):
    rest = (kind, width, optimizer, carry, biases, p, lengths, ranking, seed)
    owners, learnt = nights("module", *rest)
    other_owners, other_learnt = nights(engine, *rest)
    assert all(torch.equal(other_owners[name], value) for name, value in owners.items())
    for name, value in learnt.items():
        assert torch.allclose(other_learnt[name], value, rtol=0, atol=1e-8), name


def night_of(module, keep, generator, dtype=torch.float32):
    """Return a network during a day, pruned at random to a density, with an earlier task's weights in it."""
    network = MaskedNetwork(module.to(dtype))
    network.begin_day(3)
    for rounds in range(2):
        masks = {name: torch.rand(w.shape, generator=generator) < keep for name, w in network.weights.items()}
        network.release(masks)
        if not rounds:
            network.end_day()
            network.begin_day(3)
            with torch.no_grad():
                for name, held in network.held().items():
                    network.weights[name].add_(held * torch.randn(held.shape, generator=generator))
    return network


def gradients(network, inputs, targets, name, **settings):
    """Return the loss and the gradients of an engine, as full tensors; what it leaves out is zero."""
    parts = tracing.uncut(network) if name == "module" else tracing.cut(network, inputs)
    live = None if name == "module" else torch.nonzero((inputs.flatten(1) != 0).any(0))[:, 0]
    for parameter in network.module.parameters():
        parameter.grad = None
    engine = Engine(parts, network, name, live, len(inputs), **{"narrows": True, **settings})
    from daynight.training.engines.arena import Arena

    slots = engine.slots()
    if slots:
        Arena(slots)
        engine.bind()
    given = inputs if engine.features is None else inputs.flatten(1)[:, engine.features]
    loss = engine.gradients(given, targets, functional.cross_entropy)
    found = {}
    for key, parameter in network.module.named_parameters():
        full = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for slot in slots:
            if slot.parameter is parameter:
                slot.write(full, slot.gradient)
        found[key] = full
    for layer, held in network.held().items():
        found[network.anatomy.masked[layer]] *= held
    return loss, found, engine


@pytest.mark.parametrize("keep", [0.02, 0.2, 0.7])
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: models.MLP(50, 40, 30), (32, 50)), (lambda: models.ConvNet(dropout=0.0), (4, 3, 32, 32))],
)
def test_gradients_agree_in_single_precision(make, shape, name, keep):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = night_of(make(), keep, generator)
    inputs, targets = torch.randn(shape, generator=generator), torch.arange(shape[0]) % 3
    inputs[:, :1] = 0
    expected_loss, expected, _ = gradients(network, inputs, targets, "module")
    loss, found, _ = gradients(network, inputs, targets, name)
    assert torch.allclose(loss, expected_loss, rtol=1e-5)
    for key, value in expected.items():
        assert (found[key] - value).abs().max() <= 1e-5 * value.abs().max(), key


def test_units_that_are_left_out_have_no_effect():
    # Layer 0: four units read six inputs; layer 1 reads unit 2 alone. So only what unit 2 reads has any effect.
    torch.manual_seed(0)
    network = MaskedNetwork(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    network.begin_day(2)
    keep = {"0": torch.ones(4, 6, dtype=torch.bool), "2": torch.zeros(3, 4, dtype=torch.bool)}
    keep["2"][:, 2] = True
    keep["0"][2, 3:] = False
    network.release(keep)
    inputs, targets = torch.rand(8, 6) + 0.1, torch.arange(8) % 2
    for name in ENGINES:
        _, found, engine = gradients(network, inputs, targets, name)
        assert engine.features.tolist() == [0, 1, 2]
        sizes = {len(slot) for slot in engine.slots() if slot.parameter is network.weights["0"]}
        assert sizes == {3}
        _, expected, _ = gradients(network, inputs, targets, "module")
        assert not expected["0.weight"][[0, 1, 3]].any()
        assert not expected["0.bias"][[0, 1, 3]].any()
        assert torch.allclose(found["0.weight"], expected["0.weight"])


def test_a_layer_without_any_visible_weight_passes_its_bias_on():
    torch.manual_seed(0)
    network = MaskedNetwork(models.MLP(5, 4, 3))
    network.begin_day(2)
    network.release({name: torch.zeros_like(w, dtype=torch.bool) for name, w in network.weights.items()})
    inputs, targets = torch.rand(6, 5), torch.arange(6) % 2
    _, expected, _ = gradients(network, inputs, targets, "module")
    for name in ENGINES:
        _, found, _ = gradients(network, inputs, targets, name)
        assert all(torch.allclose(found[key], value, atol=1e-7) for key, value in expected.items())


def test_narrow_convolutions_are_used_where_channels_are_not_read():
    torch.manual_seed(0)
    network = MaskedNetwork(convolutional(5))
    network.begin_day(2)
    keep = {name: torch.ones_like(w, dtype=torch.bool) for name, w in network.weights.items()}
    keep["2"][:, 3] = False  # nothing reads channel 3 of the first convolution
    keep["7"][:, 4:8] = False  # nor channel 1 of the second, which is flattened to features 4 to 7
    network.release(keep)
    inputs, targets = torch.randn(4, 2, 3, 3), torch.arange(4) % 2
    _, _, engine = gradients(network, inputs, targets, "dense")
    shapes = {name: len(s) for name, w in network.weights.items() for s in engine.slots() if s.parameter is w}
    assert shapes == {"0": 4 * 2 * 4, "2": 5 * 4 * 4, "7": 8 * 20}


def test_loss_by_hand_is_that_of_autograd():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    by_hand = loss_and_gradient(functional.cross_entropy, outputs, targets)
    by_autograd = loss_and_gradient(nn.CrossEntropyLoss(), outputs, targets)
    for one, other in zip(by_hand, by_autograd, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-15)


def test_full_runs_in_single_precision_agree_in_accuracy():
    from daynight import Clock, Epochs, UniformCycles
    from daynight.testing import toy_stream

    scores = []
    for engine in ("module", *ENGINES):
        agent = Agent(
            lambda: models.MLP(6, 24, 16),
            capacity=Capacity(free_at_end=0.6, days=4),
            training=Training(batch_size=20, optimizer=functools.partial(torch.optim.Adam, lr=0.01), engine=engine),
        )
        clock = Clock(
            agent, toy_stream(4, n_train=200, n_test=400), policy=UniformCycles(3), wake=Epochs(8), night=Epochs(9)
        )
        scores.append(clock.run().accuracy[-1].mean())
    assert min(scores) > 0.9
    assert max(scores) - min(scores) < 0.01


def test_visible_weights_of_a_night_are_all_that_a_sparse_layer_holds():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = night_of(models.MLP(50, 40, 30), 0.1, generator)
    inputs, targets = torch.randn(8, 50, generator=generator), torch.arange(8) % 3
    _, _, engine = gradients(network, inputs, targets, "sparse", narrows=False)
    layer = network.weights["body.3"]
    (slot,) = [slot for slot in engine.slots() if slot.parameter is layer]
    assert len(slot) == int((network.owners["body.3"] != FREE).sum())


class Asking(nn.Module):
    """Asks for the gradient of its inputs, as some networks for speech do."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)
        self.needs = []

    def forward(self, inputs):
        if self.training:
            self.needs.append(inputs.requires_grad)
            inputs.requires_grad = True
        return self.head(self.body(inputs).relu_())


@pytest.mark.parametrize("engine", ["auto", "module"])
def test_the_first_inputs_need_no_gradient_as_in_a_plain_loop(engine):
    training = Training(batch_size=10, engine=engine)
    agent = Agent(Asking, capacity=Capacity(free_at_end=0.5, days=2), training=training)
    agent.wake(toy_stream(1)[0], Steps(3))
    assert not any(agent.network.module.needs)
