import functools
import gc
import io
import multiprocessing
import weakref
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, Epochs, NoSleep, OneShot, Progress, Steps, Task, Training, UniformCycles
from daynight.data.batches import Batches, HeldBatches
from daynight.errors import CapacityError, DataError
from daynight.nights.budgets import Ledger, StepLedger
from daynight.testing import toy_network, toy_stream
from daynight.training.day import Day
from daynight.training.night import Sleep
from daynight.training.optimizer import Optimization
from daynight.training.trainer import Trainer


def make_agent(**settings):
    defaults = {"capacity": Capacity(free_at_end=0.5, days=3), "training": Training(batch_size=10)}
    return Agent(toy_network, **{**defaults, **settings})


def live(agent, task, policy=None, wake=3, night=4):
    events = []
    agent.wake(task, Epochs(wake), events.append)
    agent.sleep(policy or UniformCycles(2), Epochs(night), events.append)
    return events


def test_three_days_learn_and_are_remembered():
    adam = functools.partial(torch.optim.Adam, lr=0.01)
    stream, agent = toy_stream(3), make_agent(training=Training(batch_size=10, optimizer=adam))
    at_dawn = []
    for task in stream:
        live(agent, task, wake=10, night=10)
        at_dawn.append(agent.evaluate(task, agent.day - 1))
    assert [agent.evaluate(task, index) for index, task in enumerate(stream)] == at_dawn
    assert all(score >= 0.9 for _, score in at_dawn)
    assert sum(agent.owned) + agent.n_free == agent.n_weights == 112
    assert agent.n_free == 24 + 32


def test_records_of_a_day_by_hand():
    agent = make_agent()
    events = live(agent, toy_stream(1)[0].hold_out(0.25), UniformCycles(2), wake=2, night=3)
    records = [(e.kind, e.phase, e.cycle, e.step) for e in events if hasattr(e, "kind")]
    # 30 of 40 examples in batches of 10: three steps an epoch; 9 steps of night in two cycles: 5 and 4.
    assert records == [
        ("epoch", "wake", None, 3), ("epoch", "wake", None, 6),
        ("prune", "nrem", 0, 6), ("epoch", "rem", 0, 9), ("epoch", "rem", 0, 11),
        ("prune", "nrem", 1, 11), ("epoch", "rem", 1, 12), ("epoch", "rem", 1, 15),
        ("day", "dawn", None, 15),
    ]  # fmt: skip
    day = events[-1]
    assert (day.wake_steps, day.night_steps, day.unspent_steps, day.n_train) == (6, 9, 0, 30)
    assert (day.owned, day.free) == (agent.owned[0], agent.n_free)
    assert day.private == 18 + 16  # the head, and the biases of two layers of eight units
    prunes = [e for e in events if getattr(e, "kind", "") == "prune"]
    assert prunes[1].density == agent.owned[0] / 112
    assert all(e.validation_score is not None for e in prunes)


def test_same_seed_gives_the_same_bits_and_another_does_not():
    def weights(seed, disturb):
        agent = make_agent(seed=seed, training=Training(batch_size=7))
        for task in toy_stream(2):
            if disturb:
                torch.rand(3)
                torch.manual_seed(99)
            live(agent, task)
        return agent.network.weights["body.1"].detach().clone()

    assert torch.equal(weights(0, False), weights(0, True))
    assert not torch.equal(weights(0, False), weights(1, False))


def test_public_calls_leave_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    agent = make_agent()
    live(agent, toy_stream(1)[0])
    agent.predict(torch.rand(1, 6, generator=torch.Generator()), 0)
    assert torch.equal(torch.rand(2), expected)


def test_dusk_is_the_same_whatever_the_night():
    dusks = []
    for policy in (OneShot(), UniformCycles(4)):
        agent = make_agent()
        agent.wake(toy_stream(1)[0], Epochs(3))
        dusks.append(agent.network.weights["body.1"].detach().clone())
        agent.sleep(policy, Epochs(3))
    assert torch.equal(*dusks)


def test_no_sleep_prunes_and_does_not_retrain():
    agent = make_agent()
    events = live(agent, toy_stream(1)[0], NoSleep())
    assert [e.kind for e in events if hasattr(e, "kind") and e.phase != "wake"] == ["prune", "day"]
    assert (events[-1].night_steps, events[-1].unspent_steps) == (0, 16)


@pytest.mark.parametrize(("n", "steps"), [(7, 16), (16, 16), (50, 16), (3, 0)])
def test_any_number_of_cycles_fits_any_budget(n, steps):
    agent = make_agent()
    agent.wake(toy_stream(1)[0], Steps(2))
    before, events = agent.n_steps, []
    agent.sleep(UniformCycles(n), Steps(steps), events.append)
    assert agent.n_steps - before == steps
    assert sum(e.kind == "prune" for e in events if hasattr(e, "kind")) == n
    assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


def test_regression_works_as_well():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(200, 6, generator=generator)
    task = Task(train=(inputs, inputs.sum(1)), test=(inputs[:50], inputs[:50].sum(1)))
    agent = make_agent(training=Training(batch_size=20, optimizer=functools.partial(torch.optim.Adam, lr=0.01)))
    live(agent, task, wake=30, night=30)
    loss, score = agent.evaluate(task, 0)
    assert agent.predict(inputs, 0).shape == (200, 1)
    assert score > 0.9
    assert loss < 0.05


def test_loss_and_metric_can_be_the_callers():
    agent = make_agent(training=Training(loss=lambda out, y: (out.mean() - 3) ** 2, metric=lambda out, y: 42))
    task = toy_stream(1)[0]
    live(agent, task)
    assert agent.evaluate(task, 0)[1] == 42.0
    assert isinstance(agent.evaluate(task, 0)[1], float)


def test_transform_is_applied_in_training_and_prediction():
    stream = toy_stream(1)
    plain, scaled = make_agent(), make_agent(training=Training(batch_size=10, transform=lambda x: x / 2))
    live(plain, stream[0])
    live(scaled, Task(train=(stream[0].train.inputs * 2, stream[0].train.targets), test=stream[0].test))
    inputs = stream[0].test.inputs
    assert torch.equal(plain.predict(inputs, 0), scaled.predict(inputs * 2, 0))


def test_tasks_may_differ_in_number_of_outputs():
    agent = make_agent()
    live(agent, toy_stream(1, n_classes=2)[0])
    live(agent, toy_stream(1, n_classes=5)[0])
    assert [agent.predict(torch.rand(3, 6), task).shape for task in (0, 1)] == [(3, 2), (3, 5)]


def test_arrays_of_double_precision_are_taken():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(30, 6))
    agent = make_agent()
    live(agent, Task(train=(inputs, inputs.sum(1)), test=(inputs, inputs.sum(1))))
    assert agent.predict(inputs, 0).dtype == torch.float32


def test_everything_kept_leaves_nothing_to_restart():
    agent = make_agent(capacity=Capacity(keep_per_night=1.0), restart="keep")
    live(agent, toy_stream(1)[0], NoSleep())
    assert (agent.owned, agent.n_free) == ((112,), 0)


def test_module_is_copied_and_factory_is_seeded():
    module = toy_network()
    agent = Agent(module, capacity=Capacity(free_at_end=0.5, days=3))
    before = module.body[1].weight.detach().clone()
    live(agent, toy_stream(1)[0])
    assert torch.equal(module.body[1].weight, before)
    first, second = (make_agent(seed=4).network.weights["body.1"] for _ in range(2))
    assert torch.equal(first, second)


def test_unknown_number_of_days_ends_when_nothing_is_free():
    agent = make_agent(capacity=Capacity(keep_per_night=0.3))
    for task in toy_stream(4):
        live(agent, task, wake=1, night=1)
    assert agent.n_free == 0
    # A tenth, what was left, in the last night; each layer rounds for itself.
    assert agent.owned == (33, 34, 34, 11)
    with pytest.raises(CapacityError, match=r"day 4: all 112 maskable weights are owned, so nothing is free to learn"):
        agent.wake(toy_stream(1)[0], Epochs(1))


def test_global_ranking_keeps_exact_totals_and_floors():
    agent = make_agent(capacity=Capacity(free_at_end=0.7, days=2, ranking="global", min_per_layer=3))
    for day, task in enumerate(toy_stream(2)):
        live(agent, task, UniformCycles(3), wake=2, night=3)
        assert sum(agent.owned) == agent.capacity.owned_after((48, 64), day + 1)[0]
        assert min(agent.network.count(day).values()) >= 3


def subclasses(*kinds):
    for kind in kinds:
        yield from (kind, *subclasses(*kind.__subclasses__()))


@pytest.mark.parametrize("engine", ["auto", "dense", "sparse", "module"])
def test_memory_of_a_day_is_free_at_its_dawn(engine):
    agent = make_agent(training=Training(batch_size=10, engine=engine))
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])  # the first one of a process imports what keeps frames alive
    gc.collect()
    gc.disable()  # it would free cycles of references, at an unknown time
    # There may be a million objects in memory, and to ask each for a subclass of abstract classes is slow.
    kinds, known = set(subclasses(Day, Sleep, Trainer, Optimization, Batches, Ledger)), {}
    of_others = {id(item): item for item in gc.get_objects() if type(item) in kinds}

    def look(event):
        if isinstance(event, Progress):
            for item in gc.get_objects():
                if type(item) in kinds and id(item) not in of_others:
                    known[id(item)] = type(item), weakref.ref(item)

    try:
        agent.wake(toy_stream(1)[0], Epochs(2), look)
        assert {kind for kind, _ in known.values()} == {Day, Trainer, Optimization, HeldBatches, StepLedger}
        of_wake = [item() for kind, item in known.values() if kind in (Optimization, HeldBatches)]
        assert of_wake == [None, None]
        agent.sleep(UniformCycles(2), Epochs(5), look)
        assert Sleep in {kind for kind, _ in known.values()}
        assert [item() for _, item in known.values()] == [None] * len(known)
    finally:
        gc.enable()


def woken(agent):
    """Train an agent's copy in another process, and return its day."""
    agent.wake(toy_stream(2)[agent.day], Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    return agent.day


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_an_agent_that_is_sent_to_another_process_stays_as_it_was(way, tmp_path):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10))
    woken(agent)
    alone, free = agent.fork(), agent.n_free
    with multiprocessing.get_context(way).Pool(1) as pool:
        assert pool.map(woken, [agent]) == [2]
    assert agent.n_free == free
    agent.verify()
    woken(agent)
    woken(alone)
    for name, tensor in alone.network.state().items():
        assert torch.equal(tensor, agent.network.state()[name])


def test_a_pickled_agent_shares_no_memory_with_the_one_that_it_was_made_of():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10))
    agent.wake(toy_stream(1)[0], Epochs(1))  # a day that has begun, too
    buffer = io.BytesIO()
    ForkingPickler(buffer).dump(agent)
    twin = ForkingPickler.loads(buffer.getvalue())
    assert not any(parameter.is_shared() for parameter in twin.network.module.parameters())
    for each in (twin, agent):
        each.sleep(OneShot(), Epochs(1))
    assert agent.days[-1].owned == twin.days[-1].owned
    assert agent.network.state().keys() == twin.network.state().keys()


def test_predictions_are_the_same_bits_within_autocast():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10))
    woken(agent)
    inputs = toy_stream(1)[0].test.inputs
    expected = agent.predict(inputs, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(agent.predict(inputs, 0), expected)
        agent.verify()


def test_inputs_of_another_kind_than_the_learnt_ones_are_refused():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.4, days=3), training=Training(batch_size=10))
    woken(agent)
    with pytest.raises(DataError, match=r"the inputs are sparse .* Make them dense"):
        agent.predict(torch.rand(2, 6).to_sparse(), 0)
    with pytest.raises(DataError, match="the inputs are complex, and those that were learnt are not"):
        agent.predict(torch.rand(2, 6).to(torch.complex64), 0)


class Words(nn.Module):
    """Reads indices of words."""

    def __init__(self):
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(self.words(inputs).mean(1)).relu())


def sentences(**changes):
    parts = {"train": torch.arange(40).reshape(20, 2) % 10, "test": torch.arange(8).reshape(4, 2) % 10}
    labels = {name: torch.arange(len(inputs)) % 2 for name, inputs in parts.items()}
    for name, (row, word) in changes.items():
        parts[name][row, 1] = word
    return Task(**{name: (inputs, labels[name]) for name, inputs in parts.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": (2, 10)}, "test inputs are whole numbers from 0 to 10, of which the network cannot read all"),
        ({"train": (19, 11)}, "train inputs are whole numbers from 0 to 11"),
        ({"test": (3, -1)}, "test inputs are whole numbers from -1 to"),
    ],
)
def test_indices_out_of_range_are_found_before_training(changes, message):
    agent = Agent(Words, capacity=Capacity(keep_per_night=0.2), training=Training(batch_size=10), private=["words"])
    with pytest.raises(DataError, match=message):
        agent.check(sentences(**changes))
    agent.wake(sentences(), Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    with pytest.raises(DataError, match=r"the network cannot read these inputs: index out of range"):
        agent.predict(torch.tensor([[1, 10]]), 0)
    with pytest.raises(DataError, match=r"the inputs are torch.float32, and those that were learnt are not"):
        agent.predict(torch.tensor([[1.0, 2.0]]), 0)
