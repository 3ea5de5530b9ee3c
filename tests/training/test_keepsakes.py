"""What tasks keep of their data: prediction without a task, drift; how it is stored, sealed, counted, forgotten."""

import pickle
import random

import numpy as np
import pytest
import torch
from resumable import Dropping, Killed, Killer, clock, killed, outcome, resumed

import daynight as dn
from daynight import Agent, Capacity, Clock, Epochs, OneShot, Steps, Task, Training, UniformCycles
from daynight.errors import DamagedFileError, DataError, SealError, SettingError, StateError
from daynight.support import archive
from daynight.testing import toy_network, toy_stream

BOTH = ("profile", "signature")
STREAM = toy_stream(4, n_train=80, n_test=30)
INPUTS = torch.cat([task.test.load()[0] for task in STREAM])


def made(keeps=BOTH, network=toy_network, **settings):
    settings = {"capacity": Capacity(keep_per_task=0.1, min_per_layer=1), "seed": 5} | settings
    return Agent(network, training=Training(batch_size=16), keeps=keeps, **settings)


def live(agent, task, **settings):
    agent.wake(task, Steps(12), **settings)
    agent.sleep(UniformCycles(2), Steps(12))


def lived(*args, n_days=3, **settings):
    agent = made(*args, **settings)
    for task in STREAM[:n_days]:
        live(agent, task)
    return agent


def kept_of(agent):
    """Return the tensors that an agent keeps of data, by name."""
    return {name: tensor for name, tensor in agent.state()[1].items() if name.startswith("keepsakes.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What is asked


def test_probabilities_are_of_the_living_tasks_and_of_none():
    agent = lived()
    found = agent.identify(INPUTS)
    assert (found.dtype, tuple(found.shape)) == (torch.float64, (120, 4))
    assert torch.allclose(found.sum(1), torch.ones(120, dtype=torch.float64), atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()
    task = torch.arange(4).repeat_interleave(30)
    assert (found[:90, :3].argmax(1) == task[:90]).double().mean() > 0.9
    assert found[90:, 3].mean() > 5 * found[:90, 3].mean()
    agent.retire(1)
    after = agent.identify(INPUTS)
    assert tuple(after.shape) == (120, 3)
    assert (after[60:90].argmax(1) == 1).double().mean() > 0.9  # task 2 is the second of the living ones
    assert torch.equal(agent.identify(INPUTS[:7]), after[:7])
    assert tuple(agent.identify(INPUTS[:0]).shape) == (0, 3)


def test_an_answer_has_the_outputs_of_all_tasks_and_the_chosen_one():
    agent = lived()
    agent.retire(0)
    wider = Task(train=STREAM[3].train, test=STREAM[3].test, n_outputs=5)
    live(agent, wider)
    answer, probabilities = agent.predict(INPUTS), agent.identify(INPUTS)
    assert (answer.tasks, answer.n_outputs) == ((1, 2, 3), (2, 2, 5))
    assert tuple(answer.outputs.shape) == (120, 9)
    for task in (1, 2, 3):
        assert torch.equal(answer.of_task(task), agent.predict(INPUTS, task))
    assert torch.equal(torch.cat([agent.predict(INPUTS, task) for task in (1, 2, 3)], 1), answer.outputs)
    assert answer.task.dtype == answer.label.dtype == torch.int64
    assert torch.equal(answer.task, probabilities[:, :3].argmax(1) + 1)
    assert torch.equal(answer.probability, probabilities[:, :3].max(1).values)
    assert torch.equal(answer.none, probabilities[:, 3])
    for row, (task, label) in enumerate(zip(answer.task.tolist(), answer.label.tolist(), strict=True)):
        assert int(answer.of_task(task)[row].argmax()) == label
    assert repr(answer) == "<Answer for 120 inputs, of tasks 1, 2, 3>"


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
def test_tasks_are_told_apart_where_owned_weights_move_too(consolidation):
    agent = made(consolidation=consolidation, capacity=Capacity(free_at_end=0.5, days=3))
    for task in STREAM[:2]:
        live(agent, task)
    agent.wake(STREAM[2], Steps(2))
    answer = agent.predict(INPUTS)
    assert answer.tasks == (0, 1)
    for task in (0, 1):
        assert torch.equal(answer.of_task(task), agent.predict(INPUTS, task))
    assert agent.drift(0, STREAM[2].train).found


@pytest.mark.parametrize("network", [toy_network, Dropping])
def test_named_predictions_and_all_numbers_are_the_same_with_and_without_keepsakes(network):
    with_, without = lived(network=network), lived((), network=network)
    for task in range(3):
        assert torch.equal(with_.predict(INPUTS, task), without.predict(INPUTS, task))
    kept = kept_of(with_)
    assert kept
    assert same({name: value for name, value in with_.state()[1].items() if name not in kept}, without.state()[1])
    sealed = with_.state()[0].seals, without.state()[0].seals
    for more, fewer in zip(*sealed, strict=True):
        assert {name: more[name] for name in fewer} == fewer
        assert all(name.startswith("keepsakes.") for name in more.keys() - fewer.keys())


def test_inputs_of_other_kinds_are_recognised():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.uint8, torch.float64):
        tasks = []
        for low in (0, 120):
            inputs = torch.randint(low, low + 100, (60, 6), generator=generator).to(dtype)
            tasks.append(Task(train=(inputs, torch.arange(60) % 2), test=(inputs[:9], torch.arange(9) % 2)))
        agent = made()
        for task in tasks:
            live(agent, task)
        for index, task in enumerate(tasks):
            assert agent.predict(task.test.inputs).task.tolist() == [index] * 9


def test_regression_is_recognised_and_has_no_score_without_the_task():
    tasks = [Task(train=(each.train.inputs, each.train.inputs.sum(1)), test=(each.test.inputs, each.test.inputs.sum(1)))
             for each in STREAM[:2]]  # fmt: skip
    agent = made()
    clock_ = Clock(agent, tasks, policy=OneShot(), wake=Steps(4), night=Steps(4))
    history = clock_.run()
    assert agent.predict(tasks[1].test.inputs).task.double().mean() > 0.9
    assert {record.score_without_task for record in history} == {None}


# Drift


def test_drift_is_found_on_shifted_inputs_and_not_on_equal_ones():
    agent = lived()
    assert agent.task_names[0] == "toy 0"
    for task in (0, "toy 0"):
        found = agent.drift(task, STREAM[0].train)
        assert (found.found, found.n, found.level) == (False, 80, 0.05)
        assert not agent.drift(task, STREAM[0].test.inputs).found
    shifted = STREAM[0].train.inputs.clone()
    shifted[:, 2] += 2
    found = agent.drift(0, shifted.numpy(), 0.01)
    assert (found.features, found.level) == ((2,), 0.01)
    few = agent.drift(0, shifted[:19])
    assert (few.found, few.note[:27]) == (False, "too few examples to tell: 1")
    with pytest.raises(DataError, match=r"^drift: each input has the shape \(5,\)"):
        agent.drift(0, shifted[:, :5])
    with pytest.raises(SettingError, match=r"^drift: level must be above 0 and below 1, not 2\."):
        agent.drift(0, shifted, 2)
    assert agent.predict(INPUTS, 0).shape == (120, 2)


# What is kept


class Drawn(torch.utils.data.Dataset):
    """Reads examples one at a time, and draws from all global generators as it does."""

    def __init__(self, split):
        self.inputs, self.labels, self.n_read = *split.load(), 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.n_read += 1
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return self.inputs[index], self.labels[index]


def test_lazy_data_are_read_in_chunks_and_give_the_same(monkeypatch):
    task = toy_stream(1, n_train=300)[0]
    dataset = Drawn(task.train)
    lazy = Task(train=dn.LazyDataset(dataset, targets=dataset.labels), test=task.test)
    monkeypatch.setattr("daynight.networks.identify.PORTION", 64)
    sizes, agents = [], [made(), made()]
    for agent, learnt in zip(agents, (task, lazy), strict=True):
        agent.wake(learnt, Steps(2))
        before, dataset.n_read = torch.get_rng_state(), 0
        agent.finish_night()
        sizes.append(dataset.n_read)
        assert torch.equal(torch.get_rng_state(), before)
    assert same(kept_of(agents[0]), kept_of(agents[1]))
    assert sizes[1] >= 3 * 300  # for the profile, and for means and levels of the signature


def test_data_that_cannot_be_read_at_dawn_leave_the_night_open():
    class Failing(Drawn):
        is_broken = False

        def __getitem__(self, index):
            if self.is_broken:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    dataset = Failing(STREAM[1].train)
    task = Task(train=dn.LazyDataset(dataset, targets=dataset.labels), test=STREAM[1].test)
    agent = lived(n_days=1)
    kept, outputs = kept_of(agent), agent.predict(INPUTS, 0)
    agent.wake(task, Steps(4))
    dataset.is_broken = True
    with pytest.raises(DataError, match="cannot be read: OSError"):
        agent.finish_night()
    assert (agent.day, agent.phase) == (1, "dusk")
    assert same(kept_of(agent), kept)
    dataset.is_broken = False
    agent.finish_night()
    assert (agent.day, agent.identify(INPUTS).shape[1]) == (2, 3)
    assert torch.equal(agent.predict(INPUTS, 0), outputs)


def test_the_validation_split_says_where_a_tasks_examples_lie():
    task = STREAM[0].hold_out(0.25)
    agent = made()
    live(agent, task)
    assert int(kept_of(agent)["keepsakes.0.signature.n_examples"]) == 20
    assert int(kept_of(agent)["keepsakes.0.profile.n"]) == 60


@pytest.mark.parametrize("keeps", [BOTH, ("profile",), ["signature"], {"signature", "profile"}])
def test_keepsakes_are_saved_loaded_forked_and_pickled(keeps, tmp_path):
    agent = lived(keeps)
    assert agent.keeps == tuple(kind for kind in BOTH if kind in keeps)
    agent.save(tmp_path / "agent.dn")
    twins = [Agent.load(tmp_path / "agent.dn"), agent.fork(), pickle.loads(pickle.dumps(agent))]
    for twin in twins:
        assert twin.keeps == agent.keeps
        assert same(kept_of(twin), kept_of(agent))
        twin.verify()
        if "signature" in keeps:
            assert torch.equal(twin.identify(INPUTS), agent.identify(INPUTS))
            assert torch.equal(twin.predict(INPUTS).outputs, agent.predict(INPUTS).outputs)
        if "profile" in keeps:
            assert np.array_equal(twin.drift(1, INPUTS).statistic, agent.drift(1, INPUTS).statistic)
    live(agent, STREAM[3])
    for twin in twins:
        assert len(twin.living) == 3
        live(twin, STREAM[3])
        assert same(kept_of(twin), kept_of(agent))
    agent.save(tmp_path / "again.dn")
    twins[0].save(tmp_path / "twin.dn")
    names = [set(archive.read(tmp_path / f"{name}.dn", "agent")[1]) for name in ("again", "twin")]
    assert names[0] == names[1]


def test_an_agent_that_keeps_nothing_says_nothing_of_it_in_its_file(tmp_path):
    lived((), n_days=1).save(tmp_path / "agent.dn")
    about, tensors = archive.read(tmp_path / "agent.dn", "agent")
    assert "keeps" not in about
    assert not [name for name in tensors if name.startswith("keepsakes")]


def test_what_a_retired_task_has_kept_is_in_no_file(tmp_path):
    agent = made()
    for index in range(3):
        live(agent, STREAM[index], sees="none")
    agent.retire(1)
    live(agent, Task(train=STREAM[3].train, test=STREAM[3].test), succeeds=0)
    assert agent.living == (2, 3)
    agent.verify()
    agent.save(tmp_path / "agent.dn")
    clock_ = Clock(agent, [STREAM[0]], policy=OneShot(), wake=Steps(2), night=Steps(2), first_day=4,
                   checkpoint=tmp_path / "run", every=0.0)  # fmt: skip
    clock_.resume()
    for path, kind in (("agent.dn", "agent"), ("run/clock.dn", "clock")):
        _, tensors = archive.read(tmp_path / path, kind)
        assert {name.split(".")[1] for name in tensors if name.startswith("keepsakes.")} == {"2", "3"}
    again = Agent.load(tmp_path / "agent.dn")
    assert again.living == (2, 3)
    assert torch.equal(again.identify(INPUTS), agent.identify(INPUTS))


def test_a_day_that_is_given_up_leaves_nothing():
    agent = lived(n_days=2)
    kept = kept_of(agent)
    agent.wake(STREAM[2], Steps(2))
    assert agent.identify(INPUTS).shape[1] == 3
    agent.abandon_day()
    assert same(kept_of(agent), kept)


def test_what_a_predecessor_has_kept_gives_way_if_the_gate_accepts(tmp_path):
    agent = made(gate=dn.Gate(tolerance=0.2, least=20), capacity=Capacity(keep_per_task=0.4))
    live(agent, STREAM[1])
    for day, n in ((1, 80), (2, 20), (3, 80)):  # the second version has too few held-out examples to be accepted
        train, kept = STREAM[0].train.subset(torch.arange(n)), kept_of(agent)
        agent.wake(Task(train=train, test=STREAM[0].test, name="job", succeeds="job").hold_out(0.5), Epochs(40))
        agent.sleep(OneShot(), Epochs(20))
        if n == 20:
            assert agent.refused is not None
            assert same(kept_of(agent), kept)
        else:
            assert agent.living == (0, day)
            assert {name.split(".")[1] for name in kept_of(agent)} == {"0", str(day)}
        assert agent.identify(INPUTS).shape[1] == 3
        agent.verify()
        agent.save(tmp_path / "agent.dn")
        assert same(kept_of(Agent.load(tmp_path / "agent.dn")), kept_of(agent))
        assert not agent.drift("job", STREAM[0].train).found


# Checkpoints


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("n", [5, 14, 20, 27])
def test_a_run_that_was_killed_keeps_the_same(n, tmp_path):
    whole = clock(keeps=BOTH)
    whole.run()
    again = resumed(killed(tmp_path, n, keeps=BOTH), keeps=BOTH)
    again.run()
    assert outcome(again) == outcome(whole)
    assert len(kept_of(again.agent)) == len(kept_of(whole.agent)) > 0


@pytest.mark.usefixtures("at_every_step")
def test_a_run_is_resumed_with_what_it_keeps(tmp_path):
    killed(tmp_path, 13, keeps=["profile"])
    with pytest.raises(SettingError, match=r"is of a run with another keeps \(\('profile',\) then, the default now\)"):
        resumed(tmp_path)
    with pytest.raises(SettingError, match=r"another keeps \(\('profile',\) then, \('profile', 'signature'\) now\)"):
        resumed(tmp_path, keeps=BOTH)
    assert resumed(tmp_path, keeps=("profile",)).agent.keeps == ("profile",)


@pytest.mark.usefixtures("at_every_step")
def test_a_checkpoint_with_a_damaged_keepsake_is_refused(tmp_path):
    with pytest.raises(Killed):
        clock(tmp_path, Killer(25), keeps=BOTH).run()
    about, tensors = archive.read(tmp_path / "clock.dn", "clock")
    del tensors["keepsakes.0.profile.at"]
    archive.write(tmp_path / "clock.dn", "clock", about, tensors)
    with pytest.raises(DamagedFileError, match=r"clock\.dn has no valid state of a run: keepsakes of task 0: profile "):
        resumed(tmp_path, keeps=BOTH)


# Damage, seals and sizes


def changed(path, change, about_change=lambda about: None):
    """Change an agent's file, whose digest is then right again."""
    about, tensors = archive.read(path, "agent")
    change(tensors)
    about_change(about)
    archive.write(path, "agent", about, tensors)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Return the file of an agent that has lived two days, as bytes."""
    path = tmp_path_factory.mktemp("keepsakes") / "whole.dn"
    torch.set_num_threads(1)
    lived(n_days=2).save(path)
    return path.read_bytes()


@pytest.fixture
def path(content, tmp_path):
    """Return the path of such a file, to be changed."""
    (tmp_path / "agent.dn").write_bytes(content)
    return tmp_path / "agent.dn"


SIGNATURE, PROFILE = "keepsakes.1.signature.", "keepsakes.1.profile."


def narrowed(tensors):
    tensors[SIGNATURE + "means"] = tensors[SIGNATURE + "means"][:, :5]
    tensors[SIGNATURE + "axes"] = tensors[SIGNATURE + "axes"][:, :5, :5]
    tensors[SIGNATURE + "variances"] = tensors[SIGNATURE + "variances"][:, :5]


def crowded(tensors):
    for name in ("weights", "means", "axes", "variances", "noise"):
        tensors[SIGNATURE + name] = tensors[SIGNATURE + name][[0, 0, 1]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.pop(SIGNATURE + "noise"), "keepsakes of task 1: a signature has the tensors"),
        (lambda t: t.pop(PROFILE + "n"), "keepsakes of task 1: profile has no value 'n'"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith(PROFILE)], "keepsakes of task 1: profile has"),
        (lambda t: t.update({SIGNATURE + "means": t[SIGNATURE + "means"] * torch.nan}), "keepsakes of task 1: means"),
        (lambda t: t.update({SIGNATURE + "noise": -t[SIGNATURE + "noise"]}), "keepsakes of task 1: noise of a sig"),
        (lambda t: t.update({PROFILE + "n": torch.tensor(81)}), "keepsakes of task 1: the counts of feature 0"),
        (lambda t: t.update({PROFILE + "n": torch.tensor(80.0)}), "keepsakes.1.profile.n must be of torch.int64"),
        (
            lambda t: t.update({PROFILE + "input_shape": torch.tensor([3, 2])}),
            r"the profile of task 1 is of inputs \(3",
        ),
        (lambda t: t.update({PROFILE + "shape": torch.tensor(6)}), "keepsakes of task 1: profile.shape must be a list"),
        (
            lambda t: t.update({"keepsakes.2.profile.n": torch.tensor(80)}),
            r"there are tensors keepsakes.2.profile\.\.\.",
        ),
        (lambda t: t.update({"keepsakes.all": torch.tensor(80)}), r"there are tensors keepsakes\.\.\. that no living"),
        (narrowed, "the signature of task 1 has 5 features, and its inputs 6"),
        (crowded, "the signature of task 1 has 3 classes, and the task 2"),
    ],
)
def test_a_file_with_a_damaged_keepsake_is_refused(change, what, path):
    changed(path, change)
    with pytest.raises(DamagedFileError, match=rf"agent\.dn has no valid description of an agent: {what}"):
        Agent.load(path)


@pytest.mark.parametrize("keeps", ["profile", ["profile", "names"], [1]])
def test_a_file_that_keeps_unknown_things_is_refused(keeps, path):
    changed(path, lambda tensors: None, lambda about: about.update(keeps=keeps))
    with pytest.raises(DamagedFileError, match=r"agent\.dn has no valid description of an agent: keeps"):
        Agent.load(path)


@pytest.mark.parametrize("name", ["keepsakes.1.profile.values", "keepsakes.0.signature.losses"])
def test_a_keepsake_that_was_changed_in_its_file_is_named(name, path):
    changed(path, lambda tensors: tensors[name].view(torch.uint8)[-4:-3].bitwise_xor_(1))
    with pytest.raises(SealError, match=rf"^task {name[10]} no longer .* changed since: {name}\. Something other"):
        Agent.load(path)


def test_a_keepsake_that_was_changed_in_memory_is_named(tmp_path):
    agent = lived(n_days=2)
    agent.verify()
    twin = agent.fork()
    kept_of(agent)["keepsakes.0.signature.means"][0, 0] += 1
    with pytest.raises(SealError, match=r"changed since: keepsakes\.0\.signature\.means\. Something other than"):
        agent.verify()
    with pytest.raises(SealError):
        agent.save(tmp_path / "agent.dn")
    twin.verify()


def test_keepsakes_count_in_the_sizes_of_an_agent():
    agent, plain = lived(), lived(())
    part = "what finished tasks keep of their data"
    sizes = {size.part: size for size in agent.sizes()}
    assert [size for size in agent.sizes() if size.part != part] == list(plain.sizes())
    kept = kept_of(agent).values()
    assert sizes[part].n_numbers == sum(tensor.numel() for tensor in kept)
    assert sizes[part].n_bytes == sum(tensor.numel() * tensor.element_size() for tensor in kept)
    agent.retire(0)
    assert {size.part: size for size in agent.sizes()}[part].n_bytes < sizes[part].n_bytes
    assert part not in [size.part for size in made().sizes()]


# The history


def test_the_history_has_the_score_without_the_task(tmp_path):
    agent = made(capacity=Capacity(keep_per_task=0.3))
    clock_ = Clock(agent, STREAM[:3], policy=OneShot(), wake=Epochs(40), night=Epochs(20))
    history = clock_.run()
    assert agent.score_without_task(STREAM[0], 0, "train") > 0.8
    for record in history.select(kind="evaluation"):
        if record.phase == "dusk" and record.task == record.day:
            assert record.score_without_task is None
        else:
            assert 0 < record.score_without_task <= record.score
    last = {record.task: record for record in history.select(kind="evaluation", day=2, phase="dawn")}
    for index in range(3):
        inputs, labels = STREAM[index].test.load()
        answer = agent.predict(inputs)
        right = (answer.task == index) & (answer.label == labels)
        assert last[index].score_without_task == right.double().mean()
    for name in ("csv", "json"):
        getattr(history, f"to_{name}")(tmp_path / f"history.{name}")
        assert getattr(dn.History, f"from_{name}")(tmp_path / f"history.{name}") == history
    assert {record.score_without_task for record in Clock(made(()), STREAM[:1], policy=OneShot(), wake=Epochs(1),
            night=Epochs(1)).run()} == {None}  # fmt: skip


def test_there_is_no_score_without_the_task_if_it_cannot_be_known():
    agent = lived(n_days=1)
    assert agent.score_without_task(STREAM[1], 1) is None
    assert lived((), n_days=1).score_without_task(STREAM[0], 0) is None
    with pytest.raises(DataError, match=r"has no 'validation' split, only train, test\. See hold_out\."):
        agent.score_without_task(STREAM[0], 0, "validation")


# Errors


@pytest.mark.parametrize("keeps", ["profile", 3, None, iter(["profile"])])
def test_keeps_must_be_a_collection(keeps):
    with pytest.raises(SettingError, match=r"^keeps must be a collection, such as \('profile', 'signature'\), not "):
        made(keeps)


def test_keeps_must_be_known():
    with pytest.raises(SettingError) as error:
        made(["profile", "examples"])
    assert str(error.value) == "keeps: each value must be one of 'profile', 'signature', not 'examples'."


def test_what_is_not_kept_cannot_be_asked_for():
    for agent in (lived(()), made(())):
        for call, ask in (
            ("identify", lambda agent=agent: agent.identify(INPUTS)),
            ("predict without a task", lambda agent=agent: agent.predict(INPUTS)),
        ):
            with pytest.raises(StateError) as error:
                ask()
            assert str(error.value) == (
                f"{call}: the tasks of this agent keep no signature, by which their inputs are recognised. Give "
                'keeps=("signature",) when the agent is made.'
            )
    with pytest.raises(StateError) as error:
        lived(("signature",)).drift(0, INPUTS)
    assert str(error.value) == (
        "drift: the tasks of this agent keep no profile, with which new inputs are compared. Give "
        'keeps=("profile",) when the agent is made.'
    )


def test_what_is_not_finished_cannot_be_asked_for():
    agent = made()
    for _ in range(2):
        for call, ask in (("identify", agent.identify), ("predict without a task", agent.predict)):
            with pytest.raises(StateError) as error:
                ask(INPUTS)
            assert str(error.value) == (
                f"{call}: no task is finished. Call finish_night before, or name the day's task."
            )
        if agent.phase == "between days":
            agent.wake(STREAM[0], Steps(1))
    with pytest.raises(StateError, match=r"^drift: task 0 is not finished\. Call finish_night before\."):
        agent.drift(0, INPUTS)
    agent.finish_night()
    live(agent, STREAM[1])
    agent.retire(0)
    with pytest.raises(StateError, match=r"^task 0 has retired\. The living tasks are \[1\]\."):
        agent.drift(0, INPUTS)
    with pytest.raises(DataError, match=r"^inputs must have the shape \(n, 6\), not \(2, 3\)\."):
        agent.identify(torch.zeros(2, 3))
    with pytest.raises(DataError, match="not finite"):
        agent.predict(INPUTS * torch.nan)
