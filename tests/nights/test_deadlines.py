"""Nights in seconds, nights that end at a time of day, and prices of prunes."""

import datetime
import math
import pickle
import time
import zoneinfo

import attrs
import pytest
import torch
from hypothesis import given, settings
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
    Seconds,
    SleepPolicy,
    Steps,
    Timer,
    Training,
    UniformCycles,
    Until,
)
from daynight.errors import PolicyError, SettingError
from daynight.testing import FakeTimer, toy_network, toy_stream

DURATIONS = st.lists(st.floats(0.001, 5.0), min_size=1, max_size=8)


class Halves(SleepPolicy):
    """Reacts: reads the loss, and halves the density until dawn, in tenths of the night."""

    def cycles(self, night):
        while night.density > night.dawn_density:
            assert math.isfinite(night.loss)
            night = yield Cycle(keep=max(night.density / 2, night.dawn_density), length=0.1)


def make_agent(**changes):
    training = Training(batch_size=10, **changes)  # 40 examples: four steps an epoch
    return Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=training)


def night_of(policy, budget, agent=None):
    """Run a day, and return the records of its night and of the day."""
    agent, records = make_agent() if agent is None else agent, []
    agent.wake(toy_stream(2)[agent.day], Epochs(1))
    agent.sleep(policy, budget, lambda event: records.append(event) if hasattr(event, "kind") else None)
    return records


def stop(event):
    if getattr(event, "kind", None) == "prune":
        raise KeyboardInterrupt


def test_a_night_in_seconds_takes_the_steps_that_fit():
    # A prune of 1 s and steps of 0.5 s: ten seconds have room for 18 of them.
    *_, day = night_of(OneShot(), Seconds(10, timer=FakeTimer(0.5, 1.0)))
    assert (day.night_steps, day.night_seconds, day.budget_seconds, day.unspent_steps) == (18, 10.0, 10.0, 0)
    assert (day.longest_step_seconds, day.longest_prune_seconds) == (0.5, 1.0)


def test_cycles_share_what_is_left():
    # Four cycles of 2.5 s each were planned; something else takes 4 s after the first prune, and the others share 6 s.
    timer, steps = FakeTimer(0.25), []

    def hear(event):
        if getattr(event, "kind", None) == "prune":
            timer.advance(0.0 if steps else 4.0)
            steps.append(event.step)

    agent = make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))
    agent.sleep(UniformCycles(4), Seconds(10, timer=timer), hear)
    assert [b - a for a, b in zip(steps, [*steps[1:], agent.n_steps], strict=True)] == [0, 8, 8, 8]
    assert agent.days[0].night_seconds == 10.0


def test_a_machine_that_is_too_slow_for_the_plan_prunes_less_often_than_planned():
    # Ten prunes of 2 s do not fit into 7 s: after the first, the other nine cycles become one.
    records = night_of(UniformCycles(10), Seconds(7, timer=FakeTimer(0.25, 2.0)))
    densities = [record.density for record in records if record.kind == "prune"]
    assert len(densities) == 2
    assert densities[-1] == pytest.approx(records[-1].owned / 112, abs=0.01)
    assert (records[-1].night_seconds, records[-1].night_steps) == (7.0, 12)


@pytest.mark.parametrize("policy", [OneShot(), UniformCycles(5), ExplicitCycles([(0.8, 0.2), ("dawn", 0.3)]), Halves()])
@settings(max_examples=15, deadline=None)
@given(budget=st.sampled_from([0.0, 0.001, 1.0, 30.0]), steps=DURATIONS, prunes=DURATIONS)
def test_no_night_is_late_by_more_than_a_step_and_a_prune(policy, budget, steps, prunes):
    timer = FakeTimer(lambda n: steps[n % len(steps)], lambda n: prunes[n % len(prunes)])
    agent = make_agent()
    *_, day = night_of(policy, Seconds(budget, timer=timer), agent)
    late = day.night_seconds - budget
    assert late <= day.longest_step_seconds + day.longest_prune_seconds + 1e-9
    assert day.owned == sum(agent.network.count(0).values()) == 33
    assert torch.isfinite(agent.predict(toy_stream(2)[0].test.inputs, 0)).all()
    assert day.phase == "dawn"


def test_nights_under_a_fake_timer_repeat():
    def life():
        agent = make_agent()
        timer = FakeTimer(lambda n: 0.1 + 0.01 * (n % 7), 0.3)
        clock = Clock(agent, toy_stream(2), policy=Halves(), wake=Epochs(2), night=Seconds(6, timer=timer))
        history = clock.run()
        return [attrs.evolve(record, elapsed_seconds=None) for record in history.records]

    assert life() == life()


def test_a_wake_may_have_seconds_too():
    agent = make_agent()
    agent.wake(toy_stream(2)[0], Seconds(1, timer=FakeTimer(0.125)))
    assert agent.n_steps == 8


def test_a_reserve_is_kept_free():
    *_, day = night_of(OneShot(), Seconds(10, reserve=4, timer=FakeTimer(0.5)))
    assert (day.night_steps, day.budget_seconds) == (12, 6.0)


def test_a_price_in_seconds_comes_on_top():
    # Two prunes of 1 s that cost another 2 s each leave 4 s for steps of 0.5 s.
    *_, day = night_of(UniformCycles(2), Seconds(10, price=2, timer=FakeTimer(0.5, 1.0)))
    assert day.night_steps == 8


def test_time_stands_still_while_the_program_is_down():
    timer = FakeTimer(0.5)
    agent = make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))

    with pytest.raises(KeyboardInterrupt):
        agent.sleep(OneShot(), Seconds(5, timer=timer), stop)
    timer.advance(1000)
    agent.sleep(OneShot(), Seconds(5, timer=timer))
    assert agent.days[0].night_steps == 10


def test_a_deadline_does_not_wait():
    # At 22:00:00, the next 22:01 is in a minute; ten seconds of it are reserved.
    timer = FakeTimer(0.5)
    agent = make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))

    budget = Until("22:01", reserve=10, timer=timer)
    with pytest.raises(KeyboardInterrupt):
        agent.sleep(OneShot(), budget, stop)
    timer.advance(45)
    agent.sleep(OneShot(), budget)
    assert agent.days[0].night_steps == 10
    timer.advance(1000)
    *_, day = night_of(NoSleep(), Until("22:00", longest=86_400, timer=timer), agent)
    assert day.budget_seconds == pytest.approx(86_400 - 1050 - 0.0, abs=1)


@pytest.mark.parametrize(
    ("now", "when", "hours"), [((1, 0), "06:30", 5.5), ((6, 30), "06:30", 24), ((7, 0), "6:30", 23.5)]
)
def test_until_is_the_next_such_time_of_day(now, when, hours):
    timer = FakeTimer(start=datetime.datetime(2001, 1, 2, *now))
    assert Until(when, longest=86_400, timer=timer).open(10).seconds == pytest.approx(hours * 3600)


@pytest.fixture
def zone(request, monkeypatch):
    """The machine's time zone, for one test."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


class At(Timer):
    """Shows one moment, as `Timer` does: with a fixed offset, or in the zone that is given."""

    def __init__(self, moment, zone=None):
        self.moment, self.zone = moment, zone

    def now(self):
        return 0.0

    def wall(self):
        return self.moment.astimezone(self.zone)


#: Now (UTC), when, and the real seconds until then: the clocks go back (1), go forward (2), and not at all (3).
CHANGES = {
    "Europe/Berlin": [
        ((2026, 10, 25, 0, 15), "02:30", 900),  # 1: 02:15, for the first time
        ((2026, 10, 25, 1, 15), "02:30", 900),  # 02:15 again
        ((2026, 10, 25, 0, 45), "02:30", 2700),  # 02:45, and 02:30 comes again
        ((2026, 10, 24, 21, 0), "06:30", 8.5 * 3600),  # 23:00
        ((2026, 10, 24, 10, 45), "06:30", 0),  # 18.75 hours ahead
        ((2026, 3, 28, 22, 0), "06:30", 6.5 * 3600),  # 2: 23:00
        ((2026, 3, 28, 22, 0), "02:30", 3 * 3600),  # a reading that is skipped ends with the gap
        ((2026, 3, 28, 22, 0), "03:00", 3 * 3600),
        ((2026, 3, 28, 10, 45), "06:30", 17.75 * 3600),  # 18.75 hours by the clock
        ((2026, 6, 1, 20, 0), "06:30", 8.5 * 3600),  # 3
    ],
    "America/New_York": [
        ((2026, 11, 1, 5, 45), "01:30", 2700),  # 1: 01:45, for the first time
        ((2026, 11, 1, 6, 15), "01:30", 900),  # 01:15 again
        ((2026, 11, 1, 6, 45), "01:30", 0),  # 01:45 again: a day ahead
        ((2026, 3, 8, 4, 0), "02:30", 3 * 3600),  # 2: 23:00
        ((2026, 3, 8, 4, 0), "03:10", 3 * 3600 + 600),
        ((2026, 3, 8, 4, 0), "01:59", 3 * 3600 - 60),
    ],
    "Australia/Lord_Howe": [  # by half an hour
        ((2026, 4, 4, 14, 35), "01:40", 5 * 60),  # 1: 01:35, for the first time
        ((2026, 4, 4, 14, 50), "01:40", 20 * 60),  # 01:50, and 01:40 comes again
        ((2026, 4, 4, 15, 5), "01:40", 5 * 60),  # 01:35 again
        ((2026, 10, 3, 13, 30), "02:10", 2 * 3600),  # 2: midnight; 02:00 to 02:30 are skipped
        ((2026, 10, 3, 13, 30), "02:40", 2 * 3600 + 600),
    ],
}


@pytest.mark.parametrize(
    ("zone", "now", "when", "seconds"),
    [(zone, *row) for zone, rows in CHANGES.items() for row in rows],
    indirect=["zone"],
)
def test_until_when_clocks_are_put_forward_or_back(zone, now, when, seconds):
    moment = datetime.datetime(*now, tzinfo=datetime.timezone.utc)
    for shown_in in (None, zoneinfo.ZoneInfo(zone)):
        ledger = Until(when, timer=At(moment, shown_in)).open(10)
        assert ledger.seconds == seconds
        assert (ledger.overdue > 0) == (seconds == 0)


@pytest.mark.parametrize("zone", ["UTC"], indirect=True)
def test_until_in_the_zone_of_a_timer_that_is_not_the_machines(zone):
    moment = datetime.datetime(2026, 10, 25, 1, 15, tzinfo=datetime.timezone.utc)
    assert Until("02:30", timer=At(moment, zoneinfo.ZoneInfo("Europe/Berlin"))).open(10).seconds == 900
    assert Until("02:30", timer=At(moment)).open(10).seconds == 4500


@pytest.mark.parametrize(("days", "n_steps"), [(-3, 59), (-1 / 12, 59), (1 / 12, 21), (3, 21)])
def test_a_wall_clock_that_is_set_does_not_lengthen_a_night(days, n_steps):
    class Set(FakeTimer):
        is_set = False

        def worked(self, what):
            super().worked(what)
            self.is_set = self.is_set or self.now() >= 10_007 + 21 * 60

        def wall(self):
            return super().wall() + datetime.timedelta(days=days if self.is_set else 0)

    agent = make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))
    agent.sleep(OneShot(), Until("23:00", timer=Set(60, 30)))
    assert agent.days[0].night_steps == n_steps


def test_a_ledger_in_seconds_survives_being_pickled():
    ledger = Seconds(10, timer=FakeTimer(1.0)).open(4)
    ledger.resume()
    for _ in range(3):
        ledger.note_step()
    ledger.pause()
    again = pickle.loads(pickle.dumps(ledger))
    assert (again.spent, again.spent_steps, again.steps_until(1.0)) == (0.3, 3, 7)


def test_prices_in_epochs_and_steps():
    # Four steps an epoch: a prune at half an epoch costs two steps.
    *_, day = night_of(UniformCycles(4), Epochs(5, price=0.5))
    assert (day.night_steps, day.unspent_steps) == (20 - 8, 0)
    *_, day = night_of(NoSleep(), Steps(9, price=2.5))
    assert (day.night_steps, day.unspent_steps) == (0, 6)


@given(n_steps=st.integers(1, 500), n=st.integers(1, 40), price=st.floats(0, 12))
def test_prices_and_steps_never_exceed_the_budget(n_steps, n, price):
    ledger, end = Steps(n_steps, price=price).open(1), 0.0
    if n * price > n_steps:
        night = Night(day=0, budget=Steps(n_steps, price=price), n_steps=n_steps, steps_per_epoch=1, dawn_density=0.1,
                      price=ledger.price)  # fmt: skip
        with pytest.raises(PolicyError, match="its prune costs"):
            UniformCycles(n).plan(night)
        return
    for _ in range(n):
        end += 1 / n
        ledger.note_prune()
        for _ in range(ledger.steps_until(end)):
            ledger.note_step()
    assert ledger.spent_steps + math.floor(n * price + 0.5) == n_steps or ledger.spent_steps == 0


def test_what_cannot_be_paid_is_refused_before_training():
    agent = make_agent()
    clock = Clock(agent, toy_stream(2), policy=UniformCycles(4), wake=Epochs(1), night=Epochs(1, price=0.5))
    with pytest.raises(PolicyError, match=r"its prune costs 0.5 of the night's budget, and the cycle takes 0.25"):
        clock.run()
    clock = Clock(agent, toy_stream(2), policy=NoSleep(), wake=Epochs(1), night=Epochs(0, price=0.5))
    with pytest.raises(PolicyError, match=r"Epochs\(n=0.0, price=0.5\) does not pay for a single prune"):
        clock.run()
    assert agent.n_steps == 0


def test_schedulers_need_a_number_of_steps():
    agent = make_agent(scheduler=lambda optimizer, n: torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=n))
    with pytest.raises(SettingError, match=r"night, Seconds\(n=5.0, .*does not go with Training\(scheduler"):
        Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Seconds(5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Seconds(-1), "Seconds: n must be 0 or more"),
        (lambda: Seconds("1"), "Seconds: n must be a finite number"),
        (lambda: Seconds(1, reserve=2), "reserve must be at most n, 1, not 2"),
        (lambda: Seconds(1, price=-1), "price must be 0 or more"),
        (lambda: Seconds(1, timer=1), "timer must be a Timer"),
        (lambda: Until("25:00"), "when must be a time of day from '00:00' to '23:59', not '25:00'"),
        (lambda: Until("0630"), "when must be a time of day"),
        (lambda: Until(630), "when must be a time of day"),
        (lambda: Until("\N{ARABIC-INDIC DIGIT ZERO}6:30"), "when must be a time of day"),
        (lambda: Until("06:30", reserve=64_801), "Until: reserve must be at most longest, 64800, not 64801"),
        (lambda: Until("06:30", longest=0), "Until: longest must be above 0"),
        (lambda: Until("06:30", longest=86_401), "Until: longest must be at most a day, 86400 seconds"),
        (lambda: Epochs(1, price=math.nan), "price must be a finite number"),
        (lambda: Steps(1, price=-0.5), "price must be 0 or more"),
        (lambda: FakeTimer().advance(-1), "advance: seconds must be 0 or more"),
    ],
)
def test_budgets_of_time_refuse(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_a_night_whose_deadline_has_passed_begins_at_zero():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.9, days=3), training=Training(batch_size=10))
    agent.wake(toy_stream(3)[0], Steps(3))
    with pytest.warns(UserWarning, match="the night of day 0 was to be over 10 seconds ago: it prunes down"):
        agent.sleep(OneShot(), Until("22:01", reserve=70, timer=FakeTimer(1, 1)))
    assert (agent.days[0].night_seconds, agent.days[0].budget_seconds) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("when", "changes", "seconds"),
    [
        ("06:30", {}, 8.5 * 3600),
        ("16:00", {}, 18 * 3600),
        ("16:01", {}, 0),  # six hours ago, and not eighteen hours ahead
        ("21:59", {}, 0),
        ("22:00", {}, 0),
        ("21:59", {"longest": 86_400}, 86_340),
        ("23:59", {"longest": 3600}, 0),
        ("21:59", {"price": 2.0}, 0),
    ],
)
def test_a_time_of_day_far_ahead_has_passed(when, changes, seconds):
    budget = Until(when, timer=FakeTimer(), **changes)
    assert budget.open(1).seconds == seconds
    agent = make_agent()
    agent.wake(toy_stream(2)[0], Epochs(1))
    agent.check(toy_stream(2)[0], 1)
    assert UniformCycles(3).plan(agent.night(toy_stream(2)[0], budget))  # it has a plan nevertheless


def test_a_budget_that_runs_out_above_the_dawn_density_prunes_the_rest():
    class Spends(SleepPolicy):
        def cycles(self, night):
            assert night.loss > 0
            night = yield Cycle(keep=0.5, length=night.left)

    for budget in (
        Steps(10),
        Epochs(3),
        Seconds(1, timer=FakeTimer(0.02, 0.05)),
        Until("22:01", timer=FakeTimer(0.7, 0.2)),
    ):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.9, days=3), training=Training(batch_size=10))
        agent.wake(toy_stream(3)[0], Steps(3))
        agent.sleep(Spends(), budget)
        assert agent.owned == (sum(agent.capacity.owned_after((48, 64), 1)),)


class Odd(Timer):
    """Tells the given times."""

    def __init__(self, times, wall=None):
        self.times, self.date = iter(times), wall

    def now(self):
        return next(self.times)

    def wall(self):
        return self.date


@pytest.mark.parametrize("times", [[1.0, float("nan")], [1.0, 0.5], ["x"], [None], [True], [float("inf")]])
def test_a_timer_that_does_not_go_forward_is_refused(times):
    ledger = Seconds(5, timer=Odd(times)).open(1)
    for _ in times[1:]:
        ledger.resume()
    with pytest.raises(SettingError, match=r"now\(\) must give seconds that never run backward, and gave"):
        ledger.resume()


@pytest.mark.parametrize("wall", [None, "22:00", datetime.datetime(2001, 1, 1)])
def test_a_wall_clock_without_a_time_zone_is_refused(wall):
    with pytest.raises(SettingError, match=r"wall\(\) must give date and time with a time zone, not"):
        Until("06:30", timer=Odd([], wall)).open(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_seconds": 0}, "FakeTimer: step_seconds must be above 0, not 0"),
        ({"step_seconds": -1}, "FakeTimer: step_seconds must be above 0"),
        ({"step_seconds": "x"}, "FakeTimer: step_seconds must be a finite number"),
        ({"step_seconds": lambda: 1}, "step_seconds must be a number, or a function of a number, and failed for 0"),
        ({"prune_seconds": float("nan")}, "FakeTimer: prune_seconds must be a finite number"),
        ({"start": "22:00"}, "FakeTimer: start must be"),
    ],
)
def test_fake_timers_out_of_range_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        FakeTimer(**arguments)
