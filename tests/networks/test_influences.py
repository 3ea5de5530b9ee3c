"""Networks and transforms whose outputs depend on more than what each task has for itself, and heads without a use."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, OneShot, Steps, Task, Training
from daynight.errors import NetworkError, SettingError
from daynight.models import MLP, ConvNet
from daynight.networks.sequences import CONVOLUTIONS, POOLS, UNITWISE

EXAMPLES = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
SCALE = [1.0]


def task(seed, inputs=EXAMPLES):
    score = inputs.double().flatten(1)
    score = score.sum(1) + score[:, seed]
    labels = (score > score.median()).long()
    return Task(train=(inputs[:32], labels[:32]), test=(inputs[32:], labels[32:]), n_outputs=2)


def made(network, **settings):
    training = Training(batch_size=8, **settings.pop("training", {}))
    return Agent(network, capacity=Capacity(free_at_end=0.3, days=3), training=training, **settings)


def unchanged(agent, inputs=EXAMPLES):
    """Live two days, and check that the first task predicts what it did, also example by example."""
    agent.check(task(0, inputs))
    agent.wake(task(0, inputs), Steps(5))
    agent.sleep(OneShot(), Steps(4))
    before = agent.predict(inputs, 0)
    assert torch.allclose(agent.predict(inputs[3:4], 0), before[3:4], rtol=1e-2, atol=1e-2)
    agent.wake(task(1, inputs), Steps(5))
    agent.sleep(OneShot(), Steps(4))
    assert torch.equal(agent.predict(inputs, 0), before)


class Acts(nn.Module):
    """Calls functions of its inner module: one that may change it, and one that computes with it."""

    def __init__(self, change=lambda part: None, compute=lambda part, values: values, **attributes):
        super().__init__()
        self.body, self.inner, self.head = nn.Linear(6, 8), nn.Module(), nn.Linear(8, 2)
        self.change, self.compute = change, compute
        vars(self.inner).update(attributes)

    def forward(self, inputs):
        found = torch.tanh(self.body(inputs))
        if self.training:
            self.change(self.inner)
        return self.head(self.compute(self.inner, found))


class Schedule:
    def __init__(self):
        self.factor = 1.0


def anneal(part):
    part.tau *= 0.99


def count(part):
    part.steps += 1


def follow(part):
    part.schedule.factor *= 0.9


def collect(part):
    part.table["scale"] = part.table["scale"] + 1


def end(part):
    part.mode = "trained"


def average(part):
    part.mean = part.mean * 0.9 + 0.1


def fill(part):
    part.held = torch.ones(8)


def empty(part):
    part.held = None


def buffered():
    network = Acts(fill, lambda part, values: values if part.held is None else values + part.held)
    network.inner.register_buffer("held", None)
    return network


CHANGES = {
    "tau": lambda: Acts(anneal, lambda part, values: values / part.tau, tau=5.0),
    "steps": lambda: Acts(count, lambda part, values: values * min(1, part.steps / 100), steps=0),
    "schedule": lambda: Acts(follow, lambda part, values: values * part.schedule.factor, schedule=Schedule()),
    "table": lambda: Acts(collect, lambda part, values: values * part.table["scale"], table={"scale": 1}),
    "mode": lambda: Acts(end, lambda part, values: values if part.mode == "new" else -values, mode="new"),
    "mean": lambda: Acts(average, lambda part, values: values - part.mean, mean=torch.zeros(8)),
    "held": buffered,
}  # fmt: skip


@pytest.mark.parametrize("engine", ["auto", "module"])
@pytest.mark.parametrize("name", CHANGES)
def test_attributes_that_training_changes_and_outputs_depend_on_are_refused(name, engine):
    agent = made(CHANGES[name], training={"engine": engine})
    with pytest.raises(NetworkError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        f"passes in training mode change inner.{name}, on which outputs in evaluation mode depend, so that each day "
        "would change what finished tasks predict. Make it a buffer, which is private to each task: "
        f"self.register_buffer({name!r}, torch.tensor(...)) in the module that has it."
    )


def test_counters_that_count_only_later_are_refused_too():
    agent = made(lambda: Acts(count, lambda part, values: -values if part.steps > 2000 else values, steps=0))
    with pytest.raises(NetworkError, match=r"change inner\.steps, on which outputs"):
        agent.check(task(0))


def test_numbers_outside_of_the_network_are_refused():
    def change(part):
        SCALE[0] *= 0.9

    with pytest.raises(NetworkError, match="change something other than parameters and buffers"):
        made(lambda: Acts(change, lambda part, values: values * SCALE[0])).check(task(0))


def test_buffers_that_become_none_are_refused():
    def network():
        found = Acts(empty)
        found.inner.register_buffer("held", torch.ones(8))
        return found

    with pytest.raises(NetworkError, match=r"sets the buffer inner\.held to None"):
        made(network).check(task(0))


def anneal_buffer(part):
    part.tau.mul_(0.99)


def annealed():
    network = Acts(anneal_buffer, lambda part, values: values / part.tau)
    network.inner.register_buffer("tau", torch.tensor(5.0))
    return network


HARMLESS = {
    "counter": lambda: Acts(count, steps=0),
    "index": lambda: Acts(count, lambda part, values: values + (0.0, 0.0, 0.0, 0.0, 0.0)[min(part.steps, 4)], steps=0),
    "in training only": lambda: Acts(anneal, lambda part, v: v / part.tau if v.requires_grad else v, tau=5.0),
    "schedule": lambda: Acts(follow, schedule=Schedule()), "text": lambda: Acts(end, mode="new"),
    "mean": lambda: Acts(average, mean=torch.zeros(8)), "buffer": annealed,
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_attributes_on_which_no_output_depends_are_accepted(name):
    unchanged(made(HARMLESS[name]))


class Recurs(nn.Module):
    """Keeps the state of its recurrent layer, which is another module."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.state = nn.GRU(2, 8, batch_first=True), nn.Linear(8, 2), None

    def forward(self, inputs):
        outputs, state = self.body(inputs.view(len(inputs), 3, 2), self.state)
        self.state = state.detach()
        return self.head(outputs[:, -1])


def test_the_module_that_keeps_a_value_is_named():
    with pytest.raises(NetworkError, match=r"^the network \(Recurs\) keeps a value"):
        made(Recurs).check(task(0))


class Batch(nn.Module):
    """Applies a function to its features."""

    def __init__(self, function, head=None):
        super().__init__()
        self.body, self.function = nn.Linear(6, 8), function
        self.head = nn.Linear(8, 2)
        if head == "zero":
            nn.init.zeros_(self.body.weight)

    def forward(self, inputs):
        return self.head(self.function(torch.relu(self.body(inputs))))


def crowded(values):
    """Return values of the first examples that one unit may serve, as experts of a limited capacity do."""
    return values * ((values[:, :1] > -1).cumsum(0) < 4)


MIXED = {
    "mean": lambda values: values - values.mean(0),
    "softmax": lambda values: functional.softmax(values, dim=0),
    "normalised": lambda values: functional.batch_norm(values, None, None, training=True),
    "sorted": lambda values: values.sort(0).values,
    "attention": lambda values: functional.scaled_dot_product_attention(*[values[None]] * 3)[0],
    "capacity": crowded,
    "largest": lambda values: values / values.max(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MIXED)
def test_networks_that_mix_examples_are_refused(name, dtype):
    agent = made(lambda: Batch(MIXED[name]).to(dtype))
    with pytest.raises(NetworkError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        "in evaluation mode, the network's outputs for an example depend on the other examples of its batch, and so "
        "would its prediction. Let forward compute with each example alone, such as softmax(dim=1) and not dim=0; or "
        "with statistics that training keeps in a buffer, as batch normalisation does."
    )


def test_networks_that_mix_examples_behind_zeros_are_refused():
    with pytest.raises(NetworkError, match="depend on the other examples"):
        made(lambda: Batch(MIXED["mean"], head="zero")).check(task(0))


TRANSFORMS = {
    "mean": lambda batch: (batch - batch.mean()) / batch.std(),
    "largest": lambda batch: batch / batch.abs().max(),
    "order": lambda batch: batch.flip(0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_that_mix_examples_are_refused(name, dtype):
    agent = made(lambda: MLP(6, 8, 8).to(dtype), training={"transform": TRANSFORMS[name]})
    with pytest.raises(SettingError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        "Training: what transform makes of an example depends on the other examples of its batch, and so would its "
        "prediction. Compute it from the example alone, or with fixed numbers, such as the mean of all training inputs."
    )


RANDOM = {
    "noise": lambda batch: batch + 0.1 * torch.randn_like(batch), "dropout": functional.dropout,
    "order": lambda batch: batch[:, torch.randperm(6)], "counting": functools.partial(lambda kept, b: b + next(kept)),
}  # fmt: skip


@pytest.mark.parametrize("name", ["noise", "dropout", "order", "counting"])
def test_random_transforms_are_refused(name):
    transform = functools.partial(RANDOM[name], iter(range(10**6))) if name == "counting" else RANDOM[name]
    agent = made(lambda: MLP(6, 8, 8), training={"transform": transform})
    with pytest.raises(SettingError) as error:
        agent.check(task(0))
    assert str(error.value) == (
        "Training: transform gives other values for equal inputs, so that no prediction could be kept. Draw random "
        "numbers in augment=, which changes inputs in training only."
    )


SOUND = {
    "none": None, "by example": lambda b: (b - b.mean(1, keepdim=True)) / b.std(1, keepdim=True),
    "fixed": lambda b: (b - 0.3) / 1.7, "in place": lambda b: b.mul_(2),
    "network": nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)).eval().requires_grad_(False),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_transforms_of_single_examples_are_accepted(name):
    unchanged(made(lambda: MLP(6, 8, 8), training={"transform": SOUND[name]}))


def test_transforms_that_cut_padding_off_are_accepted_if_the_network_ignores_it():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, numbers):
            is_read = (numbers > 0)[..., None]
            return self.head(torch.relu(self.body(self.embed(numbers)) * is_read).sum(1))

    def cut(numbers):
        return numbers[:, : int((numbers > 0).sum(1).max())]

    numbers = torch.randint(1, 9, (48, 6), generator=torch.Generator().manual_seed(1))
    numbers *= torch.arange(6) < torch.arange(48)[:, None] % 6 + 1
    unchanged(made(Reads, training={"transform": cut}), numbers)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm = nn.MultiheadAttention(2, 1, batch_first=True), nn.LayerNorm(2)
        self.recur = nn.LSTM(2, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        words = inputs.view(len(inputs), 3, 2)
        return self.head(self.recur(self.norm(words + self.body(words, words, words)[0]))[0][:, -1])


class Experts(nn.Module):
    """Sends each example to one of two layers, so that the number of rows that a layer reads differs."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Linear(6, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 2)

    def forward(self, inputs):
        found = torch.relu(self.body(inputs))
        is_first, outputs = found[:, 0] > found[:, 1], torch.empty_like(found)
        outputs[is_first], outputs[~is_first] = self.one(found[is_first]), self.two(found[~is_first])
        return self.head(torch.relu(outputs))


class Pictures(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 2, padding=1), norm(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.head = nn.Linear(32, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs.view(-1, 1, 2, 3)).flatten(1))


ORDINARY = {
    "mlp": lambda: MLP(6, 8, 8), "attention and lstm": Attends, "experts": Experts,
    "batch norm": lambda: Pictures(nn.BatchNorm2d), "instance norm": lambda: Pictures(nn.InstanceNorm2d),
    "group norm": lambda: Pictures(lambda n: nn.GroupNorm(2, n)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 2)),
    "deep": lambda: nn.Sequential(*[nn.Sequential(nn.Linear(6, 6), nn.GELU()) for _ in range(12)], nn.Linear(6, 2)),
    "transformer": lambda: nn.Sequential(
        nn.Linear(6, 32), nn.Unflatten(1, (4, 8)), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.Flatten(), nn.Linear(32, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_networks_are_accepted_in_all_types(name, dtype):
    made(lambda: ORDINARY[name]().to(dtype)).check(task(0))


def test_ordinary_networks_keep_their_predictions():
    for name in ("experts", "attention and lstm"):
        unchanged(made(ORDINARY[name]))
    pictures = torch.rand(48, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    made(lambda: ConvNet(side=16)).check(task(0, pictures))


class Unused(nn.Module):
    """Has a linear layer behind its outputs' layer, which takes no part, or only in some way."""

    def __init__(self, use="not"):
        super().__init__()
        self.body, self.out, self.old, self.use = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 2), use

    def forward(self, inputs):
        found = torch.relu(self.body(inputs))
        if self.use == "in training" and self.training:
            return self.out(found) + self.old(found)
        if self.use == "for nothing":
            self.old(found)
        if self.use == "detached":
            return self.out(found) + self.old(found).detach()
        if self.use == "no gradients" and not self.training:
            with torch.no_grad():
                return self.old(self.out.weight.sum() + found)
        if self.use == "functional":
            return functional.linear(found, self.old.weight) + self.out(found)
        return self.old(found) if self.use == "no gradients" else self.out(found)


@pytest.mark.parametrize("use", ["not", "in training", "for nothing"])
def test_heads_that_take_no_part_in_the_outputs_are_refused(use):
    with pytest.raises(NetworkError) as error:
        made(lambda: Unused(use)).check(task(0))
    assert str(error.value) == (
        "the head 'old' takes no part in the outputs of the network, and each task needs a head of its own that makes "
        "them. Name that layer with head=. Other linear layers are: ['body', 'out']."
    )
    if use != "in training":
        unchanged(made(lambda: Unused(use), head="out", private=["old"]))


@pytest.mark.parametrize("use", ["functional", "detached", "no gradients"])
def test_heads_that_take_any_part_are_accepted(use):
    made(lambda: Unused(use)).check(task(0))


def test_heads_without_an_effect_at_first_are_accepted():
    def network():
        found = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2, bias=False))
        nn.init.zeros_(found[0].weight)
        nn.init.zeros_(found[0].bias)
        return found

    unchanged(made(network))


def chain(*parts):
    return nn.Sequential(nn.Linear(6, 8), *parts, nn.Linear(8, 2))


def given_a_hook(register):
    network = chain(nn.ReLU())
    getattr(network[1], register)(lambda part, given, *outputs: functional.softmax((*given, *outputs)[-1], dim=0))
    return network


def given_a_forward():
    network = chain(nn.ReLU())
    network[1].forward = lambda values: values - values.mean(0)
    return network


class Transposed(nn.Module):
    def forward(self, values):
        return values.T.reshape(-1, 8)


class Sorts(nn.ReLU):
    def forward(self, values):
        return values.sort(0).values


CHAINS = {
    "hook": lambda: given_a_hook("register_forward_hook"),
    "hook of inputs": lambda: given_a_hook("register_forward_pre_hook"),
    "forward": given_a_forward,
    "subclass": lambda: chain(Sorts()),
    "softmax": lambda: chain(nn.Softmax(dim=0)),
    "transposed": lambda: chain(nn.Flatten(0), nn.Unflatten(0, (8, -1)), Transposed()),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_known_modules_are_tried_if_one_is_not_as_it_was(name):
    with pytest.raises(NetworkError, match="depend on the other examples"):
        made(CHAINS[name]).check(task(0))


def known():
    """Return a chain with each kind of module for which no trial is needed, and the shape of its inputs."""
    yield from ((chain(kind()), (6,)) for kind in (*UNITWISE, nn.ReLU))
    yield chain(nn.Dropout(0.5), nn.Flatten()), (6,)
    for kind in (*CONVOLUTIONS, *POOLS):
        n = int(kind.__name__[-2])
        part = kind(3, 2, 3) if kind in CONVOLUTIONS else kind(2)
        size = CONVOLUTIONS[n - 1](3, 3, 1)(torch.zeros(1, 3, *[4] * n))
        width = part(size).numel()
        yield nn.Sequential(CONVOLUTIONS[n - 1](3, 3, 1), part, nn.Flatten(), nn.Linear(width, 2)), (3, *[4] * n)


@pytest.mark.parametrize(("network", "shape"), [pytest.param(*each, id=type(each[0][1]).__name__) for each in known()])
def test_modules_for_which_no_trial_is_needed_pass_all_trials(network, shape, monkeypatch):
    monkeypatch.setattr("daynight.networks.sequences.is_plain", lambda module, *others: False)
    inputs = torch.randn(48, *shape, generator=torch.Generator().manual_seed(1))
    made(network).check(task(0, inputs))
