import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight.errors import ReactivePolicyError, SettingError
from daynight.nights.budgets import Epochs, StepLedger, Steps
from daynight.nights.cycle import Cycle, Measured, Night
from daynight.pruning.capacity import kept_fraction_per_night, pruned_fraction_per_round


def dusk(**changes):
    return attrs.evolve(Night(day=0, budget=Epochs(2), n_steps=20, steps_per_epoch=10, dawn_density=0.01), **changes)


def test_algorithm_2_by_hand():
    # One task and p = 0.75: r = 0.75, a quarter is kept; two rounds keep half each.
    assert kept_fraction_per_night(0.75, 1) == 0.25
    assert pruned_fraction_per_round(1, 1, 0.75) == 0.75
    assert pruned_fraction_per_round(2, 1, 0.75) == 0.5
    # Two tasks and p = 0.25: r = 0.5, and one round prunes half.
    assert pruned_fraction_per_round(1, 2, 0.25) == 0.5


@given(st.integers(1, 200), st.integers(1, 50), st.floats(1e-6, 1 - 1e-6))
def test_algorithm_2_rounds_compound_to_one_night_and_nights_to_p(n_rounds, n_days, p):
    z = pruned_fraction_per_round(n_rounds, n_days, p)
    kept = kept_fraction_per_night(p, n_days)
    assert 0 <= z <= 1
    assert (1 - z) ** n_rounds == pytest.approx(kept, rel=1e-6, abs=1e-12)
    assert (1 - kept) ** n_days == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0, -0.1, 1.1, math.nan, math.inf, "0.5", None, True])
def test_algorithm_2_refuses_p_at_its_limits(p):
    with pytest.raises(SettingError, match=r"free_at_end must be above 0 and below 1, not .*: at 0 the first task"):
        pruned_fraction_per_round(1, 5, p)


@pytest.mark.parametrize(("n_rounds", "n_days"), [(0, 5), (1, 0), (-1, 5), (1.5, 5), (1, 2.0), (True, 5)])
def test_algorithm_2_refuses_counts_that_are_none(n_rounds, n_days):
    with pytest.raises(SettingError, match=r"must be a whole number from 1 up"):
        pruned_fraction_per_round(n_rounds, n_days, 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 5000))
def test_ledger_steps_of_shares_sum_to_the_budget(weights, n_steps):
    total = math.fsum(weights) or 1.0
    ledger, spent, end = StepLedger(n_steps), [], 0.0
    for weight in weights:
        end += weight / total
        n = ledger.steps_until(end)
        spent.append(n)
        for _ in range(n):
            assert not ledger.reached(end)
            ledger.note_step()
        assert ledger.reached(end)
        # No cycle is off by more than one step from its share of the budget.
        assert abs(n - n_steps * weight / total) <= 1 + 1e-6
    if math.fsum(weights):
        assert sum(spent) == n_steps == ledger.spent_steps
        assert ledger.spent == (1.0 if n_steps else 0.0)


def test_ledger_of_cycles_that_do_not_divide_the_budget():
    ledger, lengths = StepLedger(10), []
    for n in (1, 2, 3, 4):
        lengths.append(ledger.steps_until(n / 4))
        for _ in range(lengths[-1]):
            ledger.note_step()
    assert lengths == [3, 2, 3, 2]


def test_epochs_need_not_be_whole():
    assert Epochs(1.5).open(steps_per_epoch=99).n_steps == 149
    assert Epochs(0).open(steps_per_epoch=99).n_steps == 0
    assert Steps(7).open(steps_per_epoch=99).n_steps == 7


@pytest.mark.parametrize("n", [-1, math.nan, math.inf, "72", None, True])
def test_epochs_refuse_what_is_no_number(n):
    with pytest.raises(SettingError, match=r"Epochs: n must be"):
        Epochs(n)


@pytest.mark.parametrize("n", [-1, 1.5, "72", None, True])
def test_steps_refuse_what_is_no_count(n):
    with pytest.raises(SettingError, match=r"Steps: n must be a whole number from 0 up, not"):
        Steps(n)


@pytest.mark.parametrize(("budget", "n"), [(Epochs, 1e308), (Epochs, 10**13), (Steps, 10**30)])
def test_budgets_that_no_machine_can_spend_are_refused(budget, n):
    with pytest.raises(SettingError, match=rf"{budget.__name__}: n must be at most 1,000,000,000,000, not 1"):
        budget(n)
    assert budget(10**12).open(steps_per_epoch=1).n_steps == 10**12


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, math.nan, math.inf, "dusk", None])
def test_cycle_refuses_what_is_no_density(keep):
    with pytest.raises(SettingError, match=r"Cycle: keep .*must be a"):
        Cycle(keep=keep, length=0.5)


@pytest.mark.parametrize("length", [-0.1, math.nan, math.inf, "1", None])
def test_cycle_refuses_what_is_no_length(length):
    with pytest.raises(SettingError, match=r"Cycle: length must be"):
        Cycle(keep=0.5, length=length)


def test_cycle_dawn_is_the_density_of_that_night():
    assert Cycle(keep="dawn", length=1.0).resolved(dusk()) == 0.01
    assert Cycle(keep=0.01 * (1 + 1e-12), length=1.0).resolved(dusk()) == 0.01
    assert Cycle(keep=0.0100001, length=1.0).resolved(dusk()) == 0.0100001


def test_merged_cycles_are_as_long_as_both_and_prune_as_far_as_the_second():
    first, second = Cycle(keep=0.5, length=0.25, rewind=0.5), Cycle(keep="dawn", length=0.125, rate=max)
    assert first.merged(second) == Cycle(keep="dawn", length=0.375, rate=max)


def test_night_after_a_cycle_is_a_new_snapshot():
    night = dusk()
    later = night.after(Cycle(keep=0.3, length=0.25))
    assert (later.density, later.spent, later.left, later.cycle) == (0.3, 0.25, 0.75, 1)
    assert (night.density, night.spent, night.cycle) == (1.0, 0.0, 0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        later.density = 0.5


def test_night_without_measurements_says_that_the_policy_reacts():
    with pytest.raises(ReactivePolicyError, match="so it has no plan"):
        _ = dusk().loss
    measured = dusk(measured=Measured(0.5, 0.9, "validation"))
    assert (measured.loss, measured.score) == (0.5, 0.9)
    assert (dusk().is_measured, measured.is_measured) == (False, True)
