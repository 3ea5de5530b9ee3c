"""Convolutions from the list of their visible weights: equal to PyTorch's own, alone, in chains and within networks."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, OneShot, Steps, Task, Training, models
from daynight.networks import tracing
from daynight.networks.masked import MaskedNetwork
from daynight.training.engines import sparse_convolution as convolutions
from daynight.training.engines.arena import Arena
from daynight.training.engines.engine import Engine
from daynight.training.engines.sparse_convolution import Inner, SparseConvolution
from daynight.training.optimizer import Optimization

SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)


def made(layer, visible, inputs=None, outputs=None):
    stage = SparseConvolution(layer, inputs, outputs, visible, visible)
    Arena(stage.slots())
    stage.bind()
    return stage


@st.composite
def geometries(draw):
    kernel, dilation = (draw(st.tuples(st.integers(1, 4), st.integers(1, 3))) for _ in range(2))
    strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
    padding = draw(st.one_of(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.sampled_from(["same", "valid"])))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = draw(st.integers(1, 3)) * groups, draw(st.integers(1, 3)) * groups
    layer = nn.Conv2d(
        *channels, kernel, (1, 1) if padding == "same" else draw(strides), padding, dilation, groups,
        bias=draw(st.booleans()), dtype=torch.float64,
    )  # fmt: skip
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(draw(st.integers(1, 6)) + (0 if padding == "same" else n) for n in reach)
    return layer, size


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=150)
@given(
    geometry=geometries(), density=st.sampled_from([0.0, 0.05, 0.3, 1.0]), batch=st.integers(1, 4),
    is_turned=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_all_gradients_are_those_of_pytorch(geometry, density, batch, is_turned, seed):
    layer, size = geometry
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(layer.weight.shape, generator=generator) < density
    with torch.no_grad():
        layer.weight.mul_(visible)
    images = torch.randn(batch, layer.in_channels, *size, generator=generator, dtype=torch.float64).requires_grad_()
    expected = layer(images)
    by_outputs = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(expected, [images, *layer.parameters()], by_outputs)
    stage = made(layer, visible)
    given = convolutions.turn(images.detach()).permute(3, 0, 1, 2) if is_turned else images.detach()
    outputs = stage.forward(given)
    assert outputs.shape == expected.shape
    found = [stage.backward(by_outputs, needs_inputs=True), *(slot.gradient for slot in stage.slots())]
    listed = [gradients[0], gradients[1][visible], *gradients[2:]]
    for one, other in zip([outputs, *found], [expected, *listed], strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)
    stage.forward(given)
    assert stage.backward(by_outputs, needs_inputs=False) is None


def test_channels_that_are_left_out_and_images_of_other_sizes():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 5, 3, padding=1, dtype=torch.float64)
    visible = torch.rand(layer.weight.shape) < 0.5
    with torch.no_grad():
        layer.weight.mul_(visible)
    inputs, outputs = torch.tensor([0, 3]), torch.tensor([1, 2, 4])
    stage = made(layer, visible, inputs, outputs)
    for n, size in ((3, (5, 6)), (2, (5, 6)), (2, (3, 4)), (3, (5, 6))):
        images = torch.zeros(n, 4, *size, dtype=torch.float64)
        images[:, inputs] = torch.randn(n, 2, *size, dtype=torch.float64)
        assert torch.allclose(stage.forward(images[:, inputs]), layer(images)[:, outputs], rtol=0, atol=1e-12)


class Separable(nn.Module):
    """Depthwise and pointwise convolutions around an addition, and an excitation: all that mobilenets have."""

    def __init__(self, width=8):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.deep, self.squeeze = nn.Conv2d(width, width, 5, padding=2, groups=width), nn.Conv2d(width, 3, 1)
        self.excite, self.head = nn.Conv2d(3, width, 1), nn.Linear(width, 2)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images):
        hidden = self.activation(self.norm(self.first(images)))
        scale = self.activation(self.squeeze(functional.adaptive_avg_pool2d(hidden, 1)))
        hidden = hidden + self.deep(hidden) * torch.sigmoid(self.excite(scale))
        return self.head(hidden.mean((2, 3)))


def plain(width=8):
    return nn.Sequential(
        nn.Conv2d(2, width, 3, padding="same"), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(width, 6, 3, 2, 2, 2),
        nn.ELU(inplace=True), nn.AvgPool2d(2, 1), nn.Conv2d(6, 5, (1, 2), bias=False), nn.ReLU(),
        nn.AdaptiveMaxPool2d(2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(20, 2),
    )  # fmt: skip


def data(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 7, 7, generator=generator, dtype=torch.float64), torch.arange(n) % 2


def lived(engine, make, keep=0.1, loss=functional.cross_entropy, after_dusk=lambda agent: None):
    """Let an agent live two days in double precision, and return it."""
    torch.manual_seed(0)
    agent = Agent(
        make().double(), capacity=Capacity(keep_per_night=keep),
        training=Training(batch_size=6, optimizer=SGD, engine=engine, loss=loss),
    )  # fmt: skip
    for day in range(2):
        inputs, labels = data(seed=day)
        agent.wake(Task(train=(inputs, labels), test=(inputs, labels)), Steps(5))
        after_dusk(agent)
        agent.sleep(OneShot(), Steps(6))
    return agent


def assert_alike(one, other):
    assert all(torch.equal(owners, other.network.owners[name]) for name, owners in one.network.owners.items())
    expected = other.network.module.state_dict()
    for name, value in one.network.module.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=0, atol=1e-8), name


@pytest.fixture
def listed(monkeypatch):
    """For each engine that is made, its name and the number of convolutions that it lists."""
    found, make_engine, make_stage = [], Engine.__init__, SparseConvolution.__init__

    def of_engine(self, parts, network, name, *rest, **named):
        found.append([name, 0])
        make_engine(self, parts, network, name, *rest, **named)

    def of_stage(self, *given):
        if found:
            found[-1][1] += 1
        make_stage(self, *given)

    monkeypatch.setattr(Engine, "__init__", of_engine)
    monkeypatch.setattr(SparseConvolution, "__init__", of_stage)
    return found


@pytest.mark.parametrize(("make", "n"), [(plain, 3), (Separable, 4)])
@pytest.mark.parametrize("engine", ["sparse", "auto"])
def test_nights_are_those_of_the_network_itself(engine, make, n, listed):
    assert_alike(lived(engine, make), lived("module", make))
    assert [engine, n] in listed


def test_days_are_dense_and_nights_are_sparse_by_shapes_and_density_alone(listed):
    lived("auto", plain, keep=0.05)
    assert [n for name, n in listed if name == "auto"] == [0, 3, 0, 3]
    layer = nn.Conv2d(128, 128, 3, padding=1)
    chosen = {}
    for density in (0.9, 0.2, 0.1, 0.01):
        visible = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < density
        counts = convolutions.counts_of(layer, visible, (128, 128), (16, 16), 32)
        assert counts.dense == 128 * 128 * 9 * 16 * 16 * 32
        chosen[density] = convolutions.are_few(visible), counts.sparse_is_faster(needs_inputs=True, turns=True)
    assert chosen == {0.9: (False, False), 0.2: (False, False), 0.1: (True, True), 0.01: (True, True)}


def test_counts_leave_out_what_reads_beyond_the_image():
    layer = nn.Conv2d(2, 3, 3, padding=1)
    visible = torch.zeros(3, 2, 3, 3, dtype=torch.bool)
    visible[0, 0, 1, 1] = visible[1, 1, 0, 1] = visible[2, 0, 1, 2] = True
    counts = convolutions.counts_of(layer, visible, (2, 3), (1, 1), 5)
    assert (counts.rows, counts.products, counts.numbers) == (1, 5, 25)
    counts = convolutions.counts_of(layer, visible, (2, 3), (2, 2), 5)
    assert (counts.rows, counts.products, counts.numbers) == (2 + 1 + 2, 5 * 10, 5 * 20)


class Unused(Separable):
    """Detaches what one of its convolutions computes."""

    def forward(self, images):
        hidden = self.activation(self.norm(self.first(images)))
        return self.head((hidden + self.deep(hidden).detach()).mean((2, 3)))


@pytest.mark.parametrize("engine", ["sparse", "auto"])
def test_layers_without_a_gradient_do_not_decay(engine):
    one, other = lived(engine, Unused), lived("module", Unused)
    assert_alike(one, other)


def test_a_loss_that_reads_the_weights_is_minimized_with_them():
    def make(engine):
        holder = []

        def loss(outputs, targets):
            penalty = holder[0].network.module.deep.weight.square().sum() if holder else 0
            return functional.cross_entropy(outputs, targets) + penalty

        return lived(engine, Separable, loss=loss, after_dusk=lambda agent: holder or holder.append(agent))

    assert_alike(make("auto"), make("module"))


def test_hooks_that_come_later_are_called():
    calls = []

    def hook(agent):
        if not calls:
            agent.network.module.deep.register_forward_hook(lambda *given: calls.append(1))

    lived("auto", Separable, after_dusk=hook)
    assert len(calls) >= 6


def cut(module, *shape, dtype=torch.float32):
    network = MaskedNetwork(module.to(dtype))
    network.begin_day(2)
    return tracing.cut(network, torch.randn(3, *shape, dtype=dtype))


def sizes(parts):
    return {name: size for part in parts for name, size in part.sizes.items()}


def test_sizes_of_the_inputs_of_convolutions_are_known():
    assert sizes(cut(plain(), 2, 7, 7)) == {"0": (7, 7), "3": (7, 7), "6": (3, 3)}
    expected = {"first": (7, 7), "deep": (4, 4), "squeeze": (1, 1), "excite": (1, 1)}
    assert sizes(cut(Separable(), 2, 7, 7)) == expected
    hooked = Separable()
    hooked.deep.register_forward_hook(lambda *given: None)
    assert sizes(cut(hooked, 2, 7, 7)) == {name: size for name, size in expected.items() if name != "deep"}
    last = Separable().to(memory_format=torch.channels_last)
    assert not convolutions.can_be_sparse(last.first)
    assert sizes(cut(last, 2, 7, 7))["deep"] == ()


class Twice(nn.Module):
    """Calls a convolution twice, and reads the weights of another."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, images):
        hidden = self.again(functional.relu(self.again(self.first(images) + self.first.weight.sum())))
        return self.head(hidden.mean((2, 3)))


def test_convolutions_that_are_used_twice_stay_dense():
    assert sizes(cut(Twice(), 2, 7, 7)) == {}
    assert_alike(lived("sparse", Twice), lived("module", Twice))


def test_runs_of_older_files_stay_dense(listed, monkeypatch):
    torch.manual_seed(0)
    network = MaskedNetwork(plain().double())
    network.begin_day(2)
    network.release({name: torch.rand(weight.shape) < 0.05 for name, weight in network.weights.items()})
    inputs, labels = data()
    parts = tracing.cut(network, inputs)

    def make():
        return Optimization(network, Training(optimizer=SGD), functional.cross_entropy, 9, parts)

    with monkeypatch.context() as older:
        older.setattr(convolutions, "can_be_sparse", lambda layer: False)
        made = make()
    made.step(inputs, labels)
    made.flush()
    state = made.state()
    assert state.pop("lists")
    resumed = make()
    resumed.restore(state)
    resumed.step(inputs, labels)
    assert not resumed.state()["lists"]
    assert [n for _, n in listed] == [0, 3, 0]


def test_a_night_of_the_papers_network_repeats_to_the_bit(listed):
    images, labels = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2

    def outputs():
        agent = Agent(
            lambda: models.ConvNet(side=8), capacity=Capacity(keep_per_night=0.01), training=Training(batch_size=8)
        )
        agent.wake(Task(train=(images, labels), test=(images, labels)), Steps(3))
        agent.sleep(OneShot(), Steps(4))
        return agent.network.visible("features.2", 0)

    assert torch.equal(outputs(), outputs())
    assert ["auto", 4] in listed


def test_a_module_in_the_place_of_a_layer_returns_what_may_be_changed_in_place():
    layer = nn.Conv2d(3, 4, 1)
    inner = Inner(made(layer, torch.ones_like(layer.weight, dtype=torch.bool)))
    images = torch.randn(1, 3, 1, 1)
    outputs = inner(images)
    assert outputs.is_contiguous()
    functional.relu_(outputs).sum().backward()
    assert images.grad is None
