"""Drift: found if there is some, and rarely if there is none."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import Dataset

from daynight import LazyDataset, Split
from daynight.data.drift import LEAST_EXAMPLES, MOST_FEATURES, N_QUANTILES, Profile, drift
from daynight.data.splits import as_split
from daynight.errors import DataError, MissingPackageError, SettingError

ZIPF = 1 / np.arange(1, 30)
#: Distributions: functions of a NumPy generator, and of a shape (n, features).
EQUAL = {
    "continuous": lambda rng, shape: rng.normal(size=shape),
    "long tails": lambda rng, shape: rng.standard_cauchy(size=shape),
    "ties": lambda rng, shape: np.maximum(rng.normal(size=shape), 0),
    "whole numbers": lambda rng, shape: rng.poisson(200, shape),
    "booleans": lambda rng, shape: rng.random(shape) < 0.3,
    "rare booleans": lambda rng, shape: rng.random(shape) < 0.01,
    "categories": lambda rng, shape: rng.choice(5, shape, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
    "rare categories": lambda rng, shape: rng.choice(len(ZIPF), shape, p=ZIPF / ZIPF.sum()),
    "constant": lambda rng, shape: np.ones(shape),
    "one cause": lambda rng, shape: rng.normal(size=(shape[0], 1)) + 0.1 * rng.normal(size=shape),
    "mixed": lambda rng, shape: np.where(np.arange(shape[1]) % 2, rng.normal(size=shape), rng.random(shape) < 0.5),
}


def split_of(inputs):
    inputs = torch.as_tensor(np.asarray(inputs))
    return Split(inputs, torch.zeros(len(inputs), dtype=torch.int64))


def compared(make, n, m, n_features, seed):
    rng = np.random.default_rng(seed)
    return drift(Profile.of(split_of(make(rng, (n, n_features)))), make(rng, (m, n_features)))


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize(
    ("n", "m", "n_features", "n_lives"), [(20, 20, 1, 200), (600, 150, 1, 200), (150, 600, 200, 6)]
)
def test_equal_distributions_give_an_alarm_at_most_at_the_level(name, n, m, n_features, n_lives):
    found = [compared(EQUAL[name], n, m, n_features, seed) for seed in range(n_lives)]
    limit = stats.binom.ppf(0.999, n_lives, 0.05)
    assert sum(result.found for result in found) <= limit
    assert all(((result.p_value >= 0) & (result.corrected >= result.p_value)).all() for result in found)
    if n_features == 200 and name not in ("constant", "one cause"):
        p_values = np.concatenate([result.p_value for result in found])
        for level in (0.1, 0.01, 0.001):
            assert (p_values <= level).sum() <= stats.binom.ppf(0.999, len(p_values), level)


CHANGED = {
    "shifted": (EQUAL["continuous"], lambda rng, shape: rng.normal(0.5, size=shape)),
    "wider": (EQUAL["continuous"], lambda rng, shape: 2 * rng.normal(size=shape)),
    "above all": (EQUAL["continuous"], lambda rng, shape: 9 + rng.normal(size=shape)),
    "below all": (EQUAL["continuous"], lambda rng, shape: rng.normal(size=shape) - 9),
    "more ties": (EQUAL["ties"], lambda rng, shape: np.maximum(rng.normal(-0.6, size=shape), 0)),
    "no ties": (EQUAL["ties"], EQUAL["continuous"]),
    "more often": (EQUAL["booleans"], lambda rng, shape: rng.random(shape) < 0.5),
    "another category": (EQUAL["categories"], lambda rng, shape: EQUAL["categories"](rng, shape) + 5),
    "a new category": (
        EQUAL["categories"],
        lambda rng, shape: np.where(rng.random(shape) < 0.2, 9, EQUAL["categories"](rng, shape)),
    ),
    "no longer constant": (EQUAL["constant"], EQUAL["continuous"]),
    "another constant": (EQUAL["constant"], lambda rng, shape: 2 * np.ones(shape)),
    "constant now": (EQUAL["continuous"], EQUAL["constant"]),
    "missing": (
        EQUAL["continuous"],
        lambda rng, shape: np.where(rng.random(shape) < 0.3, np.nan, rng.normal(size=shape)),
    ),
    "missing category": (
        EQUAL["categories"],
        lambda rng, shape: np.where(rng.random(shape) < 0.3, np.nan, EQUAL["categories"](rng, shape)),
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_of_one_feature_of_twenty_is_found_and_no_other(name):
    before, after = CHANGED[name]
    n_right = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train, new = EQUAL["mixed"](rng, (1000, 20)), EQUAL["mixed"](rng, (300, 20))
        train[:, 7], new[:, 7] = before(rng, (1000, 1))[:, 0], after(rng, (300, 1))[:, 0]
        result = drift(Profile.of(split_of(train)), new)
        n_right += result.found and result.features == (7,)
        assert result.missing[7] == pytest.approx(np.isnan(new[:, 7]).mean())
        assert result.missing.sum() == result.missing[7]
    assert n_right >= 17


def test_thirty_new_examples_of_another_kind_are_found():
    rng = np.random.default_rng(0)
    profile = Profile.of(split_of(np.stack([rng.normal(size=1000), np.ones(1000), rng.random(1000) < 0.5], 1)))
    result = drift(profile, np.stack([rng.normal(3, size=30), 2 * np.ones(30), 2 * np.ones(30)], 1))
    assert sorted(result.features) == [0, 1, 2]


@given(
    st.integers(20, 900),
    st.integers(20, 400),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([8, 1, 0]),
)
def test_the_statistic_is_below_that_of_the_samples_by_at_most_what_lies_between_quantiles(n, m, seed, shift, digits):
    rng = np.random.default_rng(seed)
    train, new = (np.round(rng.normal(s, size=k), digits).astype(np.float32) for k, s in ((n, 0.0), (m, shift)))
    profile = Profile.of(split_of(train[:, None]))
    result, whole = drift(profile, new[:, None]), stats.ks_2samp(train, new, method="asymp")
    assert len(profile.values[0]) <= N_QUANTILES
    if profile.are_categories[0]:
        assert len(profile.values[0]) == len(np.unique(train))
        return
    assert np.isin(profile.values[0], train).all()
    below, upto = (np.searchsorted(np.sort(train), profile.values[0], side=side) for side in ("left", "right"))
    assert np.array_equal(profile.below[0], below)
    assert np.array_equal(profile.at[0], upto - below)
    assert whole.statistic - 0.01 - 1e-9 <= result.statistic[0] <= whole.statistic + 1e-9


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 90), (40, 40), (60, 200)])
def test_p_values_of_kolmogorov_and_smirnov_are_not_below_the_exact_ones(n, m):
    # With at most 100 training examples, a profile keeps all values.
    rng = np.random.default_rng(0)
    train, new = rng.normal(size=(n, 1)).astype(np.float32), rng.normal(size=(m, 1)).astype(np.float32)
    profile = Profile.of(split_of(train))
    for shift in np.linspace(0, 3, 20).astype(np.float32):
        result, exact = drift(profile, new + shift), stats.ks_2samp(train[:, 0], new[:, 0] + shift, method="exact")
        assert result.statistic[0] == pytest.approx(exact.statistic)
        assert exact.pvalue <= 1.03 * result.p_value[0]


def test_p_values_of_categories_are_those_of_scipy():
    train, new = np.repeat([0, 1, 2], [500, 300, 200]), np.repeat([0, 1, 2], [40, 40, 20])
    result = drift(Profile.of(split_of(train[:, None])), new[:, None])
    assert result.p_value[0] == pytest.approx(stats.chi2_contingency([[500, 300, 200], [40, 40, 20]]).pvalue)
    assert result.statistic[0] == pytest.approx(0.1)
    result = drift(Profile.of(split_of(train[:800, None])), new[:80, None])
    assert result.p_value[0] == pytest.approx(stats.fisher_exact([[500, 300], [40, 40]]).pvalue)


def test_p_values_are_corrected_by_holm():
    rng = np.random.default_rng(0)
    profile = Profile.of(split_of(rng.normal(size=(100, 6))))
    result = drift(profile, rng.normal(0.2 * np.arange(6), size=(80, 6)))
    order, largest = np.argsort(result.p_value), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1, (6 - place) * result.p_value[index]))
        assert result.corrected[index] == pytest.approx(largest)
    assert result.found
    assert list(result.features) == sorted(result.features, key=lambda index: -result.statistic[index])
    assert not drift(profile, rng.normal(0.2 * np.arange(6), size=(80, 6)), level=1e-30).found


def test_too_few_examples_are_said_and_nothing_is_found():
    many, few = np.random.default_rng(0).normal(size=(2, 100, 3))
    few = few[: LEAST_EXAMPLES - 1] + 9
    for train, new in ((many, few), (few, many), (many, few[:0])):
        result = drift(Profile.of(split_of(train)), new)
        assert not result.found
        assert result.features == ()
        assert np.isnan(result.p_value).all()
        assert "too few examples to tell" in result.note
        assert result.note in repr(result)
    assert drift(Profile.of(split_of(many)), np.concatenate([few, few])).found


class Read(Dataset):
    """A dataset that notes what is read at once, and how much."""

    def __init__(self, inputs):
        self.inputs, self.n_read = inputs, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.n_read += 1
        torch.rand(1)
        return self.inputs[index], 0


def test_lazy_splits_are_read_as_those_in_memory_and_only_a_sample_of_them():
    inputs = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0))
    dataset = Read(inputs)
    lazy = as_split(LazyDataset(dataset, targets=torch.zeros(3000, dtype=torch.int64)))
    state = torch.get_rng_state()
    profile = Profile.of(lazy, most=700, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert 700 <= dataset.n_read <= 705  # an example more, for the shape
    assert profile.n == 700
    same = Profile.of(split_of(inputs), most=700, seed=1)
    assert all(map(np.array_equal, profile.values, same.values))
    assert not all(map(np.array_equal, profile.values, Profile.of(lazy, most=700).values))
    found = [drift(profile, new, most=800).p_value for new in (lazy, split_of(inputs), inputs, inputs.numpy())]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert np.array_equal(found[0], drift(profile, inputs, most=800).p_value)
    assert not drift(profile, inputs).found


def test_pixels_are_scaled_and_views_applied():
    pixels = torch.randint(0, 256, (300, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(300, dtype=torch.int64)
    profile = Profile.of(Split(pixels, labels))
    assert max(values.max() for values in profile.values) == 1
    assert not drift(profile, pixels).found
    assert not drift(profile, pixels.float() / 255).found
    turned = Profile.of(Split(pixels, labels, view=lambda inputs: 1 - inputs / 2))
    assert len(drift(turned, pixels).features) == 16


@pytest.mark.parametrize(
    ("shape", "pooled"),
    [
        ((), ()),
        ((256,), (256,)),
        ((300,), (256,)),
        ((1, 28, 28), (1, 16, 16)),
        ((3, 32, 32), (3, 9, 9)),
        ((3, 5, 40), (3, 5, 9)),
        ((40, 30), (256,)),
        ((300, 2, 2), (256,)),
        ((2, 3, 4, 50), (256,)),
        ((0,), (0,)),
    ],
)
def test_a_profile_is_small_whatever_the_shape_of_the_inputs(shape, pooled):
    inputs = torch.rand(500, *shape, generator=torch.Generator().manual_seed(0))
    profile = Profile.of(split_of(inputs))
    assert profile.shape == pooled
    assert len(profile.values) == math.prod(pooled) <= MOST_FEATURES
    assert profile.n_bytes <= MOST_FEATURES * (N_QUANTILES * 8 + 5)
    result = drift(profile, inputs)
    assert result.shape == pooled
    assert not result.found
    assert drift(profile, 1 - inputs**2).found == (math.prod(shape) > 0)


def test_means_of_neighbours_see_what_moves_in_an_image():
    rng = np.random.default_rng(0)
    images = rng.random((400, 1, 28, 28)).astype(np.float32)
    profile = Profile.of(split_of(images))
    new = rng.random((200, 1, 28, 28)).astype(np.float32)
    assert not drift(profile, new).found
    new[:, :, 8:12, 8:12] += 0.3
    places = np.unravel_index(np.array(drift(profile, new).features), profile.shape)
    assert len(places[0]) >= 4
    assert set(places[1]) <= set(range(4, 8))
    assert set(places[2]) <= set(range(4, 8))


def test_complex_and_whole_inputs_are_read():
    draw = torch.Generator().manual_seed(0)
    waves = torch.randn(100, 3, dtype=torch.complex64, generator=draw)
    profile = Profile.of(split_of(waves))
    assert profile.shape == (3, 2)
    assert drift(profile, waves * 1j).n == 100
    words = torch.randint(0, 8, (200, 5), generator=draw)
    profile = Profile.of(split_of(words))
    assert all(profile.are_categories)
    assert not drift(profile, words).found
    assert len(drift(profile, words + 4).features) == 5


@pytest.mark.parametrize("name", [*EQUAL, "wide"])
def test_a_profile_is_restored_from_its_state(name):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 400)) if name == "wide" else EQUAL[name](rng, (200, 3))
    profile, new = Profile.of(split_of(inputs)), EQUAL["continuous"](rng, (50, inputs.shape[1]))
    restored = Profile.restore(profile.state())
    assert np.array_equal(drift(profile, new).p_value, drift(restored, new).p_value)
    states = [profile.state(), restored.state()]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]) if isinstance(value, torch.Tensor) else value == states[1][key]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"n": 0}, "n must be a whole number from 1"),
        ({"n": 99}, "counts of feature 0 of profile do not add up to 99"),
        ({"shape": [2**20]}, "has 1,048,576 features"),
        ({"shape": [3]}, r"are_categories must have the shape \(3,\)"),
        ({"sizes": torch.tensor([3, 200], dtype=torch.int32)}, "sizes must be from 1 to 101"),
        ({"sizes": torch.tensor([3, 3], dtype=torch.int32)}, r"values must have the shape \(6,\)"),
        ({"values": torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])}, "feature 0 are not finite and ascending"),
        ({"values": torch.tensor([0.0, 1.0, 2.0, torch.nan, 1.0])}, "feature 1 are not finite and ascending"),
        ({"at": torch.tensor([34, 67, -1, 50, 50], dtype=torch.int16)}, "feature 0 of profile do not add up to 100"),
        ({"at": torch.tensor([34, 32, 33, 50, 50], dtype=torch.int16)}, "feature 0 of profile do not add up to 100"),
        ({"below": torch.tensor([0, 34, 67, 1, 50], dtype=torch.int16)}, "feature 1 of profile do not add up to 100"),
        ({"at": torch.tensor([1, 1, 1, 1, 1])}, "at must be of torch.int16 or torch.int32"),
        ({"more": 1}, "unknown value 'more'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, what):
    state = Profile.of(split_of(np.stack([np.arange(100) % 3, np.arange(100) % 2], 1))).state()
    assert Profile.restore(state).n == 100
    with pytest.raises(ValueError, match=what):
        Profile.restore(state | change)


def test_arguments_are_checked():
    profile = Profile.of(split_of(np.ones((30, 2))))
    for wrong in (np.ones((30, 3)), np.ones(30), np.float32(1), split_of(np.ones((30, 2, 1)))):
        with pytest.raises(DataError, match=r"drift: each input has the shape .*trained on \(2,\)"):
            drift(profile, wrong)
    with pytest.raises(DataError, match="cannot be read as a tensor"):
        drift(profile, ["a"])
    for level in (0, 1, math.nan):
        with pytest.raises(SettingError, match="drift: level"):
            drift(profile, np.ones((30, 2)), level=level)
    with pytest.raises(SettingError, match="Profile: most"):
        Profile.of(split_of(np.ones((30, 2))), most=0)
    with pytest.raises(SettingError, match="drift: most"):
        drift(profile, np.ones((30, 2)), most=0)
    broken = Split(torch.ones(30, 2), torch.zeros(30, dtype=torch.int64), view=lambda inputs: inputs / 0)
    with pytest.raises(DataError, match="not finite"):
        Profile.of(broken)


def test_a_result_is_a_frame(monkeypatch):
    rng = np.random.default_rng(0)
    result = drift(Profile.of(split_of(rng.normal(size=(100, 3)))), rng.normal([0, 2, 0], size=(50, 3)))
    frame = result.to_frame()
    assert frame.columns.tolist() == ["feature", "statistic", "p_value", "corrected", "missing", "drifted"]
    assert frame.drifted.tolist() == [False, True, False]
    assert frame.p_value.to_numpy() == pytest.approx(result.p_value)
    assert repr(result) == "<Drift: 1 of 3 features drifted, in 50 examples>"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="pip install 'daynight"):
        result.to_frame()
