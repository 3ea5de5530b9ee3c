import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight import Capacity
from daynight.errors import CapacityError, SettingError

fractions = st.floats(1e-4, 1 - 1e-4)


def test_counts_by_hand():
    # p = 0.25 over two days: each night frees half of what was available.
    capacity = Capacity(free_at_end=0.25, days=2)
    assert [capacity.owned_after((100, 6), n) for n in range(3)] == [(0, 0), (50, 3), (75, 4)]
    assert capacity.available((100, 6), 1) == 53
    assert capacity.dawn_density((100, 6), 1) == 26 / 53
    assert capacity.kept((100, 6), 1, 1.0) == (50, 3)
    assert capacity.kept((100, 6), 1, 0.6) == (30, 2)
    assert capacity.kept((100, 6), 1, 26 / 53) == (25, 1)


def test_a_day_with_nothing_available_keeps_nothing():
    # 0.125^(1/2) of one weight rounds to none, so day 0 owns it and day 1 finds nothing free.
    capacity = Capacity(free_at_end=0.125, days=2)
    assert capacity.available((1,), 1) == 0
    assert capacity.dawn_density((1,), 1) == 1.0
    assert capacity.kept((1,), 1, 1.0) == (0,)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=4), fractions, st.integers(1, 40))
def test_free_weights_at_the_end_are_exact_in_every_layer(sizes, p, days):
    capacity = Capacity(free_at_end=p, days=days)
    for size, owned in zip(sizes, capacity.owned_after(sizes, days), strict=True):
        assert size - owned == math.floor(size * p + 0.5)
    total = Capacity(free_at_end=p, days=days, ranking="global").owned_after(sizes, days)
    assert total == (sum(sizes) - math.floor(sum(sizes) * p + 0.5),)


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=4), fractions, st.integers(1, 30), st.integers(0, 3),
    st.sampled_from(["layer", "global"]),
)  # fmt: skip
def test_owned_counts_only_grow_and_never_exceed_the_layer(sizes, p, days, floor, ranking):
    capacity = Capacity(free_at_end=p, days=days, min_per_layer=floor, ranking=ranking)
    groups = sizes if ranking == "layer" else [sum(sizes)]
    floors = floor if ranking == "layer" else floor * len(sizes)
    counts = [capacity.owned_after(sizes, n) for n in range(days + 1)]
    for before, after in itertools.pairwise(counts):
        for size, old, new in zip(groups, before, after, strict=True):
            assert min(size, old + floors) <= new <= size


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=4), fractions, st.integers(1, 10), st.data(),
    st.sampled_from(["layer", "global"]),
)  # fmt: skip
def test_counts_within_a_night_fall_with_density_down_to_what_is_due(sizes, p, days, data, ranking):
    capacity = Capacity(free_at_end=p, days=days, ranking=ranking)
    day = data.draw(st.integers(0, days - 1))
    densities = sorted(data.draw(st.lists(st.floats(0.001, 1), min_size=1, max_size=5)), reverse=True)
    before, after = capacity.owned_after(sizes, day), capacity.owned_after(sizes, day + 1)
    due = tuple(new - old for old, new in zip(before, after, strict=True))
    previous = capacity.kept(sizes, day, 1.0)
    assert sum(previous) == capacity.available(sizes, day)
    for density in densities:
        counts = capacity.kept(sizes, day, density)
        assert all(low <= n <= high for low, n, high in zip(due, counts, previous, strict=True))
        previous = counts
    assert capacity.kept(sizes, day, capacity.dawn_density(sizes, day)) == due


@given(st.integers(1, 10_000), st.floats(0.001, 1), st.integers(0, 300))
def test_keep_per_night_fills_up_and_stops(size, keep, n_nights):
    owned = Capacity(keep_per_night=keep).owned_after((size,), n_nights)[0]
    assert owned == min(size, math.floor(size * keep * n_nights + 0.5))


def test_check_reports_a_layer_that_would_get_nothing():
    layers = {"body.1": 200_704, "body.3": 40, "body.5": 30}
    with pytest.raises(
        CapacityError,
        match=r"day 0: layer 'body.3' \(40 weights\) would get no new weight, nor would 1 more\. "
        r"Set Capacity\(min_per_layer=1\) or higher, keep more per night, or exclude the layer\.",
    ):
        Capacity(free_at_end=0.995, days=5).check(layers, 0)
    Capacity(free_at_end=0.995, days=5, min_per_layer=1).check(layers, 0)


def test_check_refuses_a_day_with_nothing_free():
    capacity = Capacity(keep_per_night=0.5)
    capacity.check({"a": 10}, 1)
    with pytest.raises(CapacityError, match=r"day 2: all 10 maskable weights are owned, so nothing is free.*Keep less"):
        capacity.check({"a": 10}, 2)


def test_check_refuses_a_global_night_that_keeps_nothing():
    with pytest.raises(CapacityError, match=r"day 0: the night would keep none of the 10 maskable weights"):
        Capacity(keep_per_night=0.01, ranking="global").check({"a": 5, "b": 5}, 0)


def test_more_nights_than_days_are_refused():
    with pytest.raises(CapacityError, match=r"day 5 is beyond the 5 days that the capacity is shared among"):
        Capacity(free_at_end=0.9, days=5).check({"a": 1000}, 5)
    with pytest.raises(
        CapacityError, match=r"^6 nights are beyond the 5 days .* Give Capacity more days, or use keep_per"
    ):
        Capacity(free_at_end=0.9, days=5).owned_after((1000,), 6)


@pytest.mark.parametrize(
    "ask", [lambda c: c.available((99,), 9), lambda c: c.dawn_density((99,), 9), lambda c: c.kept((99,), 9, 0.5)]
)
def test_day_beyond_the_last_is_named_as_asked(ask):
    with pytest.raises(CapacityError, match=r"^day 9 is beyond the 3 days that the capacity is shared among"):
        ask(Capacity(free_at_end=0.9, days=3))


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.1, math.nan, "0.5"])
def test_p_at_its_limits_is_refused(p):
    with pytest.raises(SettingError, match=r"free_at_end must be above 0 and below 1"):
        Capacity(free_at_end=p, days=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Capacity takes either free_at_end with days, or keep_per_night."),
        ({"free_at_end": 0.9, "keep_per_night": 0.1, "days": 5}, "Capacity takes either"),
        ({"free_at_end": 0.9}, "free_at_end and days go together"),
        ({"keep_per_night": 0.1, "days": 3}, "free_at_end and days go together"),
        ({"free_at_end": 0.9, "days": 0}, "days must be a whole number from 1 up, not 0"),
        ({"keep_per_night": 0.0}, "keep_per_night is a fraction of all maskable weights"),
        ({"keep_per_night": 1.5}, "keep_per_night is a fraction of all maskable weights"),
        (
            {"keep_per_night": 0.1, "ranking": "both"},
            "ranking must be one of 'layer', 'global', 'balanced', not 'both'",
        ),
        ({"keep_per_night": 0.1, "min_per_layer": -1}, "min_per_layer must be a whole number from 0 up, not -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Capacity(**settings)
