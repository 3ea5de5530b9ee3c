"""Days that replay: what each batch holds, what an agent keeps of its days, and what is in its file."""

import functools
import pickle

import numpy as np
import pytest
import torch
from resumable import Dropping, lived_through
from scipy import stats
from torch.utils.data import Dataset

from daynight import (
    Agent,
    Capacity,
    Clock,
    Epochs,
    Gate,
    LazyDataset,
    Progress,
    Replay,
    Steps,
    Task,
    Training,
    UniformCycles,
)
from daynight.data.batches import HeldBatches, Replayed
from daynight.data.replay import Memory
from daynight.errors import DamagedFileError, DataError, SealError, SettingError
from daynight.support import archive
from daynight.testing import toy_network, toy_stream
from daynight.training.consolidation import Rehearse

STREAM = toy_stream(4)


def marked(day, n=21, n_outputs=2, name="a", succeeds="a", **settings):
    """Return a task whose training inputs end with the number of the day, and with their own number."""
    source = STREAM[day % 4]
    inputs = source.train.load()[0][torch.arange(n) % 40].clone()
    inputs[:, 4], inputs[:, 5] = day, torch.arange(n) / n
    labels = source.train.targets[torch.arange(n) % 40]
    return Task(
        train=settings.pop("train", (inputs, labels)), test=source.test, n_outputs=n_outputs, name=name,
        succeeds=succeeds, **settings,
    )  # fmt: skip


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def made(replay=Replay(30), network=toy_network, capacity=None, training=None, **settings):  # noqa: B008
    training = {"batch_size": 10, "optimizer": sgd} | (training or {})
    capacity = capacity or Capacity(keep_per_task=0.1, min_per_layer=1)
    return Agent(network, capacity=capacity, training=Training(**training), replay=replay, **settings)


def live(agent, task, budget=Steps(4), on_event=lambda event: None, **settings):  # noqa: B008
    agent.wake(task, budget, on_event, **settings)
    agent.sleep(UniformCycles(2), budget, on_event)
    return agent.day - 1


def kept(agent, name="days"):
    """Return what an agent has kept of its days, from its state."""
    tensors = agent.state()[1]
    return torch.cat([torch.empty(0), *(t for key, t in tensors.items() if key.endswith(f".{name}"))])


def alike(one, other):
    one, other = (agent.state()[1] for agent in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Batches:
    """Notes the inputs of all batches that a day trains on, as the training's `augment` gets them."""

    def __init__(self):
        self.found, self.is_on = [], False

    def augment(self, inputs):
        if self.is_on:
            self.found.append(inputs.clone())
        return inputs

    def __call__(self, event):
        # The first progress of a day comes when all checks are over.
        self.is_on = isinstance(event, Progress) or (self.is_on and event.kind != "day")


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize(
    ("size", "accumulate", "share", "n", "parts"),
    [
        (10, 1, 0.5, 20, [(5, 5)] * 4),
        (10, 1, 0.5, 21, [(5, 5)] * 4 + [(1, 1)]),
        (10, 1, 0.3, 20, [(7, 3)] * 2 + [(6, 3)]),
        (10, 1, 0.8, 5, [(2, 8), (2, 8), (1, 4)]),
        (2, 1, 0.1, 3, [(1, 1)] * 3),
        (9, 1, 0.9, 3, [(1, 8)] * 3),
        (4, 3, 0.25, 20, [(3, 1)] * 6 + [(2, 1)]),
        (4, 2, 0.5, 7, [(2, 2)] * 3 + [(1, 1)]),
    ],
)
def test_each_batch_has_its_share_and_an_epoch_is_one_pass_over_the_day(size, accumulate, share, n, parts, is_lazy):
    batches, replay = Batches(), Replay(15, share)
    training = {"batch_size": size, "accumulate": accumulate, "augment": batches.augment}
    agent = made(replay, training=training)
    live(agent, marked(0), Epochs(1), batches)
    assert {inputs[0, 4].item() for inputs in batches.found} == {0}
    assert sum(map(len, batches.found)) == 2 * 21  # no predecessor: the day's own data alone
    batches.found.clear()
    task, before = marked(1, n), {*kept(agent, "inputs")[:, 5].tolist()}
    if is_lazy:
        task = marked(1, train=LazyDataset(list(zip(*task.train.load(), strict=True)), targets=task.train.targets))
    n_steps = -(-n // (accumulate * parts[0][0]))
    assert agent.night(task, Epochs(2)).steps_per_epoch == n_steps
    assert agent.training.steps_per_epoch(task, replay) == n_steps
    live(agent, task, Epochs(2), batches)
    of_day = [inputs[:, 4].long().bincount(minlength=2).tolist() for inputs in batches.found]
    assert [(own, past) for past, own in of_day] == parts * 4
    assert (agent.days[-1].wake_steps, agent.days[-1].night_steps) == (2 * n_steps, 2 * n_steps)
    drawn = torch.cat(batches.found)
    first = torch.cat(batches.found[: len(parts)])
    assert torch.equal(first[first[:, 4] == 1, 5].sort().values, torch.arange(n) / n)
    assert all(int((drawn[drawn[:, 4] == 1, 5] == number / n).sum()) == 4 for number in range(n))
    assert {*drawn[drawn[:, 4] == 0, 5].tolist()} <= before


def test_a_task_replays_its_own_line_alone():
    batches = Batches()
    agent = made(Replay(500), training={"augment": batches.augment})
    seen = []
    for day, name in enumerate(["a", "b", "a", "c", "b", "a"]):
        batches.found.clear()
        live(agent, marked(day, name=name, succeeds=name), Epochs(2), batches)
        seen.append(sorted(torch.cat(batches.found)[:, 4].unique().tolist()))
    assert seen == [[0], [1], [0, 2], [3], [1, 4], [0, 2, 5]]
    assert kept(agent).long().bincount().tolist() == [21] * 6
    assert kept(agent, "tasks").unique().tolist() == [3, 4, 5]


def test_what_is_kept_is_uniform_over_the_days_of_a_life():
    counts = torch.zeros(4)
    for seed in range(60):
        agent = made(Replay(12), seed=seed)
        for day in range(4):
            agent.wake(marked(day, n=30 - 5 * day), Steps(0))
            agent.finish_night()
        assert len(kept(agent)) == 12
        counts += kept(agent).long().bincount(minlength=4)
    n = torch.tensor([30.0, 25, 20, 15])
    assert stats.chisquare(counts.numpy(), (n / n.sum() * counts.sum()).numpy()).pvalue > 1e-3


def test_without_a_predecessor_replay_changes_no_bit_of_the_network():
    agents = [made(replay) for replay in (None, Replay(30))]
    for agent in agents:
        for day in range(3):
            live(agent, marked(day, name=str(day), succeeds=None))
    states = [agent.network.state() for agent in agents]
    assert all(torch.equal(states[1][name], tensor) for name, tensor in states[0].items())


def test_with_nothing_kept_of_the_line_a_day_trains_on_its_own_data_in_whole_batches():
    agent = made(Replay(1))
    live(agent, marked(0))
    live(agent, marked(1, n=400, name="b", succeeds="b"))
    assert kept(agent).tolist() == [1]
    assert agent.night(marked(2), Epochs(1)).steps_per_epoch == 3
    assert agent.night(marked(2, name="b", succeeds="b"), Epochs(1)).steps_per_epoch == 5
    live(agent, marked(2), Epochs(1))
    assert agent.days[-1].wake_steps == 3


def test_a_batch_that_was_interrupted_is_drawn_again():
    class Failing(Replayed):
        n_calls = 0

        def _woven(self, own, past):
            Failing.n_calls += 1
            if Failing.n_calls in (2, 5, 11):
                raise KeyboardInterrupt
            return super()._woven(own, past)

    def given(kind):
        past = kind(torch.arange(24.0).reshape(6, 4), torch.arange(6) % 2, 3, 2)
        examples = -torch.arange(40.0).reshape(10, 4), torch.arange(10) % 2
        source, found = HeldBatches(*examples, 3, torch.Generator().manual_seed(0), past), []
        while len(found) < 9:
            try:
                found.append(torch.cat([part.flatten().float() for part in source.next()]))
            except KeyboardInterrupt:
                continue
        return torch.cat(found)

    assert torch.equal(given(Failing), given(Replayed))


def test_batch_norm_never_trains_on_one_example_of_the_day_alone():
    capacity = Capacity(keep_per_task=0.1, min_per_layer=1)
    clock = Clock(
        made(Replay(5), Dropping, capacity), [marked(0, n=20), marked(1), marked(2, n=11)], policy=UniformCycles(2),
        wake=Epochs(1), night=Epochs(1),
    )  # fmt: skip
    clock.run()
    with pytest.raises(DataError, match="leave a batch of one, on which batch normalisation cannot train"):
        clock.agent.wake(marked(0, name="b", succeeds="b"), Steps(1))


def job(folder=None, hook=(), replay=Replay(25, 0.4), **settings):  # noqa: B008
    names, freezes = ["a", "b", "a", "b", "a"], "consolidation" not in settings
    tasks = [
        marked(day, n=13 + day, name=name, succeeds=name if freezes else None).hold_out(0.2)
        for day, name in enumerate(names if freezes else map(str, range(3)))
    ]
    return Clock(
        made(replay, **settings), tasks, policy=UniformCycles(2), wake=Epochs(1), night=Epochs(2), checkpoint=folder,
        every=0.0, on_event=hook,
    )  # fmt: skip


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"training": {"accumulate": 2, "batch_size": 4}},
        {
            "consolidation": "rehearse",
            "capacity": Capacity(free_at_end=0.5, days=3),
            "network": Dropping,
            "training": {"batch_size": 6},
        },
    ],
)
def test_a_run_that_is_killed_at_any_step_gives_the_same_bits(settings, tmp_path):
    whole = job(**settings)
    whole.run()
    clock = lived_through(lambda: job(tmp_path, **settings), 3, 4, 10)
    assert alike(clock.agent, whole.agent)
    np.testing.assert_array_equal(clock.history.accuracy, whole.history.accuracy)
    with pytest.raises(SettingError, match=r"is of a run with another replay \(Replay\(examples=25, share=0.4\) then"):
        job(tmp_path, replay=Replay(25, 0.3), **settings).resume()
    with pytest.raises(SettingError, match="is of a run with another replay"):
        job(tmp_path, replay=None, **settings).resume()


def test_forks_at_dusk_end_the_night_alike_and_keep_alike():
    clock = job()
    clock.run(until=2)
    clock.to_dusk()
    twin, before = clock.fork(), kept(clock.agent)
    twin.run()
    assert torch.equal(kept(clock.agent), before)
    clock.run()
    assert alike(clock.agent, twin.agent)


def shifted(day):
    """Return a task whose inputs are zero in half of 96 features: in the last ones on day 0, in the first ones later.

    That is more than engines add to those that are not zero, to align rows in memory.
    """
    source = toy_stream(2, n_features=96)[day]
    inputs, labels = source.train.load()
    is_first = torch.arange(96) < 48
    inputs = inputs * (is_first if day == 0 else ~is_first)
    return Task(train=(inputs, labels), test=source.test, n_outputs=2, name="a", succeeds="a")


@pytest.mark.parametrize("engine", ["auto", "dense", "sparse"])
def test_engines_learn_from_inputs_that_are_zero_in_the_data_of_the_day(engine):
    network = functools.partial(toy_network, 96, 32)
    agents = [made(network=network, training={"engine": name}) for name in (engine, "module")]
    for agent in agents:
        live(agent, shifted(0), Steps(20))
        live(agent, shifted(1), Steps(40))
    states = [agent.network.state() for agent in agents]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_tasks_of_other_lines_stay_bitwise_the_same():
    agent, inputs = made(), STREAM[0].test.load()[0]
    live(agent, marked(0))
    live(agent, marked(1, name="b", succeeds="b"))
    before = agent.predict(inputs, "b")
    for day in (2, 3):
        live(agent, marked(day), Epochs(3))
        assert torch.equal(agent.predict(inputs, "b"), before)
        agent.verify()


def pixels(day):
    inputs = torch.full((12, 1, 2, 3), 40 + day, dtype=torch.uint8)
    return Task(train=(inputs, torch.arange(12) % 2), test=(inputs, torch.arange(12) % 2), name="a", succeeds="a")


def test_an_agent_keeps_its_examples_in_its_file(tmp_path):
    agent, path = made(Replay(20, 0.3)), tmp_path / "agent.dn"
    for day in range(3):
        live(agent, pixels(day))
    agent.save(path)
    _, tensors = archive.read(path, "agent")
    assert tensors["replay.0.inputs"].dtype == torch.uint8
    again = Agent.load(path, training=agent.training)
    assert again.replay == Replay(20, 0.3)
    assert alike(agent, again)
    size = agent.sizes()[-1]
    assert (size.part, size.n_bytes) == ("examples of past days", 20 * (6 + 4 * 8))
    copies = [again, agent.fork(), pickle.loads(pickle.dumps(agent))]
    before = kept(agent)
    for copy in copies:
        live(copy, pixels(3))
    assert torch.equal(kept(agent), before)
    live(agent, pixels(3))
    assert all(alike(agent, copy) for copy in copies)
    assert not torch.equal(kept(agent), before)


def test_files_without_replay_have_nothing_of_it(tmp_path):
    agent = made(None)
    live(agent, marked(0))
    agent.save(tmp_path / "agent.dn")
    about, tensors = archive.read(tmp_path / "agent.dn", "agent")
    assert "replay" not in about
    assert not [name for name in tensors if name.startswith("replay")]
    assert len(agent.sizes()) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, tensors: tensors.pop("replay.0.days"), "memory.parts\\[0\\] has no value 'days'"),
        (lambda about, tensors: about.pop("replay"), "the agent keeps no examples of past days"),
        (lambda about, tensors: about["replay"].update(share=1.0), "share must be above 0"),
        (lambda about, tensors: about["replay"].update(examples=3), "and can have at most 3"),
        (lambda about, tensors: about["replay"].update(below=0.0), "not from 0 to 0"),
        (lambda about, tensors: about["replay"].pop("n_seen"), "has no value 'n_seen'"),
        (lambda about, tensors: tensors["replay.0.tasks"].fill_(5), "task 5, which is no living task"),
        (lambda about, tensors: tensors["replay.0.targets"].fill_(2), "labels that are none of its 2"),
        (lambda about, tensors: tensors["replay.0.inputs"].fill_(torch.nan), "are not all finite"),
        (lambda about, tensors: tensors.update({"replay.0.inputs": torch.zeros(20, 7)}), "inputs of another shape"),
        (lambda about, tensors: tensors.update({"replay.x": torch.zeros(1)}), "not enough values|are missing"),
        (lambda about, tensors: tensors.update({"replay.2.days": torch.zeros(1)}), "are missing"),
    ],
)
def test_a_file_whose_examples_do_not_fit_is_refused(change, message, tmp_path):
    agent, path = made(Replay(20)), tmp_path / "agent.dn"
    for day in range(2):
        live(agent, marked(day))
    agent.save(path)
    about, tensors = archive.read(path, "agent")
    change(about, tensors)
    archive.write(path, "agent", about, tensors)
    with pytest.raises(DamagedFileError, match=message):
        Agent.load(path, training=agent.training)


def test_a_changed_example_is_found():
    agent = made()
    live(agent, marked(0))
    agent.verify()
    agent.state()[1]["replay.0.inputs"][0, 0] = 99.0
    with pytest.raises(SealError, match=r"^examples of past days .* have changed: replay\.0\.inputs\. Something"):
        agent.verify()


def test_what_retires_is_forgotten_with_all_that_it_succeeded(tmp_path):
    agent = made(Replay(500))
    for day, name in enumerate(["a", "b", "a", "b"]):
        live(agent, marked(day, name=name, succeeds=name))
    assert kept(agent).unique().tolist() == [0, 1, 2, 3]
    agent.retire("b")
    assert kept(agent).unique().tolist() == [0, 2]
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn", training=agent.training)
    assert alike(agent, again)
    live(again, marked(4, name="b", succeeds="b"))
    assert kept(again).unique().tolist() == [0, 2, 4]


class Breaking(Dataset):
    """Cannot be read while it is broken."""

    def __init__(self, task):
        self.inputs, self.targets = task.train.load()
        self.is_broken = False

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        if self.is_broken:
            raise OSError("the disk is gone")
        return self.inputs[index], int(self.targets[index])


def test_a_day_whose_examples_cannot_be_read_stays_open():
    agent, other = made(), made()
    for one in (agent, other):
        live(one, marked(0))
        data = Breaking(marked(1))
        one.wake(marked(1, train=LazyDataset(data)), Steps(3))
        if one is agent:
            data.is_broken, before = True, {name: t.clone() for name, t in agent.state()[1].items()}
            with pytest.raises(DataError, match="cannot be read"):
                one.finish_night()
            assert (one.phase, one.day) == ("dusk", 1)
            assert all(torch.equal(before[name], tensor) for name, tensor in one.state()[1].items())
            data.is_broken = False
        one.finish_night()
    assert alike(agent, other)


def test_a_day_that_is_abandoned_adds_nothing():
    agent = made()
    live(agent, marked(0))
    before = kept(agent)
    agent.wake(marked(1), Steps(3))
    assert torch.equal(kept(agent), before)
    agent.abandon_day()
    assert torch.equal(kept(agent), before)


def test_a_day_that_the_gate_refuses_adds_nothing():
    agent = made(gate=Gate(tolerance=0.0, least=50))
    live(agent, marked(0).hold_out(0.2))
    before = kept(agent)
    live(agent, marked(1).hold_out(0.2))  # too few examples are held out
    assert (agent.living, agent.day) == ((0,), 2)
    assert torch.equal(kept(agent), before)
    assert agent.night(marked(2).hold_out(0.2), Epochs(1)).steps_per_epoch == 4  # of 17 examples, 5 in a batch


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay": 5}, r"^replay must be a Replay, such as Replay\(5000\), not 5\."),
        ({"consolidation": "fine-tune"}, r"^replay does not go with consolidation='fine-tune': there, no day would"),
        ({"training": {"batch_size": 1}}, r"^replay needs batches of two or more: one example of the day, and one of "),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        made(**settings)


def test_targets_of_another_form_are_refused_before_the_day():
    agent, split = made(Replay(10)), (torch.zeros(9, 6), torch.rand(9, 2))
    live(agent, marked(0))
    with pytest.raises(DataError, match="has 2 numbers as targets, and the examples that are kept of earlier versions"):
        agent.wake(Task(train=split, test=split, name="a", succeeds="a"), Steps(1))
    assert agent.phase == "between days"


def test_rehearsing_with_replay_keeps_no_tasks_and_uses_each_example_with_its_own_head(tmp_path):
    batches, path = Batches(), tmp_path / "agent.dn"
    capacity = Capacity(free_at_end=0.5, days=4)
    agent = made(Replay(30, 0.4), capacity=capacity, consolidation="rehearse", training={"augment": batches.augment})
    for day in range(3):
        batches.found.clear()
        task = marked(day, n=24, n_outputs=2 + day, name=str(day), succeeds=None)
        assert agent.night(task, Epochs(1)).steps_per_epoch == (4 if day else 3)
        live(agent, task, Epochs(1), batches)
        assert all(
            int((inputs[:, 4] == day).sum()) == (6 if day else len(inputs)) and len(inputs) in (4, 10)
            for inputs in batches.found
        )
    assert {*torch.cat(batches.found)[:, 4].tolist()} == {0, 1, 2}
    assert agent.kept_tasks == ()
    agent.save(path)
    again = Agent.load(path, training=agent.training)
    assert alike(agent, again)
    for one in (agent, again):
        live(one, marked(3, name="3", succeeds=None), Epochs(1))
    assert alike(agent, again)


def test_rehearsing_with_replay_forgets_less_than_fine_tuning():
    scores, stream, capacity = {}, toy_stream(3, seed=1), Capacity(free_at_end=0.2, days=3)
    for way, replay in (("fine-tune", None), ("rehearse", Replay(40))):
        agent = made(replay, capacity=capacity, consolidation=way, training={"optimizer": adam})
        for task in stream:
            live(agent, task, Steps(150))
        scores[way] = min(agent.evaluate(task, day)[1] for day, task in enumerate(stream))
    assert scores["fine-tune"] < 0.7 < 0.9 < scores["rehearse"]


def test_rehearsed_examples_have_the_labels_of_their_own_head():
    memory, n_outputs = Memory(100), (2, 4, 3)
    for day in range(3):
        memory.add(day, marked(day).train)
    task, past = Rehearse().replayed(marked(3, n_outputs=5), memory, None, n_outputs)
    assert (task.groups, task.n_outputs) == ((2, 4, 3, 5), 14)
    assert torch.equal(task.train.targets, marked(3).train.targets + 9)
    for day, first in enumerate((0, 2, 6)):
        assert torch.equal(past.targets[past.days == day], marked(day).train.targets + first)


def test_a_line_of_shifting_days_keeps_more_of_the_first_with_replay():
    scores = {}
    for replay in (None, Replay(60)):
        network, capacity = functools.partial(toy_network, width=32), Capacity(keep_per_task=0.5)
        agent = made(replay, network, capacity, {"optimizer": adam})
        for day in range(4):
            live(agent, Task(train=STREAM[day].train, test=STREAM[day].test, name="a", succeeds="a"), Steps(80))
        scores[replay] = agent.evaluate(STREAM[0], 3)[1]
    without, with_replay = scores.values()
    assert with_replay > without + 0.3
