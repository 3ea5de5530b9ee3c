"""The memory of past days: a uniform sample of bounded size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import Dataset

from daynight import LazyDataset, Split
from daynight.data import replay
from daynight.data.batches import Replayed
from daynight.data.replay import Memory, Replay
from daynight.data.splits import as_split
from daynight.errors import DataError, SettingError

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=6)


def split_of(n, first=0):
    """Return a split of `n` examples; each input is the number of the example."""
    numbers = torch.arange(first, first + n)
    return Split(numbers[:, None].float().repeat(1, 2), numbers % 3)


def numbers(memory):
    return torch.cat([torch.empty(0), *(part["inputs"][:, 0] for part in memory.state()["parts"])]).long().tolist()


def filled(sizes, most, seed=0):
    memory = Memory(most, seed)
    for day, n in enumerate(sizes):
        memory.add(day, split_of(n, sum(sizes[:day])))
    return memory


def alike(one, other):
    parts = [memory.state().pop("parts") for memory in (one, other)]
    rest = [{**memory.state(), "parts": None} for memory in (one, other)]
    return rest[0] == rest[1] and all(
        torch.equal(a[name], b[name]) for a, b in zip(*parts, strict=True) for name in ("inputs", *b)
    )


class Numbers(Dataset):
    """A dataset that notes which examples are read."""

    def __init__(self, n, first=0):
        self.n, self.first, self.read = n, first, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.read.append(index)
        return torch.full((2,), float(self.first + index)), (self.first + index) % 3


@given(SIZES, st.integers(1, 60), st.integers(0, 99))
def test_size_is_bounded_and_examples_keep_target_and_day(sizes, most, seed):
    memory = filled(sizes, most, seed)
    found = numbers(memory)
    assert len(memory) == len(found) == len(set(found)) == min(most, sum(sizes))
    assert memory.n_seen == sum(sizes)
    ends = torch.tensor(sizes).cumsum(0)
    for part in memory.state()["parts"]:
        given = part["inputs"][:, 0].long()
        assert torch.equal(part["inputs"][:, 1].long(), given)
        assert torch.equal(part["targets"], given % 3)
        assert torch.equal(part["days"], torch.bucketize(given, ends, right=True))
    assert torch.equal(memory.days, torch.bucketize(torch.tensor(found), ends, right=True))


@given(SIZES, st.integers(1, 60), st.integers(0, 6), st.sampled_from([1, 3, 256]))
def test_saving_and_the_size_of_chunks_change_nothing(sizes, most, saved, chunk):
    straight, memory = filled(sizes, most), Memory(most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "CHUNK", chunk)
        for day, n in enumerate(sizes):
            if day == saved:
                fresh = Memory(most)
                fresh.restore(memory.state())
                memory = fresh
            memory.add(day, as_split(LazyDataset(Numbers(n, sum(sizes[:day])), targets=split_of(n).targets)))
    assert numbers(straight) == numbers(memory)


def test_each_example_is_equally_likely_and_so_is_each_pair():
    sizes, most, n_lives = (3, 1, 4), 3, 2000
    n = sum(sizes)
    ones, pairs = torch.zeros(n), torch.zeros(n, n)
    for seed in range(n_lives):
        found = sorted(numbers(filled(sizes, most, seed)))
        ones[found] += 1
        for place, one in enumerate(found):
            pairs[one, found[place + 1 :]] += 1
    counts = pairs[torch.ones(n, n).triu(1).bool()]
    assert int(counts.sum()) == n_lives * math.comb(most, 2)
    # The counts of one life depend on each other, so that the p-values are rough, and rather too large.
    assert stats.chisquare(ones.numpy()).pvalue > 1e-3
    assert 1e-3 < stats.chisquare(counts.numpy()).pvalue < 1 - 1e-3


def test_what_stays_after_forgetting_is_uniform_and_the_memory_grows_again():
    n_lives, counts, sizes = 1000, torch.zeros(20), torch.zeros(9)
    for seed in range(n_lives):
        memory = filled((6, 6), 8, seed)
        memory.forget(0)
        assert memory.days.unique().tolist() in ([], [1])
        memory.add(2, split_of(8, 12))
        found = numbers(memory)
        counts[found] += 1
        sizes[len(found)] += 1
    assert not counts[:6].any()
    assert stats.chisquare(counts[6:].numpy()).pvalue > 1e-3
    assert sizes[8] > 0.5 * n_lives
    restored = Memory(8)
    restored.restore(memory.state())
    assert numbers(restored) == found


def test_only_what_is_kept_is_read_and_by_index():
    dataset = Numbers(500)
    split = as_split(LazyDataset(dataset, targets=torch.arange(500) % 3))
    memory = Memory(20)
    dataset.read.clear()
    memory.add(0, split)
    assert sorted(dataset.read) == numbers(memory)
    other = Numbers(500, 500)
    memory.add(1, as_split(LazyDataset(other, targets=torch.arange(500) % 3)))
    assert len(other.read) == int((memory.days == 1).sum()) < 20


def test_a_day_that_cannot_be_read_leaves_the_memory_as_it_was():
    class Broken(Numbers):
        def __getitem__(self, index):
            raise OSError("gone")

    memory, before = filled((10,), 5), filled((10,), 5)
    with pytest.raises(DataError, match="cannot be read"):
        memory.add(1, as_split(LazyDataset(Broken(50), targets=torch.arange(50) % 3)))
    assert alike(memory, before)


def test_reading_draws_no_number_that_others_would_draw():
    class Random(Numbers):
        def __getitem__(self, index):
            return torch.rand(2), 0

    def memory():
        found = Memory(5)
        found.add(0, as_split(LazyDataset(Random(50), targets=torch.zeros(50, dtype=torch.int64))))
        return found

    state = torch.get_rng_state()
    one = memory()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert alike(one, memory())


def test_draws_are_uniform_and_examples_tell_the_days():
    memory = filled((30, 30), 10)
    (part,) = memory.examples()
    assert torch.equal(part.days, (part.inputs[:, 0] >= 30).long())
    own = torch.full((20_000, 2), 99.0), torch.full((20_000,), 2)
    inputs, targets = Replayed(part.inputs, part.targets, 1, 1).beside(*own, torch.Generator().manual_seed(0))
    drawn = inputs[1::2, 0].long()
    assert bool((inputs[::2] == 99).all())
    assert torch.equal(targets[1::2], drawn % 3)
    counts = torch.bincount(drawn, minlength=60)
    assert sorted(numbers(memory)) == torch.where(counts > 0)[0].tolist()
    assert 1e-3 < stats.chisquare(counts[counts > 0].numpy()).pvalue < 1 - 1e-3
    again, _ = Replayed(part.inputs, part.targets, 1, 1).beside(*own, torch.Generator().manual_seed(0))
    assert torch.equal(again, inputs)
    assert Memory(3).examples() == []


def test_versions_of_a_task_are_one_line_and_are_forgotten_together():
    memory = Memory(100)
    for day, succeeds in enumerate((None, None, 0, 1, 2)):
        memory.add(day, split_of(4, 4 * day), succeeds)
    found = {task: memory.examples(task) for task in range(5)}
    assert [task for task, parts in found.items() if parts] == [3, 4]
    assert found[3][0].days.unique().tolist() == [1, 3]
    assert found[4][0].days.unique().tolist() == [0, 2, 4]
    memory.forget(4)
    assert memory.days.unique().tolist() == [1, 3]
    assert memory.changed() == []
    memory.tensors()["0.targets"][0] = 7
    assert memory.changed() == ["0.targets"]


def test_pixels_stay_bytes_views_are_applied_and_forms_are_told_apart():
    pixels = torch.full((8, 1, 2, 2), 51, dtype=torch.uint8)
    memory = Memory(100)
    memory.add(0, Split(pixels, torch.arange(8)))
    assert memory.n_bytes == 8 * (4 + 8 + 8 + 8 + 8)
    memory.add(1, Split(pixels, torch.arange(8), view=lambda inputs: 2 * inputs))
    memory.add(2, Split(pixels, torch.rand(8, 2)))
    memory.add(3, Split(pixels, torch.arange(8)))
    examples = memory.examples()
    assert [part.days.unique().tolist() for part in examples] == [[0, 3], [1], [2]]
    assert sum(map(len, examples)) == 32
    for part, value in zip(examples, (0.2, 0.4, 0.2), strict=True):
        assert part.inputs.dtype == torch.float32
        assert torch.allclose(part.inputs, torch.tensor(value))
    restored = Memory(100)
    restored.restore(memory.state())
    assert alike(memory, restored)
    pixels.fill_(0)
    assert alike(memory, restored)  # nothing is shared with the caller's data


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"n_seen": -1}, "n_seen must be a whole number"),
        ({"n_seen": 3}, "has 5 examples, and can have at most 3"),
        ({"below": 2.0}, "below must be a number"),
        ({"below": 0.0}, "random numbers that are not from 0 to 0"),
        ({"parts": [{}]}, r"memory.parts\[0\] has no value"),
        ({"more": 1}, "unknown value 'more'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, what):
    memory = filled((20,), 5)
    before = memory.state()
    with pytest.raises(ValueError, match=what):
        memory.restore(before | change)
    assert alike(memory, filled((20,), 5))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("days", torch.full((5,), -1), "days below 0"),
        ("tasks", torch.full((5,), -1), "days after those of their tasks"),
        ("days", torch.zeros(4, dtype=torch.int64), "days must have the shape|inputs must have the shape|ranks"),
        ("inputs", torch.full((5, 2), torch.nan), "inputs are not all finite"),
        ("inputs", torch.zeros(4, 2), "inputs must have the shape"),
        ("targets", torch.zeros(5, dtype=torch.int32), "targets must be of torch.int64"),
        ("targets", torch.zeros(5), "targets must have the shape"),
        ("ranks", torch.full((5,), torch.nan, dtype=torch.float64), "random numbers"),
        ("inputs", torch.zeros(0, 2), "no examples|must have the shape"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(name, value, what):
    memory = filled((20,), 5)
    state = memory.state()
    with pytest.raises(ValueError, match=what):
        memory.restore({**state, "parts": [state["parts"][0] | {name: value}]})
    with pytest.raises(ValueError, match="two parts of one form"):
        Memory(10).restore({**state, "parts": state["parts"] * 2})


def test_settings_are_checked():
    assert Replay(examples=5000).share == 0.5
    assert [Replay(10, share=0.3).n_in(size) for size in (1, 2, 3, 10, 128)] == [0, 1, 1, 3, 38]
    for wrong in ({"examples": 0}, {"examples": 5, "share": 1}, {"examples": 5, "share": 0}, {"examples": 2.5}):
        with pytest.raises(SettingError, match="Replay"):
            Replay(**wrong)
    with pytest.raises(SettingError, match="Memory: day"):
        Memory(3).add(-1, split_of(2))
