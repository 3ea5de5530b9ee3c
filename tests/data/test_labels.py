"""Labels are those that examples give, whichever way a dataset is read."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from daynight import Agent, Capacity, Clock, Epochs, LazyDataset, OneShot, Task
from daynight.data.adapters import by_class, from_avalanche, from_continuum, from_hugging_face
from daynight.data.labels import Listing, listing
from daynight.errors import DataError
from daynight.testing import toy_network


class Base(Dataset):
    """A dataset as torchvision has them: `targets` are raw, and the label of an example may be transformed."""

    def __init__(self, n=60, n_classes=4, target_transform=None, raw=list):
        labels = [i % n_classes for i in range(n)]
        self.labels, self.targets = labels, raw(labels)
        self.target_transform = (lambda label: label) if target_transform is None else target_transform
        self.n_read = 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.n_read += 1
        return torch.full((6,), float(index)), self.target_transform(self.labels[index])


class View(Dataset):
    """Some examples of a dataset in another order, with all attributes of the dataset."""

    def __init__(self, dataset, order):
        self.__dict__.update(dataset=dataset, order=order)

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        return self.dataset[self.order[index]]

    def __getattr__(self, name):
        return getattr(self.__dict__["dataset"], name)


def shuffled(n=60):
    return torch.randperm(n, generator=torch.Generator().manual_seed(1)).tolist()


def labels_of(dataset):
    return [int(dataset[index][1]) for index in range(len(dataset))]


def halved(label):
    return label // 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Base(target_transform=halved),
        lambda: Base(target_transform=halved, raw=torch.tensor),
        lambda: Base(target_transform=lambda label: 3 - label, raw=np.array),
        lambda: View(Base(), shuffled()),
        lambda: View(Base(), shuffled()[:30]),
        lambda: Base(raw=lambda labels: [f"class {label // 2}" for label in labels]),
        lambda: Base(raw=lambda labels: [f"class {label}" for label in labels]),
        lambda: Base(target_transform=torch.tensor),
        lambda: Base(target_transform=np.int64, raw=tuple),
    ],
    ids=["coarse", "tensor", "flipped", "shuffled", "part", "coarse texts", "texts", "tensors", "numpy"],
)  # fmt: skip
def test_labels_are_the_same_whether_a_dataset_is_read_whole_or_lazily(make):
    expected = labels_of(make())
    whole = Task(train=make(), test=make())
    lazy = Task(train=LazyDataset(make()), test=LazyDataset(make()))
    for task in (whole, lazy):
        assert task.train.targets.tolist() == task.test.targets.tolist() == expected
    assert lazy.train.load()[0].tolist() == whole.train.load()[0].tolist()


def test_listed_labels_save_reading_all_examples():
    data = Base(n=1000)
    Task(train=LazyDataset(data), test=(torch.zeros(4, 6), torch.arange(4)))
    assert data.n_read < 30
    rows = Base(n=1000, target_transform=lambda label: torch.eye(4)[label])  # one-hot, of the labels that are listed
    task = Task(train=LazyDataset(rows), test=(torch.zeros(4, 6), torch.arange(4)))
    assert rows.n_read < 30
    assert task.train.targets[:5].tolist() == [0, 1, 2, 3, 0]


def test_labels_that_are_given_to_a_lazy_dataset_are_what_is_learnt():
    data = Base()
    given = [label % 2 for label in data.labels]
    lazy = LazyDataset(data, targets=given)
    assert lazy.split().targets.tolist() == given
    assert len(lazy.split().load()[0]) == 60


def wrong_in_a_few(label_of):
    """A dataset of 640 examples that gives other labels than it lists, for a few that no spread of examples shows."""

    class Noisy(Base):
        def __getitem__(self, index):
            inputs, label = super().__getitem__(index)
            return inputs, label_of(label) if index in (33, 333) else label

    return Noisy(n=640, n_classes=2)


def test_a_label_that_differs_is_found_as_it_is_learnt_or_tested():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
    noisy, clean = LazyDataset(wrong_in_a_few(lambda label: 1 - label)), LazyDataset(Base(n_classes=2))
    message = r"example (33|333) of Noisy gives the label 0, and the labels .* Noisy\.targets, say 1\. .*targets="
    with pytest.raises(DataError, match=message):
        agent.wake(Task(train=noisy, test=clean), Epochs(1))
    agent.abandon_day()
    clock = Clock(agent, [Task(train=clean, test=noisy)], policy=OneShot(), wake=Epochs(1), night=Epochs(1))
    with pytest.raises(DataError, match=message):
        clock.run()
    with pytest.raises(DataError, match=message):
        Task(train=clean, test=noisy).hold_out(0.1).test.load()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_a_label_that_differs_is_found_by_other_processes():
    split = LazyDataset(wrong_in_a_few(lambda label: 1 - label), n_workers=1).split()
    with pytest.raises(DataError, match="example 33 of Noisy gives the label 0"):
        split.load()


class Experience:
    def __init__(self, dataset):
        self.dataset = dataset


class Columns:
    """What Hugging Face's datasets offer: rows as dicts, and columns by name."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return self.dataset.targets if key == "y" else dict(zip("xy", self.dataset[key], strict=True))


class Taskset(View):
    """What Continuum's tasksets offer."""

    def __init__(self, dataset):
        super().__init__(dataset, range(len(dataset)))
        self.__dict__["_y"] = np.array(dataset.targets)


def adapted(way, data, lazy):
    if way == "by class":
        classes = sorted(set(labels_of(data)))
        return by_class(data, data, [classes], lazy=lazy)
    if way == "avalanche":
        benchmark = Experience(None)
        benchmark.train_stream = benchmark.test_stream = [Experience(data)]
        return from_avalanche(benchmark, lazy=lazy)
    if way == "continuum":
        return from_continuum([Taskset(data)], [Taskset(data)], lazy=lazy)
    return from_hugging_face([(Columns(data), Columns(data))], inputs="x", targets="y", lazy=lazy)


WAYS = ["by class", "avalanche", "continuum", "hugging face"]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_adapters_take_the_labels_that_examples_give(way, lazy):
    task = adapted(way, Base(target_transform=halved), lazy)[0]
    assert task.train.targets.tolist() == task.test.targets.tolist() == [label // 2 for label in Base().labels]
    assert task.n_outputs == 2
    assert task.train.load()[0][:, 0].tolist() == list(range(60))
    task = adapted(way, View(Base(), shuffled()), lazy)[0]
    assert task.train.targets.tolist() == [index % 4 for index in shuffled()]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_adapters_find_a_label_that_differs(way, lazy):
    with pytest.raises(DataError, match=r"example 33 of .* gives the label 0, and the labels"):
        adapted(way, wrong_in_a_few(lambda label: 1 - label), lazy)[0].train.load()


def test_experiences_of_avalanche_have_the_transforms_that_its_strategies_use():
    class Modal(Base):
        """As Avalanche's datasets: `train` and `eval` return the dataset with the transforms for training or tests."""

        def train(self):
            return Modal(target_transform=lambda label: label // 2)

        def eval(self):
            return Modal(target_transform=lambda label: int(label == 3))

    stream = adapted("avalanche", Modal(), False)
    assert stream[0].train.targets[:4].tolist() == [0, 0, 1, 1]
    assert stream[0].test.targets[:4].tolist() == [0, 0, 0, 1]


def test_classes_that_only_the_list_has_are_not_there():
    data = Base(target_transform=halved)
    with pytest.raises(DataError, match="there are no examples of class 3"):
        by_class(data, data, [[0, 3]])
    stream = by_class(data, data, [[1, 0]])
    assert stream[0].train.targets.tolist() == [1 - label // 2 for label in data.labels]


def test_one_experience_of_tests_may_serve_all_tasks():
    class Part(Base):
        def __init__(self, classes):
            super().__init__(n_classes=6)
            chosen = [place for place, label in enumerate(self.labels) if label in classes]
            self.places, self.targets = chosen, [self.labels[place] for place in chosen]

        def __len__(self):
            return len(self.places)

        def __getitem__(self, index):
            return (*super().__getitem__(self.places[index]), 0)

    benchmark = Experience(None)
    benchmark.train_stream = [Experience(Part(classes)) for classes in ((0, 3), (1, 2, 5))]
    benchmark.test_stream = [Experience(Part(range(6)))]
    with pytest.raises(DataError, match=r"2 to learn from and 1 to test on.* give shared_test=True"):
        from_avalanche(benchmark)
    for lazy in (False, True):
        stream = from_avalanche(benchmark, shared_test=True, lazy=lazy)
        assert [task.name for task in stream] == ["0/3", "1/2/5"]
        for task, classes in zip(stream, ((0, 3), (1, 2, 5)), strict=True):
            assert len(task.test) == 10 * len(classes)
            assert torch.equal(task.test.targets, task.train.targets)
            assert torch.equal(task.test.load()[0], task.train.load()[0])
    benchmark.valid_stream = benchmark.test_stream
    assert len(from_avalanche(benchmark, shared_test=True)[0].validation) == 20
    benchmark.test_stream = benchmark.train_stream
    with pytest.raises(DataError, match="with shared_test=True there is one to test on, and here there are 2 and 1"):
        from_avalanche(benchmark, shared_test=True)


def test_a_missing_class_label_of_hugging_face_is_refused():
    class ClassLabel:
        num_classes = 3

    class Featured(Columns):
        @property
        def features(self):
            return {"y": ClassLabel(), "x": None}

    data = Base(n_classes=3, target_transform=lambda label: label - 1)
    data.targets = [label - 1 for label in data.labels]
    for kind in (list, np.array, torch.tensor):
        data.targets = kind(list(data.targets))
        with pytest.raises(DataError, match=r"task 0: the class label -1 in the column 'y' .* Leave these out"):
            from_hugging_face([(Featured(data), Featured(data))], inputs="x", targets="y")
    stream = from_hugging_face([(Columns(data), Columns(data))], inputs="x", targets="y")  # plain numbers are classes
    assert stream[0].name == "-1/0/1"
    whole = Base(n_classes=3)
    assert from_hugging_face([(Featured(whole), Featured(whole))], inputs="x", targets="y")[0].n_outputs == 3


def test_masked_labels_are_refused():
    data = Base()
    data.targets = np.ma.masked_equal(data.labels, 2)
    with pytest.raises(DataError, match="by_class: labels are masked, which means that they are missing"):
        by_class(data, data, [[0, 1]])


class Sized(IterableDataset):
    """A stream with a length, as WebDataset has them."""

    def __iter__(self):
        return iter([(torch.randn(4), i % 2) for i in range(20)])

    def __len__(self):
        return 20


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize("stream", [Sized(), Endless()])
def test_datasets_that_are_streams_are_refused(stream):
    with pytest.raises(DataError, match=r"by_class: a dataset must be map-style, .* Read a stream into a list"):
        by_class(stream, stream, [[0, 1]])
    with pytest.raises(DataError, match="LazyDataset: dataset must have a length and be indexed by numbers"):
        LazyDataset(stream)
    with pytest.raises(DataError, match=r"A dataset must be map-style, .*: read a stream into a list"):
        Task(train=stream, test=stream)
    with pytest.raises(DataError, match="a dataset must be one split, and map-style"):
        from_hugging_face([(stream, stream)])


def test_a_dataset_that_fails_says_which_example():
    class Broken(Base):
        targets = None

        def __init__(self):
            super().__init__()
            self.targets = None

        def __getitem__(self, index):
            raise OSError("no such image")

    with pytest.raises(DataError, match=r"example 0 of Broken cannot be read: OSError\('no such image'\)"):
        by_class(Broken(), Broken(), [[0, 1]])


@pytest.mark.parametrize(
    ("labels", "given", "agree"),
    [
        ([0.1, 0.2], [np.float32(0.1), torch.tensor(0.2)], True),
        ([0.1, 0.2], [0.1, 0.2001], False),
        ([100_000, 3], [100_000.0, 3], True),
        ([[1.0, 2.0]], [np.array([1, 2])], True),
        ([[1.0, 2.0]], [np.array([1, 3])], False),
        (["a", "b", "a"], ["a", "b", "a"], True),
        (["a", "b"], ["a", "c"], False),
        (["a", "b", "a"], [5, 7, 5], True),
        (["a", "b", "a"], [5, 7, 7], False),
        (["a", "b", "c"], [5, 7, 5], False),
        ([0, 1, 0], [[1, 0], [0, 1], [1, 0]], True),
        ([0, 1, 1], [[1, 0], [0, 1], [1, 0]], False),
        ([0, 1], [None, {"boxes": 1}], True),
        ([True, False], [1, 0], True),
    ],
)
def test_labels_agree_if_they_are_equal_or_name_the_same_classes(labels, given, agree):
    listed = Listing("Data", labels)
    assert all(listed.agrees(index, label) for index, label in enumerate(given)) == agree
    found = listing("Data", labels, len(labels), lambda index: given[index])
    assert (found is not None) == agree
    assert listing("Data", labels, len(labels) + 1, lambda index: given[0]) is None
    assert listing("Data", 3, 1, lambda index: given[0]) is None
