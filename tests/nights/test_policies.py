import itertools
import math
import pickle
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight import (
    Agent,
    Capacity,
    Clock,
    Cycle,
    Epochs,
    ExplicitCycles,
    Night,
    NoSleep,
    OneShot,
    SleepPolicy,
    Training,
    UniformCycles,
    pruned_fraction_per_round,
)
from daynight.errors import PolicyError, ReactivePolicyError, SettingError
from daynight.nights.cycle import Measured
from daynight.nights.policy import MAX_CYCLES, follow, planned
from daynight.testing import toy_network, toy_stream


def dusk(**changes):
    night = Night(day=3, budget=Epochs(72), n_steps=720, steps_per_epoch=10, dawn_density=0.01)
    return attrs.evolve(night, **changes)


class Yields(SleepPolicy):
    """Yields the given cycles."""

    def __init__(self, *cycles):
        self.given = cycles

    def cycles(self, night):
        for keep, length in self.given:
            yield Cycle(keep=keep, length=length)

    def __repr__(self):
        return "Yields()"


def test_uniform_cycles_prune_what_algorithm_2_says():
    p, days, n = 0.99, 5, 8
    z = pruned_fraction_per_round(n, days, p)
    kept = 1 - p ** (1 / days)
    plan = UniformCycles(n).plan(dusk(dawn_density=kept))
    assert [cycle.keep for cycle in plan] == pytest.approx([(1 - z) ** (i + 1) for i in range(n)])
    assert plan[-1].keep == kept
    assert [cycle.length for cycle in plan] == [1 / 8] * 8


@given(st.integers(1, 500), st.floats(1e-4, 1.0), st.floats(0, 1), st.floats(0, 1))
def test_uniform_cycles_lay_out_any_rest_of_a_night(n, dawn, spent, position):
    density = dawn**position
    plan = UniformCycles(n).plan(dusk(dawn_density=dawn, density=max(density, dawn), spent=spent))
    assert len(plan) == n
    assert plan[-1].keep == dawn
    assert math.fsum(cycle.length for cycle in plan) == pytest.approx(1 - spent, abs=1e-9)


def test_one_shot_and_no_sleep_are_single_cycles():
    assert OneShot().plan(dusk()) == (Cycle(keep=0.01, length=1.0),)
    assert NoSleep().plan(dusk()) == (Cycle(keep=0.01, length=0.0),)
    assert UniformCycles(1).plan(dusk()) == OneShot().plan(dusk())


def test_explicit_cycles_take_relative_lengths():
    plan = ExplicitCycles([1, 0, 3]).plan(dusk())
    assert [cycle.length for cycle in plan] == [0.25, 0.0, 0.75]
    assert [cycle.keep for cycle in plan] == pytest.approx([0.01 ** (1 / 3), 0.01 ** (2 / 3), 0.01])


def test_explicit_cycles_take_cycles_and_pairs_as_they_are():
    plan = ExplicitCycles([(0.2, 0.3), Cycle(keep=0.05, length=0.1), ("dawn", 0.5)]).plan(dusk())
    assert plan == tuple(Cycle(keep=k, length=n) for k, n in [(0.2, 0.3), (0.05, 0.1), (0.01, 0.5)])


@pytest.mark.parametrize(
    ("cycles", "message"),
    [
        ([], "give at least one cycle"),
        ([0, 0], "at least one relative length must be above 0"),
        ([1e308, 1e308], "the relative lengths must have a finite sum"),
        ([1, -1], "a length must be 0 or more, not -1"),
        ([1, math.nan], "a length must be a finite number, not nan"),
        ([1, (0.5, 0.5)], "is neither a Cycle nor a (keep, length) pair"),
        (["half"], "is neither a Cycle nor a (keep, length) pair"),
        ([(0.5, -1)], "length must be 0 or more"),
        ([(math.nan, 0.5)], "keep (a density, or 'dawn') must be a finite number, not nan"),
    ],
)
def test_explicit_cycles_refuse_what_is_no_cycle(cycles, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        ExplicitCycles(cycles)


@pytest.mark.parametrize("cycles", [None, 3])
def test_explicit_cycles_refuse_what_is_not_several(cycles):
    with pytest.raises(SettingError, match=rf"cycles must be several, such as \[1, 2, 4\] or .*, not {cycles}\."):
        ExplicitCycles(cycles)


@pytest.mark.parametrize("n", [0, -1, 1.5, "8", True, MAX_CYCLES + 1])
def test_uniform_cycles_refuse_what_is_no_count(n):
    with pytest.raises(SettingError, match=r"UniformCycles: n must be (a whole number from 1 up|at most 100,000), not"):
        UniformCycles(n)


@pytest.mark.parametrize(
    ("cycles", "message"),
    [
        ([], "Yields() on day 3 yields no cycle. A night without retraining is one cycle with nothing but a prune: "
             "Cycle(keep='dawn', length=night.price)."),
        ([(0.5, 0.7), (0.01, 0.4)], "Yields() on day 3, cycle 1: overspends: its cycles would take 1.1 of the night's "
                                    "budget. Lengths are shares of the whole night and sum to at most 1. What is "
                                    "left is night.left of the snapshot that each yield returns."),
        ([(0.5, 0.5), (0.02, 0.5)], "Yields() on day 3 never reaches the dawn density: it ends at 0.02, and must end "
                                    "at 0.01. Give the last cycle keep='dawn'. A keep is a fraction of the weights "
                                    "available at dusk, not of those that the cycle before has left."),
        ([(0.5, 0.1), (0.6, 0.1), (0.01, 0.1)], "Yields() on day 3, cycle 1: the density goes up, from 0.5 to 0.6. A "
                                                "pruned weight stays pruned until the next wake: each keep must be at "
                                                "most the one before."),
        ([(0.005, 0.5)], "Yields() on day 3, cycle 0: keep=0.005 is below the dawn density 0.01. Keep at least "
                         "night.dawn_density; keep='dawn' means exactly that."),
        ([(0.5, 0.1), (math.nan, 0.1)], "Yields() on day 3, cycle 1: Cycle: keep (a density, or 'dawn') must be a "
                                      "finite number, not nan."),
        ([(0.5, math.nan)], "Yields() on day 3, cycle 0: Cycle: length must be a finite number, not nan."),
    ],
)  # fmt: skip
def test_plan_that_breaks_a_rule_is_refused(cycles, message):
    with pytest.raises(PolicyError) as caught:
        Yields(*cycles).plan(dusk())
    assert str(caught.value) == message


def test_policy_that_yields_no_cycles_but_numbers_is_refused():
    class Numbers(SleepPolicy):
        def cycles(self, night):
            yield 0.5

    with pytest.raises(PolicyError, match=r"Numbers\(\) on day 3, cycle 0: yielded 0.5, not a Cycle\(keep"):
        Numbers().plan(dusk())


def test_policy_that_returns_a_list_is_told_to_yield():
    class Returns(SleepPolicy):
        def cycles(self, night):
            return [Cycle(keep="dawn", length=1.0)]

    with pytest.raises(PolicyError, match=r"cycles\(\) must be a generator method .* but it returned list\."):
        Returns().plan(dusk())


class Stumbles(SleepPolicy):
    """Raises the given error at its second cycle, or when it begins."""

    def __init__(self, error, begins=True):
        self.error, self.begins = error, begins

    def cycles(self, night):
        if not self.begins:
            raise self.error
        return self.inner()

    def inner(self):
        yield Cycle(keep=0.5, length=0.5)
        raise self.error

    def __repr__(self):
        return "Stumbles()"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"), (SettingError("no good."), "no good.")],
)
@pytest.mark.parametrize("begins", [True, False])
def test_exception_of_a_policy_says_whose_it_is_and_when(error, reason, begins):
    with pytest.raises(PolicyError) as caught:
        Stumbles(error, begins).plan(dusk())
    assert str(caught.value) == f"Stumbles() on day 3, cycle {int(begins)}: {reason}"
    assert caught.value.__cause__ is error


def test_exceptions_that_are_no_fault_of_a_policy_pass():
    for error in (KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)):
            Stumbles(error).plan(dusk())
    with pytest.raises(ReactivePolicyError, match=r"(?m)^there is no plan$"):
        Stumbles(ReactivePolicyError("there is no plan"), begins=False).plan(dusk())


@pytest.mark.parametrize("night", [3, None])
def test_plan_of_what_is_no_night_is_refused(night):
    with pytest.raises(SettingError, match=rf"night must be a Night, such as .* returns, not {night}\."):
        OneShot().plan(night)


def test_policy_may_yield_from_a_list():
    class FromList(SleepPolicy):
        def cycles(self, night):
            yield from self.inner()
            night = yield Cycle(keep=0.1, length=0.1)
            assert night.density == 0.1
            yield from [Cycle(keep="dawn", length=0.1)] * 2

        def inner(self):
            yield from [Cycle(keep=0.5, length=0.1)] * 2

    assert [cycle.keep for cycle in FromList().plan(dusk())] == [0.5, 0.5, 0.1, 0.01, 0.01]


def test_policy_that_never_ends_is_stopped():
    class Endless(SleepPolicy):
        def cycles(self, night):
            while True:
                yield Cycle(keep="dawn", length=0.0)

    with pytest.raises(PolicyError, match=r"101 cycles in a row neither prune nor last\. Does its loop end\?"):
        Endless().plan(dusk())

    class Unending(SleepPolicy):
        def cycles(self, night):
            for n in itertools.count(2):
                yield Cycle(keep=night.dawn_density + (1 - night.dawn_density) / n, length=0.0)

    with pytest.raises(PolicyError, match=r"more than 100,000 cycles in one night\. Does its loop end\?"):
        Unending().plan(dusk())


class Halves(SleepPolicy):
    """Halves the density until the score falls."""

    def cycles(self, night):
        while night.density / 2 > night.dawn_density and night.score > 0.9:
            night = yield Cycle(keep=night.density / 2, length=night.left / 4)
        yield Cycle(keep="dawn", length=night.left)


def test_reactive_policy_has_no_plan_and_says_so():
    with pytest.raises(ReactivePolicyError, match="reads the night's loss or score, so it has no plan beforehand"):
        Halves().plan(dusk(measured=Measured(0.1, 1.0, "validation")))
    assert planned(Halves(), dusk()) is None
    assert planned(UniformCycles(5), dusk()) == UniformCycles(5).plan(dusk())


def test_reactive_policy_is_followed_cycle_by_cycle():
    night = dusk(measured=Measured(0.1, 0.95, "validation"))
    script = follow(Halves(), night)
    first = next(script)
    assert first == Cycle(keep=0.5, length=0.25)
    last = script.send(night.after(first, Measured(0.3, 0.85, "validation")))
    assert last == Cycle(keep=0.01, length=0.75)
    with pytest.raises(StopIteration):
        script.send(night.after(last))


def test_snapshots_reach_a_static_policy_while_planned():
    class Shares(SleepPolicy):
        def cycles(self, night):
            seen = []
            for keep in (0.5, 0.1, "dawn"):
                seen.append((night.cycle, night.density, night.left))
                night = yield Cycle(keep=keep, length=night.left / 2)
            assert seen == [(0, 1.0, 1.0), (1, 0.5, 0.5), (2, 0.1, 0.25)]

    assert [cycle.length for cycle in Shares().plan(dusk())] == [0.5, 0.25, 0.125]


def test_policy_class_in_place_of_an_instance_is_refused():
    with pytest.raises(SettingError, match=r"must be a SleepPolicy.*Did you mean OneShot\(\.\.\.\)\?"):
        planned(OneShot, dusk())


@pytest.mark.parametrize("policy", [UniformCycles(8), OneShot(), NoSleep(), ExplicitCycles([1, 2])])
def test_policies_show_their_settings_and_can_be_pickled(policy):
    assert repr(pickle.loads(pickle.dumps(policy))) == repr(policy)
    assert repr(UniformCycles(8)) == "UniformCycles(n=8)"


class Halving(SleepPolicy):
    """Halves the density while the score is above 0.9. Each prune is a cycle of its own, after which `heard` is called.

    Args:
        heard: Called with the losses before and after a prune.
    """

    def __init__(self, heard=print):
        self.heard = heard

    def cycles(self, night):
        while night.density / 2 > night.dawn_density and night.score > 0.9:
            before = night.loss
            night = yield Cycle(keep=night.density / 2, length=night.price)
            self.heard(before, night.loss)
            night = yield Cycle(keep=night.density, length=night.left / 4)
        yield Cycle(keep="dawn", length=night.left)


def test_a_night_that_reacts_is_laid_out_with_measurements_of_ones_own():
    heard = []
    policy = Halving(lambda *losses: heard.append(losses))
    cycles = policy.simulate(dusk(dawn_density=0.1), lambda night: (1 / night.density, 0.7 + night.density))
    # The score is 1.7 at dusk, 1.2 at half the weights, and 0.95 at a quarter, but at an eighth it is below 0.9.
    assert [(cycle.keep, cycle.length) for cycle in cycles] == [
        (0.5, 0), (0.5, 1 / 4), (0.25, 0), (0.25, 3 / 16), (0.125, 0), (0.125, 9 / 64), (0.1, 27 / 64)]  # fmt: skip
    assert heard == [(1, 2), (2, 4), (4, 8)]
    (only,) = policy.simulate(dusk(), lambda night: (1.0, 0.5))
    assert (only.keep, only.length) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("policy", "night", "measure", "error", "message"),
    [
        (Halving(), dusk(), lambda night: 0.5, SettingError, r"measure must return \(loss, score\), not 0.5"),
        (Halving(), dusk(), lambda night: (math.nan, 0.5), SettingError, "simulate: loss must be"),
        (Halving(), dusk(), 3, SettingError, "simulate: measure must be"),
        (Halving(), 3, lambda night: (1.0, 0.5), SettingError, "simulate: night must be"),
        (Yields(), dusk(), lambda night: (1.0, 0.5), PolicyError, "yields no cycle"),
    ],
)
def test_what_cannot_be_simulated_is_refused(policy, night, measure, error, message):
    with pytest.raises(error, match=message):
        policy.simulate(night, measure)


def test_a_cycle_of_a_prune_alone_shows_the_loss_right_after_nrem():
    heard = []
    policy = Halving(lambda *losses: heard.append(losses))
    agent = Agent(toy_network, capacity=Capacity(keep_per_night=0.1), training=Training(batch_size=10))
    history = Clock(agent, toy_stream(1).hold_out(0.2), policy=policy, wake=Epochs(20), night=Epochs(4)).run()
    prunes = history.select(kind="prune")
    assert heard
    for (before, after), prune in zip(heard, prunes, strict=False):
        assert after == prune.validation_loss != before
