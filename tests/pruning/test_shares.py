"""Shares by need: how few and how many weights a day may keep, and that all counts are exact in the end."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight import Capacity
from daynight.errors import CapacityError, SettingError
from daynight.pruning.shares import Bounds, Rules

TOTALS = [0, 40, 80, 120, 160, 200]  # five days with equal shares of 40
RULES = Rules(least=0.5, most=2.0, loan=1.0)


def bounds(day, owned, rules=RULES, **settings):
    found = rules.bounds(TOTALS, day, owned, **settings)
    return found.least, found.due, found.most


def test_bounds_by_hand():
    assert RULES.bounds(TOTALS, 0, 0) == Bounds(least=20, due=40, most=80)
    assert bounds(0, 0, Rules(least=0.3, most=1.7, loan=0.25)) == (12, 40, 50)
    assert bounds(0, 0, Rules(least=0.01, most=3.0, loan=9.0), floor=7) == (7, 40, 120)
    assert bounds(2, 40) == (20, 40, 80)  # 40 are saved, and 20 could be borrowed besides
    assert bounds(2, 70, Rules(least=0.5, most=2.0, loan=0.0)) == (20, 40, 50)
    assert bounds(4, 110) == (90, 90, 90)  # the last day keeps what is left
    assert bounds(4, 180) == (20, 20, 20)


def test_a_loan_is_paid_by_even_parts_and_nothing_is_borrowed_meanwhile():
    owned, kept = 0, []
    for day in range(5):
        kept.append(bounds(day, owned)[2])
        owned += kept[-1]
    assert kept == [80, 30, 30, 30, 30]
    # A day that saves pays more, and the rest is again paid by even parts; after it, days may borrow once more.
    assert bounds(1, 80) == (20, 30, 30)
    assert bounds(2, 100) == (20, 33, 33)
    assert bounds(3, 120) == (20, 40, 60)


def test_no_more_is_borrowed_than_later_days_can_pay():
    assert bounds(3, 120) == (20, 40, 60)  # the last day must have 20
    assert bounds(3, 120, Rules(least=1.0, most=2.0, loan=1.0)) == (40, 40, 40)
    assert bounds(3, 140) == (20, 30, 30)
    assert bounds(3, 160) == (20, 20, 20)


def test_room_by_hand():
    capacity = Capacity(free_at_end=0.8, days=5, share="need", least=0.5, loan=1.0)
    first, size = capacity.room((1000,), 0), 1000
    assert (first.free, first.new, first.due, first.most, first.bank) == ((1000,), (22,), (44,), (88,), 0)
    assert (first.dawn_density, first.due_density, first.highest_density) == (0.022, 0.044, 0.088)
    assert [first.kept(density)[0] for density in (1.0, 0.1, 0.088, 0.05, 0.044, 0.03, 0.022, 0.01)] == [
        1000, 100, 88, 50, 44, 30, 22, 22,
    ]  # fmt: skip
    second = capacity.room((1000,), 1, (size - 30,))
    assert (second.free, second.due, second.bank) == ((970,), (41,), 14)
    last = capacity.room((1000,), 4, (900,))
    assert (last.new, last.due, last.most, last.bank) == ((100,), None, None, 63)
    assert (capacity.bank((1000,), 1, (970,)), capacity.bank((1000,), 5, (800,))) == (14, 0)
    assert capacity.allows((1000,), [(30,), (22,), (40,), (60,), (48,)])
    assert not capacity.allows((1000,), [(30,), (22,), (40,), (60,), (47,)])
    assert not capacity.allows((1000,), [(89,)])
    with pytest.raises(CapacityError, match="day 5 is beyond the 5 days"):
        capacity.allows((1000,), [(30,), (22,), (40,), (60,), (48,), (1,)])


def test_layers_have_counts_of_their_own_at_each_end():
    room = Capacity(free_at_end=0.7, days=3, share="need", least=0.5, loan=1.0).room((100, 7), 0)
    assert (room.new, room.due, room.most) == ((6, 1), (11, 1), (20, 1))  # the later days, of 10 and 9, can pay 9
    assert room.kept(room.dawn_density) == (6, 1)
    assert room.kept(room.due_density) == (11, 1)
    assert room.kept(room.highest_density) == (20, 1)
    assert room.kept(0.15) == (15, 1)
    assert room.kept(0.5) == (50, 4)


SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=4)
SETTINGS = st.fixed_dictionaries({
    "free_at_end": st.floats(1e-3, 1 - 1e-3), "days": st.integers(1, 12), "least": st.floats(0.01, 1.0),
    "most": st.floats(1.0, 5.0), "loan": st.floats(0.0, 3.0), "ranking": st.sampled_from(["layer", "global"]),
    "min_per_layer": st.integers(0, 3),
})  # fmt: skip


def layered(n, free):
    """Return how n weights, ranked together, may be divided among layers."""
    found = []
    for left in free:
        found.append(min(n, left))
        n -= found[-1]
    assert not n
    return tuple(found)


@given(SIZES, SETTINGS, st.data())
def test_counts_are_exact_whatever_nights_choose(sizes, settings, data):
    """Nights end anywhere; some are undone, as a gate undoes them, and keep nothing."""
    capacity, days = Capacity(share="need", **settings), settings["days"]
    groups = sizes if capacity.ranking == "layer" else [sum(sizes)]
    refuses = data.draw(st.booleans())
    equal = Capacity(**{name: settings[name] for name in ("free_at_end", "days", "ranking", "min_per_layer")})
    free, counts = tuple(sizes), []
    for day in range(days):
        room = capacity.room(sizes, day, free)
        shares = [
            new - old for old, new in zip(equal.owned_after(sizes, day), equal.owned_after(sizes, day + 1), strict=True)
        ]
        due, most = room.due or room.new, room.most or room.new
        assert sum(room.free) == sum(free)
        for share, low, middle, high, left in zip(shares, room.new, due, most, room.free, strict=True):
            assert 0 <= low <= middle <= high <= left
            assert low > 0 or not share
            if day < days - 1:
                assert low >= math.floor(capacity.least * share)
                assert middle <= share
                assert high <= capacity.most * share + 1e-6
        density = data.draw(st.sampled_from([room.dawn_density, room.due_density, room.highest_density, None]))
        if density is None:
            density = data.draw(st.floats(0.0, 1.0)) * (room.highest_density or room.dawn_density)
        kept = room.kept(density)
        assert all(low <= n <= high for low, n, high in zip(room.new, kept, most, strict=True))
        if refuses and day < days - 1 and data.draw(st.booleans()):
            kept = tuple(0 for _ in kept)
        new = kept if capacity.ranking == "layer" else layered(kept[0], free)
        counts.append(new)
        free = tuple(before - n for before, n in zip(free, new, strict=True))
        bank = capacity.bank(sizes, day + 1, free)
        assert bank == sum(equal.owned_after(sizes, day + 1)) - sum(map(sum, counts))
        assert -bank <= capacity.loan * max(equal_shares(equal, sizes)) + 1e-6
    owned = [sum(each) for each in zip(*counts, strict=True)]
    assert tuple(owned if capacity.ranking == "layer" else [sum(owned)]) == equal.owned_after(sizes, days)
    if not settings["min_per_layer"]:
        assert sum(free) == sum(math.floor(size * settings["free_at_end"] + 0.5) for size in groups)
    assert refuses or capacity.allows(sizes, counts)


def equal_shares(capacity, sizes):
    """Return the equal share of each day, of all layers."""
    totals = [sum(capacity.owned_after(sizes, n)) for n in range(capacity.days + 1)]
    return [after - before for before, after in itertools.pairwise(totals)]


@given(SIZES, SETTINGS, st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8), st.data())
def test_counts_fall_with_the_density(sizes, settings, densities, data):
    capacity = Capacity(share="need", **settings)
    room = capacity.room(sizes, data.draw(st.integers(0, settings["days"] - 1)))
    ends = [room.dawn_density, *([] if room.due is None else [room.due_density, room.highest_density])]
    previous = room.kept(1.0)
    assert previous == room.free
    for density in sorted([*densities, *ends], reverse=True):
        counts = room.kept(density)
        assert all(n <= before for n, before in zip(counts, previous, strict=True))
        previous = counts


@given(SIZES, SETTINGS)
def test_with_one_as_each_factor_the_counts_are_those_of_equal_shares(sizes, settings):
    settings |= {"least": 1.0, "most": 1.0, "loan": 0.0}
    capacity = Capacity(share="need", **settings)
    equal = Capacity(**{name: settings[name] for name in ("free_at_end", "days", "ranking", "min_per_layer")})
    for day in range(settings["days"]):
        assert capacity.room(sizes, day) == equal.room(sizes, day)


def test_equal_shares_are_the_default_and_have_no_other_description():
    capacity = Capacity(free_at_end=0.9, days=5)
    assert capacity == Capacity(free_at_end=0.9, days=5, share="equal")
    assert repr(capacity) == "Capacity(free_at_end=0.9, days=5)"
    assert repr(Capacity(free_at_end=0.9, days=5, share="need", loan=1)) == (
        "Capacity(free_at_end=0.9, days=5, share='need', loan=1.0)"
    )


def test_a_layer_that_would_get_nothing_is_reported():
    capacity = Capacity(free_at_end=0.995, days=5, share="need")
    with pytest.raises(CapacityError, match=r"day 0: layer 'b' \(40 weights\) would get no new weight\."):
        capacity.check({"a": 10_000, "b": 40}, 0)
    capacity.check({"a": 10_000}, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": "needs"}, "Capacity: share must be one of 'equal', 'need', not 'needs'"),
        ({"share": "need", "least": 0}, "Capacity: least is a factor of the equal share, above 0 and up to 1, not 0"),
        ({"share": "need", "least": 1.1}, "Capacity: least is a factor"),
        ({"share": "need", "least": "1"}, "Capacity: least must be a finite number, not '1'"),
        ({"share": "need", "most": 0.9}, "Capacity: most .a factor of the equal share. must be 1 or more, not 0.9"),
        ({"share": "need", "most": math.inf}, "Capacity: most .* must be a finite number"),
        ({"share": "need", "loan": -0.1}, "Capacity: loan .* must be 0 or more, not -0.1"),
        ({"share": "need", "tolerance": -1}, "Capacity: tolerance must be 0 or more, not -1"),
        ({"share": "need", "tolerance": math.nan}, "Capacity: tolerance must be "),
        ({"least": 0.4}, r"Capacity: least has an effect only with share='need'\. Add that, or leave least out\."),
        ({"tolerance": 0.5}, "Capacity: tolerance has an effect only with share='need'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Capacity(free_at_end=0.9, days=5, **settings)


@pytest.mark.parametrize("settings", [{"keep_per_night": 0.1}, {"keep_per_task": 0.1}])
def test_without_a_total_nothing_can_be_saved(settings):
    with pytest.raises(SettingError, match=r"share='need' divides a total among a known number of days\. Give free_at"):
        Capacity(share="need", **settings)
