"""Nights that choose their dawn density: their snapshots, and what becomes of a policy's cycles."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight import Controlled, Cycle, Epochs, GradualPruning, Night, SleepPolicy, UniformCycles, rates
from daynight.errors import PolicyError
from daynight.nights.cycle import Measured
from daynight.nights.policy import advance, check_end, follow
from daynight.testing import check_policy
from daynight.training.planner import halves, paced


def dusk(**changes):
    night = Night(
        day=1, budget=Epochs(10), n_steps=100, steps_per_epoch=10, dawn_density=0.1, bank=-3, due_density=0.2,
        highest_density=0.4,
    )  # fmt: skip
    return attrs.evolve(night, **changes)


EQUAL = Night(day=1, budget=Epochs(10), n_steps=100, steps_per_epoch=10, dawn_density=0.2)


def test_a_night_that_is_cut_off_ends_at_the_equal_share_or_below():
    assert (EQUAL.chooses, EQUAL.last_density, EQUAL.bank) == (False, 0.2, 0)
    assert (dusk().chooses, dusk().last_density) == (True, 0.2)
    assert dusk(density=0.3).last_density == 0.2
    assert dusk(density=0.15).last_density == 0.15
    chosen = dusk(density=0.5).settled(0.4)
    assert (chosen.chooses, chosen.is_settled, chosen.last_density, chosen.dawn_density) == (False, True, 0.4, 0.4)
    assert (chosen.bank, chosen.density) == (-3, 0.5)


@pytest.mark.parametrize(
    "night", [EQUAL, dusk(), dusk(density=0.3).settled(0.3), dusk(measured=Measured(1, 0.5, "train"))]
)
def test_snapshots_come_back_from_plain_values(night):
    assert Night.from_json(night.to_json(), night.budget) == night


def test_nights_with_equal_shares_have_the_plain_values_that_they_had():
    assert list(EQUAL.to_json()) == [
        "day", "n_steps", "steps_per_epoch", "dawn_density", "price", "density", "spent", "cycle", "measured",
    ]  # fmt: skip
    assert dusk().to_json().keys() - EQUAL.to_json().keys() == {"bank", "due_density", "highest_density"}


def test_repr_of_a_night_is_the_same():
    assert repr(EQUAL) == (
        "Night(day=1, budget=Epochs(n=10.0, price=0.0), n_steps=100, steps_per_epoch=10, dawn_density=0.2, price=0.0, "
        "density=1.0, spent=0.0, cycle=0)"
    )


def test_prunes_below_what_a_night_has_chosen_are_left_out():
    night = dusk(price=0.01)
    script = follow(GradualPruning(4, 0.4, density=lambda share, dawn: dawn**share), night)
    kept, lengths = [], []
    cycle = next(script)
    while cycle is not None:
        kept.append(cycle.keep)
        lengths.append(cycle.length)
        night = night.after(cycle)
        if night.cycle == 2:
            night = night.settled(night.density)
        cycle = advance(script, night)
    assert kept == pytest.approx([0.1**0.25, 0.1**0.5, 0.1**0.5, 0.1**0.5])
    assert lengths == [cycle.length for cycle in GradualPruning(4, 0.4).plan(dusk(price=0.01))]
    check_end(UniformCycles(4), night)


def test_a_night_may_have_to_go_down_to_what_it_has_chosen():
    night = dusk(density=0.8, spent=0.5, cycle=3, price=0.1).settled(0.4)
    script = follow(UniformCycles(1), night)
    assert next(script) == Cycle(keep=0.4, length=0.5)

    class Short(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep=0.1, length=0.02)  # shorter than the price of the prune that the night has chosen

    assert next(follow(Short(), night)).keep == 0.4
    with pytest.raises(PolicyError, match=r"its prune costs 0\.1 of the night's budget"):
        next(follow(Short(), attrs.evolve(night, dawn_density=0.1, is_settled=False)))


def test_many_cycles_that_do_nothing_any_more_are_no_endless_loop():
    policy, night = GradualPruning(300, 1.0), dusk()
    script, n = follow(policy, night), 0
    cycle = next(script)
    while cycle is not None:
        n, night = n + 1, night.after(cycle)
        night = night if night.is_settled or night.density > 0.4 else night.settled(night.density)
        cycle = advance(script, night)
    assert n == 300


class Loops(SleepPolicy):
    """Halves the density until the night has reached its dawn density."""

    def cycles(self, night):
        while night.density > night.dawn_density and night.loss < 9:
            night = yield Cycle(keep=max(night.density / 2, night.dawn_density), length=night.left / 4)
        yield Cycle(keep="dawn", length=night.left)


@pytest.mark.parametrize(("policy", "density"), [(Loops(), 0.25), (Controlled(0.1, 0.2, 0.0), 0.1)], ids=repr)
def test_policies_that_react_come_to_an_end_when_the_night_has_chosen(policy, density):
    night = dusk(measured=Measured(1.0, 0.5, "validation"))
    script = follow(policy, night)
    cycle = next(script)
    while cycle is not None:
        night = night.after(cycle, night.measured)
        if night.chooses and night.density <= 0.4:
            night = night.settled(night.density)
        cycle = advance(script, night)
    assert night.density == density
    assert night.spent == pytest.approx(1)
    check_policy(policy)


class Reads(SleepPolicy):
    """Spends more of the night on few weights if earlier days have borrowed them."""

    def cycles(self, night):
        first = 0.25 if night.bank < 0 else 0.5
        night = yield Cycle(keep=night.dawn_density**0.5, length=first)
        yield Cycle(keep="dawn", length=1 - first)


def test_a_policy_may_read_the_bank():
    assert [cycle.length for cycle in Reads().plan(dusk())] == [0.25, 0.75]
    assert [cycle.length for cycle in Reads().plan(dusk(bank=4))] == [0.5, 0.5]
    assert [cycle.length for cycle in Reads().plan(EQUAL)] == [0.5, 0.5]
    check_policy(Reads())


class Stops(SleepPolicy):
    """Loses its way where the night does not go down as it has said."""

    def cycles(self, night):
        for keep in (night.dawn_density**0.5, night.dawn_density):
            night = yield Cycle(keep=keep, length=0.5)
            if night.density > keep:
                raise ValueError("where am I?")


def test_check_policy_finds_policies_that_cannot_bear_a_night_that_chooses():
    with pytest.raises(PolicyError, match=r"check_policy: in a night of Epochs\(n=3.* a toy network: .* where am I"):
        check_policy(Stops())


@given(rate=st.sampled_from([None, rates.Linear(1.0, 3.0)]), length=st.floats(0, 1), share=st.floats(0, 1))
def test_two_halves_have_the_rates_and_the_length_of_the_whole(rate, length, share):
    whole = Cycle(keep=0.1, length=length, rate=rate, rewind=0.5)
    first, second = halves(whole)
    assert first.length + second.length == pytest.approx(length)
    assert (first.keep, second.keep, first.rewind) == (0.1, "dawn", 0.5)
    if rate is None:
        assert first.rate is second.rate is None
    else:
        assert first.rate(share, 0) == pytest.approx(rate(share / 2, 0))
        assert second.rate(share, 0) == pytest.approx(rate(0.5 + share / 2, 0))


def test_a_paced_plan_leaves_out_prunes_below_what_a_night_has_chosen():
    plan = UniformCycles(3).plan(dusk())
    script = paced(plan, dusk(), 1.0)
    first = next(script)
    night = dusk().after(first).settled(first.keep)
    assert script.send(night) == attrs.evolve(plan[1], keep=first.keep)
