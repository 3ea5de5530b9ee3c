import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import (
    Agent,
    Capacity,
    Clock,
    Epochs,
    LazyDataset,
    OneShot,
    Split,
    Task,
    Training,
    metrics,
    union,
    within_union,
)
from daynight.errors import DataError
from daynight.testing import toy_network, toy_stream
from daynight.training.engines.engine import loss_and_gradient


def task_of(n, n_classes, first=0.0, name="", **more):
    inputs = torch.arange(float(3 * n)).reshape(n, 3) + first
    return Task(train=(inputs, torch.arange(n) % n_classes), test=(inputs[:4], torch.arange(4) % n_classes), name=name,
                **more)  # fmt: skip


def test_classes_of_a_union_are_numbered_through():
    whole = union([task_of(4, 2), task_of(6, 3, first=100.0)])
    assert whole.groups == (2, 3)
    assert whole.n_outputs == 5
    assert whole.train.targets.tolist() == [0, 1, 0, 1, 2, 3, 4, 2, 3, 4]
    assert whole.train.inputs[:, 0].tolist() == [0, 3, 6, 9, 100, 103, 106, 109, 112, 115]
    assert whole.validation is None
    part = within_union([task_of(4, 2), task_of(6, 3)], 1)
    assert part.test.targets.tolist() == [2, 3, 4, 2]
    assert (part.groups, part.n_outputs) == ((2, 3), 5)


def test_bytes_of_a_union_stay_bytes_and_views_are_applied():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = 255
    plain = Task(train=(images, torch.arange(4) % 2), test=(images, torch.arange(4) % 2))
    assert union([plain, plain]).train.inputs.dtype == torch.uint8
    turned = Split(images, torch.arange(4) % 2, view=lambda x: x.flip(3))
    both = union([plain, Task(train=turned, test=turned)]).train.load()[0]
    assert both[0, 0, 0].tolist() == [1, 0]
    assert both[4, 0, 0].tolist() == [0, 1]


def test_validation_splits_are_joined_if_all_have_one():
    first, second = (task_of(8, 2, name=name).hold_out(0.5) for name in "ab")
    assert len(union([first, second]).validation) == 8
    assert union([first, task_of(8, 2)]).validation is None


def test_loss_and_score_ask_for_the_own_outputs_alone():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 3, 1, 4, 2, 2])
    one = functional.cross_entropy(outputs[[0, 2], :2], targets[[0, 2]])
    other = functional.cross_entropy(outputs[[1, 3, 4, 5], 2:], targets[[1, 3, 4, 5]] - 2)
    loss = metrics.WithinGroups(functional.cross_entropy, (2, 3))
    assert loss(outputs, targets) == pytest.approx(float(one * 2 + other * 4) / 6, rel=1e-12)
    score = metrics.WithinGroups(metrics.accuracy, (2, 3))(outputs, targets)
    right = [int(outputs[row, :2].argmax()) == targets[row] for row in (0, 2)]
    right += [int(outputs[row, 2:].argmax()) + 2 == targets[row] for row in (1, 3, 4, 5)]
    assert score == pytest.approx(sum(right) / 6)


def test_gradient_of_a_union_is_that_of_autograd():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 3, 1, 4, 2, 2, 5])
    loss = metrics.WithinGroups(functional.cross_entropy, (2, 3, 1))
    leaf = outputs.clone().requires_grad_()
    expected = loss(leaf, targets)
    expected.backward()
    value, gradient = loss_and_gradient(loss, outputs, targets)
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert torch.allclose(gradient, leaf.grad, rtol=1e-12, atol=1e-15)


def test_a_custom_loss_is_taken_task_by_task():
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    agent = Agent(
        toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=10, loss=smooth)
    )
    history = Clock(agent, [union(list(toy_stream(2)))], policy=OneShot(), wake=Epochs(8), night=Epochs(4)).run()
    assert history.accuracy[0, 0] >= 0.9


def test_one_network_learns_a_union_and_is_asked_task_by_task():
    stream = list(toy_stream(3))
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=10))
    Clock(agent, [union(stream)], policy=OneShot(), wake=Epochs(40), night=Epochs(20)).run()
    scores = [agent.evaluate(within_union(stream, index), 0)[1] for index in range(3)]
    whole = agent.evaluate(union(stream), 0)[1]
    assert whole == pytest.approx(sum(scores) / 3)
    outputs = agent.predict(stream[1].test.load()[0], 0)[:, 2:4]
    assert float((outputs.argmax(1) == stream[1].test.targets).float().mean()) == pytest.approx(scores[1])


def regression():
    data = (torch.zeros(3, 2), torch.full((3,), 0.5))
    return Task(train=data, test=data)


def lazily_read():
    train = LazyDataset([(torch.zeros(3), 0), (torch.zeros(3), 1)])
    return Task(train=train, test=(torch.zeros(2, 3), torch.arange(2)))


def wider():
    return Task(train=(torch.zeros(4, 5), torch.arange(4) % 2), test=(torch.zeros(4, 5), torch.arange(4) % 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [], "there are no tasks"),
        (lambda: [regression()], "no class labels"),
        (lambda: [union([task_of(4, 2)])], "is a union of tasks already"),
        (lambda: [lazily_read()], "is read lazily"),
        (lambda: [task_of(4, 2), wider()], r"inputs of the shapes \(3,\) and \(5,\)"),
    ],
)
def test_what_cannot_be_joined_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        union(make())


def test_groups_must_sum_to_the_outputs():
    with pytest.raises(DataError, match="sum to its 4 outputs"):
        task_of(4, 2, n_outputs=4, groups=(2, 3))


@pytest.mark.parametrize("groups", [5, None, "22", (2, "2"), (2.0, 2.0), (4, 0), (5, -1), [[2, 2]]])
def test_groups_must_be_numbers_of_classes(groups):
    with pytest.raises(DataError, match=r"groups must be the number of classes of each task of a union, such as"):
        task_of(4, 2, n_outputs=4, groups=groups)
