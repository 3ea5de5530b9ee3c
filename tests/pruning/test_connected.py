"""Prunes that keep no weight in vain."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from resumable import clock, killed, outcome, resumed
from torch import nn

import daynight as dn
from daynight.errors import NetworkError, SettingError
from daynight.networks.connectivity import Connections, in_vain
from daynight.networks.masked import MaskedNetwork
from daynight.pruning import keep_top_per_layer
from daynight.pruning.masks import keep_connected, keep_in_turn
from daynight.testing import toy_network, toy_stream


def chain(widths):
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    return nn.Sequential(
        *itertools.chain.from_iterable((layer, nn.ReLU()) for layer in layers), nn.Linear(widths[-1], 2)
    )


def joined(seen, masks):
    return {name: seen[name] | mask for name, mask in masks.items()}


def drawn(data, names, shapes):
    """Return scores with many ties, candidates, weights of others, and counts."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    density, share = data.draw(st.sampled_from([0.3, 0.7, 1.0])), data.draw(st.sampled_from([0.0, 0.2]))
    scores, candidates, seen = {}, {}, {}
    for name, shape in zip(names, shapes, strict=True):
        scores[name] = torch.randint(0, 6, shape, generator=generator) / 4
        seen[name] = torch.rand(shape, generator=generator) < share
        candidates[name] = (torch.rand(shape, generator=generator) < density) & ~seen[name]
    counts = {name: data.draw(st.integers(0, int(mask.sum()))) for name, mask in candidates.items()}
    return scores, candidates, seen, counts


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_counts_are_exact_and_what_is_kept_in_vain_has_no_better_place(widths, data):
    network = MaskedNetwork(chain(widths))
    connections = Connections.of(network, torch.rand(3, widths[0]))
    shapes = [weight.shape for weight in network.weights.values()]
    scores, candidates, seen, counts = drawn(data, network.weights, shapes)
    plain = keep_top_per_layer(scores, candidates, counts)
    kept = keep_connected(scores, candidates, plain, seen, connections)
    assert {name: int(mask.sum()) for name, mask in kept.items()} == counts
    assert not any((mask & ~candidates[name]).any() for name, mask in kept.items())
    before, after = (connections.useful(joined(seen, masks)) for masks in (plain, kept))
    n_before, n_after = (
        sum(int((mask & ~useful[name]).sum()) for name, mask in masks.items())
        for masks, useful in ((plain, before), (kept, after))
    )
    assert n_after <= n_before
    if not n_before:
        assert all(torch.equal(mask, plain[name]) for name, mask in kept.items())
    # A weight in vain is kept only where no candidate is left that would not be.
    useful = connections.useful(joined(seen, {name: mask & after[name] for name, mask in kept.items()}))
    for name, mask in kept.items():
        if (mask & ~after[name]).any():
            assert not (candidates[name] & useful[name] & ~mask).any()


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_a_path_is_found_through_whole_layers(widths, data):
    network = MaskedNetwork(chain(widths))
    connections = Connections.of(network, torch.rand(3, widths[0]))
    scores, candidates, seen, counts = drawn(data, network.weights, [w.shape for w in network.weights.values()])
    candidates = {name: torch.ones_like(mask) for name, mask in candidates.items()}
    seen = {name: torch.zeros_like(mask) for name, mask in seen.items()}
    counts = {name: max(1, n) for name, n in counts.items()}
    plain = keep_top_per_layer(scores, candidates, counts)
    kept = keep_connected(scores, candidates, plain, seen, connections)
    useful = connections.useful(kept)
    assert all((mask & useful[name]).any() for name, mask in kept.items())


def is_possible(n_inputs, n_hidden, n_outputs, first, second):
    """Return whether two whole layers can keep so many weights, none in vain: by some number of hidden units."""
    n_most = min(n_hidden, first, second)
    return any(first <= n_inputs * n and second <= n * n_outputs for n in range(n_most + 1))


@given(st.lists(st.integers(1, 6), min_size=3, max_size=3), st.data())
def test_of_two_whole_layers_none_is_in_vain_if_the_counts_permit(widths, data):
    network = MaskedNetwork(chain(widths))
    connections = Connections.of(network, torch.rand(3, widths[0]))
    scores, candidates, _, _ = drawn(data, network.weights, [weight.shape for weight in network.weights.values()])
    whole = {name: torch.ones_like(mask) for name, mask in candidates.items()}
    counts = {name: data.draw(st.integers(1, mask.numel())) for name, mask in whole.items()}
    nothing = {name: ~mask for name, mask in whole.items()}
    kept = keep_connected(scores, whole, keep_top_per_layer(scores, whole, counts), nothing, connections)
    useful = connections.useful(kept)
    is_vain = any((mask & ~useful[name]).any() for name, mask in kept.items())
    assert is_vain != is_possible(*widths, *counts.values())


def test_weights_in_vain_give_way_by_hand():
    # The largest weight of the first layer leads to unit 0, that of the second comes from unit 1.
    network = MaskedNetwork(chain([1, 3, 1]))
    connections = Connections.of(network, torch.rand(2, 1))
    scores = {"0": torch.tensor([[9.0], [1.0], [2.0]]), "2": torch.tensor([[1.0, 5.0, 2.0]])}
    everything = {name: torch.ones_like(score).bool() for name, score in scores.items()}
    nothing = {name: torch.zeros_like(score).bool() for name, score in scores.items()}

    def kept(first, second, candidates=everything, seen=nothing):
        plain = keep_top_per_layer(scores, candidates, {"0": first, "2": second})
        masks = keep_connected(scores, candidates, plain, seen, connections)
        return masks["0"][:, 0].tolist(), masks["2"][0].tolist()

    # No path is left: the last layer keeps its largest, and the first what leads there.
    assert kept(1, 1) == ([False, True, False], [False, True, False])
    # What leads through unit 2 stays. A weight into unit 1 takes the place of the one into unit 0, which nothing reads.
    assert kept(2, 2) == ([False, True, True], [False, True, True])
    # A weight of an earlier task into unit 1 reaches it, and what is read there is kept.
    seen = {"0": torch.tensor([[False], [True], [False]]), "2": nothing["2"]}
    assert kept(1, 1, joined({name: ~mask for name, mask in seen.items()}, nothing), seen)[1] == [False, True, False]


def test_groups_are_kept_in_turn():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    groups = torch.tensor([True, True, False, False]), torch.tensor([False, False, True, True])
    assert keep_in_turn(scores, groups, 1).tolist() == [False, True, False, False]
    assert keep_in_turn(scores, groups, 3).tolist() == [True, True, False, True]


def lived(stream=None, network=toy_network, policy=None, night=None, capacity=None, **settings):
    agent = dn.Agent(network, capacity=capacity, training=dn.Training(batch_size=16), seed=1, **settings)
    stream = toy_stream(3) if stream is None else stream
    dn.Clock(
        agent, stream, policy=policy or dn.OneShot(), wake=dn.Epochs(2), night=night or dn.Epochs(2)
    ).run()  # fmt: skip
    return agent


def n_in_vain(agent):
    return agent.sizes()[0].n_in_vain


@pytest.mark.parametrize("policy", [dn.OneShot(), dn.UniformCycles(3)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [{}, {"restart": "redraw"}, {"consolidation": "rehearse"}, {"consolidation": "fine-tune"},
     {"criterion": dn.criteria.random}, {"biases": "freeze-after-first"}],
    ids=lambda life: str(life).partition(" at 0x")[0],
)  # fmt: skip
def test_agents_keep_as_many_weights_and_none_in_vain(policy, settings):
    plain, connected = (
        lived(policy=policy, capacity=dn.Capacity(free_at_end=0.7, days=3, connected=is_connected), **settings)
        for is_connected in (False, True)
    )
    assert n_in_vain(plain) > 0
    assert n_in_vain(connected) == 0
    for owner in range(-1, 3):
        assert connected.network.count(owner) == plain.network.count(owner)


@pytest.mark.parametrize("ranking", ["global", "balanced"])
def test_with_all_layers_ranked_together_counts_are_exact_in_total(ranking):
    agent = lived(capacity=dn.Capacity(free_at_end=0.7, days=3, ranking=ranking, min_per_layer=3, connected=True))
    assert n_in_vain(agent) == 0
    sizes = tuple(agent.network.sizes.values())
    assert sum(agent.owned) == sum(agent.capacity.owned_after(sizes, 3))


def test_no_weight_is_in_vain_in_a_network_of_usual_size():
    connected = dn.Capacity(free_at_end=0.995, days=5, connected=True)
    agent = dn.Agent(lambda: dn.models.MLP(784, 256, 256), capacity=connected, restart="redraw")
    images, labels = torch.rand(32, 784, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 2
    stream = [dn.Task(train=(images, labels), test=(images, labels), name=name) for name in "ab"]
    dn.Clock(agent, stream, policy=dn.OneShot(), wake=dn.Steps(0), night=dn.Steps(0)).run()
    assert n_in_vain(agent) == 0
    assert agent.owned == (267, 266)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(),
        nn.Linear(8, 2),
    )  # fmt: skip


def images(n_tasks):
    tasks = list(toy_stream(n_tasks, n_features=16))
    return [
        dn.Task(
            train=(task.train.inputs.view(-1, 1, 4, 4), task.train.targets),
            test=(task.test.inputs.view(-1, 1, 4, 4), task.test.targets), name=task.name,
        ) for task in tasks
    ]  # fmt: skip


def test_convolutions_and_norms():
    plain, connected = (
        lived(images(2), convolutional, capacity=dn.Capacity(free_at_end=0.9, days=2, connected=is_connected))
        for is_connected in (False, True)
    )
    assert n_in_vain(plain) > 0
    assert n_in_vain(connected) == 0
    assert connected.owned == plain.owned


def test_versions_of_a_task_and_nights_in_seconds():
    stream = [
        dn.Task(train=task.train, test=task.test, name="one", succeeds="one" if index else None)
        for index, task in enumerate(toy_stream(3))
    ]  # fmt: skip
    capacity = dn.Capacity(keep_per_task=0.1, connected=True)
    agent = lived(stream, capacity=capacity, policy=dn.UniformCycles(2), night=dn.Seconds(0.2))
    assert agent.living == (2,)
    assert n_in_vain(agent) == 0


def test_a_task_that_sees_none_counts_its_own_weights_alone():
    stream = list(toy_stream(2))
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.7, days=2, connected=True), seed=1)
    for index, task in enumerate(stream):
        agent.wake(task, dn.Epochs(1), sees="none" if index else None)
        agent.sleep(dn.OneShot(), dn.Epochs(1))
    assert n_in_vain(agent) == 0
    connections = Connections.of(agent.network, torch.rand(3, 6))
    alone = {name: owners == 1 for name, owners in agent.network.owners.items()}
    useful = connections.useful(alone)
    assert not any((mask & ~useful[name]).any() for name, mask in alone.items())


@pytest.mark.parametrize("n", [4, 9, 13, 17])
def test_a_run_resumes_to_the_bit(tmp_path, at_every_step, n):
    settings = {"capacity": dn.Capacity(free_at_end=0.7, days=2, connected=True)}
    whole = clock(**settings)
    whole.run()
    again = resumed(killed(tmp_path, n, **settings), **settings)
    again.run()
    assert outcome(again) == outcome(whole)


def test_what_is_not_connected_has_no_trace_of_the_setting(tmp_path):
    plain = dn.Capacity(free_at_end=0.7, days=3)
    assert repr(plain) == "Capacity(free_at_end=0.7, days=3)"
    assert repr(dn.Capacity(free_at_end=0.7, days=3, connected=True)).endswith("days=3, connected=True)")
    lived(capacity=plain).save(tmp_path / "agent.dn")
    assert b"connected" not in (tmp_path / "agent.dn").read_bytes()


def test_an_agent_in_a_file_stays_connected(tmp_path):
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.7, days=3, connected=True), seed=1)
    stream = toy_stream(3)
    dn.Clock(agent, stream, policy=dn.OneShot(), wake=dn.Epochs(2), night=dn.Epochs(2)).run(until=1)
    agent.save(tmp_path / "agent.dn")
    loaded = dn.Agent.load(tmp_path / "agent.dn")
    assert loaded.capacity == agent.capacity
    dn.Clock(loaded, stream, policy=dn.OneShot(), wake=dn.Epochs(2), night=dn.Epochs(2)).run()
    assert n_in_vain(loaded) == 0


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        found = torch.relu(self.first(inputs))
        return self.head(torch.relu(found + self.second(found)))


def test_a_network_that_is_no_chain_is_refused_before_training():
    heard = []
    agent = dn.Agent(Residual, capacity=dn.Capacity(free_at_end=0.7, days=3, connected=True))
    run = dn.Clock(
        agent, toy_stream(3), policy=dn.OneShot(), wake=dn.Epochs(1), night=dn.Epochs(1), on_event=heard.append
    )  # fmt: skip
    for call in (lambda: agent.check(run.stream[0]), lambda: agent.wake(run.stream[0], dn.Epochs(1)), run.run):
        with pytest.raises(NetworkError, match=r"which units each masked layer reads, and second is not found to be"):
            call()
    assert not heard
    assert agent.phase == "between days"


def test_of_a_network_that_is_no_chain_it_is_not_known_what_is_in_vain():
    agent = lived(network=Residual, capacity=dn.Capacity(free_at_end=0.7, days=3))
    assert n_in_vain(agent) is None


def test_sizes_count_by_hand_what_is_in_vain():
    agent = lived(capacity=dn.Capacity(free_at_end=0.7, days=3))
    connections = Connections.of(agent.network, torch.rand(3, 6))
    found = [in_vain(agent.network, connections, task) for task in range(3)]
    assert n_in_vain(agent) == sum(int(mask.sum()) for masks in found for mask in masks.values())
    assert {size.n_in_vain for size in agent.sizes()[1:]} == {None}
    assert n_in_vain(dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.7, days=3))) == 0


def test_connected_is_true_or_false():
    with pytest.raises(SettingError, match=r"Capacity: connected must be True or False, not 1\."):
        dn.Capacity(free_at_end=0.7, days=3, connected=1)
