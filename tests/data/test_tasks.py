import datetime
import math
import random

import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from daynight import Agent, Capacity, LazyDataset, Split, Task, TaskStream, Training
from daynight.data.adapters import by_class
from daynight.errors import DataError
from daynight.testing import toy_network


def pair(n=8, n_classes=2, shape=(3,)):
    return torch.rand(n, *shape), torch.arange(n) % n_classes


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_pixels_become_0_to_1_and_floats_stay():
    pixels = Split(torch.tensor([[0, 51, 255]], dtype=torch.uint8), torch.tensor([0]))
    assert pixels.load()[0].tolist() == [pytest.approx([0.0, 0.2, 1.0])]
    floats = Split(torch.tensor([[0.0, 51.0, 255.0]]), torch.tensor([0]))
    assert floats.load()[0].tolist() == [[0.0, 51.0, 255.0]]


def test_view_is_applied_after_scaling():
    split = Split(torch.tensor([[0, 255]], dtype=torch.uint8), torch.tensor([0]), view=lambda x: x.flip(1) + 1)
    assert split.load()[0].tolist() == [[2.0, 1.0]]
    assert split.input_shape() == (2,)


def test_datasets_arrays_and_tensors_make_the_same_task():
    inputs, labels = pair()
    for data in ((inputs, labels), (inputs.numpy(), labels.numpy()), TensorDataset(inputs, labels),
                 Items(list(zip(inputs.numpy(), labels.tolist(), strict=True)))):  # fmt: skip
        task = Task(train=data, test=data)
        assert torch.equal(task.train.inputs, inputs)
        assert torch.equal(task.train.targets, labels)
        assert task.train.targets.dtype == torch.int64
        assert (task.n_outputs, task.classifies, task.input_shape) == (2, True, (3,))


def test_regression_targets_get_a_second_dimension():
    task = Task(train=(torch.rand(4, 3), torch.rand(4)), test=(torch.rand(2, 3), torch.rand(2)))
    assert task.train.targets.shape == (4, 1)
    assert (task.n_outputs, task.classifies) == (1, False)
    assert Task(train=(torch.rand(4, 3), torch.rand(4, 5)), test=(torch.rand(2, 3), torch.rand(2, 5))).n_outputs == 5


@pytest.mark.parametrize(("shape", "n_outputs"), [((4,), 1), ((4, 1, 1), 1), ((4, 1, 3), 3), ((4, 2, 2), 4)])
def test_regression_targets_of_any_shape_are_kept_as_examples_by_outputs(shape, n_outputs):
    data = torch.rand(4, 3), torch.arange(4.0 * n_outputs).reshape(shape)
    task = Task(train=data, test=Split(*data))
    assert task.n_outputs == n_outputs
    for split in (task.train, task.test):
        assert split.targets.tolist() == [list(range(n_outputs * i, n_outputs * (i + 1))) for i in range(4)]
        assert split.subset(torch.tensor([2])).targets.shape == (1, n_outputs)


def test_split_takes_what_a_pair_may_be():
    split = Split([[0.5], [1.5]], [0, 1])
    assert (split.inputs.tolist(), split.targets.tolist(), split.targets.dtype) == ([[0.5], [1.5]], [0, 1], torch.int64)
    assert Split(np.zeros((2, 3)), np.array([True, False])).targets.tolist() == [1, 0]


def test_split_needs_no_gradient():
    inputs, targets = torch.rand(2, 3, requires_grad=True), torch.rand(2, 1, requires_grad=True)
    split = Split(inputs, targets)
    assert not split.inputs.requires_grad
    assert not split.targets.requires_grad
    assert inputs.requires_grad


def test_number_of_classes_is_found_over_all_splits():
    task = Task(train=(torch.rand(2, 3), [0, 1]), test=(torch.rand(3, 3), [0, 1, 4]))
    assert task.n_outputs == 5
    with pytest.warns(UserWarning, match="all training labels are 0"):
        assert Task(train=(torch.rand(2, 3), [0, 0]), test=(torch.rand(1, 3), [0])).n_outputs == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.rand(0, 3), torch.zeros(0, dtype=torch.long)), "a split has no examples"),
        (Items([]), "a split has no examples"),
        (torch.rand(4, 3), r"examples must be a pair \(inputs, targets\) or a torch dataset .* not Tensor\. Without"),
        (Items([torch.rand(3)]), r"example 0 of Items is not a pair \(input, target\)\. Without targets nothing"),
        ((torch.rand(4, 3), None), r"the targets are None\. Without inputs and targets nothing can be learnt"),
        ((None, [0, 1]), r"the inputs are None\. Without inputs and targets nothing can be learnt"),
        (Items([(torch.rand(3), None)]), r"example 0 of Items cannot be read as tensors"),
        ((torch.rand(4, 3), torch.arange(3)), "there are 4 inputs and 3 targets"),
        ((torch.rand(4, 3), torch.zeros(4, 2, dtype=torch.long)), r"labels must have the shape \(n,\), not \(4, 2\)"),
        ((torch.tensor([[1.0], [torch.nan]]), [0, 1]), "the inputs hold values that are not finite"),
        ((torch.rand(2, 1), torch.tensor([1.0, torch.inf])), "the targets hold values that are not finite"),
        ((np.array([[1e300]]), [0]), "the inputs hold values that are not finite as 32-bit numbers, first in"),
        ((torch.rand(1, 1), np.array([-1e300])), "the targets hold values that are not finite as 32-bit numbers"),
        ((torch.tensor(1.0), torch.tensor(1)), "the inputs are a single number, and need a first dimension"),
        ((["a", "b"], [0, 1]), "the inputs cannot be read as a tensor"),
        (Items([(torch.rand(3), 0), (torch.rand(4), 1)]), "the examples of Items differ in shape"),
        ((torch.eye(2).to_sparse(), [0, 1]), r"the inputs are sparse \(torch\.sparse_coo\)\. Make them dense with"),
        ((torch.rand(2, 3), torch.rand(2, dtype=torch.complex64)), "the targets are complex. Give real and imaginary"),
        ((torch.rand(2, 3), torch.rand(2, 0)), r"the targets have no outputs: their shape is \(2, 0\)\. Give one or"),
    ],
)  # fmt: skip
def test_split_that_cannot_be_learnt_from_is_refused_by_name(data, message):
    for which in ("train", "validation", "test"):
        with pytest.raises(DataError, match=f"^task 'odd', {which} split: {message}"):
            Task(**{"train": pair(), "test": pair(), "name": "odd", which: data})
    if isinstance(data, tuple):
        with pytest.raises(DataError, match=f"^{message}"):
            Split(*data)


@pytest.mark.parametrize("view", [3, "flip", torch.eye(2)])
def test_view_that_is_no_function_is_refused(view):
    with pytest.raises(DataError, match=r"^view must be a function of the inputs, or None, not "):
        Split(*pair(), view=view)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_outputs": 1}, "train labels run from 0 to 1, and must be from 0 to 0 with 1 outputs. Number the classes"),
        ({"train": (torch.rand(2, 3), [-1, 0])}, "train labels run from -1 to 0, and must be from 0 to 1"),
        ({"test": (torch.rand(2, 3), [0, 2]), "n_outputs": 2}, "test labels run from 0 to 2, and must be"),
        ({"test": (torch.rand(2, 4), [0, 1])}, r"test inputs have the shape \(4,\), and train inputs \(3,\)"),
        ({"test": (torch.rand(2, 3), [0.5, 1.0])}, "test and train targets are of different kinds"),
    ],
)
def test_task_whose_parts_do_not_fit_is_refused(settings, message):
    with pytest.raises(DataError, match=f"task 'odd': {message}"):
        Task(**{"train": pair(), "test": pair(), "name": "odd", **settings})


def test_regression_outputs_must_agree():
    with pytest.raises(DataError, match="train targets have 2 values an example, and the task has 3 outputs"):
        Task(train=(torch.rand(4, 3), torch.rand(4, 2)), test=(torch.rand(4, 3), torch.rand(4, 2)), n_outputs=3)


def test_hold_out_takes_the_same_share_of_every_class_and_loses_nothing():
    inputs, labels = torch.arange(60.0)[:, None], torch.tensor([0] * 40 + [1] * 20)
    task = Task(train=(inputs, labels), test=pair(shape=(1,))).hold_out(0.25, seed=1)
    assert task.validation is not None
    assert [int((task.validation.targets == c).sum()) for c in (0, 1)] == [10, 5]
    together = torch.cat([task.train.inputs, task.validation.inputs]).flatten().sort().values
    assert torch.equal(together, inputs.flatten())
    again = Task(train=(inputs, labels), test=pair(shape=(1,))).hold_out(0.25, seed=1)
    other = Task(train=(inputs, labels), test=pair(shape=(1,))).hold_out(0.25, seed=2)
    assert torch.equal(again.train.inputs, task.train.inputs)
    assert not torch.equal(other.train.inputs, task.train.inputs)


def test_hold_out_that_cannot_be_is_refused():
    task = Task(train=pair(), test=pair(), name="t")
    for fraction in (1, 0, -0.5, math.nan, "a", None):
        with pytest.raises(DataError, match=rf"hold_out: fraction must be above 0 and below 1, not {fraction!r}\."):
            task.hold_out(fraction)
    with pytest.raises(DataError, match=r"task 't': 0\.01 of 8 training examples leaves one split empty"):
        task.hold_out(0.01)
    with pytest.raises(DataError, match="task 't' has a validation split already"):
        task.hold_out(0.5).hold_out(0.5)


def test_stream_of_pairs_names_the_task_that_is_wrong():
    stream = TaskStream([(pair(), pair()), Task(train=pair(), test=pair(), name="mine")])
    assert [task.name for task in stream] == ["0", "mine"]
    assert (len(stream), stream.n_train, len(stream[:1])) == (2, 16, 1)
    with pytest.raises(
        DataError, match=r"^task 1, test split: a split has no examples\. Leave the task out, or give it some"
    ):
        TaskStream([(pair(), pair()), (pair(), pair(n=0))])
    with pytest.raises(DataError, match=r"^task 0: test inputs have the shape \(4,\), and train inputs \(3,\)"):
        TaskStream([(pair(), pair(shape=(4,)))])
    with pytest.raises(DataError, match=r"task 0: give a Task or a pair \(train, test\), not Tensor"):
        TaskStream([torch.rand(3, 3)])
    with pytest.raises(DataError, match="a stream needs at least one task"):
        TaskStream([])
    for tasks in (None, 3):
        with pytest.raises(DataError, match=rf"(?m)^tasks must be several, each a Task or a pair .*, not {tasks}\.$"):
            TaskStream(tasks)


def test_hold_out_of_a_stream_keeps_order_and_source():
    stream = TaskStream([(pair(), pair()), (pair(), pair())], source="here").hold_out(0.5)
    assert [len(task.validation) for task in stream] == [4, 4]
    assert stream.source == "here"
    assert np.all([len(task.train) == 4 for task in stream])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([2, 3, 2, 3]), "no training label is 0, and the smallest is 2"),
        (torch.tensor([0.0, 1.0, 1.0, 0.0]), "all targets are 0.0 or 1.0, and floating point, which means regression"),
        (torch.eye(4), "which means regression"),
        (torch.arange(40.0) % 4, "all targets are whole numbers, 4 different ones, in floating point, which means"),
        (torch.tensor([0, 1, 100_000]), "the largest training label is 100000, and there are 3 different ones"),
        (torch.zeros(4, dtype=torch.int64), "all training labels are 0, so there is nothing to learn"),
    ],
)
def test_targets_that_may_mean_something_else_are_warned_of(targets, message):
    data = (torch.rand(len(targets), 3), targets)
    with pytest.warns(UserWarning, match=message):
        Task(train=data, test=data)
    n_outputs = 1 if targets.is_floating_point() and targets.dim() == 1 else max(4, 1 + int(targets.max()))
    assert Task(train=data, test=data, n_outputs=n_outputs).n_outputs == n_outputs  # meant, so it is said


def test_tables_of_pandas_are_read():
    table = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4, 5, 6], "label": [0, 1, 0], "text": ["x", "y", "z"]})
    data = (table[["a", "b"]], table["label"])
    task = Task(train=data, test=data)
    assert task.train.inputs.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert task.train.targets.tolist() == [0, 1, 0]
    with pytest.raises(
        DataError, match=r"a task without a name, train split: the inputs .*: column 'text' holds texts\."
    ):
        Task(train=(table[["a", "text"]], table["label"]), test=data)
    backward = np.arange(6.0).reshape(3, 2)[::-1]
    assert Task(train=(backward, table["label"]), test=data).train.inputs[0].tolist() == [4, 5]
    table.loc[1, "a"] = math.nan
    with pytest.raises(DataError, match="not finite as 32-bit numbers, first in example 1"):
        Task(train=(table[["a", "b"]], table["label"]), test=data)
    # Columns of different types are objects to NumPy, and pandas may return a read-only array.
    mixed = pandas.DataFrame(
        {"a": pandas.array([1, 2, 3], dtype="Int64"), "b": [True, False, True], "c": [0.5, 1.5, 2.5]}
    )
    labels = [0, 1, 0]
    assert Task(train=(mixed, labels), test=(mixed, labels)).train.inputs[1].tolist() == [2, 0, 1.5]
    assert Task(train=(mixed[["b"]], labels), test=(mixed[["b"]], labels)).train.inputs.tolist() == [[1], [0], [1]]
    mixed.loc[2, "a"] = pandas.NA
    with pytest.raises(DataError, match="not finite as 32-bit numbers, first in example 2"):
        Task(train=(mixed, labels), test=(mixed, labels))
    locked = np.ones((3, 2), dtype="float32")
    locked.flags.writeable = False
    assert Task(train=(locked, labels), test=(locked, labels)).train.inputs.sum() == 6


class Noisy(Dataset):
    """A dataset whose examples are drawn anew at each reading."""

    def __init__(self, draw, n=40):
        self.draw, self.n = draw, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.full((6,), float(index)) + self.draw(), index % 2


def flipped():
    return float(torch.rand(()) < 0.5)


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.randn(6), np.random.random, random.random, flipped],
    ids=["torch", "numpy", "python", "at times"],
)
def test_a_random_dataset_that_is_read_once_is_warned_of_once(draw):
    torch.manual_seed(0)
    random.seed(0)
    data = Noisy(draw)
    with pytest.warns(UserWarning, match=r"an example of Noisy, read again, has other .* Training\(augment=") as found:
        Task(train=data, test=data, validation=data)
    assert len(found) == 1
    Task(train=LazyDataset(Noisy(draw)), test=pair(shape=(6,)))  # is read anew in each epoch


def test_a_random_dataset_that_an_adapter_splits_is_warned_of_once():
    data = Noisy(lambda: torch.randn(6))
    with pytest.warns(UserWarning, match=r"an example of Noisy, read again") as found:
        by_class(data, data, [[0, 1], [1, 0]])
    assert len(found) == 1


def test_reading_again_draws_no_number_of_others():
    def drawn(data):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        if data == "whole":
            with pytest.warns(UserWarning, match="read again"):
                Task(train=Noisy(lambda: torch.randn(6)), test=(torch.zeros(2, 6), [0, 1]))
        else:
            for _ in range(40):
                torch.randn(6)
        return torch.rand(3).tolist(), random.random(), np.random.random()  # noqa: NPY002

    assert drawn("whole") == drawn("by hand")


BYTES = torch.arange(240, dtype=torch.uint8).reshape(40, 6)
TWO = torch.arange(40) % 2


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("floats", [BYTES.float(), BYTES.double() - 120, BYTES.float().numpy()])
def test_pixels_in_one_split_and_other_numbers_in_another_are_warned_of(floats, lazy):
    def made(inputs):
        return LazyDataset(Items([*zip(inputs, TWO, strict=True)]), targets=TWO) if lazy else (inputs, TWO)

    for splits in ({"train": BYTES, "test": floats}, {"train": floats, "test": BYTES}):
        first = next(which for which, inputs in splits.items() if inputs is BYTES)
        with pytest.warns(UserWarning, match=f"task 'odd': {first} inputs are unsigned bytes, which are scaled to 0-1"):
            Task(**{which: made(inputs) for which, inputs in splits.items()}, name="odd")
    days = [Task(train=made(inputs), test=made(inputs), name=name) for name, inputs in (("a", BYTES), ("b", floats))]
    with pytest.warns(UserWarning, match=r"the stream: task 'a': train inputs are unsigned bytes.*task 'b': train inp"):
        TaskStream(days)


def test_pixels_that_were_scaled_before_are_not_warned_of():
    scaled = BYTES.float() / 255
    for same in (scaled, scaled + 0.1 * torch.randn(scaled.shape), BYTES):
        TaskStream([Task(train=(BYTES, TWO), test=(same, TWO)), Task(train=(same, TWO), test=(BYTES, TWO), name="b")])
    viewed = Split(BYTES, TWO, view=lambda x: x * 255)
    Task(train=viewed, test=(BYTES.float(), TWO))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.int32])
def test_a_split_that_the_network_cannot_read_is_refused_before_training(kind):
    inputs = torch.rand(40, 6)
    task = Task(train=(inputs, TWO), test=(inputs.to(kind), TWO), name="odd")
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
    with pytest.raises(DataError, match=rf"day 0, task 'odd': test inputs are {kind}, and train inputs torch\.float32"):
        agent.check(task)
    validated = Task(train=(inputs, TWO), test=(inputs, TWO), validation=(inputs.to(kind), TWO))
    with pytest.raises(DataError, match=rf"validation inputs are {kind}"):
        agent.check(validated)
    converting = Agent(
        toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(transform=torch.Tensor.float)
    )
    converting.check(task)


def test_two_examples_are_a_dataset_as_three_are():
    examples = [(np.ones(6, "float32") * i, i % 2) for i in range(40)]
    for n in (1, 2, 3):
        task = Task(train=examples, test=examples[:n], validation=tuple(examples[:n]))
        assert (len(task.test), len(task.validation), task.test.input_shape()) == (n, n, (6,))
    outputs = [(torch.ones(6) * i, torch.ones(2)) for i in range(2)]
    assert Task(train=outputs, test=outputs, n_outputs=2).train.targets.shape == (2, 2)
    numbers = [[0.5, 1.5], [0, 1]]
    assert Task(train=numbers, test=numbers).train.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (np.datetime64("2026-03-01"), "2026-03-01"),
        (datetime.datetime(2026, 3, 1, 4, 30), "2026-03-01 04:30:00"),
        (pandas.Timestamp("2026-03-01"), "2026-03-01 00:00:00"),
        (7, "7"),
        (np.int64(7), "7"),
    ],
)
def test_numbers_and_dates_become_names(name, text, tmp_path):
    task = Task(train=pair(), test=pair(), name=name)
    assert (task.name, type(task.name)) == (text, str)


@pytest.mark.parametrize("name", [("shop", 1), None, b"a", True, 1.5, ["a"], datetime.timedelta(1)])
def test_names_that_are_no_text_are_refused(name):
    with pytest.raises(DataError, match=r"a task's name must be text, such as '2026-03-01', not "):
        Task(train=pair(), test=pair(), name=name)


def test_days_of_the_same_name_are_warned_of():
    march, april = (Task(train=pair(), test=pair(), name=name) for name in ("March", "April"))
    with pytest.warns(UserWarning, match="two tasks have the name 'March'. If one day's data have come twice"):
        TaskStream([march, april, march])
    TaskStream([march, april])
    TaskStream([march, april, Task(train=pair(n=10), test=pair(), name="March")])  # other data
    TaskStream([pair() for _ in range(2)] for _ in range(3))
    unnamed = Task(train=pair(), test=pair())
    TaskStream([unnamed, unnamed])
