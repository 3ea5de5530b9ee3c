"""The check of users' policies: it accepts those that keep the rules, and names the rule that one breaks."""

import collections
import functools
import math
import random
import re

import numpy as np
import pytest
import torch

import daynight as dn
from daynight import rates
from daynight.errors import PolicyError, SettingError
from daynight.nights import schedules
from daynight.testing import check_policy, toy_stream


class Plain(dn.SleepPolicy):
    """Keeps the rules."""

    def cycles(self, night):
        yield dn.Cycle(keep="dawn", length=night.left)


class Tells(Plain):
    """Keeps the rules, and reads the loss."""

    def cycles(self, night):
        while night.density > night.dawn_density * 1.5 and night.left > 0.2 and night.loss < 0.3:
            night = yield dn.Cycle(keep=max(night.density / 2, night.dawn_density), length=0.1)
        yield dn.Cycle(keep="dawn", length=night.left)


class WorksOut(dn.SleepPolicy):
    """Keeps the rules, and caches what it derives from its settings."""

    def __init__(self, n):
        self.n = n

    @functools.cached_property
    def lengths(self):
        return [1 / self.n] * self.n

    def cycles(self, night):
        for length in self.lengths:
            night = yield dn.Cycle(keep="dawn", length=min(length, night.left))


@pytest.mark.parametrize(
    "policy",
    [
        dn.OneShot(), dn.NoSleep(), dn.UniformCycles(1), dn.UniformCycles(72), dn.ExplicitCycles([1, 2, 4]),
        dn.GeometricCycles(9, 16), dn.GeometricCycles(4, 0.1, density=schedules.cubic, rate=rates.Cosine()),
        dn.recommended_policy(),
        dn.GradualPruning(), dn.GradualPruning(7, 0.0, density=schedules.equal_number), dn.Controlled(),
        dn.Controlled(0.2, 0.3, 0.0, rate=rates.AdaptiveLinear(0.5)),
        dn.Rated(dn.UniformCycles(4), rates.Linear(), "night"),
        dn.Rated(dn.Controlled(), rates.Linear()), dn.Capped(dn.UniformCycles(9), 3), dn.Capped(dn.Controlled(), 3),
        dn.Floored(dn.GeometricCycles(30, 50), 0.05), dn.Floored(dn.Controlled(), 0.1),
        dn.WarmStart(dn.GradualPruning(5), 0.3), dn.WarmStart(dn.Controlled(), 0.5), Plain(), Tells(), WorksOut(3),
        dn.Rewound(dn.GeometricCycles(4, 3), 0.1), dn.Rewound(dn.Controlled(), 0.5),
    ],
    ids=repr,
)  # fmt: skip
def test_policies_of_the_library_keep_the_rules(policy):
    check_policy(policy)


class Overspends(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep=night.density, length=0.6)
        yield dn.Cycle(keep="dawn", length=0.6)


class NeverThere(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep=(night.density + night.dawn_density) / 2, length=night.left)


class Rises(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep=max(0.3, night.dawn_density), length=0.5)
        yield dn.Cycle(keep=max(0.4, night.dawn_density), length=0.1)
        yield dn.Cycle(keep="dawn", length=0.1)


class Sinks(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep=night.dawn_density / 2, length=0.5)


class Random(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep=night.density, length=random.random() / 2)
        yield dn.Cycle(keep="dawn", length=0.5)


class Remembers(dn.SleepPolicy):
    def __init__(self):
        self.n_nights = 0

    def cycles(self, night):
        self.n_nights += 1
        yield dn.Cycle(keep="dawn", length=night.left)


class Shut(Plain):
    def __init__(self):
        self.shape = lambda x: x


class Peeks(Plain):
    def __init__(self):
        self.settings = {"tasks": [toy_stream(1)[0]]}


class TooFew(dn.SleepPolicy):
    """Has no cycle in a short night."""

    def cycles(self, night):
        n = (night.n_steps or 50) // 5
        for i in range(1, n + 1):
            yield dn.Cycle(keep=night.dawn_density ** (i / n), length=1 / n)


class Blind(dn.SleepPolicy):
    """Forgets that a night in seconds has no number of steps."""

    def cycles(self, night):
        share = min(1.0, 100 / max(1, night.n_steps))
        yield dn.Cycle(keep="dawn", length=share)


class Stubborn(dn.SleepPolicy):
    """Expects a low loss."""

    def cycles(self, night):
        while night.density > night.dawn_density:
            if night.loss > 1:
                raise ValueError("the loss is above 1")
            night = yield dn.Cycle(keep=max(night.dawn_density, night.density / 10), length=night.left / 2)


class NoGenerator(dn.SleepPolicy):
    def cycles(self, night):
        return [dn.Cycle(keep="dawn", length=1)]


class Endless(dn.SleepPolicy):
    def cycles(self, night):
        while True:
            yield dn.Cycle(keep=night.density, length=0)


class Free(dn.SleepPolicy):
    """Forgets that a prune can have a price."""

    def cycles(self, night):
        yield dn.Cycle(keep=math.sqrt(night.dawn_density), length=0)
        yield dn.Cycle(keep="dawn", length=1)


class RandomRewind(dn.SleepPolicy):
    """Goes back to a random point of the wake."""

    rewinds = (0.0, 0.5, 1.0)

    def cycles(self, night):
        for cycle in range(1, 5):
            rewind = self.rewinds[torch.randint(3, ()).item()]
            yield dn.Cycle(keep=night.dawn_density ** (cycle / 4), length=0.25, rewind=rewind)


LONG = "in a night of Steps(n=10000, price=0.0) with the dawn density 0.01"
BROKEN = {
    Overspends: f"{LONG}: Overspends() on day 0, cycle 1: overspends: its cycles would take 1.2 of the night's budget. "
    "Lengths are shares of the whole night and sum to at most 1. What is left is night.left of the "
    "snapshot that each yield returns.",
    NeverThere: f"{LONG}: NeverThere() on day 0 never reaches the dawn density: it ends at 0.505, and must end at "
    "0.01. Give the last cycle keep='dawn'. A keep is a fraction of the weights available at dusk, not of those that "
    "the cycle before has left.",
    Rises: f"{LONG}: Rises() on day 0, cycle 1: the density goes up, from 0.3 to 0.4. A pruned weight stays pruned "
    "until the next wake: each keep must be at most the one before.",
    Sinks: f"{LONG}: Sinks() on day 0, cycle 0: keep=0.005 is below the dawn density 0.01. Keep at least "
    "night.dawn_density; keep='dawn' means exactly that.",
    Random: "Random() is not repeatable: it yields different cycles for equal nights. Draw random numbers from a "
    "generator that cycles() makes from a setting and night.day.",
    RandomRewind: "RandomRewind() is not repeatable: it yields different cycles for equal nights. Draw random numbers "
    "from a generator that cycles() makes from a setting and night.day.",
    Remembers: "Remembers(n_nights=32) keeps state between nights, which is not allowed. Changed attributes: "
    "n_nights. Keep the state of a night in local variables of cycles().",
    Peeks: "holds data: settings['tasks'][0] is a Task. A policy holds only settings. What it may know of the "
    "data is in night.loss and night.score. An array or tensor of settings has at most one dimension and 1,000 "
    "numbers; bytes are at most 8,000.",
    TooFew: "in a night of Steps(n=3, price=0.0) with the dawn density 0.01: TooFew() on day 3 yields no cycle. A "
    "night without retraining is one cycle with nothing but a prune: Cycle(keep='dawn', length=night.price).",
    Blind: "in a night of Seconds(n=60.0, price=0.0, reserve=0.0) with the dawn density 0.01: Blind() on day 6, cycle "
    "0: TypeError: '>' not supported between instances of 'NoneType' and 'int'",
    Stubborn: f"{LONG} and a loss that comes and goes: Stubborn() on day 0, cycle 1: ValueError: the loss is above 1",
    Free: "in a night of Steps(n=10000, price=0.01) with the dawn density 0.01: Free() on day 7, cycle 0: its prune "
    "costs 1e-06 of the night's budget, and the cycle takes 0. The length of a cycle includes the price of its NREM, "
    "night.price: plan fewer cycles, or longer ones.",
    NoGenerator: f"{LONG}: NoGenerator() on day 0, cycle 0: cycles() must be a generator method that yields "
    "Cycle(keep=..., length=...), but it returned list.",
    Endless: f"{LONG}: Endless() on day 0, cycle 100: 101 cycles in a row neither prune nor last. Does its loop end?",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_the_broken_rule_is_named(kind):
    with pytest.raises(PolicyError, match="(?m)" + re.escape(BROKEN[kind]) + "$"):
        check_policy(kind())


def test_what_cannot_be_pickled_is_named():
    with pytest.raises(
        PolicyError, match=r"cannot be pickled: .*lambda.* Define its class and its functions at the top of a module"
    ):
        check_policy(Shut())


def test_what_is_no_policy_is_refused():
    with pytest.raises(SettingError, match=r"the policy must be a SleepPolicy.*Did you mean Plain\(\.\.\.\)\?"):
        check_policy(Plain)


class Waits(dn.SleepPolicy):
    """Keeps the rules, and waits for the loss to fall, in shorter and shorter cycles."""

    def cycles(self, night):
        at_dusk = night.loss
        night = yield dn.Cycle(keep="dawn", length=night.left / 3)
        while night.loss > at_dusk and night.left > 0.01:
            night = yield dn.Cycle(keep="dawn", length=night.left / 3)


def test_cycles_too_short_for_a_step_come_to_an_end():
    check_policy(Waits())


class Shrinks(dn.SleepPolicy):
    """Never ends, with shorter and shorter cycles."""

    def cycles(self, night):
        night = yield dn.Cycle(keep="dawn", length=night.left / 10)
        while night.loss > 0.11:
            night = yield dn.Cycle(keep="dawn", length=night.left / 10)


def test_cycles_that_shrink_without_end_are_named():
    with pytest.raises(PolicyError, match="101 cycles in a row neither prune nor last"):
        check_policy(Shrinks())


class NoShares(Plain):
    rewinds = None


class Holds(Plain):
    def __init__(self, held):
        self.held = held


def shape(task, share, cut):
    """Is a rate, once its first argument is bound to a task."""
    return 1.0


@pytest.mark.parametrize(
    "held", [functools.partial(shape, toy_stream(1)[0]), collections.deque([toy_stream(1)[0]]),
             Holds(toy_stream(1)[0]).cycles, toy_stream(1)[0].train.inputs, np.zeros((2, 3)), np.arange(1001),
             bytes(8001)],
)  # fmt: skip
def test_data_in_functions_and_containers_is_found(held):
    with pytest.raises(PolicyError, match="holds data"):
        check_policy(Holds(held))


@pytest.mark.parametrize("held", [torch.tensor([0.5, 0.1]), torch.tensor(0.5), np.linspace(1, 0, 1000)])
def test_a_list_of_settings_can_be_an_array(held):
    check_policy(Holds(held))


def test_rewinds_that_are_no_shares_are_refused():
    with pytest.raises(PolicyError, match=r"NoShares\(\): rewinds must be shares of the wake, such as \(0.1, 0.5\)"):
        check_policy(NoShares())


class SlowsDown(dn.SleepPolicy):
    """Relies on what its plan has left, and not on what is left."""

    def cycles(self, night):
        assert night.loss < 100
        spent = 0.0
        while spent < 0.85:
            if abs(night.spent - spent) > 0.05:
                raise RuntimeError("the night is not where it should be")
            night = yield dn.Cycle(keep=max(night.dawn_density, night.density * 0.7), length=0.1)
            spent += 0.1
        yield dn.Cycle(keep="dawn", length=night.left)


def test_a_policy_that_does_not_get_along_with_seconds_is_named():
    with pytest.raises(
        PolicyError, match=r"in a night of Seconds\(n=2.0.*with a toy network: .*not where it should be"
    ):
        check_policy(SlowsDown())


class Long(dn.SleepPolicy):
    """Has hundreds of cycles, and takes too much of some nights."""

    def __init__(self, which):
        self.which = which

    def cycles(self, night):
        is_one = night.highest_density is not None if self.which == "choosing" else night.steps_per_epoch < 10
        for _ in range(500):
            night = yield dn.Cycle(keep=max(0.99 * night.density, night.dawn_density), length=0.001)
        yield dn.Cycle(keep="dawn", length=1.0 if is_one else night.left)


@pytest.mark.parametrize("which", ["choosing", "of the toy network"])
def test_hundreds_of_cycles_are_tried_on_the_toy_network(which):
    with pytest.raises(PolicyError, match=r"check_policy: in a night of .* with a toy network: .* overspends"):
        check_policy(Long(which))


class Slotted(Plain):
    """Holds a task in a slot."""

    __slots__ = ("task",)

    def __init__(self, task):
        self.task = task


def test_data_in_slots_are_found():
    with pytest.raises(PolicyError, match="Slotted holds data: task is a Task"):
        check_policy(Slotted(toy_stream(1)[0]))
