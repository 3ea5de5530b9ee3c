"""What a checkpoint is good for, and what is refused."""

import datetime
import os
import signal

import pytest
import torch
from resumable import Killed, Killer, clock, killed, outcome, resumed
from torch import nn

from daynight import Agent, Clock, Progress, Seconds, Until
from daynight.errors import OutputError, TrainingError
from daynight.storage.checkpoints import Checkpoint
from daynight.testing import FakeTimer

pytestmark = pytest.mark.usefixtures("at_every_step")


def test_a_run_that_is_over_is_not_lived_again(tmp_path):
    first = resumed(tmp_path)
    history = first.run()
    heard = []
    again = resumed(tmp_path, heard.append)
    assert again.is_over
    assert again.run() == history
    assert not heard
    assert outcome(again) == outcome(first)
    torch.testing.assert_close(
        again.agent.predict(torch.ones(3, 6), 1), first.agent.predict(torch.ones(3, 6), 1), rtol=0, atol=0
    )


def test_what_a_stopped_run_has_is_there_before_it_goes_on(tmp_path):
    killed(tmp_path, 13)
    again = resumed(tmp_path)
    assert again.agent.phase == "night"
    assert again.agent.day == 0
    assert [record.kind for record in again.history][:3] == ["epoch", "epoch", "evaluation"]
    again.agent.finish_night()
    again.run()
    assert again.history.n_days == 2
    again.agent.verify()


def test_a_day_that_is_taken_up_can_be_abandoned(tmp_path):
    agent = resumed(killed(tmp_path, 13), days=2).agent
    agent.abandon_day()
    assert agent.n_free == agent.n_weights
    whole = clock()
    whole.agent.check(whole.stream[0])
    assert all(
        torch.equal(one, two) for one, two in zip(
            agent.network.weights.values(), whole.agent.network.weights.values(), strict=True
        )
    )  # fmt: skip


def test_an_agent_from_a_file_goes_on_from_the_checkpoint_of_its_day(tmp_path):
    whole = clock()
    whole.run()
    first = clock()
    first.run(until=1)
    first.agent.save(tmp_path / "agent.dn")

    def second(hook=()):
        agent = Agent.load(tmp_path / "agent.dn")
        return Clock(
            agent, first.stream, policy=first.policy, wake=first.wake, night=first.night, on_event=hook,
            checkpoint=tmp_path / "tonight", every=0,
        )  # fmt: skip

    with pytest.raises(Killed):
        second(Killer(12)).run()
    again = second()
    again.resume()
    assert again.agent.phase == "night"
    again.run()
    assert outcome(again)[1] == outcome(whole)[1]


@pytest.mark.parametrize("n", [4, 13], ids=["wake", "night"])
def test_what_is_taken_up_and_not_gone_on_with_stays(n, tmp_path):
    whole = clock()
    whole.run()
    killed(tmp_path, n)
    for _ in range(2):
        resumed(tmp_path).run(until=0)
    resumed(tmp_path).to_dusk()
    again = resumed(tmp_path)
    again.run()
    assert outcome(again) == outcome(whole)


def test_a_day_that_is_over_is_kept_whatever_the_time(tmp_path, monkeypatch):
    monkeypatch.undo()
    run = resumed(tmp_path)
    Clock(run.agent.fork(), run.stream, policy=run.policy, wake=run.wake, night=run.night, checkpoint=tmp_path).step()
    assert resumed(tmp_path).agent.day == 1


def test_a_clock_with_deadlines_writes_from_its_first_wake_on(tmp_path):
    def seconds(n):
        return Seconds(n, timer=FakeTimer(0.01, 0.01))

    for n, phase in ((9, "wake"), (330, "night")):
        budgets = {"wake": seconds(2.0), "night": seconds(2.0)}
        folder = killed(tmp_path / phase, n, days=1, **budgets)
        again = resumed(folder, days=1, **budgets)
        assert again.agent.phase == phase
        assert 0 < again.agent.seconds_left < 2
        again.run()
        again.agent.verify()


def test_slow_steps_give_signs_of_life_by_the_second(monkeypatch):
    monkeypatch.undo()
    now = iter(range(10**6))
    monkeypatch.setattr("daynight.training.trainer.time.monotonic", lambda: next(now) * 0.6)
    heard = []
    clock(hook=heard.append).run(until=1)
    steps = [event.step for event in heard if isinstance(event, Progress) and event.phase == "wake"]
    assert len(steps) == len(set(steps)) > 2


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path):
    killed(tmp_path, 13)
    (tmp_path / ".clock.abcd.dn").write_bytes(b"half")
    resumed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["clock.dn"]


def test_a_disk_that_is_full_costs_checkpoints_and_not_the_run(tmp_path, monkeypatch):
    killed(tmp_path, 13)

    def full(path):
        raise OutputError(f"cannot write to {path}: No space left on device. Name a folder that you may write to.")

    again = resumed(tmp_path)
    before = (tmp_path / "clock.dn").read_bytes()
    monkeypatch.setattr("daynight.support.atomic.replacing", full)
    with pytest.warns(UserWarning, match="no checkpoint: cannot write to .*clock.dn: No space left on device"):
        again.run()
    assert again.is_over
    assert (tmp_path / "clock.dn").read_bytes() == before
    with pytest.raises(OutputError, match="No space left on device"):
        resumed(tmp_path)


@pytest.mark.parametrize("way_on", ["run", "finish_night"])
def test_a_night_that_went_wrong_is_kept_as_it_was_after_its_last_good_cycle(way_on, tmp_path):
    def bad(event):
        if getattr(event, "kind", "") == "epoch" and event.cycle == 1:
            raise RuntimeError("in the hook")

    with pytest.raises(RuntimeError, match="in the hook"):
        resumed(tmp_path, bad).run()
    again = resumed(tmp_path)
    assert again.agent.phase == "night"
    assert [record.cycle for record in again.history.select(kind="prune")] == [0, 1]
    n_before = again.agent.n_steps
    if way_on == "run":
        again.run()
        assert again.history.n_days == 2
        assert again.agent.days[0].unspent_steps == 0
    else:
        again.agent.finish_night()
        assert again.agent.n_steps == n_before
    again.agent.verify()


def test_a_loss_that_is_not_finite_leaves_a_good_checkpoint(tmp_path):
    class Loss:
        is_broken = False

        def __call__(self, outputs, targets):
            loss = nn.functional.cross_entropy(outputs, targets)
            return loss * float("nan") if Loss.is_broken else loss

    def breaks(event):
        Loss.is_broken = event.phase == "rem" and event.cycle == 1

    training = {"loss": Loss(), "engine": "module"}
    with pytest.raises(TrainingError, match="the night has gone back to the end of cycle 0"):
        resumed(tmp_path, breaks, training=training).run()
    Loss.is_broken = False
    agent = resumed(tmp_path, training=training).agent
    assert agent.phase == "night"
    agent.finish_night()
    assert torch.isfinite(agent.predict(torch.ones(2, 6), 0)).all()


@pytest.mark.parametrize("budget", [Seconds, Until])
def test_a_night_with_a_deadline_goes_on_with_what_is_left_of_it(budget, tmp_path):
    def night(microsecond):
        timer = FakeTimer(0.01, 0.05, start=datetime.datetime(2001, 1, 1, 21, 59, 59, microsecond))
        return Seconds(0.3, timer=timer) if budget is Seconds else Until("22:00", timer=timer)

    killed(tmp_path, 20, night=night(700_000), days=1)
    again = resumed(tmp_path, night=night(850_000), days=1)
    assert again.agent.phase == "night"
    assert again.agent.seconds_left < 0.3
    again.run()
    day = again.agent.days[0]
    assert day.night_seconds <= day.budget_seconds + 0.06
    again.agent.verify()


def test_checkpoints_take_a_small_share_of_the_time(monkeypatch, tmp_path):
    monkeypatch.undo()
    times = iter([0.0, 10.0, 10.0, 12.0, 200.0, 212.1, 212.1])
    monkeypatch.setattr("daynight.storage.checkpoints.time.monotonic", lambda: next(times))
    kept = Checkpoint(tmp_path, every=5)
    assert kept.is_due(float("inf"))  # 10 seconds have passed
    kept.write(lambda: ({}, {}, None))  # it takes 2 seconds
    assert not kept.is_due(float("inf"))  # 188 seconds later
    assert kept.is_due(float("inf"))  # 200.1 seconds later
    assert not kept.is_due(7.9)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("n", [3, 11, 17, 30])
def test_a_request_to_stop_writes_a_checkpoint_before(tmp_path, number, error, n):
    whole, heard = clock(), []

    def stopped(event):
        heard.append(event)
        if len(heard) == n:
            os.kill(os.getpid(), number)

    run = resumed(tmp_path, stopped, every=3600.0)
    before = signal.getsignal(number)
    with pytest.raises(error):
        run.run()
    assert signal.getsignal(number) == before
    again = resumed(tmp_path)
    assert len(heard) - n <= 3  # up to the next step, or the end of the evaluation
    assert again.agent.n_steps >= max(event.step for event in heard if isinstance(event, Progress))
    again.run()
    whole.run()
    assert outcome(again) == outcome(whole)


def test_a_second_request_to_stop_is_heard_at_once(tmp_path):
    heard = []

    def stopped(event):
        heard.append(event)
        if len(heard) > 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        resumed(tmp_path, stopped).run()
    assert len(heard) == 5
    again = resumed(tmp_path)
    again.run()
    assert again.agent.day == 2


class Stop(Exception):
    """What a program of its own may raise when it is asked to stop."""


@pytest.mark.parametrize("n", [11, 14, 17])
def test_a_program_may_hear_the_request_in_its_own_way(tmp_path, n):
    def raises(number, frame):
        raise Stop

    whole, heard = clock(), []

    def stopped(event):
        heard.append(event)
        if len(heard) == n:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, raises)
    try:
        with pytest.raises(Stop):
            resumed(tmp_path, stopped).run()
    finally:
        signal.signal(signal.SIGINT, before)
    again = resumed(tmp_path)
    again.run()
    whole.run()
    assert outcome(again) == outcome(whole)


def test_a_request_that_comes_with_an_error_does_not_stay(tmp_path):
    def fails(event):
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError

    run = resumed(tmp_path, fails)
    with pytest.raises(RuntimeError):
        run.run()
    run.hooks.clear()
    run.step()
    assert run.agent.day == 1


class Counting(torch.optim.SGD):
    """Adds a value to its parameter groups as it steps, on which its rate depends."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            group["lr"] = 0.1 / group["count"] ** 0.5
        super().step()


@pytest.mark.parametrize("n", [4, 14])
def test_what_an_optimizer_adds_to_its_groups_is_resumed(n, tmp_path, at_every_step):
    settings = {"training": {"optimizer": Counting}}
    whole = clock(**settings)
    whole.run()
    with pytest.raises(Killed):
        clock(tmp_path, Killer(n), **settings).run()
    again = resumed(tmp_path, **settings)
    again.run()
    assert outcome(again) == outcome(whole)
