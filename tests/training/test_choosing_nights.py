"""Nights that choose how many weights their task keeps (``Capacity(share="need")``): where they end; exact counts."""

import functools

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daynight import (
    Agent,
    Capacity,
    Clock,
    Controlled,
    Epochs,
    ExplicitCycles,
    Gate,
    NoSleep,
    OneShot,
    Progress,
    Record,
    Rewound,
    Seconds,
    Steps,
    Task,
    TaskStream,
    Training,
    UniformCycles,
    Until,
    recommended_policy,
)
from daynight.errors import CapacityError, PolicyError
from daynight.nights.cycle import Measured
from daynight.testing import FakeTimer, toy_network, toy_stream
from daynight.training.optimizer import Optimization
from daynight.training.trainer import Trainer

NEED = Capacity(free_at_end=0.5, days=4, share="need", least=0.5, loan=1.0, tolerance=0.02)
STREAM = toy_stream(4).hold_out(0.25)  # 3 steps an epoch


def made(capacity=NEED, **more):
    return Agent(toy_network, capacity=capacity, training=Training(batch_size=10), **more)


def live(agent, policy=None, night=None, stream=STREAM, on_event=()):
    """Live all days of a stream, and return the records of the days."""
    policy, night = policy or UniformCycles(12), night or Epochs(6)
    clock = Clock(agent, stream, policy=policy, wake=Epochs(1), night=night, on_event=on_event, first_day=agent.day)
    return clock.run().select(kind="day")


def counts_of(agent):
    """Return the number of weights that the task of the current day holds in each layer."""
    return tuple(agent.network.count(agent.day).values())


def judge_by(monkeypatch, loss_of):
    """Let the loss on validation data be a function of the day, and of how many weights its task holds."""

    def measure(self):
        day = self._network.n_tasks
        return Measured(loss_of(day, sum(self._network.count(day).values())), 0.5, "validation")

    monkeypatch.setattr(Trainer, "measure", measure)
    monkeypatch.setattr(Trainer, "measure_gain", lambda self: (measure(self).loss, 1.0))


def above(least):
    """Return a function of day and count to a loss: 1 at dusk and for `least` weights or more, 2 for fewer."""
    return lambda day, n: 1.0 if n >= least or (day, n) == (0, 112) else 2.0


# Of day 0: of 112 weights, 18 are the equal share.
FIRST = NEED.room((48, 64), 0)


def ladder(policy):
    """Return the numbers of weights down to which the cycles of a policy prune on day 0."""
    night = made().night(STREAM[0], Epochs(6))
    return [sum(FIRST.kept(cycle.keep)) for cycle in policy.plan(night)]


@pytest.mark.parametrize("least", [0, 11, 15, 18, 25, 33, 40, 999])
@pytest.mark.parametrize("policy", [UniformCycles(12), recommended_policy(20), OneShot(), NoSleep()], ids=repr)
def test_a_night_ends_at_the_last_density_that_is_good_enough(policy, least, monkeypatch):
    judge_by(monkeypatch, above(least))
    agent, records = made(), []
    agent.wake(STREAM[0], Epochs(1))
    agent.sleep(policy, Epochs(6), records.append)
    lowest, _, highest = map(sum, (FIRST.new, FIRST.due, FIRST.most))
    good = [n for n in ladder(policy) if least <= n <= highest]
    assert agent.owned == (min(good) if good else highest,)
    day = records[-1]
    assert (day.night_steps, day.unspent_steps) == ((0, 18) if isinstance(policy, NoSleep) else (18, 0))
    assert (day.share, day.bank_before, day.bank) == (18, 0, 18 - day.owned)
    assert lowest <= day.owned <= highest
    agent.verify()


def test_a_night_that_goes_back_has_the_bits_from_before_its_last_prune(monkeypatch):
    judge_by(monkeypatch, above(25))
    agent, ends, begins = made(), {}, {}

    def look(event):
        if event.phase != "rem":
            return
        state = {name: tensor.clone() for name, tensor in agent.network.state().items()}
        if isinstance(event, Record):
            ends[event.cycle] = state
        else:
            begins.setdefault(event.cycle, state)

    agent.wake(STREAM[0], Epochs(1))
    agent.sleep(UniformCycles(12), Epochs(12), look)
    kept = [sum(int((state["owners." + name] == 0).sum()) for name in agent.network.sizes) for state in ends.values()]
    bad = next(cycle for cycle, n in enumerate(kept) if n < 25)
    assert set(kept[bad + 1 :]) == {kept[bad - 1]}
    assert [name for name, tensor in ends[bad - 1].items() if not torch.equal(tensor, begins[bad + 1][name])] == []
    assert not torch.equal(ends[bad]["module.body.1.weight"], ends[bad - 1]["module.body.1.weight"])
    assert sorted(ends) == list(range(12))


@pytest.mark.parametrize(
    ("dusk", "gain", "costs", "is_near"),
    [(2.0, 2.0, 0.4, True), (2.0, 2.0, 0.6, False), (-2.0, 2.0, 0.4, True), (-2.0, 2.0, 0.6, False),
     (0.0, 0.0, 0.0, True), (0.0, 0.0, 1e-9, False), (2.0, 1.0, float("nan"), False), (2.0, 0.0, -3.0, True),
     (2.0, 1.0, float("-inf"), False), (2.0, 1.0, float("inf"), False)],
)  # fmt: skip
def test_tolerance_is_a_fraction_of_what_is_learnt_for_the_equal_share(dusk, gain, costs, is_near, monkeypatch):
    judge_by(monkeypatch, lambda day, n: dusk + costs * n / 18)
    monkeypatch.setattr(Trainer, "measure_gain", lambda self: (dusk, gain))
    agent = made(attrs.evolve(NEED, tolerance=0.25))
    agent.wake(STREAM[0], Epochs(1))
    agent.sleep(UniformCycles(12), Epochs(6))
    assert agent.owned == (sum(FIRST.new if is_near else FIRST.most),)


@pytest.mark.parametrize("dusk", [float("nan"), float("inf"), float("-inf")])
def test_without_a_finite_loss_at_dusk_a_night_keeps_the_equal_share_and_says_so(dusk, monkeypatch):
    judge_by(monkeypatch, lambda day, n: 1.0)
    monkeypatch.setattr(Trainer, "measure_gain", lambda self: (dusk, 0.0))
    agent = made()
    agent.wake(STREAM[0], Epochs(1))
    with pytest.warns(UserWarning, match="day 0: the loss at dusk is .*, by which the night cannot choose"):
        agent.sleep(UniformCycles(12), Epochs(6))
    assert tuple(agent.network.count(0).values()) == FIRST.due


def far(outputs, targets):
    """A loss that is infinite for outputs that are all the same."""
    return nn.functional.cross_entropy(outputs, targets) / outputs.std(0).mean()


def test_the_gain_of_learning_is_by_how_much_the_loss_is_below_that_of_guessing(monkeypatch):
    told, measure = [], Trainer.measure_gain
    monkeypatch.setattr(Trainer, "measure_gain", lambda self: told.append(measure(self)) or told[-1])
    held = STREAM[0].validation
    for loss in (None, nn.functional.cross_entropy, far):
        agent = Agent(toy_network, capacity=NEED, training=Training(batch_size=10, optimizer=adam, loss=loss))
        agent.wake(STREAM[0], Epochs(20))
        outputs = agent.predict(held.inputs, 0)
        agent.sleep(OneShot(), Epochs(1))
        found, gain = told.pop()
        assert found == pytest.approx(float((loss or nn.functional.cross_entropy)(outputs, held.targets)), rel=1e-5)
        guessed = nn.functional.cross_entropy(outputs.mean(0).expand(len(outputs), 2), held.targets)
        assert gain == (0.0 if loss is far else pytest.approx(float(guessed) - found, rel=1e-5))
        assert gain > 0.3 or loss is far


def test_what_must_go_down_at_once_is_retrained_for_half_of_the_last_cycle(monkeypatch):
    judge_by(monkeypatch, above(999))
    agent, records = made(), []
    agent.wake(STREAM[0], Epochs(1), remember=[0.5])
    agent.sleep(Rewound(OneShot(), 0.5), Epochs(6), records.append)
    prunes = [(record.owned, record.step) for record in records if getattr(record, "kind", "") == "prune"]
    assert prunes == [(sum(FIRST.new), 3), (sum(FIRST.most), 3 + 9)]
    assert agent.days[0].night_steps == 18


def test_finish_night_keeps_the_equal_share_or_what_is_left(monkeypatch):
    agent = made()
    agent.wake(STREAM[0], Epochs(1))
    agent.finish_night()
    assert tuple(agent.network.count(0).values()) == FIRST.due
    judge_by(monkeypatch, above(0))
    for cycle in range(12):
        agent = made()
        agent.wake(STREAM[0], Epochs(1))
        with pytest.raises(KeyboardInterrupt):
            agent.sleep(UniformCycles(12), Epochs(12), stop_in(cycle))
        before = counts_of(agent)
        agent.finish_night()
        assert tuple(agent.network.count(0).values()) == tuple(map(min, before, FIRST.due))
        assert agent.days[0].bank == 18 - agent.owned[0]


def stop_in(cycle):
    """Return a hook that interrupts the REM of a cycle after some steps."""

    def hook(event):
        if getattr(event, "kind", "") == "epoch" and event.cycle == cycle:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("policy", [UniformCycles(12), Controlled(0.5, 0.05), OneShot()], ids=repr)
@pytest.mark.parametrize("least", [0, 15, 25, 999])
def test_an_interrupted_night_goes_on_and_chooses(policy, least, monkeypatch):
    judge_by(monkeypatch, above(least))
    for cycle in range(12):
        agent = made()
        agent.wake(STREAM[0], Epochs(1))
        try:
            agent.sleep(policy, Epochs(6), stop_in(cycle))
        except KeyboardInterrupt:
            agent.sleep(policy, Epochs(6))
        lowest, highest = sum(FIRST.new), sum(FIRST.most)
        assert lowest <= agent.owned[0] <= highest
        assert agent.owned[0] >= min(least, highest)
        assert agent.days[0].night_steps == 18
        agent.verify()


LEVELS = st.lists(st.sampled_from([0.5, 1.0, 1.01, 3.0]), min_size=3, max_size=11)
POLICIES = st.sampled_from(
    [UniformCycles(5), recommended_policy(20), OneShot(), NoSleep(), Controlled(0.05, 0.1),
     ExplicitCycles([("dawn", 0.2), ("dawn", 0.3)])]
)  # fmt: skip
BUDGETS = st.sampled_from([Epochs(5), Steps(7), Steps(0), Steps(11, price=0.5), Epochs(2.5, price=0.1)])
#: After how many events a day is interrupted, and whether its night, if it had begun, then ends without a REM.
STOPS = st.lists(st.tuples(st.integers(3, 60), st.booleans()), max_size=3)


def still(optimization, inputs, targets):
    """Take no step: how many weights are kept does not depend on what is learnt."""
    return torch.zeros(())


@settings(max_examples=30)
@given(levels=LEVELS, policy=POLICIES, budget=BUDGETS, stops=STOPS,
       capacity=st.builds(Capacity, free_at_end=st.floats(0.2, 0.8), days=st.just(4), share=st.just("need"),
                          least=st.floats(0.2, 1), most=st.floats(1, 4), loan=st.floats(0, 2),
                          ranking=st.sampled_from(["layer", "global", "balanced"])))  # fmt: skip
def test_counts_and_steps_are_exact_whatever_is_measured_and_however_often_a_day_is_interrupted(
    levels, policy, budget, stops, capacity
):  # fmt: skip
    # An interrupted night may have too little left for the price of all its prunes.
    agent, left, free = made(capacity), [] if budget.price else list(stops), [(48, 64)]
    n_heard, finishes = 0, False

    def stop(event):
        nonlocal n_heard, finishes
        n_heard += 1
        if left and n_heard >= left[0][0]:
            n_heard, finishes = 0, left.pop(0)[1]
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        judge_by(patch, lambda day, n: levels[(7 * day + n) % len(levels)])
        patch.setattr(Optimization, "step", still)
        clock = Clock(agent, STREAM, policy=policy, wake=Epochs(1), night=budget, on_event=stop)
        while not clock.is_over:
            try:
                clock.step()
            except KeyboardInterrupt:
                if agent.phase == "night" and finishes:
                    agent.finish_night()
            while len(free) <= agent.day:
                free.append(tuple(agent.network.count(-1).values()))
    equal = [sum(capacity.owned_after((48, 64), n)) for n in range(5)]
    for day, record in enumerate(agent.days):
        assert (record.share, record.owned) == (equal[day + 1] - equal[day], sum(free[day]) - sum(free[day + 1]))
        assert (record.bank_before, record.bank) == tuple(equal[day + n] - 112 + sum(free[day + n]) for n in (0, 1))
        room = capacity.room((48, 64), day, free[day])
        assert sum(room.new) <= record.owned <= sum(room.most or room.new)
        n_steps = budget.open(3).n_steps
        assert record.night_steps + record.unspent_steps <= n_steps
        assert record.night_steps <= n_steps
    assert sum(agent.owned) == equal[-1]
    if capacity.ranking == "layer":
        assert tuple(48 - free[-1][0] if n == 0 else 64 - free[-1][1] for n in (0, 1)) == capacity.owned_after(
            (48, 64), 4
        )
    agent.verify()


@settings(max_examples=30)
@given(levels=LEVELS, policy=POLICIES, step=st.floats(0.02, 0.5), prune=st.floats(0.0, 1.5),
       measuring=st.floats(0.0, 0.7), seconds=st.floats(0.1, 5))  # fmt: skip
def test_nights_in_time_end_on_time_with_exact_counts(levels, policy, step, prune, measuring, seconds):
    timer = FakeTimer(step, prune)

    def measure(self):
        timer.advance(measuring)
        n = sum(self._network.count(self._network.n_tasks).values())
        return Measured(levels[n % len(levels)], 0.5, "validation")

    agent, free = made(), [(48, 64)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "measure", measure)
        patch.setattr(Trainer, "measure_gain", lambda self: (measure(self).loss, 1.0))
        patch.setattr(Optimization, "step", still)
        for day, task in enumerate(STREAM):
            agent.wake(task, Epochs(1))
            agent.sleep(policy, Seconds(seconds, timer=timer))
            record, room = agent.days[day], NEED.room((48, 64), day, free[-1])
            free.append(tuple(agent.network.count(-1).values()))
            assert sum(room.new) <= record.owned <= sum(room.most or room.new)
            longest = record.longest_step_seconds + record.longest_prune_seconds
            assert record.night_seconds <= seconds + longest + measuring + 1e-6
    assert sum(agent.owned) == sum(NEED.owned_after((48, 64), 4))


def test_a_night_that_begins_too_late_keeps_the_equal_share():
    agent, timer = made(), FakeTimer(0.5, 0.5)
    agent.wake(STREAM[0], Epochs(1))
    with pytest.warns(UserWarning, match="the night of day 0 was to be over"):
        agent.sleep(UniformCycles(12), Until("21:00", longest=60, timer=timer))
    assert tuple(agent.network.count(0).values()) == FIRST.due


def test_a_prune_that_takes_too_long_is_the_last_one(monkeypatch):
    judge_by(monkeypatch, above(0))
    agent = made()
    agent.wake(STREAM[0], Epochs(1))
    agent.sleep(UniformCycles(12), Seconds(4, timer=FakeTimer(0.1, lambda n: 0.1 if n < 7 else 3.0)))
    assert sum(FIRST.new) < agent.owned[0] <= sum(FIRST.due)


def test_hard_tasks_first_and_last_get_more_than_easy_ones(monkeypatch):
    judge_by(monkeypatch, lambda day, n: 1.0 if n >= (112 if day in (0, 3) else 0) else 2.0)
    capacity = attrs.evolve(NEED, ranking="global")
    days = live(made(capacity))
    assert [day.share for day in days] == [18, 15, 12, 11]
    # The first one borrows a share; the easy ones pay it back, and save what is then left.
    assert [day.owned for day in days] == [36, 8, 6, 6]
    assert [day.bank for day in days] == [-18, -11, -5, 0]
    lent = live(made(attrs.evolve(capacity, loan=0.0)))
    assert [day.owned for day in lent] == [18, 8, 6, 24]
    assert [day.bank for day in lent] == [0, 7, 13, 0]


def split(inputs, labels, name, n_outputs):
    train, test = (inputs[:1000], labels[:1000]), (inputs[1000:], labels[1000:])
    return Task(train=train, test=test, name=name, n_outputs=n_outputs)


def easy(seed):
    """Return a task of two classes, by the sign of one input."""
    inputs = torch.randn(1100, 6, generator=torch.Generator().manual_seed(seed))
    return split(inputs, (inputs[:, seed] > 0).long(), f"easy {seed}", 2)


def hard(seed):
    """Return a task of four classes: which of four inputs is the largest."""
    inputs = torch.randn(1100, 6, generator=torch.Generator().manual_seed(seed))
    return split(inputs, inputs[:, :4].argmax(1), f"hard {seed}", 4)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


def test_what_is_really_hard_first_and_last_gets_more():
    stream = TaskStream([hard(0), easy(1), easy(2), hard(3)]).hold_out(0.25)
    capacity = Capacity(free_at_end=0.6, days=4, share="need", ranking="global", least=0.5, tolerance=0.04, loan=0.25)
    training = Training(batch_size=20, optimizer=functools.partial(torch.optim.Adam, lr=0.005))
    agent = Agent(lambda: toy_network(6, 16), capacity=capacity, training=training)
    clock = Clock(agent, stream, policy=UniformCycles(40), wake=Epochs(20), night=Epochs(20))
    days = clock.run().select(kind="day")
    assert [day.owned > day.share for day in days] == [True, False, False, True]
    assert days[0].bank < 0 < days[2].bank
    assert sum(day.owned for day in days) == sum(capacity.owned_after((96, 256), 4))


@pytest.mark.parametrize("consolidation", ["freeze", "rehearse", "fine-tune"])
@pytest.mark.parametrize("ranking", ["layer", "global", "balanced"])
def test_each_way_to_consolidate_and_to_rank_chooses(consolidation, ranking):
    capacity = attrs.evolve(NEED, ranking=ranking, tolerance=0.1)
    agent = made(capacity, consolidation=consolidation)
    days = live(agent, recommended_policy(12))
    assert sum(agent.owned) == sum(capacity.owned_after((48, 64), 4))
    assert [day.owned for day in days] == list(agent.owned)
    assert days[-1].bank == 0


def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 2))


@pytest.mark.parametrize("more", [{}, {"restart": "keep"}, {"restart": "redraw"}, {"biases": "freeze-after-first"}])
@pytest.mark.parametrize("carry", [False, True])
def test_tasks_stay_as_they_are_after_nights_that_went_back(more, carry, monkeypatch):
    judge_by(monkeypatch, lambda day, n: 1.0 if n >= (25, 12, 0, 0)[day] else 2.0)
    training = Training(batch_size=10, carry_optimizer=carry)
    agent = Agent(normed, capacity=NEED, training=training, **more)
    inputs, outputs = torch.randn(5, 6), []
    for task in STREAM:
        agent.wake(task, Epochs(1))
        agent.sleep(recommended_policy(12), Epochs(4))
        outputs.append(agent.predict(inputs, agent.day - 1))
        assert torch.isfinite(outputs[-1]).all()
    agent.verify()
    assert all(torch.equal(agent.predict(inputs, task), before) for task, before in enumerate(outputs))
    for name, owners in agent.network.owners.items():
        assert not agent.network.weights[name][owners == -1].any()


def test_factors_of_one_give_the_bits_of_equal_shares():
    equal = Capacity(free_at_end=0.5, days=4)
    fixed = Capacity(free_at_end=0.5, days=4, share="need", least=1.0, loan=0.0, most=1.0)
    one, other = made(equal), made(fixed)
    for agent in (one, other):
        live(agent, recommended_policy(12))
    first, second = one.state()[1], other.state()[1]
    assert [name for name, tensor in first.items() if not torch.equal(tensor, second[name])] == []
    assert [day.bank for day in other.days] == [0, 0, 0, 0]
    assert [day.bank for day in one.days] == [None] * 4


def test_without_validation_data_a_night_chooses_by_the_loss_on_training_data(monkeypatch):
    whole, told, measure = toy_stream(4), [], Trainer.measure
    monkeypatch.setattr(Trainer, "measure", lambda self: told.append(measure(self)) or told[-1])
    agent = made(attrs.evolve(NEED, tolerance=0.1))
    days = live(agent, recommended_policy(12), stream=whole)
    assert {found.split for found in told} == {"train"}
    assert sum(agent.owned) == sum(NEED.owned_after((48, 64), 4))
    assert [day.owned for day in days] != [day.share for day in days]
    one = made(Capacity(free_at_end=0.5, days=4))
    one.wake(whole[0], Epochs(1))
    two = one.fork(NEED)
    two.sleep(UniformCycles(12), Epochs(6))
    assert two.days[0].share == 18


def test_without_loans_no_task_has_to_keep_less_than_its_share(monkeypatch):
    judge_by(monkeypatch, lambda day, n: 2.0 if day < 2 and n <= 36 else 1.0)  # the first two take as much as they may
    days = live(made(attrs.evolve(NEED, loan=0.0)))
    assert [day.owned for day in days[:2]] == [day.share for day in days[:2]]
    assert days[-1].owned >= days[-1].share


def test_a_policy_that_never_goes_down_is_refused_before_training():
    agent = made()
    with pytest.raises(PolicyError, match="never reaches the dawn density"):
        live(agent, ExplicitCycles([(0.2, 0.5)]))
    assert agent.n_steps == 0


def test_days_beyond_the_last_are_refused():
    agent = made(attrs.evolve(NEED, days=1))
    live(agent, stream=STREAM[:1])
    with pytest.raises(CapacityError, match="day 1 is beyond the 1 days"):
        agent.wake(STREAM[1], Epochs(1))


def test_policies_read_the_bank(monkeypatch):
    judge_by(monkeypatch, above(0))
    agent, banks = made(), []

    class Asks(UniformCycles):
        def cycles(self, night):
            banks.append((night.day, night.bank))
            yield from super().cycles(night)

    live(agent, Asks(6))
    told = dict(banks)  # the last ones, on the days themselves
    assert told == {day.day: day.bank_before for day in agent.days}
    assert told[3] > 0


def test_progress_does_not_say_how_many_cycles_there_will_be(monkeypatch):
    judge_by(monkeypatch, above(0))
    agent, told = made(), []
    live(agent, on_event=told.append)
    cycles = {event.day: event.n_cycles for event in told if isinstance(event, Progress) and event.phase == "rem"}
    assert cycles == {0: None, 1: None, 2: None, 3: 12}  # the last day has no choice


GATED = Capacity(free_at_end=0.4, days=6, share="need", ranking="layer")


def version(day, is_poisoned=False):
    """Return a day of one job."""
    drawn = torch.Generator().manual_seed(100 + day)
    inputs = torch.randn(440, 6, generator=drawn)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    given = torch.randint(2, labels.shape, generator=drawn) if is_poisoned else labels
    return Task(train=(inputs[:400], given[:400]), test=(inputs[400:], labels[400:]), n_outputs=2, name="job",
                succeeds="job").hold_out(0.25)  # fmt: skip


@pytest.mark.parametrize("refused", [(), (1,), (2, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize("kept", [False, True])
def test_counts_are_exact_with_versions_refusals_and_tasks_that_retire(refused, kept):
    training = Training(batch_size=40, optimizer=adam)
    gate = Gate(tolerance=0.05, least=20)
    agent = Agent(lambda: toy_network(6, 16), capacity=GATED, training=training, gate=gate)
    sizes = tuple(agent.network.sizes.values())
    if kept:
        agent.wake(STREAM[0], Epochs(2))
        agent.sleep(UniformCycles(6), Epochs(2))
    banks = [0]
    while agent.day < 6:
        day = agent.day
        agent.wake(version(day, is_poisoned=day in refused), Epochs(6))
        agent.sleep(recommended_policy(12), Epochs(6))
        record = agent.refused or agent.days[-1]
        equal = [sum(GATED.owned_after(sizes, day + n)) for n in (0, 1)]
        assert record.bank == equal[1] - sum(agent.owned)
        assert record.share == equal[1] - equal[0]
        assert record.accepted != 0 or (day in refused and record.owned == 0)
        banks.append(record.bank)
        if kept and day == 4:
            agent.retire(0)
    assert tuple(n - free for n, free in zip(sizes, agent.network.count(-1).values(), strict=True)) == (
        GATED.owned_after(sizes, 6)
    )
    assert banks[-1] == 0
    agent.verify()


def test_what_a_retired_task_leaves_is_in_the_bank():
    agent = made()
    for day, task in enumerate(STREAM):
        agent.wake(task, Epochs(1), sees="none")
        agent.sleep(UniformCycles(6), Epochs(2))
        if day == 1:
            agent.retire(0)
            bank = sum(NEED.owned_after((48, 64), 2)) - agent.owned[1]
    assert [day.bank_before for day in agent.days[1:]] == [bank, agent.days[1].bank]
    assert bank > 0
    assert sum(agent.owned) == sum(NEED.owned_after((48, 64), 4))
