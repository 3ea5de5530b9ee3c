"""What a prune keeps by each criterion, by hand, and in whole nights."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import daynight as dn
from daynight import criteria
from daynight.criteria import Layer, looks_back
from daynight.data.unions import union
from daynight.errors import SettingError
from daynight.pruning import keep_top_globally, layer_adaptive
from daynight.testing import toy_network, toy_stream

CRITERIA = [
    criteria.magnitude, criteria.gradient_times_weight, criteria.output_change, criteria.movement, criteria.random,
]  # fmt: skip


def layer(weight, start=None, gradient=None, squared_jacobian=None):
    generator = torch.Generator().manual_seed(1)
    read = [lambda each=each: torch.tensor(each) for each in (start, gradient, squared_jacobian)]
    return Layer("a", torch.tensor(weight), *read[:2], generator, read[2])


def test_scores_by_hand():
    assert criteria.magnitude(layer([-2.0, 0.5])).tolist() == [2.0, 0.5]
    assert criteria.gradient_times_weight(layer([-2.0, 0.5], gradient=[0.5, 4.0])).tolist() == [1.0, 2.0]
    assert criteria.output_change(layer([-2.0, 0.5], squared_jacobian=[0.5, 4.0])).tolist() == [2.0, 1.0]
    assert criteria.movement(layer([-2.0, 0.5, 1.0], start=[-1.0, 1.0, 0.0])).tolist() == [3.0, -0.75, 1.0]
    scores = criteria.random(layer([1.0] * 1000))
    assert scores.tolist() == criteria.random(layer([1.0] * 1000)).tolist()
    assert scores.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_what_never_looks_back_is_known(criterion):
    asked = []

    def start():
        asked.append("start")
        return torch.ones(3)

    criterion(Layer("a", torch.ones(3), start, lambda: torch.ones(3), torch.Generator(), lambda: torch.ones(3)))
    assert looks_back(criterion) == bool(asked)


def test_a_criterion_may_look_back_in_some_layers_only():
    names = []

    def mixed(layer):
        names.append(layer.name)
        return criteria.movement(layer) if layer.name == "body.3" else layer.weight.abs()

    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), criterion=mixed)
    dn.Clock(agent, toy_stream(2), policy=dn.UniformCycles(2), wake=dn.Epochs(1), night=dn.Epochs(1)).run()
    agent.verify()
    assert {"probe", "body.1", "body.3"} <= set(names)


def test_movement_is_the_sum_of_the_gradients_times_the_weights():
    # Sanh et al.'s sum, step by step, of plain gradient descent with small steps.
    weight, total, rate = torch.tensor([0.5, -1.0], requires_grad=True), torch.zeros(2), 1e-4
    start = weight.detach().clone()
    for _ in range(2000):
        (gradient,) = torch.autograd.grad(((weight - torch.tensor([2.0, -0.1])) ** 2).sum(), weight)
        total -= gradient * weight.detach()
        weight = (weight.detach() - rate * gradient).requires_grad_()
    closed = criteria.movement(Layer("a", weight.detach(), lambda: start, lambda: start, torch.Generator()))
    assert torch.allclose(rate * total, closed / 2, rtol=1e-3)


def test_layer_adaptive_scores_by_hand():
    scores = {"a": torch.tensor([1.0, 2.0, 9.0]), "b": torch.tensor([[0.1], [0.2]])}
    held = {"a": torch.tensor([True, True, False]), "b": torch.tensor([[True], [True]])}
    found = layer_adaptive(scores, held)
    assert found["a"].tolist() == pytest.approx([1 / 5, 1.0, 0.0])
    assert found["b"].flatten().tolist() == pytest.approx([1 / 5, 1.0])
    # By magnitude alone, layer b would lose both.
    masks = keep_top_globally(found, held, 2)
    assert masks["a"].tolist() == [False, True, False]
    assert masks["b"].flatten().tolist() == [False, True]
    assert layer_adaptive({"a": torch.tensor([-1.0, 1.0])}, {"a": torch.tensor([True, True])})["a"].tolist() == [
        0.0,
        1.0,
    ]
    assert layer_adaptive({"a": torch.zeros(2)}, {"a": torch.tensor([False, False])})["a"].tolist() == [0.0, 0.0]
    huge = {"a": torch.tensor([1e300, 2e300], dtype=torch.float64)}  # whose squares no number can hold
    assert layer_adaptive(huge, {"a": torch.tensor([True, True])})["a"].tolist() == pytest.approx([0.2, 1.0])


def test_gradients_are_those_of_the_mean_loss():
    seen = {}

    def looks(layer):
        seen[layer.name] = layer.gradient.clone()
        return layer.weight.abs()

    agent = dn.Agent(
        toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), training=dn.Training(batch_size=7), criterion=looks
    )
    task = toy_stream(2)[0]
    agent.wake(task, dn.Epochs(2))
    module = agent.network.module.eval()
    loss = functional.cross_entropy(module(task.train.inputs), task.train.targets)
    expected = torch.autograd.grad(loss, list(agent.network.weights.values()))
    agent.sleep(dn.NoSleep(), dn.Epochs(0))
    for gradient, name in zip(expected, agent.network.weights, strict=True):
        assert torch.allclose(seen[name], gradient, atol=1e-6)


def squared_jacobians(agent, task):
    """Return what a criterion reads at a prune, and the same of each example by derivatives of single outputs."""
    seen = {}

    def looks(layer):
        seen[layer.name] = layer.squared_jacobian.clone()
        return layer.weight.abs()

    agent.criterion = looks
    agent.wake(task, dn.Epochs(1))
    module, (inputs, targets) = agent.network.module.eval(), task.train.load()
    inputs = inputs.to(agent.network.dtype)
    weights = agent.network.weights
    each = {name: torch.zeros(len(inputs), *weight.shape) for name, weight in weights.items()}
    task_of = [group for group, n in enumerate(task.groups or (task.n_outputs,)) for _ in range(n)]
    for example, (row, target) in enumerate(zip(inputs, targets, strict=True)):
        for column, output in enumerate(module(row[None])[0]):
            if not task.groups or task_of[column] == task_of[int(target)]:
                found = torch.autograd.grad(output, list(weights.values()), retain_graph=True)
                for name, gradient in zip(weights, found, strict=True):
                    each[name][example] += gradient.square()
    agent.sleep(dn.NoSleep(), dn.Epochs(0))
    return [(seen[name], each[name]) for name in weights]


def agent_of(batch_size):
    capacity, training = dn.Capacity(free_at_end=0.5, days=2), dn.Training(batch_size=batch_size)
    return dn.Agent(toy_network, capacity=capacity, training=training)


def test_short_cycles_take_fewer_examples_for_the_squared_jacobian():
    class Counting(nn.Sequential):
        def forward(self, inputs):
            if torch.is_grad_enabled() and not self.training:  # neither a step nor a prediction
                taken[-1] += len(inputs)
            return super().forward(inputs)

    def looks(layer):
        taken.append(0)
        return layer.squared_jacobian

    task, capacity = toy_stream(1, n_train=3000)[0], dn.Capacity(keep_per_night=0.1)
    for n_steps, later in ((60, 2048), (32, 2048), (18, 1152), (4, 256), (1, 256)):
        taken = [0]
        agent = dn.Agent(
            lambda: Counting(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)), capacity=capacity, criterion=looks,
            training=dn.Training(batch_size=64),
        )  # fmt: skip
        agent.wake(task, dn.Steps(1))
        taken = [0]
        agent.sleep(dn.UniformCycles(3), dn.Steps(3 * n_steps))
        assert [n for n in taken if n] == [2048, later, later]


def test_the_squared_jacobian_of_one_output_and_one_example_at_a_time_is_exact():
    draws = torch.Generator().manual_seed(0)
    pair = torch.randn(30, 6, generator=draws), torch.randn(30, 1, generator=draws)
    for seen, each in squared_jacobians(agent_of(1), dn.TaskStream([(pair, pair)])[0]):
        assert torch.allclose(seen, each.mean(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("is_union", [False, True])
def test_the_squared_jacobian_is_estimated_with_random_signs(is_union):
    tasks = list(toy_stream(2, n_train=700))
    task = union(tasks) if is_union else tasks[0]
    for seen, each in squared_jacobians(agent_of(8), task):
        # The variance of the square of a sum with random signs is at most twice the square of its mean.
        variance = sum(2 * batch.sum(0).square() for batch in each.split(8)) / len(each) ** 2
        assert float(each.sum()) > 0
        assert ((seen - each.mean(0)).abs() <= 6 * variance.sqrt() + 1e-7).all()


def test_weights_of_16_bits_are_scored_with_32():
    small = torch.tensor([1e-4, 2e-4], dtype=torch.float16)  # whose squares are 0 with 16 bits
    scores = criteria.output_change(
        Layer("a", small, small.clone, small.clone, torch.Generator(), lambda: torch.ones(2))
    )
    assert scores.tolist() == pytest.approx([1e-8, 4e-8], rel=1e-2)
    agent = dn.Agent(
        lambda: toy_network().bfloat16(), capacity=dn.Capacity(free_at_end=0.5, days=2),
        training=dn.Training(batch_size=10),
    )  # fmt: skip
    for seen, each in squared_jacobians(agent, toy_stream(2)[0]):
        assert seen.dtype == torch.float32
        assert float(seen.sum()) == pytest.approx(float(each.mean(0).sum()), rel=0.5)


def test_a_layer_without_squared_derivatives_says_so():
    with pytest.raises(SettingError, match="squared_jacobian"):
        criteria.output_change(Layer("a", torch.ones(2), lambda: 0, lambda: 0, torch.Generator()))


@pytest.mark.parametrize("ranking", ["layer", "global", "balanced"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_counts_are_exact_by_every_criterion_and_ranking(criterion, ranking):
    def life():
        agent = dn.Agent(
            toy_network, capacity=dn.Capacity(free_at_end=0.5, days=3, ranking=ranking, min_per_layer=2),
            training=dn.Training(batch_size=10), criterion=criterion,
        )  # fmt: skip
        for index, task in enumerate(toy_stream(3)):
            agent.wake(task, dn.Epochs(2))
            agent.sleep(dn.UniformCycles(3), dn.Epochs(2))
            assert agent.n_free == sum(agent.network.sizes.values()) - sum(agent.owned)
            total = 112 - round(112 * 0.5 ** ((index + 1) / 3))
            assert abs(sum(agent.owned) - total) <= (2 if ranking == "layer" else 0)
            assert all(count >= 2 for count in agent.network.count(index).values())
        return [owners.clone() for owners in agent.network.owners.values()]

    assert all(torch.equal(a, b) for a, b in zip(life(), life(), strict=True))


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (lambda layer: layer.weight.sum(), r"of the shape \(2, 3\), returned torch.float32 \(\)"),
        (lambda layer: layer.weight > 0, r"returned torch.bool \(2, 3\)"),
        (lambda layer: 1, r"\(2, 3\), returned 1\."),
        (lambda layer: layer.bias, "criterion failed on a layer of 2 x 3 weights: AttributeError"),
        (3, "criterion failed"),
    ],
)
def test_what_is_no_criterion_is_refused(criterion, message):
    with pytest.raises(SettingError, match=message):
        dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), criterion=criterion)


def test_random_pruning_is_worse_than_magnitude():
    def accuracy(criterion):
        agent = dn.Agent(
            lambda: dn.models.MLP(6, 64, 64), capacity=dn.Capacity(keep_per_night=0.2),
            training=dn.Training(batch_size=10), criterion=criterion,
        )  # fmt: skip
        task = toy_stream(1, n_train=200, n_test=200)[0]
        agent.wake(task, dn.Epochs(5))
        agent.sleep(dn.NoSleep(), dn.Epochs(0))
        return agent.evaluate(task, 0)[0]

    assert accuracy(criteria.magnitude) < accuracy(criteria.random)
    assert math.isfinite(accuracy(criteria.random))


def test_a_criterion_may_write_to_what_it_looks_at():
    def normed(layer):
        weight, start, gradient = layer.weight, layer.start, layer.gradient
        for tensor in (weight, start, gradient):
            tensor /= 1 + tensor.abs().max()
        return weight.abs_() + 0 * (start + gradient)

    stream = toy_stream(3)
    agents = [
        dn.Agent(
            toy_network,
            capacity=dn.Capacity(free_at_end=0.5, days=3),
            training=dn.Training(batch_size=10),
            criterion=one,
        )
        for one in (normed, criteria.magnitude)
    ]
    for agent in agents:
        dn.Clock(agent, stream, policy=dn.UniformCycles(3), wake=dn.Epochs(2), night=dn.Epochs(2)).run()
        agent.verify()
    inputs = stream[0].test.load()[0]
    assert torch.equal(agents[0].predict(inputs, 2), agents[1].predict(inputs, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_criterion_that_gives_no_finite_scores_is_refused_by_name(value):
    def spoiled(layer):
        return layer.weight * value

    with pytest.raises(SettingError, match="criterion spoiled returns scores that are not finite for a layer of 2 x 3"):
        dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=3), criterion=spoiled)


def fails_on_a_real_layer(layer):
    return layer.weight.abs() if layer.name == "probe" else {}["scores"]


def is_nowhere(layer):
    return layer.weight.abs() if layer.name == "probe" else layer.weight.to("meta")


def is_sparse(layer):
    return layer.weight.abs() if layer.name == "probe" else layer.weight.to_sparse()


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (fails_on_a_real_layer, r"criterion failed on layer '.*': KeyError.*It must be a function of a Layer"),
        (is_nowhere, "for layer '.*returned torch.float32 .*on meta"),
        (is_sparse, "for layer '.*returned torch.float32 .*torch.sparse_coo"),
    ],
)
def test_a_criterion_that_fails_in_the_night_is_named(criterion, message):
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), criterion=criterion)
    agent.wake(toy_stream(2)[0], dn.Steps(2))
    with pytest.raises(SettingError, match=message):
        agent.sleep(dn.OneShot(), dn.Steps(2))
