"""Streams from other libraries' data, told by what they offer."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from daynight import Agent, Capacity, Clock, Epochs, OneShot
from daynight.data.adapters import by_class, from_avalanche, from_continuum, from_hugging_face
from daynight.errors import DataError, SettingError
from daynight.testing import toy_network

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(60, 6, generator=GENERATOR)
LABELS = torch.arange(60) % 6


class Labelled(TensorDataset):
    """A dataset as torchvision has them, with the label of each."""

    def __init__(self, inputs, labels):
        super().__init__(inputs, labels)
        self.targets = labels.tolist()


class Experience:
    def __init__(self, dataset):
        self.dataset = dataset


class Benchmark:
    """What Avalanche's benchmarks offer: streams of experiences with datasets of (input, label, task)."""

    def __init__(self, groups, test_groups=None):
        self.train_stream = [Experience(self.of(group, slice(0, 40))) for group in groups]
        self.test_stream = [Experience(self.of(group, slice(40, 60))) for group in test_groups or groups]

    def of(self, group, part):
        chosen = torch.isin(LABELS[part], torch.tensor(group))
        labels = LABELS[part][chosen]
        dataset = TensorDataset(INPUTS[part][chosen], labels, torch.zeros(len(labels)))
        dataset.targets = labels
        return dataset


class Taskset:
    """What Continuum's tasksets offer."""

    def __init__(self, dataset):
        self._y, self.pairs = dataset.targets.numpy(), dataset

    def __len__(self):
        return len(self._y)

    def __getitem__(self, index):
        return (self.pairs[index][0], np.int64(self._y[index]), np.float64(0))


class Columns:
    """What Hugging Face's datasets offer: rows as dicts, and columns by name."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {name: item[key] for name, item in self.columns.items()}


GROUPS = [[4, 1], [0, 5], [2, 3]]


def check(stream, groups=GROUPS):
    assert len(stream) == len(groups)
    for task, group in zip(stream, groups, strict=True):
        for split, part in ((task.train, slice(0, 40)), (task.test, slice(40, 60))):
            inputs, targets = split.load()
            chosen = torch.isin(LABELS[part], torch.tensor(group))
            assert torch.equal(inputs, INPUTS[part][chosen])
            assert torch.equal(torch.tensor(group)[targets], LABELS[part][chosen])


@pytest.mark.parametrize("lazy", [False, True])
def test_experiences_of_avalanche_are_tasks(lazy):
    stream = from_avalanche(Benchmark(GROUPS), lazy=lazy)
    check(stream, [sorted(group) for group in GROUPS])
    assert [task.name for task in stream] == ["1/4", "0/5", "2/3"]
    assert stream.source == "3 tasks from Avalanche"


@pytest.mark.parametrize("lazy", [False, True])
def test_tasks_of_continuum_are_tasks(lazy):
    benchmark = Benchmark(GROUPS)
    train, test = (
        [Taskset(experience.dataset) for experience in stream]
        for stream in (benchmark.train_stream, benchmark.test_stream)
    )
    check(from_continuum(train, test, lazy=lazy), [sorted(group) for group in GROUPS])


@pytest.mark.parametrize("lazy", [False, True])
def test_columns_are_read(lazy):
    def columns(dataset):
        return Columns(features=list(dataset.tensors[0].numpy()), label=dataset.targets.tolist())

    benchmark = Benchmark(GROUPS)
    pairs = [
        (columns(train.dataset), columns(test.dataset))
        for train, test in zip(benchmark.train_stream, benchmark.test_stream, strict=True)
    ]
    check(from_hugging_face(pairs, inputs="features", lazy=lazy), [sorted(group) for group in GROUPS])


def test_pictures_are_read_as_pixels():
    grey = [Image.fromarray(np.full((3, 4), value, np.uint8)) for value in (0, 255)]
    colour = [Image.fromarray(np.full((3, 4, 3), value, np.uint8)) for value in (0, 51)]
    for pictures, shape, last in ((grey, (1, 3, 4), 1.0), (colour, (3, 3, 4), 0.2)):
        data = Columns(image=pictures, label=[0, 1])
        inputs, _ = from_hugging_face([(data, data)])[0].train.load()
        assert tuple(inputs.shape[1:]) == shape
        assert inputs[0].max() == 0
        torch.testing.assert_close(inputs[1], torch.full(shape, last))


def test_columns_of_numbers_are_regression_and_may_be_read_by_ones_own_function():
    data = Columns(x=["1 2", "3 4"], y=[0.5, 1.5])
    (task,) = from_hugging_face([(data, data)], inputs="x", targets="y", read=lambda text: [*map(float, text.split())])
    inputs, targets = task.train.load()
    assert inputs.tolist() == [[1, 2], [3, 4]]
    assert targets.tolist() == [[0.5], [1.5]]
    assert task.n_outputs == 1


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", [Labelled, TensorDataset])
def test_a_dataset_is_split_by_class(kind, lazy):
    stream = by_class(kind(INPUTS[:40], LABELS[:40]), kind(INPUTS[40:], LABELS[40:]), GROUPS, lazy=lazy)
    check(stream)
    assert [task.name for task in stream] == ["4/1", "0/5", "2/3"]


def test_such_a_stream_is_lived():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3))
    history = Clock(agent, from_avalanche(Benchmark(GROUPS)), policy=OneShot(), wake=Epochs(1), night=Epochs(1)).run()
    assert history.n_days == 3


def test_one_class_has_two_outputs():
    assert from_avalanche(Benchmark([[3]]))[0].n_outputs == 2


def test_what_is_something_else_is_refused():
    with pytest.raises(DataError, match="must have a train_stream and a test_stream, and dict does not"):
        from_avalanche({})
    with pytest.raises(DataError, match="there are 3 to learn from and 2 to test on"):
        from_avalanche(Benchmark(GROUPS, GROUPS[:2]))
    with pytest.raises(
        DataError, match="task 1: the test data have examples of the class 2, and the training data have none"
    ):
        from_avalanche(Benchmark(GROUPS, [GROUPS[0], [0, 2], GROUPS[2]]))
    with pytest.raises(DataError, match="from_continuum: tasks must be sequences"):
        from_continuum(3, 4)
    with pytest.raises(DataError, match="there is no column 'image': KeyError"):
        from_hugging_face([(Columns(x=[1], label=[0]), Columns(x=[1], label=[0]))])
    data = Labelled(INPUTS, LABELS)
    with pytest.raises(DataError, match="there are no examples of class 9"):
        by_class(data, data, [[0, 9]])
    with pytest.raises(DataError, match=r"a task has the classes \[\]"):
        by_class(data, data, [[]])
    with pytest.raises(SettingError, match="lazy"):
        by_class(data, data, [[0]], lazy=2)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (LABELS.float(), GROUPS, "labels must be whole numbers or texts, and these are floating point"),
        (torch.eye(6)[LABELS], GROUPS, "these are floating point"),
        (torch.eye(6)[LABELS].long(), GROUPS, r"labels must be .* one per example, not int64 \(60, 6\)"),
        ([None] * 60, GROUPS, "labels must be whole numbers or texts, one per example, not object"),
        ([[0], [1, 2]] * 30, GROUPS, "the labels cannot be read"),
        (LABELS, [[0, 0, 1]], r"a task has the classes \[0, 0, 1\]. Leave it out, or name each class once"),
        (LABELS, [0, 1], r"classes must be a list of each task's, such as \[\[0, 1\], \[2, 3\]\], not \[0, 1\]"),
        (LABELS, ["01"], "classes must be a list"),
        (LABELS, [[[0], [1]]], "classes must be a list"),
        (LABELS, 5, "classes must be a list"),
        (LABELS, [[0, 9]], "there are no examples of class 9. Leave it out"),
    ],
)
def test_labels_that_are_none_are_refused(labels, classes, message):
    data = TensorDataset(INPUTS)
    data.targets = labels
    with pytest.raises(DataError, match=message):
        by_class(data, data, classes)


def test_labels_may_be_texts():
    class Named(Labelled):
        def __init__(self, inputs, labels):
            super().__init__(inputs, labels)
            self.targets = [f"class {label}" for label in labels.tolist()]

    names = [[f"class {label}" for label in group] for group in GROUPS]
    stream = by_class(Named(INPUTS[:40], LABELS[:40]), Named(INPUTS[40:], LABELS[40:]), names)
    check(stream)
    assert stream[0].name == "class 4/class 1"
    columns = Columns(x=[INPUTS[0].numpy(), INPUTS[1].numpy()], y=["no", "yes"])
    assert from_hugging_face([(columns, columns)], inputs="x", targets="y")[0].train.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (3 * [Columns(image=[1], label=[0])], r"pairs must be a list of \(train, test\), one per task"),
        ([({"train": 1}, {"train": 1})], r"a dataset must be one split, and map-style, not dict"),
        ([(iter([1]), iter([1]))], "a dataset must be one split, and map-style"),
        ([(Columns(image=[], label=[]),) * 2], "a dataset has no examples"),
        ([(Columns(image=[1]),) * 2], "there is no column 'label'"),
    ],
)
def test_what_is_no_dataset_of_columns_is_refused(pairs, message):
    with pytest.raises(DataError, match=message):
        from_hugging_face(pairs)


def test_pictures_with_a_palette_are_read_as_colours():
    white = Image.fromarray(np.full((3, 4, 3), 255, np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE)
    bits = Image.fromarray(np.full((3, 4), 255, np.uint8)).convert("1")
    for picture, shape in ((white, (3, 3, 4)), (bits, (1, 3, 4))):
        data = Columns(image=[picture, picture], label=[0, 1])
        inputs, _ = from_hugging_face([(data, data)])[0].train.load()
        assert tuple(inputs.shape[1:]) == shape
        assert inputs.min() == 1
    deep = Columns(image=[Image.fromarray(np.zeros((3, 4), np.int32))], label=[0])
    with pytest.raises(DataError, match="an image of mode 'I' does not have 8 bits per channel"):
        from_hugging_face([(deep, deep)])


def test_a_stream_to_validate_with_is_kept():
    benchmark = Benchmark(GROUPS)
    benchmark.valid_stream = benchmark.test_stream
    for task in from_avalanche(benchmark):
        assert torch.equal(task.validation.targets, task.test.targets)


class Pictures(Columns):
    """Pictures of Hugging Face's datasets in a format: arrays, as NumPy and PyTorch get them."""

    def __init__(self, pictures, form=None):
        super().__init__(image=pictures, label=[0, 1])
        self.format = {"type": form}

    @property
    def features(self):
        return {"image": Image_(), "label": None}

    def with_format(self, form):
        return Pictures(self.columns["image"], form)

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if key == "label" or self.format["type"] is None:
            return found
        array = np.asarray(found["image"])
        if self.format["type"] == "torch":
            array = torch.from_numpy((array if array.ndim == 3 else array[:, :, None]).copy()).permute(2, 0, 1)
        return {**found, "image": array}


Image_ = type("Image", (), {})


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
def test_pictures_are_the_same_in_every_format(mode, lazy):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 3), "uint8")
    picture = Image.fromarray(pixels).convert(mode)
    expected, *others = (
        from_hugging_face([(data, data)], lazy=lazy)[0].train.load()[0]
        for data in (Pictures([picture, picture], form) for form in (None, "numpy", "torch", "jax", "tensorflow"))
    )
    assert expected.shape == (2, {"RGB": 3, "P": 3, "RGBA": 4}.get(mode, 1), 3, 4)
    assert all(torch.equal(other, expected) for other in others)


def test_pictures_are_given_to_ones_own_function_in_the_format_of_the_dataset():
    picture = Image.fromarray(np.full((3, 4, 3), 255, np.uint8))
    data = Pictures([picture, picture], "numpy")
    task = from_hugging_face([(data, data)], read=lambda array: array[:, :, 0].astype("float32"))[0]
    assert task.train.load()[0].tolist() == np.full((2, 3, 4), 255.0).tolist()
    deep = Pictures([Image.fromarray(np.full((3, 4), 5000, np.int32))] * 2, "torch")
    assert from_hugging_face([(deep, deep)])[0].train.inputs.tolist() == np.full((2, 1, 3, 4), 5000).tolist()
