"""The invariants of the design, on random small networks, streams, optimizers and memory formats."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daynight import Agent, Capacity, ExplicitCycles, Steps, Task, Training
from daynight.networks import prediction
from daynight.networks.masked import FREE

OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": functools.partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def dense(width, norm):
    norms = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(32, width), *norms, nn.ReLU(), nn.Linear(width, 6), nn.ReLU(),
                         nn.Dropout(0.2), nn.Linear(6, 2))  # fmt: skip


def convolutional(width, norm):
    norms = [nn.BatchNorm2d(2 * width)] if norm else []
    return nn.Sequential(nn.Conv2d(2, 2 * width, 3, padding=1), *norms, nn.ReLU(),
                         nn.Conv2d(2 * width, 4, 2, groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, bias=False),
                         nn.Flatten(), nn.Linear(48, 2))  # fmt: skip


class ChannelsLast(nn.Module):
    """Runs a network in channels-last memory, weights and inputs alike."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner.to(memory_format=torch.channels_last)

    def forward(self, inputs):
        return self.inner(inputs.to(memory_format=torch.channels_last))


def make_task(generator, n):
    inputs = torch.randn(n, 2, 4, 4, generator=generator)
    labels = torch.arange(n) % 2
    inputs[labels == 1] += torch.randn(2, 4, 4, generator=generator)
    return Task(train=(inputs, labels), test=(inputs[:5], labels[:5]), n_outputs=2)


def state(agent, task):
    """Give a copy of all that a finished task uses, and its predictions."""
    network = agent.network
    tensors = {name: network.visible(name, task).clone() for name in network.weights}
    with network.viewing(task):
        tensors |= {f"head {name}": value.clone() for name, value in network.heads.kept[task].state_dict().items()}
        tensors |= {f"private {name}": value.clone() for name, value in network.private_of(task).items()}
    shared = network.anatomy.biases if network.biases == "freeze-after-first" else ()
    parameters = dict(network.module.named_parameters())
    return tensors | {f"shared {name}": parameters[name].detach().clone() for name in shared}


@settings(max_examples=120)
@given(
    kind=st.sampled_from([dense, convolutional]),
    width=st.integers(2, 7),
    norm=st.booleans(),
    channels_last=st.booleans(),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    carry=st.booleans(),
    engine=st.sampled_from(["auto", "dense", "sparse", "module"]),
    biases=st.sampled_from(["freeze-after-first", "per-task"]),
    restart=st.sampled_from(["zero", "redraw", "keep"]),
    ranking=st.sampled_from(["layer", "global"]),
    days=st.integers(2, 4),
    p=st.floats(0.3, 0.9),
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    seed=st.integers(0, 1000),
)
def test_nothing_frozen_moves_and_counts_are_exact(
    kind, width, norm, channels_last, optimizer, carry, engine, biases, restart, ranking, days, p, lengths, seed
):
    capacity = Capacity(free_at_end=p, days=days, ranking=ranking, min_per_layer=1)
    agent = Agent(
        lambda: ChannelsLast(kind(width, norm)) if channels_last and kind is convolutional else kind(width, norm),
        capacity=capacity,
        training=Training(batch_size=6, optimizer=OPTIMIZERS[optimizer], carry_optimizer=carry, engine=engine),
        biases=biases,
        restart=restart,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    probe = torch.randn(7, 2, 4, 4, generator=generator)
    if channels_last:
        probe = probe.to(memory_format=torch.channels_last)
    sizes = tuple(agent.network.sizes.values())
    kept = []
    for day in range(days):
        agent.wake(make_task(generator, 14), Steps(4))
        agent.sleep(ExplicitCycles(lengths), Steps(5))
        kept.append((state(agent, day), agent.predict(probe, day)))
        # Invariant 2: counts are what the totals say, to the weight.
        owned = [agent.network.count(task) for task in range(day + 1)]
        per_layer = tuple(sum(counts[name] for counts in owned) for name in agent.network.sizes)
        totals = per_layer if ranking == "layer" else (sum(per_layer),)
        assert totals == capacity.owned_after(sizes, day + 1)
        # Invariant 3: what is pruned is exactly zero.
        for name, weight in agent.network.weights.items():
            assert not weight[agent.network.owners[name] == FREE].any()
        # Invariant 1: nothing that a finished task uses has moved, and neither have its predictions.
        for task, (before, predictions) in enumerate(kept):
            after = state(agent, task)
            assert all(torch.equal(after[name], value) for name, value in before.items())
            assert torch.equal(agent.predict(probe, task), predictions)
    assert agent.n_steps == days * 9


def test_wrong_optimizer_alone_would_move_frozen_weights():
    # The property above is worth something only if these optimizers do move weights that have no gradient.
    for make in OPTIMIZERS.values():
        weight = nn.Parameter(torch.ones(3))
        optimizer = make([weight])
        weight.grad = torch.zeros(3)
        optimizer.step()
        assert not torch.equal(weight, torch.ones(3))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 12, batch_first=True), nn.Linear(12, 2)

    def forward(self, inputs):
        return self.head(self.lstm(inputs.flatten(1, 2))[0][:, -1])


class Words(nn.Module):
    """Reads whole numbers, and has another layer than those that are known."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.layer = nn.Embedding(5, 24), nn.LayerNorm(24), nn.Linear(24, 30)
        self.head = nn.Linear(30, 2)

    def forward(self, inputs):
        return self.head(torch.relu(self.layer(self.norm(self.embedding(inputs.flatten(1)).mean(1)))))


class Squeezing(nn.Module):
    """Loses the first dimension of a batch of one."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(32, 12), nn.Linear(12, 2)

    def forward(self, inputs):
        return self.head(torch.relu(self.layer(inputs.flatten(1))).squeeze())


BODIES = {
    "linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(32, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2)
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(32, 2)
    ),
    "lstm": Recurrent,
    "words": Words,
    "no batch of one": Squeezing,
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_predictions_do_not_depend_on_the_size_of_the_batch(kind):
    generator = torch.Generator().manual_seed(0)
    agent = Agent(BODIES[kind], capacity=Capacity(free_at_end=0.5, days=2))
    inputs = torch.randn(600, 2, 4, 4, generator=generator)
    task = make_task(generator, 14)
    if kind == "words":
        inputs = torch.randint(5, (600, 2, 4, 4), generator=generator)
        task = Task(train=(inputs[:14], task.train.targets), test=(inputs[14:19], task.test.targets), n_outputs=2)
    for _ in range(2):
        agent.wake(task, Steps(2))
        agent.sleep(ExplicitCycles([1]), Steps(2))
    for index in range(2):
        whole = agent.predict(inputs, index)
        for n in (0, 1, 1, 1, 2, 3, 4, 5, 16, 33, 100, 256, 300, 1):
            assert torch.equal(agent.predict(inputs[:n], index), whole[:n])
            assert torch.equal(agent.predict(inputs[300 : 300 + n], index), whole[300 : 300 + n])


def test_sizes_with_other_bits_are_not_used():
    # Rows have other bits in batches of less than four, as in some kernels for matrices, or of less than 256.
    for least in (4, 256):
        sizes = []

        def run(rows, least=least, sizes=sizes):
            sizes.append(len(rows))
            return rows.sum(1, keepdim=True) * (1 + (len(rows) < least) * 2**-23)

        compared, inputs = prediction.Sizes(), torch.rand(3, 5)
        used = [compared.least(run, inputs[:n]) for n in (1, 1, 3, 2, 1)]
        assert used == [256, *[least] * 4]
        assert sizes[:2] == [256, 1]
    alike = prediction.Sizes()
    assert [alike.least(lambda rows: rows, torch.zeros(1, 2, dtype=torch.int64)) for _ in range(3)] == [256] * 3


def test_hooks_hear_of_no_random_inputs():
    agent, heard = Agent(BODIES["linear"], capacity=Capacity(free_at_end=0.5, days=1)), []
    agent.wake(make_task(torch.Generator().manual_seed(0), 14), Steps(2))
    agent.sleep(ExplicitCycles([1]), Steps(2))
    agent.network.module[0].register_forward_hook(lambda part, inputs, outputs: heard.append(inputs[0]))
    inputs = torch.ones(3, 2, 4, 4)
    for _ in range(4):
        agent.predict(inputs, 0)
    assert len(heard) == 4
    assert all(bool((given == 1).all()) for given in heard)


def test_output_never_depends_on_weights_of_later_tasks_or_free_ones():
    generator = torch.Generator().manual_seed(0)
    agent = Agent(lambda: dense(5, False), capacity=Capacity(free_at_end=0.5, days=3))
    for _ in range(2):
        agent.wake(make_task(generator, 14), Steps(2))
        agent.sleep(ExplicitCycles([1]), Steps(2))
    probe = torch.randn(7, 2, 4, 4, generator=generator)
    before = agent.predict(probe, 0)
    with torch.no_grad():
        for name, weight in agent.network.weights.items():
            weight[agent.network.owners[name] != 0] = torch.nan
    assert torch.equal(agent.predict(probe, 0), before)
    assert agent.predict(probe, 1).isnan().all()
