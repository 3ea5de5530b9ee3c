"""Checkpoints of long lives: finished days go into files of their own, which are written once."""

import re
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resumable import Killed, Killer, killed, outcome, resumed

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Task, Training
from daynight.errors import DamagedFileError, OutputError
from daynight.storage import parts, seals, unmoved
from daynight.support import archive
from daynight.testing import toy_network, toy_stream

STREAM = toy_stream(8)


def made(folder, tasks, hook=(), every=10**6, **rest):
    capacity = Capacity(keep_per_task=0.02, min_per_layer=1)
    agent = Agent(toy_network, capacity=capacity, training=Training(batch_size=30), seed=5, **rest)
    return Clock(agent, tasks, policy=OneShot(), wake=Epochs(1), night=Epochs(1), on_event=hook, checkpoint=folder,
                 every=every)  # fmt: skip


def tasks_of(days):
    """Return a task for each day: True is a new version of the newest one."""
    tasks, newest = [], None
    for index, is_version in enumerate(days):
        source = STREAM[index % len(STREAM)]
        succeeds = newest if is_version else None
        tasks.append(Task(train=source.train, test=source.test, n_outputs=2, name=f"task {index}", succeeds=succeeds))
        newest = index
    return tasks


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def parts_of(folder):
    """Return the files of parts, in order, which are named by their numbers and the digests of what they hold."""
    found = sorted(path for path in folder.iterdir() if path.name != "clock.dn")
    for number, path in enumerate(found):
        assert re.fullmatch(rf"clock-{number}-[0-9a-f]{{8}}\.dn", path.name)
    return found


def test_a_checkpoint_holds_what_is_new_and_nothing_is_written_twice(tmp_path):
    clock, sizes, known = made(tmp_path, tasks_of([False] * 35)), [], {}
    while not clock.is_over:
        clock.step()
        found = bytes_of(tmp_path)
        sizes.append(len(found.pop("clock.dn")))
        assert found.items() >= known.items()
        known = found
    assert sorted(known) == [path.name for path in parts_of(tmp_path)]
    assert len(known) == 3
    assert max(sizes[10:]) < 1.1 * max(sizes[:10])  # seals of later tasks name as much, days and steps have more digits
    again = made(tmp_path, tasks_of([False] * 35))
    assert again.resume()
    assert outcome(again) == outcome(clock)
    assert {name: content for name, content in bytes_of(tmp_path).items() if name != "clock.dn"} == known


@pytest.mark.usefixtures("at_every_step")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.booleans(), min_size=3, max_size=7).map(lambda days: [False, *days]),
    kills=st.lists(st.integers(1, 30), min_size=1, max_size=6), n_days=st.integers(1, 3),
    keeps=st.sampled_from([(), ("profile",)]),
)  # fmt: skip
def test_lives_that_are_killed_anywhere_end_as_if_they_had_not_been(days, kills, n_days, keeps, tmp_path_factory):
    tasks, folder = tasks_of(days), tmp_path_factory.mktemp("life")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "N_DAYS", n_days)
        whole = made(None, tasks, keeps=keeps)
        whole.run()
        for left in kills:
            clock = made(folder, tasks, Killer(left), every=0.0, keeps=keeps)
            try:
                clock.run()
            except Killed:
                continue
            break
        again = made(folder, tasks, every=0.0, keeps=keeps)
        again.run()
        assert outcome(again) == outcome(whole)
        last = made(folder, tasks, keeps=keeps)
        last.resume()
        assert outcome(last) == outcome(whole)
        last.agent.verify()


def test_a_day_that_is_given_up_leaves_the_days_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "N_DAYS", 2)
    tasks, lives = tasks_of([False] * 7), []
    for folder in (tmp_path, None):
        clock = made(folder, tasks)
        clock.run(until=5)
        clock.to_dusk()
        clock.agent.abandon_day()
        clock.run()
        lives.append(clock)
    again = made(tmp_path, tasks)
    again.resume()
    assert outcome(again) == outcome(lives[0]) == outcome(lives[1])


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """Return a folder with the checkpoint of a life of 23 days, of which 20 are in parts."""
    folder = tmp_path_factory.mktemp("life")
    made(folder, tasks_of([False] * 23)).run()
    return folder


@pytest.mark.parametrize("number", [None, 0, 1])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), flips=st.booleans())
def test_a_file_that_is_cut_short_or_changed_is_refused(number, share, flips, life, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "life"
    shutil.copytree(life, folder)
    name = "clock.dn" if number is None else parts_of(folder)[number].name
    content = (folder / name).read_bytes()
    at = min(int(share * len(content)), len(content) - 1)
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if flips else content[:at]
    (folder / name).write_bytes(changed)
    with pytest.raises(DamagedFileError, match=rf"{name} "):
        made(folder, tasks_of([False] * 23)).resume()


def test_a_part_that_is_missing_or_of_another_run_is_refused(life, tmp_path):
    folder = shutil.copytree(life, tmp_path / "life")
    first, second = parts_of(folder)
    shutil.copy(first, second)
    with pytest.raises(DamagedFileError, match=r"clock-1-.*\.dn is not the file that belongs here"):
        made(folder, tasks_of([False] * 23)).resume()
    second.unlink()
    with pytest.raises(DamagedFileError, match=r"clock\.dn cannot be read without .*clock-1-.*\.dn, which is missing"):
        made(folder, tasks_of([False] * 23)).resume()
    about, tensors = archive.read(folder / "clock.dn", "clock")
    for changed in ({"parts": [["../clock-0.dn", "0" * 64]]}, {"living": [99]}, {"living": None}):
        again = shutil.copytree(life, tmp_path / f"changed {next(iter(changed.values()))!r}".replace("/", "-"))
        archive.write(again / "clock.dn", "clock", {**about, **changed}, tensors)
        with pytest.raises(DamagedFileError, match="has no valid state of a run"):
            made(again, tasks_of([False] * 23)).resume()


def test_a_part_that_no_checkpoint_names_is_in_nobodys_way(life, tmp_path, monkeypatch):
    """A process may be killed, or the disk be full, after a part was written and before the checkpoint was."""
    tasks, write = tasks_of([False] * 23), archive.write
    clock = made(tmp_path, tasks)
    clock.run(until=9)

    def full(path, kind, *rest):
        if kind == "clock":
            raise OutputError("no room")
        return write(path, kind, *rest)

    monkeypatch.setattr(archive, "write", full)
    with pytest.warns(UserWarning, match="no checkpoint: no room"):
        clock.step()
    assert len(parts_of(tmp_path)) == 1
    monkeypatch.undo()
    again = made(tmp_path, tasks)
    again.resume()
    assert again.agent.day == 9
    again.run()
    whole = made(life, tasks)
    whole.resume()
    assert outcome(again) == outcome(whole)


def test_a_checkpoint_of_an_older_version_holds_all_days_and_goes_on(tmp_path, monkeypatch):
    tasks = tasks_of([False, True, False, False] * 4)
    monkeypatch.setattr(parts, "N_DAYS", 10**6)
    made(tmp_path, tasks).run(until=13)
    monkeypatch.undo()
    assert sorted(bytes_of(tmp_path)) == ["clock.dn"]
    again, whole = made(tmp_path, tasks), made(None, tasks)
    again.run()
    whole.run()
    assert outcome(again) == outcome(whole)
    assert len(parts_of(tmp_path)) == 1


def test_two_clocks_in_one_folder_leave_a_checkpoint_of_the_last_one(tmp_path):
    tasks = tasks_of([False] * 14)
    one = made(tmp_path, tasks)
    one.run(until=9)
    other = made(tmp_path, tasks)
    other.run(until=12)
    one.run(until=11)
    other.run(until=13)
    again, whole = made(tmp_path, tasks), made(None, tasks)
    again.run()
    whole.run()
    assert outcome(again) == outcome(whole)


def test_a_run_that_begins_in_the_folder_of_one_without_a_day_has_parts_of_its_own(tmp_path):
    tasks, path = tasks_of([False] * 16), tmp_path / "agent.dn"
    lived = made(None, tasks)
    lived.run(until=12)
    lived.agent.save(path)

    def clock(first):
        return Clock(Agent.load(path), tasks[first:], policy=OneShot(), wake=Epochs(1), night=Epochs(1),
                     first_day=first, checkpoint=tmp_path / "run")  # fmt: skip

    clock(12).check()  # it writes a checkpoint, though nothing has happened
    clock(5).run(until=14)
    again = clock(5)
    again.run()
    assert again.agent.day == len(tasks)
    again.agent.verify()


def test_a_tensor_that_was_written_to_is_in_the_next_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "N_DAYS", 2)
    clock = made(tmp_path, tasks_of([False] * 5))
    clock.run(until=4)
    with torch.no_grad():
        next(clock.agent.network.heads.of(0).parameters()).add_(1.0)
    clock.run()
    with pytest.raises(Exception, match="task 0 no longer predicts what it did at its dawn"):
        made(tmp_path, tasks_of([False] * 5)).resume()


def test_a_short_life_has_one_file(tmp_path):
    killed(tmp_path, 13)
    resumed(tmp_path).run()
    assert sorted(bytes_of(tmp_path)) == ["clock.dn"]


# What a retirement checks


def test_a_retirement_leaves_the_seals_of_others_unchecked(monkeypatch):
    days = [False] * 12 + [True] * 4
    clock, n = made(None, tasks_of(days)), [0]

    def counted(tensors):
        n[0] += 1
        return seals.seal(tensors)

    clock.run(until=13)
    monkeypatch.setattr(unmoved, "seal", counted)
    clock.run()
    assert clock.agent.living == (*range(11), 15)
    # Two looks on each of three days, at each of which the seal of the last task is checked, and of no other for long.
    assert n[0] <= 12


def test_what_pytorch_does_not_count_is_found_when_an_agent_is_saved(tmp_path):
    clock = made(None, tasks_of([False] * 4))
    clock.run()
    agent = clock.agent
    agent.save(tmp_path / "agent.dn")
    next(agent.network.heads.of(1).parameters()).data += 1.0
    assert agent.unmoved() == {0, 1, 2, 3}
    for call in (agent.verify, lambda: agent.save(tmp_path / "agent.dn")):
        with pytest.raises(Exception, match="task 1 no longer predicts what it did at its dawn"):
            call()
    assert Agent.load(tmp_path / "agent.dn").living == (0, 1, 2, 3)
