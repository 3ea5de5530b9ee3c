import numpy as np
import pytest
import torch

from daynight import permuted_mnist, rotated_mnist, split_cifar10, split_mnist
from daynight.data import streams
from daynight.errors import SettingError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 10
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        x = rng.integers(0, 256, (40, *shape), np.uint8)
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=labels, x_test=x[:20], y_test=labels[:20])
    return tmp_path


def test_split_mnist_has_the_five_pairs_of_the_study(folder):
    stream = split_mnist(folder=folder)
    assert [task.name for task in stream] == ["0/1", "2/3", "4/5", "6/7", "8/9"]
    with np.load(folder / "mnist.npz") as raw:
        x, y = raw["x_train"], raw["y_train"]
    inputs, targets = stream[3].train.load()
    chosen = np.isin(y, (6, 7))
    assert torch.equal(inputs, torch.from_numpy(x[chosen])[:, None].float() / 255)
    assert targets.tolist() == (y[chosen] - 6).tolist()
    assert inputs.shape == (8, 1, 28, 28)
    assert (stream[0].n_outputs, len(stream[0].test)) == (2, 4)


def test_split_takes_any_classes_in_any_order(folder):
    (task,) = split_mnist([(7, 2, 5)], folder=folder)
    with np.load(folder / "mnist.npz") as raw:
        y = raw["y_train"]
    assert task.train.targets.tolist() == [{7: 0, 2: 1, 5: 2}[label] for label in y if label in (2, 5, 7)]
    assert task.n_outputs == 3


def test_split_cifar10_puts_colours_first(folder):
    inputs, _ = split_cifar10(folder=folder)[0].train.load()
    with np.load(folder / "cifar10.npz") as raw:
        first = raw["x_train"][0]
    assert inputs.shape == (8, 3, 32, 32)
    assert torch.equal(inputs[0], torch.from_numpy(first).permute(2, 0, 1).float() / 255)
    assert inputs.is_contiguous()


def test_n_train_is_shared_evenly_among_the_classes(folder):
    stream = split_mnist(folder=folder, n_train=5)
    assert [torch.bincount(task.train.targets).tolist() for task in stream] == [[2, 3]] * 5
    assert [len(task.test) for task in stream] == [4] * 5
    with pytest.raises(SettingError, match="n_train=9 needs 5 training examples of class 1, and there are 4"):
        split_mnist(folder=folder, n_train=9)
    with pytest.raises(SettingError, match="n_train must be a whole number from 1 up, not 0"):
        split_mnist(folder=folder, n_train=0)


@pytest.mark.parametrize(
    "classes",
    [[(1,)], [(1, 1)], [(1, 10)], [(-1, 1)], (0, 1), None, [], 3, [[0.0, 1.0]], [[[0], [1]]], ["01"], [(True, 0)]],
)
def test_classes_that_are_no_groups_are_refused_before_data_are_looked_for(tmp_path, classes):
    for split in (split_mnist, split_cifar10):
        with pytest.raises(SettingError) as caught:
            split(classes, folder=tmp_path)
        assert str(caught.value) == (
            "classes must be one or more groups, each of two or more different labels from 0 to 9, such as "
            f"[(0, 1), (2, 3)], not {classes!r}."
        )


def test_classes_may_be_arrays(folder):
    assert [task.name for task in split_mnist(np.array([[0, 1], [4, 2]]), folder=folder)] == ["0/1", "4/2"]


def test_permuted_mnist_reorders_all_images_alike(folder):
    stream = permuted_mnist(3, folder=folder)
    plain, _ = stream[0].train.load()
    orders = [streams.Permutation(seed=0, index=index) for index in (1, 2)]
    for task, order in zip(stream[1:], orders, strict=True):
        inputs, targets = task.train.load()
        assert torch.equal(inputs, order(plain))
        assert torch.equal(inputs.flatten(1).sort(1).values, plain.flatten(1).sort(1).values)
        assert torch.equal(targets, stream[0].train.targets)
        assert task.train.inputs.data_ptr() == stream[0].train.inputs.data_ptr()
    assert not torch.equal(*(order(plain) for order in orders))
    again = permuted_mnist(3, folder=folder)[2].test.load()[0]
    assert torch.equal(again, stream[2].test.load()[0])
    assert stream[1].n_outputs == 10


def test_rotation_by_right_angles_is_exact():
    image = torch.rand(2, 1, 28, 28)
    for turns in range(4):
        expected = torch.rot90(image, turns, (2, 3))  # counter-clockwise
        assert torch.allclose(streams.Rotation(90.0 * turns)(image), expected, atol=1e-4)


def test_rotated_mnist_turns_each_task_by_its_angle(folder):
    stream = rotated_mnist([0, 30], folder=folder)
    assert [task.name for task in stream] == ["0 degrees", "30 degrees"]
    plain, _ = stream[0].test.load()
    turned, _ = stream[1].test.load()
    assert torch.equal(turned, streams.Rotation(30.0)(plain))
    assert float(turned.min()) >= 0
    assert float(turned.max()) <= 1
    for angles in ([], [float("nan")], 30, ["a"], None, [None], "30"):
        with pytest.raises(
            SettingError, match=r"^degrees must be at least one finite angle, such as \[0, 30, 60\], not"
        ):
            rotated_mnist(angles, folder=folder)
    with pytest.raises(SettingError, match="n_tasks must be a whole number from 1 up, not 0"):
        permuted_mnist(0, folder=folder)
