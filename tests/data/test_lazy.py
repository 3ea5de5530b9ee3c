"""Tasks that are read from where they are, as if they were in memory."""

import pytest
import torch
from torch.utils.data import Dataset

from daynight import Agent, Capacity, Clock, Epochs, LazyDataset, OneShot, Task, TaskStream, Training
from daynight.errors import DataError, SettingError
from daynight.testing import toy_network, toy_stream


class Counting(Dataset):
    """A dataset that counts how often it is read."""

    def __init__(self, split):
        self.inputs, self.labels, self.n_read = split.inputs, split.targets, 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.n_read += 1
        return self.inputs[index], int(self.labels[index])


def lazily(task, **settings):
    splits = {name: LazyDataset(Counting(split), **settings) for name, split in task.splits().items()}
    return Task(**splits, name=task.name)


def run(stream, engine="auto"):
    agent = Agent(
        toy_network,
        capacity=Capacity(free_at_end=0.5, days=2),
        training=Training(batch_size=12, engine=engine),
    )
    history = Clock(agent, stream, policy=OneShot(), wake=Epochs(2.5), night=Epochs(2)).run()
    return agent, history


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("n_workers", [0, 2])
def test_lazy_stream_is_learnt_as_the_same_stream_in_memory_is(n_workers):
    stream = toy_stream(2, n_test=300)
    lazy = TaskStream([lazily(task, n_workers=n_workers) for task in stream])
    state = torch.get_rng_state()
    (held_agent, held), (lazy_agent, read) = run(stream), run(lazy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [r.loss for r in read] == pytest.approx([r.loss for r in held], nan_ok=True)
    for index, task in enumerate(stream):
        outputs = [agent.predict(task.test.inputs, index) for agent in (held_agent, lazy_agent)]
        assert torch.allclose(*outputs, atol=1e-6)


def test_lazy_inputs_are_read_once_an_epoch_and_not_kept():
    task = toy_stream(1)[0]
    train = Counting(task.train)
    lazy = Task(train=LazyDataset(train, targets=task.train.targets), test=task.test)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=12))
    agent.wake(lazy, Epochs(1))
    once = train.n_read
    agent.sleep(OneShot(), Epochs(3))
    # The REM's three epochs of 40. Those that show whether what was learnt is finite were read at the end of the wake.
    assert train.n_read - once == 3 * 40
    held = [value for value in vars(lazy.train.inputs).values() if isinstance(value, torch.Tensor)]
    assert not any(value.is_floating_point() for value in held)


def test_hold_out_of_a_lazy_split_reads_nothing():
    task = toy_stream(1)[0]
    train = Counting(task.train)
    held = Task(train=LazyDataset(train, targets=task.train.targets), test=task.test, name="x")
    before = train.n_read
    parts = held.hold_out(0.2)
    expected = Task(train=task.train, test=task.test, name="x").hold_out(0.2)
    assert train.n_read - before < 10  # a few, for the shape of an input
    assert torch.equal(parts.validation.load()[0], expected.validation.inputs)
    assert torch.equal(parts.validation.targets, expected.validation.targets)


def test_targets_are_taken_from_the_dataset_if_it_has_them():
    train = Counting(toy_stream(1)[0].train)
    train.targets = train.labels
    LazyDataset(train)
    assert train.n_read == 0


def test_pixels_are_scaled_and_labels_checked():
    class Bytes(Dataset):
        targets = (0, 1, 2)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return torch.full((2,), 51 * index, dtype=torch.uint8), self.targets[index]

    task = Task(train=LazyDataset(Bytes()), test=LazyDataset(Bytes()))
    assert task.train.load()[0][:, 0].tolist() == pytest.approx([0.0, 0.2, 0.4])
    with pytest.raises(DataError, match="labels run from 0 to 2, and must be from 0 to 1"):
        Task(train=LazyDataset(Bytes()), test=LazyDataset(Bytes()), n_outputs=2)


def test_what_cannot_be_read_is_refused():
    class Ragged(Dataset):
        targets = (0, 1)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.zeros(index + 1), index

    with pytest.raises(DataError, match="dataset must have a length and be indexed by numbers, not int"):
        LazyDataset(3)
    with pytest.raises(SettingError, match="n_workers must be a whole number from 0 up, not -1"):
        LazyDataset(Ragged(), n_workers=-1)
    split = Task(train=LazyDataset(Ragged()), test=(torch.zeros(2, 1), torch.tensor([0, 1]))).train
    with pytest.raises(DataError, match="examples of Ragged cannot be read as a batch: "):
        split.load()
