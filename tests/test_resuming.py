"""What a checkpoint is good for, and what is refused."""

import datetime

import attrs
import pytest
import torch
from resumable import Dropping, Killed, Killer, clock, killed, outcome, sgd
from torch import nn

from daynight import Agent, Clock, Epochs, Seconds, UniformCycles, Until, criteria
from daynight.checkpoints import Checkpoint
from daynight.errors import (
    DamagedFileError,
    DataError,
    NetworkError,
    OutputError,
    PolicyError,
    SettingError,
    TrainingError,
)
from daynight.testing import FakeTimer, toy_network, toy_stream

pytestmark = pytest.mark.usefixtures("at_every_step")


def test_a_run_that_is_over_is_not_lived_again(tmp_path):
    first = clock(tmp_path)
    history = first.run()
    heard = []
    again = clock(tmp_path, heard.append)
    assert again.is_over
    assert again.run() == history
    assert not heard
    assert outcome(again) == outcome(first)
    torch.testing.assert_close(
        again.agent.predict(torch.ones(3, 6), 1), first.agent.predict(torch.ones(3, 6), 1), rtol=0, atol=0
    )


def test_what_a_stopped_run_has_is_there_before_it_goes_on(tmp_path):
    killed(tmp_path, 13)
    again = clock(tmp_path)
    assert again.agent.phase == "night"
    assert again.agent.day == 0
    assert [record.kind for record in again.history][:3] == ["epoch", "epoch", "evaluation"]
    again.agent.finish_night()
    again.run()
    assert again.history.n_days == 2
    again.agent.verify()


def test_a_day_that_is_taken_up_can_be_abandoned(tmp_path):
    agent = clock(killed(tmp_path, 13), days=2).agent
    agent.abandon_day()
    assert agent.n_free == agent.n_weights
    whole = clock()
    whole.agent.check(whole.stream[0])
    assert all(
        torch.equal(one, two) for one, two in zip(
            agent.network.weights.values(), whole.agent.network.weights.values(), strict=True
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"policy": UniformCycles(3)}, "another policy"),
        ({"night": Epochs(3)}, "another night"),
        ({"training": {"clip_norm": 1.0}}, "another training"),
        ({"training": {"optimizer": sgd}}, "another training"),
        ({"restart": "keep", "biases": "freeze-after-first"}, "another biases, another restart"),
        ({"consolidation": "fine-tune"}, "another consolidation"),
        ({"days": 3}, "another capacity"),
        ({"criterion": criteria.random}, "another criterion"),
        ({"network": lambda: toy_network(8)}, "another network"),
    ],
)
def test_another_run_is_refused(change, what, tmp_path):
    killed(tmp_path, 13)
    with pytest.raises(SettingError, match=rf"clock\.dn is of a run with {what}\. Give what it was begun with"):
        clock(tmp_path, **change)


def test_another_network_of_ones_own_is_refused_by_its_tensors(tmp_path):
    class Other(Dropping):
        def __init__(self):
            super().__init__()
            head = self.head
            del self.head
            self.more, self.head = nn.Linear(6, 6), head

    killed(tmp_path, 13, network=Dropping)
    with pytest.raises(SettingError, match=r"another (head|network)"):
        clock(tmp_path)
    with pytest.raises(NetworkError, match=r"the network has .*more.* which what was saved has not"):
        clock(tmp_path, network=Other)


def test_other_tasks_are_refused(tmp_path):
    killed(tmp_path, 13)
    with pytest.raises(DataError, match=r"is of a run whose task of day 0 was not the one"):
        clock(tmp_path, make_stream=lambda days: toy_stream(days, seed=7))


def test_an_agent_with_other_days_is_refused(tmp_path):
    killed(tmp_path, 13)
    run = clock()
    run.run(until=1)
    with pytest.raises(SettingError, match="is of an agent with 0 days behind it, and this one has others"):
        Clock(run.agent, run.stream, policy=run.policy, wake=run.wake, night=run.night, checkpoint=tmp_path)


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
    assert again.agent.phase == "night"
    again.run()
    assert outcome(again)[1] == outcome(whole)[1]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = killed(tmp_path, 13) / "clock.dn"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"clock\.dn is damaged"):
        clock(tmp_path)
    first = clock()
    first.run()
    first.agent.save(path)
    with pytest.raises(DamagedFileError, match="holds 'agent', and not 'clock'"):
        clock(tmp_path)


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path):
    killed(tmp_path, 13)
    (tmp_path / ".clock.abcd.dn").write_bytes(b"half")
    clock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["clock.dn"]


def test_a_disk_that_is_full_costs_checkpoints_and_not_the_run(tmp_path, monkeypatch):
    killed(tmp_path, 13)
    before = (tmp_path / "clock.dn").read_bytes()

    def full(path):
        raise OutputError(f"cannot write to {path}: No space left on device. Name a folder that you may write to.")

    monkeypatch.setattr("daynight.files.whole", full)
    again = clock(tmp_path)
    with pytest.warns(UserWarning, match="no checkpoint: cannot write to .*clock.dn: No space left on device"):
        again.run()
    assert again.is_over
    assert (tmp_path / "clock.dn").read_bytes() == before


@pytest.mark.parametrize("way_on", ["run", "finish_night"])
def test_a_night_that_went_wrong_is_kept_as_it_was_after_its_last_good_cycle(way_on, tmp_path):
    def bad(event):
        if getattr(event, "kind", "") == "epoch" and event.cycle == 1:
            raise RuntimeError("in the hook")

    with pytest.raises(RuntimeError, match="in the hook"):
        clock(tmp_path, bad).run()
    again = clock(tmp_path)
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
        clock(tmp_path, breaks, training=training).run()
    Loss.is_broken = False
    agent = clock(tmp_path, training=training).agent
    assert agent.phase == "night"
    agent.finish_night()
    assert torch.isfinite(agent.predict(torch.ones(2, 6), 0)).all()


def test_a_policy_that_changes_its_mind_is_found_out(tmp_path):
    class Moody(UniformCycles):
        mood = 0.7

        def cycles(self, night):
            for cycle in super().cycles(night):
                yield attrs.evolve(cycle, length=cycle.length * type(self).mood)

    killed(tmp_path, 15, policy=Moody(2))
    again = clock(tmp_path, policy=Moody(2))
    Moody.mood = 0.8
    with pytest.raises(PolicyError, match=r"was begun as .* and the policy now gives"):
        again.run()
    again.agent.finish_night()


@pytest.mark.parametrize("budget", [Seconds, Until])
def test_a_night_with_a_deadline_goes_on_with_what_is_left_of_it(budget, tmp_path):
    def night(microsecond):
        timer = FakeTimer(0.01, 0.05, start=datetime.datetime(2001, 1, 1, 21, 59, 59, microsecond))
        return Seconds(0.3, timer=timer) if budget is Seconds else Until("22:00", timer=timer)

    killed(tmp_path, 20, night=night(700_000), days=1)
    again = clock(tmp_path, night=night(850_000), days=1)
    assert again.agent.phase == "night"
    assert again.agent.seconds_left < 0.3
    again.run()
    day = again.agent.days[0]
    assert day.night_seconds <= day.budget_seconds + 0.06
    again.agent.verify()


def test_every_must_be_a_time(tmp_path):
    whole = clock()
    for every in (-1, float("nan"), "often"):
        with pytest.raises(SettingError, match="every: seconds between checkpoints"):
            Clock(whole.agent, whole.stream, policy=whole.policy, wake=whole.wake, night=whole.night,
                  checkpoint=tmp_path, every=every)  # fmt: skip


def test_an_optimizer_that_no_file_can_keep_is_refused_before_anything_is_trained(tmp_path):
    class Odd(torch.optim.SGD):
        def state_dict(self):
            return {**super().state_dict(), "function": print}

    with pytest.raises(SettingError, match=r"Training: with this optimizer no checkpoint can be made: state\.function"):
        clock(tmp_path, training={"optimizer": lambda parameters: Odd(parameters, lr=0.1)})


def test_checkpoints_take_a_small_share_of_the_time(monkeypatch, tmp_path):
    monkeypatch.undo()
    times = iter([0.0, 10.0, 10.0, 12.0, 200.0, 212.1, 212.1])
    monkeypatch.setattr("daynight.checkpoints.time.monotonic", lambda: next(times))
    kept = Checkpoint(tmp_path, every=5)
    assert kept.is_due(float("inf"))  # 10 seconds have passed
    kept.write(lambda: ({}, {}, None))  # it takes 2 seconds
    assert not kept.is_due(float("inf"))  # 188 seconds later
    assert kept.is_due(float("inf"))  # 200.1 seconds later
    assert not kept.is_due(7.9)
