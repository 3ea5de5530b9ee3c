"""Networks that write to their own weights, or keep values computed from them."""

import functools

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Epochs, OneShot, Steps, Task, Training
from daynight.errors import NetworkError

EXAMPLES = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))


def task(seed, inputs=EXAMPLES):
    labels = (inputs.sum(1) + inputs[:, seed] > inputs.sum(1).double().median()).long()
    return Task(train=(inputs[:32], labels[:32]), test=(inputs[32:], labels[32:]), n_outputs=2, name=f"task {seed}")


class Own(nn.Module):
    """A linear layer of one's own, which does something to its weight, and a head."""

    def __init__(self, act=lambda layer: None):
        super().__init__()
        self.layer, self.head, self.act = nn.Linear(6, 8), nn.Linear(8, 2), act

    def forward(self, inputs):
        self.act(self.layer)
        return self.head(torch.relu(self.layer(inputs)))


def standardise(layer):
    with torch.no_grad():
        layer.weight.copy_((layer.weight - layer.weight.mean()) / layer.weight.std())


def clamp(layer):
    layer.weight.data.clamp_(-1, 1)  # only weights of 1 and more are written


def clamp_in_training(layer):
    if layer.training:
        layer.weight.data.clamp_(max=1)


def normalise_in_evaluation(layer):
    if not layer.training:
        layer.weight.data.div_(layer.weight.norm())


def replace(layer):
    layer.weight = nn.Parameter(layer.weight.detach() * 0.5)


class Merged(Own):
    """Adds a matrix to its weight in evaluation mode, and takes it away in training mode, as LoRA's layers do."""

    def __init__(self):
        super().__init__()
        self.more, self.is_merged = nn.Parameter(torch.ones(8, 6)), False

    def train(self, mode=True):
        super().train(mode)
        if self.is_merged == mode:
            self.layer.weight.data += -self.more if mode else self.more
            self.is_merged = not mode
        return self


ACTS = (standardise, clamp, clamp_in_training, normalise_in_evaluation, replace)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_networks_that_write_to_their_weights_are_refused_before_training(act):
    agent = Agent(lambda: Own(act), capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=8))
    before = agent.network.module.layer.weight.detach().clone()
    with pytest.raises(NetworkError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        "the network itself writes to layer.weight (when it runs), which would change finished tasks. Let forward "
        "compute with a changed copy, such as self.weight.clamp(-1, 1), and not store it; or give each task its own "
        "copy with private=['layer.weight']."
    )
    assert torch.equal(agent.network.module.layer.weight, before)


def test_weights_that_are_merged_in_evaluation_mode_are_refused():
    agent = Agent(Merged, capacity=Capacity(free_at_end=0.5, days=2), private=["more"])
    with pytest.raises(NetworkError, match=r"writes to layer\.weight \(when it changes its mode\)"):
        agent.check(task(0))


def test_excluded_and_shared_biases_that_are_written_are_refused_too():
    def write(layer):
        layer.bias.data.clamp_(-1, 1)

    body = functools.partial(Own, write)
    for settings in ({"exclude": ["layer.bias"]}, {"biases": "freeze-after-first"}):
        agent = Agent(body, capacity=Capacity(free_at_end=0.5, days=2), **settings)
        with pytest.raises(NetworkError, match=r"writes to layer\.bias \(when it runs\)"):
            agent.check(task(0))


class Deep(nn.Module):
    """Two layers; the first may do something to its weight."""

    def __init__(self, act):
        super().__init__()
        self.first, self.second, self.head, self.act = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2), act

    def forward(self, inputs):
        self.act(self.first)
        return self.head(torch.relu(self.second(torch.relu(self.first(inputs)))))


class Reader(nn.Module):
    def __init__(self, layer=nn.Embedding, **settings):
        super().__init__()
        self.embed = layer(20, 8, **settings)
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, numbers):
        read = self.embed(numbers)
        return self.head(torch.relu(self.body(read if read.dim() == 2 else read.mean(1))))


NUMBERS = torch.randint(0, 20, (48, 6), generator=torch.Generator().manual_seed(0))


def unchanged(agent, tasks, inputs):
    """Live a day for each task, and check after each that all finished tasks predict what they did at dawn."""
    seen = []
    for day, one in enumerate(tasks):
        agent.wake(one, Epochs(3))
        agent.sleep(OneShot(), Epochs(2))
        seen.append(agent.predict(inputs, day))
        for index, before in enumerate(seen):
            assert torch.equal(agent.predict(inputs, index), before)
    agent.verify()
    assert not torch.allclose(seen[0], seen[-1])
    return seen


@pytest.mark.parametrize("act", [standardise, clamp])
def test_private_weights_may_be_written(act, tmp_path):
    agent = Agent(
        lambda: Deep(act), capacity=Capacity(free_at_end=0.3, days=3), private=["first"],
        training=Training(batch_size=8),
    )  # fmt: skip
    seen = unchanged(agent, [task(0), task(1), task(2)], EXAMPLES)
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", lambda: Deep(act), training=agent.training)
    assert all(torch.equal(other.predict(EXAMPLES, index), before) for index, before in enumerate(seen))


@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
def test_private_embeddings_of_a_largest_norm_are_held(layer):
    agent = Agent(
        lambda: Reader(layer, max_norm=0.5), capacity=Capacity(free_at_end=0.3, days=3), private=["embed"],
        training=Training(batch_size=8, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2)),
    )  # fmt: skip
    labels = [(NUMBERS[:, i] > 9).long() for i in range(3)]
    tasks = [Task(train=(NUMBERS[:32], own[:32]), test=(NUMBERS[32:], own[32:]), n_outputs=2) for own in labels]
    unchanged(agent, tasks, NUMBERS)
    assert float(agent.subnetwork(0).embed.weight.detach().norm(dim=1).max()) < 0.6


class Biased(nn.Module):
    """Adds a bias that it keeps, in one of several ways, as modules of timm keep biases of attention."""

    def __init__(self, way):
        super().__init__()
        self.body, self.bias, self.way = nn.Linear(6, 8), nn.Parameter(torch.zeros(8)), way
        self.kept, self.by_device = None, {}
        self.register_buffer("table", None, persistent=False)

    def train(self, mode=True):
        super().train(mode)
        if mode and self.way == "dropped":
            self.by_device = {}
        return self

    @functools.cached_property
    def twice(self):
        return self.bias.detach() * 2

    def forward(self, inputs):
        return torch.relu(self.body(inputs) + self.found())

    def found(self):
        fresh = self.bias * 2
        if self.way == "of training":
            if self.training:
                self.kept = fresh.detach()
            return fresh if self.kept is None else self.kept
        if self.training:
            return fresh
        if self.way in ("dropped", "dict"):
            return self.by_device.setdefault("cpu", fresh.detach())
        if self.way == "buffer":
            self.table = fresh.detach() if self.table is None else self.table
            return self.table
        if self.way == "property":
            return self.twice
        if self.way == "fresh":
            self.kept = fresh
        elif self.kept is None:
            self.kept = fresh.detach()
        return self.kept


class Net(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.body, self.head = Biased(way), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs))


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("way", ["attribute", "dict", "buffer", "property", "of training"])
def test_networks_that_keep_values_of_other_weights_are_refused_before_training(way, is_used):
    network = Net(way)
    if is_used and way != "buffer":  # a buffer that is filled is one of the tensors that each task has
        network.train()(EXAMPLES)
        network.eval()(EXAMPLES)
    agent = Agent(network, capacity=Capacity(free_at_end=0.5, days=2))
    with pytest.raises(NetworkError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        "body (Biased) keeps a value that it has computed from parameters, and does not compute it again when they "
        "change, so that one task would get the values of another. Let it drop the value in train(True), or compute it "
        "in each forward."
    )


@pytest.mark.parametrize("way", ["dropped", "fresh"])
def test_values_that_are_dropped_in_training_mode_are_never_another_tasks(way):
    agent = Agent(lambda: Net(way), capacity=Capacity(free_at_end=0.3, days=3), training=Training(batch_size=8))
    seen = unchanged(agent, [task(0), task(1), task(2)], EXAMPLES)
    for index in (2, 0, 1):
        module = agent.subnetwork(index)
        module.eval()
        fresh = Net(way)
        fresh.load_state_dict(module.state_dict())
        with torch.no_grad():
            assert torch.allclose(module(EXAMPLES), seen[index], atol=1e-6)
            assert torch.allclose(fresh.eval()(EXAMPLES), seen[index], atol=1e-6)
    twin = agent.fork()
    assert all(torch.equal(twin.predict(EXAMPLES, index), seen[index]) for index in (1, 0, 2))


def test_gradients_of_a_criterion_are_of_the_weights_of_the_day():
    from daynight.criteria import gradient_times_weight

    def lived(way):
        agent = Agent(
            lambda: Net(way), capacity=Capacity(free_at_end=0.3, days=2), criterion=gradient_times_weight,
            training=Training(batch_size=8), seed=3,
        )  # fmt: skip
        return unchanged(agent, [task(0), task(1)], EXAMPLES)

    assert all(torch.equal(one, other) for one, other in zip(lived("dropped"), lived("fresh"), strict=True))


class Keeps(nn.Module):
    """Keeps an activation, as people do who look at features."""

    def __init__(self, where="attribute"):
        super().__init__()
        self.body, self.head, self.where = nn.Linear(6, 8), nn.Linear(8, 2), where
        self.held, self.listed = {}, []
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, inputs):
        features = torch.relu(self.body(inputs))
        if self.where == "attribute":
            self.last = features
        elif self.where == "dict":
            self.held["body"] = [features]
        elif self.where == "list":
            self.listed.append(features)
        else:
            self.seen = features.mean(0)
        return self.head(features)


@pytest.mark.parametrize("where", ["attribute", "dict", "list", "buffer"])
def test_networks_that_keep_an_activation_work_as_from_a_factory(where, tmp_path):
    given = Keeps(where)
    given(EXAMPLES)  # has the graph of this pass
    agent = Agent(given, capacity=Capacity(free_at_end=0.3, days=3), training=Training(batch_size=8))
    agent.wake(task(0), Steps(6))
    agent.module = agent.network.module(EXAMPLES)
    twin = agent.fork()
    twin.sleep(OneShot(), Steps(4))
    agent.sleep(OneShot(), Steps(4))
    before = agent.predict(EXAMPLES, 0)
    assert torch.equal(twin.predict(EXAMPLES, 0), before)
    agent.wake(task(1), Steps(6))
    agent.sleep(OneShot(), Steps(4))
    assert torch.equal(agent.predict(EXAMPLES, 0), before)
    with torch.no_grad():
        assert torch.allclose(agent.subnetwork(0)(EXAMPLES), before, atol=1e-6)
        assert torch.allclose(agent.subnetwork(0, compact=True)(EXAMPLES), before, atol=1e-6)
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", lambda: Keeps(where), training=agent.training)
    assert torch.equal(other.predict(EXAMPLES, 0), before)


def test_a_trace_leaves_nothing_behind_in_the_network():
    agent = Agent(lambda: Keeps("dict"), capacity=Capacity(free_at_end=0.3, days=3), training=Training(batch_size=8))
    agent.wake(task(0), Steps(6))
    kept = agent.network.module.held.get("body", [torch.zeros(1)])
    assert all(isinstance(item, torch.Tensor) for item in kept)


class Encoded(nn.Module):
    """A transformer that leaves out padding: in evaluation mode, its layers compute with nested tensors."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.head = nn.Linear(8, 2)

    def forward(self, numbers):
        return self.head(self.body(self.embed(numbers), src_key_padding_mask=numbers == 0)[:, 0])


class Passing(nn.Module):
    """Passes a tensor of some kind from one part to the next."""

    def __init__(self, give, take):
        super().__init__()
        self.give, self.take = Function(nn.Linear(6, 8), give), take
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.take(self.give(inputs)))


class Function(nn.Module):
    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, inputs):
        return self.function(self.layer(inputs))


def quantized(values):
    return values if values.requires_grad else torch.quantize_per_tensor(values, 0.01, 0, torch.qint32)


KINDS = {
    "ragged": (lambda x: torch.nested.nested_tensor([*x], layout=torch.jagged), lambda x: torch.stack(x.unbind())),
    "sparse": (lambda x: x.relu().to_sparse(), lambda x: x.to_dense()),
    "compressed": (lambda x: x.relu().to_sparse_csr(), lambda x: x.to_dense()),
    "complex": (lambda x: torch.complex(x, x).conj(), lambda x: x.abs()),
    "quantized": (quantized, lambda x: x.dequantize() if x.is_quantized else x),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse")
def test_transformers_that_leave_out_padding_are_tried_and_kept(tmp_path):
    numbers = NUMBERS.clone()
    numbers[::2, 4:] = 0
    labels = [(numbers[:, i] > 9).long() for i in range(2)]
    agent = Agent(Encoded, capacity=Capacity(free_at_end=0.3, days=3), training=Training(batch_size=8))
    tasks = [Task(train=(numbers[:32], own[:32]), test=(numbers[32:], own[32:]), n_outputs=2) for own in labels]
    seen = unchanged(agent, tasks, numbers)
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", Encoded, training=agent.training)
    assert torch.equal(other.predict(numbers, 0), seen[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse")
def test_parts_may_pass_tensors_of_any_kind(kind):
    give, take = KINDS[kind]
    agent = Agent(
        lambda: Passing(give, take), capacity=Capacity(free_at_end=0.3, days=2), training=Training(batch_size=8)
    )
    agent.check(task(0))
    unchanged(agent, [task(0), task(1)], EXAMPLES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse")
def test_values_that_are_kept_are_found_in_tensors_of_any_kind(kind):
    give, take = KINDS[kind]

    class Keeping(Function):
        kept = None

        def forward(self, inputs):
            if self.training:
                return super().forward(inputs)
            self.kept = self.layer.weight.detach() if self.kept is None else self.kept
            return self.function(inputs @ self.kept.T)

    network = Passing(give, take)
    network.give = Keeping(nn.Linear(6, 8), give)
    agent = Agent(network, capacity=Capacity(free_at_end=0.3, days=2))
    with pytest.raises(NetworkError, match=r"^give \(Keeping\) keeps a value"):
        agent.check(task(0))
