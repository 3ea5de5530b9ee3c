"""The policies beyond the study's: what they lay out, by hand, and that none breaks a rule."""

import functools
import math
import pickle

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import daynight as dn
from daynight import rates
from daynight.errors import PolicyError, SettingError
from daynight.nights import schedules
from daynight.nights.budgets import Epochs
from daynight.nights.cycle import Cycle, Measured, Night
from daynight.nights.policy import follow
from daynight.nights.wrappers import Part
from daynight.testing import toy_network, toy_stream


def make_agent():
    return dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), training=dn.Training(batch_size=10))


def dusk(dawn=0.0625, price=0.0):
    return Night(day=0, budget=Epochs(72), n_steps=720, steps_per_epoch=10, dawn_density=dawn, price=price)


def laid(policy, **changes):
    return [(cycle.keep, cycle.length) for cycle in policy.plan(dusk(**changes))]


def test_geometric_cycles_by_hand():
    # Three cycles, the last four times the first: 1, 2 and 4 sevenths; densities are powers of 1/16^(1/3).
    found = laid(dn.GeometricCycles(3, 4))
    assert [length for _, length in found] == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert [keep for keep, _ in found] == pytest.approx([16 ** (-1 / 3), 16 ** (-2 / 3), 1 / 16])
    assert laid(dn.GeometricCycles(1, 4)) == [(0.0625, 1.0)]
    assert [length for _, length in laid(dn.GeometricCycles(3, 0.25))] == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_gradual_pruning_by_hand():
    # Half of the way there, cubically: 1/16 + 15/16 / 8.
    found = laid(dn.GradualPruning(2, 0.75))
    assert found == [pytest.approx((1 / 16 + 15 / 128, 0.25)), pytest.approx((0.0625, 0.75))]
    assert laid(dn.GradualPruning(1, 0.3)) == [(0.0625, 1.0)]
    halves = laid(dn.GradualPruning(2, 0.75, density=schedules.equal_number))
    assert halves[0][0] == pytest.approx(1 - 15 / 32)


def test_densities_begin_at_one_and_end_at_dawn():
    for density in (schedules.constant_share, schedules.cubic, schedules.equal_number):
        assert density(0.0, 0.01) == pytest.approx(1)
        assert density(1.0, 0.01) == pytest.approx(0.01)


def test_prices_are_paid_before_lengths_are_shared():
    found = laid(dn.GeometricCycles(2, 3), price=0.1)
    assert [length for _, length in found] == pytest.approx([0.1 + 0.2, 0.1 + 0.6])


def test_wrappers_by_hand():
    assert laid(dn.Capped(dn.UniformCycles(4), 2)) == [pytest.approx((0.5, 0.25)), (0.0625, 0.75)]
    assert laid(dn.Capped(dn.UniformCycles(2), 9)) == laid(dn.UniformCycles(2))
    assert laid(dn.Floored(dn.UniformCycles(4), 0.5)) == [pytest.approx((0.25, 0.5)), (0.0625, 0.5)]
    # What is too short at the end stays: a quarter after three of them.
    assert laid(dn.Floored(dn.UniformCycles(4), 0.7)) == [pytest.approx((0.125, 0.75)), (0.0625, 0.25)]
    assert laid(dn.WarmStart(dn.UniformCycles(2), 0.2)) == [(1.0, 0.2), pytest.approx((0.25, 0.4)), (0.0625, 0.4)]


def test_a_rate_over_the_night_goes_on_from_rem_to_rem():
    plan = dn.Rated(dn.UniformCycles(2), rates.Linear(), over="night").plan(dusk())
    assert [plan[0].rate(share, 0.0) for share in (0.0, 0.5)] == [1.0, 0.75]
    assert [plan[1].rate(share, 0.0) for share in (0.0, 0.5, 1.0)] == [0.5, 0.25, 0.0]
    anew = dn.Rated(dn.UniformCycles(2), rates.Linear()).plan(dusk())
    assert [cycle.rate(0.5, 0.0) for cycle in anew] == [0.5, 0.5]


def test_rates_by_hand():
    assert [rates.Linear(1.0, 0.5)(share, 0.9) for share in (0, 0.5, 1)] == [1.0, 0.75, 0.5]
    assert [rates.Cosine(1.0, 0.0)(share, 0.9) for share in (0, 0.5, 1)] == pytest.approx([1.0, 0.5, 0.0])
    # A prune of a quarter cuts a half of the norm at most; one that cut 0.1 starts at a fifth.
    assert rates.AdaptiveLinear(0.25)(0.0, 0.5) == 1.0
    assert rates.AdaptiveLinear(0.25)(0.0, 0.1) == pytest.approx(0.2)
    assert rates.AdaptiveLinear(0.25, least=0.5)(0.5, 0.1) == pytest.approx(0.25)


def test_the_optimizer_gets_the_rate():
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            return super().step(closure)

    agent = dn.Agent(
        toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2),
        training=dn.Training(batch_size=10, optimizer=functools.partial(Watched, lr=0.4)),
    )  # fmt: skip
    agent.wake(toy_stream(2)[0], dn.Epochs(1))
    assert seen[-4:] == [0.4] * 4
    seen.clear()
    agent.sleep(dn.ExplicitCycles([Cycle(0.7, 0.5, rates.Linear()), ("dawn", 0.5)]), dn.Epochs(2))
    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.4, 0.4, 0.4, 0.4])


@pytest.mark.parametrize("carry", [False, True])
def test_a_scheduler_is_not_asked_where_a_cycle_has_a_rate(carry):
    asked = []

    class Watched(torch.optim.lr_scheduler.LambdaLR):
        def step(self, *args):
            asked.append(1)
            super().step(*args)

    training = dn.Training(
        batch_size=10, carry_optimizer=carry, scheduler=lambda optimizer, n: Watched(optimizer, lambda step: 1.0)
    )
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), training=training)
    task, policy = toy_stream(2)[0], dn.ExplicitCycles([("dawn", 0.5), Cycle("dawn", 0.5, rates.Linear())])
    agent.wake(task, dn.Epochs(1))
    night = agent.night(task, dn.Epochs(2))
    agent.check_scheduler(task, night=night, plan=policy.plan(night))  # once for all: it steps schedulers of its own
    asked.clear()
    agent.sleep(policy, dn.Epochs(2))
    assert len(asked) == 1 + 4 + (not carry)  # with the first one of each optimizer


def test_how_much_a_prune_has_cut_is_told():
    told = []

    def rate(share, cut):
        told.append(cut)
        return 1.0

    agent = make_agent()
    agent.wake(toy_stream(2)[0], dn.Epochs(1))
    before = sum(float(weight.detach().double().square().sum()) for weight in agent.network.weights.values())
    agent.sleep(dn.ExplicitCycles([Cycle("dawn", 0.0), Cycle("dawn", 1.0, rate)]), dn.Epochs(2))
    assert told[-1] == 0.0  # the second prune takes nothing
    agent = make_agent()
    agent.wake(toy_stream(2)[0], dn.Epochs(1))
    left = []

    def look(event):
        if getattr(event, "kind", None) == "prune":
            left.append(sum(float(w.detach().double().square().sum()) for w in agent.network.weights.values()))

    agent.sleep(dn.ExplicitCycles([Cycle("dawn", 1.0, rate)]), dn.Epochs(1), look)
    assert told[-1] == pytest.approx(math.sqrt(1 - left[0] / before), rel=1e-6)


STATIC = [
    dn.GeometricCycles(5, 16), dn.GeometricCycles(7, 0.2, density=schedules.cubic), dn.GradualPruning(20, 0.4),
    dn.GradualPruning(9, 1.0, density=schedules.equal_number), dn.GradualPruning(4, 0.0),
    dn.Rated(dn.GeometricCycles(3, 2), rates.Cosine(), over="night"), dn.Capped(dn.GradualPruning(30), 4),
    dn.Floored(dn.GeometricCycles(12, 30), 0.1), dn.WarmStart(dn.GradualPruning(5), 0.3),
]  # fmt: skip


@pytest.mark.parametrize("policy", STATIC, ids=repr)
@given(dawn=st.floats(1e-5, 1.0), price=st.sampled_from([0.0, 0.001, 0.01]))
def test_no_plan_breaks_a_rule(policy, dawn, price):
    plan = policy.plan(dusk(dawn, price))
    densities = [cycle.keep for cycle in plan]
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == dawn
    assert sum(cycle.length for cycle in plan) == pytest.approx(1)
    assert pickle.loads(pickle.dumps(policy)).plan(dusk(dawn, price)) == plan


@given(
    dawn=st.floats(1e-4, 1.0), losses=st.lists(st.floats(0, 3), min_size=1, max_size=9),
    length=st.floats(0.01, 1), last=st.floats(0, 1), price=st.sampled_from([0.0, 0.02]),
)  # fmt: skip
def test_controlled_nights_end_in_time_whatever_is_measured(dawn, losses, length, last, price):
    measured = [Measured(loss, 0.5, "validation") for loss in losses]
    night = attrs.evolve(dusk(dawn, price), measured=measured[0])
    script = follow(dn.Controlled(0.1, length, last), night)
    cycle = next(script, None)
    while cycle is not None:
        night = night.after(cycle, measured[night.cycle % len(measured)])
        try:
            cycle = script.send(night)
        except StopIteration:
            cycle = None
    assert night.density == dawn
    assert night.spent == pytest.approx(1)


@pytest.mark.parametrize(
    "policy", [*STATIC, dn.Controlled(0.05, 0.1), dn.WarmStart(dn.Controlled(0.05, 0.1), 0.2)], ids=repr
)
def test_each_policy_sleeps(policy):
    agent = make_agent()
    for task in toy_stream(2).hold_out(0.2):
        agent.wake(task, dn.Epochs(1))
        agent.sleep(policy, dn.Epochs(3))
    assert sum(agent.owned) == 56
    assert all(day.night_steps + day.unspent_steps == 12 for day in agent.days)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dn.GeometricCycles(0, 1), "GeometricCycles: n must be a whole number from 1 up"),
        (lambda: dn.GeometricCycles(2, 0), "GeometricCycles: ratio must be above 0, not 0"),
        (lambda: dn.GeometricCycles(2, 1, density=3), "GeometricCycles: density must be a function"),
        (lambda: dn.GradualPruning(2, 1.5), "GradualPruning: last must be a share, 0 to 1"),
        (lambda: dn.GradualPruning(2, rate=1), "GradualPruning: rate must be a function"),
        (lambda: dn.Rated(dn.OneShot(), 1), "Rated: rate must be a function"),
        (lambda: dn.Rated(dn.OneShot, rates.Linear()), "policy must be a SleepPolicy"),
        (lambda: dn.Rated(dn.OneShot(), rates.Linear(), "day"), "Rated: over must be one of 'rem', 'night'"),
        (lambda: dn.Capped(dn.OneShot(), 0), "Capped: n must be a whole number from 1 up"),
        (lambda: dn.Floored(dn.OneShot(), 2), "Floored: least must be a share, 0 to 1"),
        (lambda: dn.WarmStart(dn.OneShot(), -1), "WarmStart: share must be 0 or more"),
        (lambda: dn.Controlled(0), "Controlled: tolerance must be above 0, not 0"),
        (lambda: rates.Linear(-1), "a factor of the learning rate must be 0 or more"),
        (lambda: Cycle(1, 1, rate=0.5), "Cycle: rate must be a function"),
    ],
)
def test_policies_refuse(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_survivors_return_to_the_weights_of_the_wake():
    agent, seen = make_agent(), {}

    def look(event):
        if event.phase == "dawn":
            return
        agent.predict(task.test.inputs, 0)  # brings the network up to date
        weights = {name: p.detach().clone() for name, p in agent.network.module.named_parameters() if p.requires_grad}
        if getattr(event, "kind", None) == "epoch" and event.phase == "wake":
            seen[event.step] = weights
        elif not hasattr(event, "kind") and event.phase == "rem":
            seen["rem"] = weights

    task = toy_stream(2)[0]
    agent.wake(task, dn.Epochs(4), look, remember=[0.5])
    agent.sleep(dn.Rewound(dn.OneShot(), 0.5), dn.Epochs(1), look)
    masks = {f"{name}.weight": owners == 0 for name, owners in agent.network.owners.items()}
    for name, value in seen["rem"].items():
        mask = masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value, torch.where(mask, seen[8][name], 0))
        assert not torch.equal(seen[8][name], seen[16][name])


def test_a_clock_remembers_what_its_nights_rewind_to():
    def life(policy):
        agent = dn.Agent(
            toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2), training=dn.Training(batch_size=10)
        )
        dn.Clock(agent, toy_stream(2), policy=policy, wake=dn.Epochs(3), night=dn.Epochs(2)).run()
        return [agent.predict(task.test.inputs, index) for index, task in enumerate(toy_stream(2))]

    by_wrapper = life(dn.Rewound(dn.UniformCycles(2), 0.25))
    by_cycle = life(dn.ExplicitCycles([Cycle(0.55, 0.5, rewind=0.25), Cycle("dawn", 0.5, rewind=0.25)]))
    assert all(torch.isfinite(outputs).all() for outputs in [*by_wrapper, *by_cycle])
    # A return to dusk before the first REM is none.
    assert all(map(torch.equal, life(dn.Rewound(dn.OneShot(), 1.0)), life(dn.OneShot())))
    assert not all(map(torch.equal, life(dn.Rewound(dn.OneShot(), 0.0)), life(dn.OneShot())))
    assert len(life(dn.Capped(dn.Rewound(dn.Controlled(0.1, 0.2), 0.5), 3))) == 2


def test_what_the_wake_has_not_kept_cannot_be_returned_to():
    agent = make_agent()
    agent.wake(toy_stream(2)[0], dn.Epochs(1), remember=[0.5])
    with pytest.raises(
        PolicyError, match=r"share 0.25 of the wake, whose weights have not been kept.* remember=\[0.25\]"
    ):
        agent.sleep(dn.Rewound(dn.OneShot(), 0.25), dn.Epochs(1))
    assert agent.phase == "dusk"
    with pytest.raises(SettingError, match=r"rewind \(a point of the wake\) must be a share, 0 to 1, not 1\.5"):
        Cycle(1, 1, rewind=1.5)


def test_runs_that_rewind_share_no_dusk_with_those_that_do_not():
    from daynight.study import packnet, states

    settings = {"network": toy_network, "wake": dn.Epochs(2), "night": dn.Epochs(2), "free_at_end": 0.5, "seed": 0}
    stream = toy_stream(2)
    plain = packnet(stream, policy=dn.OneShot(), **settings)
    rewound = packnet(stream, policy=dn.Rewound(dn.OneShot(), 0.5), **settings)
    states.forget()
    assert rewound == packnet(stream, policy=dn.Rewound(dn.OneShot(), 0.5), **settings)
    assert plain == packnet(stream, policy=dn.OneShot(), **settings)


@pytest.mark.parametrize("rate", [lambda share, cut: -1.0, lambda share, cut: math.nan, lambda share: 1.0])
def test_rates_that_give_no_factor_are_refused_before_training(rate):
    with pytest.raises(PolicyError, match="its rate must give a number from 0 up for a share of the REM and for how"):
        dn.ExplicitCycles([Cycle("dawn", 1, rate)]).plan(dusk())


def test_parts_of_a_rate_join():
    whole = rates.Linear()
    assert Part(whole, 0.25, 0.5)(1.0, 0) == Part(whole, 0.75, 0.25)(0.0, 0) == 0.25


def dips(share, cut):
    """Is below zero only between the places where it is tried beforehand."""
    return -0.5 if 0.1 < share < 0.2 else 1.0


def fails(share, cut):
    return 1 / 0 if 0.6 < share < 0.7 else 1.0


@pytest.mark.parametrize("rate", [dips, fails])
def test_a_rate_that_fails_on_the_way_is_named_and_the_night_goes_back(rate):
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=3), training=dn.Training(batch_size=10))
    agent.wake(toy_stream(3)[0], Epochs(1))
    with pytest.raises(PolicyError, match=r"day 0, cycle 0: its rate must give a number from 0 up .* it fails"):
        agent.sleep(dn.Rated(dn.OneShot(), rate), Epochs(20))
    assert agent.phase == "night"
    agent.finish_night()


@pytest.mark.parametrize(("pruned", "least"), [(0, 0.0), (1.5, 0.0), (0.5, 1.5), (float("nan"), 0.0)])
def test_adaptive_rates_outside_their_range_are_refused(pruned, least):
    with pytest.raises(SettingError, match="AdaptiveLinear: "):
        rates.AdaptiveLinear(pruned, least)
