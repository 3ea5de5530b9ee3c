"""What is given as inputs and targets: numbers as they are, and nothing as a number that is none."""

import datetime
import decimal
import re

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from torch.utils.data import Dataset

from daynight import Agent, Capacity, Epochs, LazyDataset, OneShot, Split, Steps, Task
from daynight.data.arrays import Unreadable, tensor_of
from daynight.errors import DataError
from daynight.testing import toy_network, toy_stream

LABELS = [0, 1, 0]


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def masked(kind, where=2):
    values = np.ma.masked_array(np.arange(6).reshape(3, 2).astype(kind))
    values[where, 1] = np.ma.masked
    return values


@pytest.mark.parametrize("kind", ["float32", "int64", "uint8", "bool"])
def test_masked_values_are_missing_whatever_their_type(kind):
    with pytest.raises(DataError, match=r"^the inputs .*: values are masked, .* missing, first at index 2\. Fill"):
        Split(masked(kind), LABELS)
    with pytest.raises(DataError, match=r"^the targets .* first at index 1\."):
        Split(np.zeros((3, 2)), masked(kind, 1)[:, 1])
    whole = np.ma.masked_array(np.ones((3, 2), kind), mask=False)
    assert torch.equal(Split(whole, LABELS).inputs, torch.as_tensor(np.ones((3, 2), kind)))


def test_masked_values_are_missing_in_lists_in_datasets_and_behind_other_objects():
    class Variable:
        """What netCDF4 has: an object that is read as a masked array."""

        def __array__(self, dtype=None, copy=None):
            return masked("float32", 1)

    for inputs, first in ((list(masked("float32")), 2), (Variable(), 1)):
        with pytest.raises(DataError, match=rf"values are masked, .* first at index {first}\."):
            Split(inputs, LABELS)
    rows = Items([(row, 0) for row in masked("float32")])
    with pytest.raises(DataError, match=r"example 2 of Items cannot be read as tensors: values are masked"):
        Task(train=rows, test=rows)
    lazy = Task(train=LazyDataset(rows, targets=LABELS), test=(np.zeros((3, 2), "f4"), LABELS)).train
    with pytest.raises(DataError, match=r"example 2 of Items cannot be read as tensors: values are masked"):
        lazy.load()


TIMES = pandas.date_range("2026-01-01", periods=3)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (TIMES, "dates or times"),
        (TIMES - TIMES[0], "dates or times"),
        (TIMES.tz_localize("Europe/Berlin"), "dates or times"),
        (TIMES.date, "dates or times"),
        ([datetime.time(6), datetime.time(7), datetime.time(8)], "dates or times"),
        ([0.5, pandas.NaT, 1.5], "dates or times"),
        (["1", "2", "3"], "texts"),
        (pandas.Categorical(["1", "2", "3"]), "texts"),
        (pandas.array(["1", None, "3"], dtype="string"), "texts"),
        ([b"1", b"2", b"3"], "texts"),
        ([1, "2", 3.0], "texts"),
        (TIMES.to_period("D"), "objects of the type Period"),
        ([(1, 2), (3, 4), (5, 6)], "objects of the type tuple"),
    ],
)  # fmt: skip
def test_a_column_that_holds_no_numbers_is_refused_by_its_name(values, what):
    alone = pandas.DataFrame({"odd": pandas.Series(values)})
    for table in (alone, alone.assign(load=[0.5, 1.5, 2.5])):
        with pytest.raises(DataError, match=rf"^the inputs .*: column 'odd' holds {what}\."):
            Split(table, LABELS)
    with pytest.raises(DataError, match=rf"^the targets cannot be read as a tensor: they (contain|are) {what}\."):
        Split(np.zeros((3, 2)), alone["odd"])


def test_arrays_and_lists_of_no_numbers_say_what_they_are():
    for values, what in (
        (TIMES.to_numpy(), "they are dates or times"),
        (np.array(["1", "2", "3"]), "they are texts"),
        (["1", "2", "3"], "they contain texts"),
        (list(TIMES), "they contain dates or times"),
        ([np.datetime64("2026-01-01")] * 3, "they contain dates or times"),
        (np.array([0, 1, 0], object), r"they are objects of Python .* values\.astype\('float32'\)"),
        (np.array([0, None, 0], object), r"they are objects of Python"),
    ):
        with pytest.raises(DataError, match=rf"^the targets cannot be read as a tensor: {what}"):
            Split(np.zeros((3, 2)), values)


class Frame:
    """What polars has: columns with types of its own, and dates that become numbers in an array."""

    class Type:
        def __init__(self, is_temporal):
            self.is_temporal = lambda: is_temporal

    def __init__(self, values, *temporal):
        self.values, self.columns = np.asarray(values), [f"c{i}" for i in range(len(temporal))]
        self.dtypes = [self.Type(flag) for flag in temporal]

    def to_numpy(self):
        return self.values


def test_frames_of_polars_are_asked_for_their_types():
    with pytest.raises(DataError, match="column 'c1' holds dates or times"):
        Split(Frame([[0.5, 1.8e15]] * 3, False, True), LABELS)
    with pytest.raises(DataError, match="column 'c1' holds texts"):
        Split(Frame(np.array([[0.5, "x"]] * 3, object), False, False), LABELS)
    assert Split(Frame([[0.5, 1.5]] * 3, False, False), LABELS).inputs.tolist() == [[0.5, 1.5]] * 3
    with pytest.raises(DataError, match="not finite as 32-bit numbers, first in example 1"):
        Split(Frame(np.array([[True], [None], [False]], object), False), LABELS)


def test_nullable_columns_are_numbers_and_what_is_missing_in_them_is_missing():
    whole, gap = pandas.array([0, 1, 0], dtype="Int64"), pandas.array([0, None, 0], dtype="Int64")
    x = np.zeros((3, 2))
    for labels in (pandas.Series(whole), pandas.Series([0, 1, 0], dtype=object), pandas.Series([False, True, False]),
                   pandas.Series(pandas.Categorical([0, 1, 0])), pandas.DataFrame({"a": whole})["a"]):  # fmt: skip
        split = Split(x, labels)
        assert (split.targets.tolist(), split.targets.dtype) == ([0, 1, 0], torch.int64)
    for values in (gap, np.array([0, None, 0]), pandas.Categorical([0, None, 0])):
        with pytest.raises(DataError, match=r"^the targets hold values that are not finite .* first in example 1"):
            Split(x, pandas.Series(values))
    table = pandas.DataFrame({"a": gap, "b": [decimal.Decimal("0.5")] * 3})
    with pytest.raises(DataError, match=r"^the inputs hold values that are not finite .* first in example 1"):
        Split(table, LABELS)
    assert Split(table.fillna(2), LABELS).inputs.tolist() == [[0, 0.5], [2, 0.5], [0, 0.5]]


@pytest.mark.parametrize("kind", ["complex64", "complex128", "float16", ">f4", ">i8", "float64"])
def test_numbers_of_any_type_are_read_and_checked(kind):
    values = np.arange(6).reshape(3, 2).astype(kind)
    assert Split(values, LABELS).inputs.tolist() == values.tolist()
    if values.dtype.kind != "i":
        values[1, 0] = np.nan
        with pytest.raises(DataError, match="first in example 1"):
            Split(values, LABELS)


def test_numbers_of_eight_bits_are_checked():
    values = torch.ones(3, 2).to(torch.float8_e4m3fn)
    assert len(Split(values, LABELS)) == 3
    values[2, 0] = torch.nan
    with pytest.raises(DataError, match="first in example 2"):
        Split(values, LABELS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (scipy.sparse.csr_matrix(np.eye(3)), r"Of a sparse matrix, give values\.toarray\(\)"),
        ([np.ones(1), np.ones(2), np.ones(1)], "All examples need one shape: pad or cut them"),
        ([[1.0], [1.0, 2.0], [1.0]], "All examples need one shape"),
        ([torch.ones(1), torch.ones(2), torch.ones(1)], "All examples need one shape"),
        (pandas.Series([[1.0], [1.0, 2.0], [1.0]]), "All examples need one shape"),
        (torch.ones(3, 2, device="meta"), "a tensor on the device 'meta' holds no numbers"),
        (np.zeros(3, [("a", "f4")]), "Give numbers, such as"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays:UserWarning")
def test_what_is_refused_comes_with_the_advice_that_helps(values, message):
    with pytest.raises(DataError, match=f"^the inputs cannot be read as a tensor: .*{message}"):
        Split(values, LABELS)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(layout):
    values = torch.nested.nested_tensor([torch.ones(1), torch.ones(2), torch.ones(1)], layout=layout)
    with pytest.raises(DataError, match=r"nested tensor .* Pad them: torch\.nested\.to_padded_tensor"):
        Split(values, LABELS)
    assert Split(torch.nested.to_padded_tensor(values, 0.0), LABELS).inputs.shape == (3, 2)


def test_lists_of_tensors_are_stacked():
    rows = torch.rand(3, 2)
    assert torch.equal(Split(list(rows), list(torch.tensor(LABELS))).inputs, rows)
    assert Split(rows, [torch.tensor([label]) for label in LABELS]).targets.tolist() == LABELS


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (np.zeros((3, 1), int), r"Give labels\.reshape\(-1\)"),
        (torch.zeros(3, 1, 1, dtype=torch.int32), r"Give labels\.reshape\(-1\)"),
        (np.eye(3, dtype=int), r"Of one-hot labels, give labels\.argmax\(1\)"),
    ],
)
def test_labels_of_another_shape_are_refused_with_the_advice_that_helps(labels, advice):
    with pytest.raises(DataError, match=rf"labels must have the shape \(n,\), not .*{advice}; for regression, give"):
        Split(np.zeros((3, 2)), labels)


class Stored:
    """A dataset on disk, as h5py has them: it is slow if it is read item by item, and counts how often it is read."""

    def __init__(self, values):
        self.values, self.n_read = values, 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        self.n_read += 1
        return self.values[index]

    def __array__(self, dtype=None, copy=None):
        return self[:]


def test_arrays_on_disk_are_read_once():
    inputs, labels = Stored(np.random.default_rng(0).random((30, 4), "f4")), Stored(np.arange(30) % 2)
    split = Split(inputs, labels)
    assert (inputs.n_read, labels.n_read) == (1, 1)
    assert split.inputs.numpy().tolist() == inputs.values.tolist()
    rows = Items([(Stored(row), int(label)) for row, label in zip(inputs.values, labels.values, strict=True)])
    Task(train=rows, test=rows)
    assert rows[15][0].n_read == 2  # once for each split
    times = Stored(TIMES.to_numpy())
    with pytest.raises(DataError, match="they are dates or times"):
        Split(times, LABELS)


def test_prediction_checks_its_inputs_as_a_task_does():
    agent, task = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1)), toy_stream(1)[0]
    agent.wake(task, Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    inputs = task.test.load()[0][:4].numpy().copy()
    outputs = agent.predict(inputs, 0)
    table = pandas.DataFrame(inputs)
    for same in (table, inputs.astype(">f4"), list(torch.tensor(inputs)), np.ma.masked_array(inputs), Stored(inputs)):
        assert torch.equal(agent.predict(same, 0), outputs)
    gap = inputs.copy()
    gap[2, 1] = np.nan
    hidden = np.ma.masked_invalid(gap)
    for wrong, message in (
        (gap, "the inputs hold values that are not finite as 32-bit numbers, first in example 2"),
        (np.where(np.isnan(gap), np.inf, gap), "first in example 2"),
        (np.where(np.isnan(gap), 1e300, gap.astype("f8")), "first in example 2"),
        (hidden, "values are masked, which means that they are missing, first at index 2"),
        (table.assign(at="2026"), "column 'at' holds texts"),
        (table.assign(at=pandas.Timestamp(0)), "column 'at' holds dates or times"),
        (None, "the inputs are None"),
    ):
        with pytest.raises(DataError, match=message):
            agent.predict(wrong, 0)
    assert agent.predict(inputs[:0], 0).shape == (0, 2)


def test_lazy_examples_that_are_not_finite_are_refused_wherever_they_are_read():
    class Gap(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, index):
            return torch.full((6,), torch.nan if index == 33 else 1.0), index % 2

    lazy, task = LazyDataset(Gap()), toy_stream(1)[0]
    message = "the inputs of Gap hold values that are not finite as 32-bit numbers, first in example 33"
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
    with pytest.raises(DataError, match=message):
        agent.wake(Task(train=lazy, test=task.test), Epochs(1))
    agent.abandon_day()
    agent.wake(Task(train=task.train, test=lazy), Epochs(1))
    with pytest.raises(DataError, match=message):
        agent.evaluate(Task(train=task.train, test=lazy), 0)


def test_unreadable_says_why():
    with pytest.raises(Unreadable, match="sparse"):
        tensor_of(scipy.sparse.csr_matrix(np.eye(3)))


def test_lists_of_arrays_are_read_at_once():
    rows = [np.arange(3, dtype=">f4"), np.arange(3, 6, dtype=">f4")]
    torch.testing.assert_close(tensor_of(rows), torch.arange(6.0).reshape(2, 3))
    assert tensor_of([np.ma.array([1, 2]), np.ma.array([3, 4])]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(Unreadable, match="All examples need one shape"):
        tensor_of([np.zeros(2), np.zeros(3)])


def test_columns_with_values_that_are_not_finite_are_named():
    table = pandas.DataFrame(np.zeros((9, 8), "float32"), columns=[*"abcdefg", 3])
    table.loc[4, "c"] = np.nan
    message = "the inputs hold values that are not finite as 32-bit numbers, first in example 4 (column 'c'). Clean"
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        Split(table, np.zeros(9, int))
    table.loc[2, 3] = np.nan
    with pytest.raises(DataError, match=r"first in example 2 \(columns 'c', 3\)\."):
        Split(table, np.zeros(9, int))
    table.loc[:] = np.inf
    with pytest.raises(DataError, match=r"first in example 0 \(columns 'a', 'b', 'c', 'd', 'e' and 3 more\)\."):
        Split(table, np.zeros(9, int))
    gap = pandas.DataFrame({"x": pandas.array([1, None, 3], dtype="Int64"), "y": [0.5] * 3})
    with pytest.raises(DataError, match=r"first in example 1 \(column 'x'\)\."):
        Split(gap, LABELS)
    for labels, where in ((gap["x"], r" \(column 'x'\)"), (pandas.Series([0.5, np.nan, 0.5]), "")):
        with pytest.raises(DataError, match=rf"^the targets .* first in example 1{where}\. Clean"):
            Split(np.zeros((3, 2)), labels)
    task = toy_stream(1)[0]
    agent = Agent(toy_network, capacity=Capacity(keep_per_task=0.2))
    agent.wake(task, Steps(1))
    frame = pandas.DataFrame(task.test.inputs.numpy(), columns=[*"abcdef"])
    with pytest.raises(DataError, match=r"first in example 7 \(column 'e'\)\."):
        agent.predict(frame.mask((frame.index == 7)[:, None] & (frame.columns == "e")), 0)
