"""How nights in time are paced: on a steady machine, and where prunes take long."""

import math

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daynight import (
    Agent,
    Capacity,
    Cycle,
    Epochs,
    ExplicitCycles,
    Ledger,
    Progress,
    Seconds,
    SleepPolicy,
    Steps,
    Training,
    UniformCycles,
    Until,
    recommended_policy,
)
from daynight.errors import PolicyError
from daynight.nights.cycle import Measured
from daynight.testing import FakeTimer, toy_network, toy_stream
from daynight.training.optimizer import Optimization
from daynight.training.planner import Planner
from daynight.training.trainer import Trainer


def make_agent():
    return Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=10))


def still(optimization, inputs, targets):
    """Take no step: how nights are paced does not depend on what is learnt."""
    return torch.zeros(())


def night_of(policy, budget):
    """Live a day, and give the records of its night and of the day."""
    agent, records = make_agent(), []
    agent.wake(toy_stream(2)[0], Epochs(1))
    agent.sleep(policy, budget, lambda event: records.append(event) if hasattr(event, "kind") else None)
    return records


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 80), prune=st.floats(0.01, 20.0))
def test_planned_nights_in_time_retrain_for_as_long_as_they_prune(n, prune):
    for policy in (UniformCycles(n), recommended_policy(n)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Optimization, "step", still)
            *_, day = night_of(policy, Seconds(100, timer=FakeTimer(0.1, prune)))
        # But for the first prune, before which nobody knows how long they take, and a step or so at each cycle's end.
        assert 0.1 * day.night_steps >= (100 - prune) / 2 - 0.1 * n - 0.1


class Prepares(FakeTimer):
    """Simulates a machine on which the first step after a prune takes a second more."""

    is_pruned = False

    def worked(self, what):
        super().worked(what)
        self.advance(1.0 if self.is_pruned and what == "step" else 0.0)
        self.is_pruned = what == "prune"

    def measure(self, seconds):
        """Take the time of a measurement, after a prune alone."""
        self.advance(seconds if self.is_pruned else 0.0)
        return Measured(0.5, 0.5, "validation")


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 80), prune=st.floats(0.01, 5.0), measuring=st.floats(0.01, 5.0))
def test_what_is_measured_and_prepared_after_a_prune_counts_as_the_prune_does(n, prune, measuring):
    timer, stream = Prepares(0.1, prune), toy_stream(2).hold_out(0.2)
    for policy in (UniformCycles(n), recommended_policy(n)):
        agent = make_agent()
        agent.wake(stream[0], Epochs(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "measure", lambda _: timer.measure(measuring))
            patch.setattr(Optimization, "step", still)
            agent.sleep(policy, Seconds(200, timer=timer))
        # But for the first cycles, from which it is known what they take.
        begun = 2 * (prune + measuring + 1.0) + 200 / n
        assert 0.1 * agent.days[0].night_steps >= (200 - begun) / 2 - 0.1 * n - 0.1


class Paced(Ledger):
    """A budget of time of which nothing is ever spent, with a shortest cycle of its own."""

    is_timed, n_steps, spent = True, None, 0.0

    def reached(self, share):
        return False

    def steps_until(self, share):
        return None


def test_merged_cycles_are_merged_when_the_policy_is_asked_again():
    night, ledger = make_agent().night(toy_stream(2)[0], Seconds(10)), Paced()
    planner = Planner(UniformCycles(8), night, ledger)
    first = planner.first(night).cycle
    ledger.least_cycle = 0.3
    second = planner.next(night.after(first), None).cycle
    assert (first.length, second.length) == pytest.approx((1 / 8, 3 / 8))
    assert second.keep == pytest.approx(planner.plan[3].keep)
    again = Planner.restore(planner.state(), UniformCycles(8), night, ledger)
    assert again.resumed(second, night.after(first)) == second
    with pytest.raises(PolicyError, match=r"day 0, cycle 0 was begun as .*, and the policy now yields"):
        again.resumed(first, night)
    # What is left for the others would be too short.
    rest = planner.next(night.after(first).after(second), None).cycle
    assert (rest.length, rest.keep) == (pytest.approx(1 / 2), planner.plan[-1].keep)
    assert planner.next(attrs.evolve(night, spent=1.0), None) is None


class Nothing(SleepPolicy):
    """Yields a cycle only as long as there is something to prune."""

    def cycles(self, night):
        if night.density > night.dawn_density:
            yield Cycle(keep="dawn", length=night.left / 2)
            yield Cycle(keep="dawn", length=night.left / 2)


def test_a_night_open_at_its_dawn_density_ends_well_where_the_policy_yields_nothing():
    agent, task = make_agent(), toy_stream(2)[0]
    agent.wake(task, Epochs(1))

    def interrupt(event):
        if isinstance(event, Progress) and event.cycle == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.sleep(Nothing(), Epochs(4), interrupt)
    assert agent.phase == "night"
    agent.sleep(Nothing(), Epochs(4))
    assert (agent.day, agent.phase) == (1, "between days")
    agent.verify()


def test_a_price_alone_puts_no_cycles_together():
    records = night_of(UniformCycles(4), Seconds(10, price=2, timer=FakeTimer(0.25)))
    assert len([record for record in records if record.kind == "prune"]) == 4


@pytest.mark.parametrize("cycles", [[("dawn", 1)], [("dawn", 0.999)], [(0.75, 0.333), ("dawn", 0.666)]])
def test_a_night_that_leaves_a_little_is_not_late_either(cycles):
    *_, day = night_of(ExplicitCycles(cycles), Seconds(10, timer=FakeTimer(0.64)))
    assert (day.night_steps, day.night_seconds) == (15, pytest.approx(9.6))


class Follows(SleepPolicy):
    """Goes on for as long as it may, in cycles of a tenth of what is left."""

    def cycles(self, night):
        while night.loss >= 0:
            night = yield Cycle("dawn", night.left / 10)


@pytest.mark.parametrize("budget", [Steps(30), Seconds(2, timer=FakeTimer(0.06))])
def test_a_night_whose_budget_is_spent_is_over_at_the_dawn_density(budget):
    *_, day = night_of(Follows(), budget)
    assert day.night_steps == (30 if isinstance(budget, Steps) else 33)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 12])
@pytest.mark.parametrize(("step", "prune", "seconds"), [(0.02, 0.05, 1.0), (0.7, 0.3, 5.2), (0.1, 0.0, 3.0)])
def test_a_steady_machine_is_never_late_and_its_nights_repeat(n, step, prune, seconds):
    timer, taken = FakeTimer(step, prune), []
    for _ in range(4):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.9, days=3), training=Training(batch_size=10))
        agent.wake(toy_stream(3)[0], Steps(3))
        agent.sleep(UniformCycles(n), Seconds(seconds, timer=timer))
        taken.append(agent.days[0].night_steps)
        assert agent.days[0].night_seconds <= seconds + 1e-5
        n_prunes = round((agent.days[0].night_seconds - taken[-1] * step) / prune) if prune else 0
        assert taken[-1] == math.floor((seconds - n_prunes * prune) / step + 1e-6)
    assert len(set(taken)) == 1


def test_a_night_that_goes_on_after_its_end_says_so():
    timer, agent = FakeTimer(0.5), make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.sleep(UniformCycles(2), Until("22:01", timer=timer), stop)
    timer.advance(3600)
    with pytest.warns(UserWarning, match="the night of day 0 was to be over 3,5[0-9][0-9] seconds ago: it prunes down"):
        agent.sleep(UniformCycles(2), Until("22:01", timer=timer))
    assert agent.days[0].night_steps == 0
