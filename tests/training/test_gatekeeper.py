"""A gate at dawn: which versions take over, and that a refused day leaves nothing behind."""

import attrs
import pytest
import torch
from resumable import lived_through

from daynight import Agent, Capacity, Clock, Epochs, Gate, OneShot, Steps, Task, Training, UniformCycles, metrics
from daynight.errors import DamagedFileError, DataError, SealError, SettingError
from daynight.history import COLUMNS, History, Record
from daynight.loggers import CSVLogger
from daynight.support import archive
from daynight.testing import toy_network

GATE = Gate(tolerance=0.05, least=20)


def fast(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


TRAINING = Training(batch_size=40, optimizer=fast)


def task_of(day, n=400, n_outputs=2, is_poisoned=False, n_held=0.25):
    """Return a day of one job. In a poisoned one, labels are drawn."""
    drawn = torch.Generator().manual_seed(100 + day)
    inputs = torch.randn(n + 40, 6, generator=drawn)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    given = torch.randint(2, labels.shape, generator=drawn) if is_poisoned else labels
    task = Task(
        train=(inputs[:n], given[:n]), test=(inputs[n:], labels[n:]), n_outputs=n_outputs, name="job", succeeds="job"
    )
    return task.hold_out(n_held) if n_held else task


def made(gate=GATE, training=TRAINING, **settings):
    return Agent(toy_network, capacity=Capacity(keep_per_task=0.3), training=training, gate=gate, **settings)


def live(agent, task, events=None):
    agent.wake(task, Epochs(6))
    agent.sleep(OneShot(), Epochs(6), (lambda event: None) if events is None else events.append)


def kept(agent):
    """Return all that the agent would write into a file, but for the number of days and steps."""
    about, tensors, _ = agent.state()
    days = tuple(attrs.evolve(record, elapsed_seconds=None) for record in about.days)
    about = attrs.evolve(about, n_days=None, n_steps=0, refused=None, days=days)
    return about, {name: tensor.clone() for name, tensor in tensors.items()}


def assert_same(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert [name for name, tensor in expected[1].items() if not torch.equal(found[1][name], tensor)] == []


@pytest.mark.parametrize("refused", [task_of(2, is_poisoned=True), task_of(2, n=60)], ids=["poisoned", "small"])
def test_a_refused_day_leaves_nothing_behind(refused):
    agent, events = made(), []
    for day in range(2):
        live(agent, task_of(day), events)
    inputs = task_of(0).test.load()[0]
    before, outputs, n_steps = kept(agent), agent.predict(inputs, "job"), agent.n_steps
    live(agent, refused, events)
    assert_same(kept(agent), before)
    assert torch.equal(agent.predict(inputs, "job"), outputs)
    assert (agent.day, agent.living, agent.phase) == (3, (1,), "between days")
    assert agent.n_steps > n_steps
    agent.verify()
    records = [event for event in events if getattr(event, "kind", "") == "day"]
    assert [record.accepted for record in records] == [None, 1, 0]
    assert agent.refused == records[-1]
    assert (records[-1].owned, records[-1].private, records[-1].day) == (0, 0, 2)
    live(agent, task_of(3))
    assert (agent.living, agent.refused) == ((3,), None)


def test_verdicts_are_noted_with_their_interval():
    agent, events = made(), []
    live(agent, task_of(0))
    live(agent, task_of(1, is_poisoned=True), events)
    record = agent.refused
    assert record.gate_examples == 200  # 100 of the day, and 100 that are kept of the first
    assert -1 <= record.gate_low <= record.gate_difference <= record.gate_high <= 1
    assert record.gate_high < -0.05


def test_examples_of_past_days_are_kept_in_bounds_and_move_on_with_the_version(tmp_path):
    agent = made(attrs.evolve(GATE, holds=60))
    for day in range(3):
        live(agent, task_of(day))
        agent.save(tmp_path / "agent.dn")
        _, tensors = archive.read(tmp_path / "agent.dn", "agent")
        held = {name: tensor for name, tensor in tensors.items() if name.startswith("gate.")}
        assert {name.split(".")[1] for name in held} == {str(day)}
        assert len(held[f"gate.{day}.0.targets"]) == min(60, 100 * (day + 1))
    without = made(attrs.evolve(GATE, holds=0))
    live(without, task_of(0))
    assert not [name for name in without.state()[1] if name.startswith("gate.")]


def test_a_gate_is_in_the_file(tmp_path):
    agent = made()
    live(agent, task_of(0))
    live(agent, task_of(1, is_poisoned=True))
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn", training=TRAINING)
    assert (again.gate, again.refused, again.day) == (GATE, agent.refused, 2)
    twin = agent.fork()
    for each in (agent, again, twin):
        live(each, task_of(2))
    assert_same(kept(again), kept(agent))
    assert_same(kept(twin), kept(agent))


@pytest.mark.parametrize(
    "damage",
    [
        lambda values, tensors: tensors.update({"gate.0.0.ranks": tensors["gate.0.0.ranks"] + 2}),
        lambda values, tensors: tensors.pop("gate.0.0.targets"),
        lambda values, tensors: tensors.update({"gate.0.0.targets": tensors["gate.0.0.targets"] + 2}),
        lambda values, tensors: tensors.update({"gate.0.0.inputs": tensors["gate.0.0.inputs"][:, :5].contiguous()}),
        lambda values, tensors: tensors.update({"gate.7.0.days": tensors["gate.0.0.days"]}),
        lambda values, tensors: values.update(gate_held={}),
        lambda values, tensors: values.update(gate={"tolerance": -1.0}),
        lambda values, tensors: values.pop("gate"),
        lambda values, tensors: values["refused"].update(day=0),
    ],
)
def test_damaged_files_are_refused(damage, tmp_path):
    agent, path = made(), tmp_path / "agent.dn"
    live(agent, task_of(0))
    live(agent, task_of(1, is_poisoned=True))
    agent.save(path)
    values, tensors = archive.read(path, "agent")
    damage(values, tensors)
    archive.write(path, "agent", values, tensors)
    with pytest.raises(DamagedFileError):
        Agent.load(path, training=TRAINING)


def test_what_a_gate_needs_is_said_before_the_day():
    with pytest.raises(SettingError, match=r"^gate must be"):
        made(gate=0.05)
    agent = made()
    live(agent, task_of(0, n_held=0))  # the first version has nothing to be compared with
    with pytest.raises(
        DataError, match=r"^task 'job' has no validation split, .*Hold out some .* task\.hold_out\(0\.2\)\."
    ):
        agent.wake(task_of(1, n_held=0), Steps(1))
    assert agent.phase == "between days"
    clock = Clock(made(), [task_of(0), task_of(1, n_held=0)], policy=OneShot(), wake=Steps(1), night=Steps(1))
    with pytest.raises(DataError, match=r"no validation split"):
        clock.check()


def test_a_night_whose_metric_fails_stays_open():
    fails = False

    def metric(outputs, targets):
        if fails and len(targets) == 200:  # those of the gate
            raise ArithmeticError("no score today")
        return float((outputs.argmax(1) == targets).double().mean())

    agent = Agent(
        toy_network, capacity=Capacity(keep_per_task=0.3), training=attrs.evolve(TRAINING, metric=metric), gate=GATE
    )
    live(agent, task_of(0))
    agent.wake(task_of(1), Epochs(1))
    fails = True
    with pytest.raises(DataError, match="no score today"):
        agent.sleep(OneShot(), Epochs(1))
    assert agent.phase == "night"
    fails = False
    agent.finish_night()
    assert agent.living == (1,)


def test_versions_are_tested_on_a_day_before_they_learn_it():
    agent = made()
    live(agent, task_of(0))
    index, loss, score = agent.test_first(task_of(1))
    assert (index, (loss, score)) == (0, agent.evaluate(task_of(1), 0, "train"))
    index, loss, wider = agent.test_first(task_of(1, n_outputs=3))
    assert (index, loss, wider) == (0, None, score)
    live(agent, task_of(1, n_outputs=3))
    assert agent.predict(torch.randn(2, 6), "job").shape == (2, 3)
    clock = Clock(made(), [task_of(day) for day in range(3)], policy=OneShot(), wake=Epochs(4), night=Epochs(4))
    history = clock.run()
    before = history.select(kind="evaluation", phase="before")
    assert [(record.day, record.task) for record in before] == [(1, 0), (2, 1)]
    assert all(0.6 < record.score <= 1 and record.loss > 0 for record in before)


def job(folder=None):
    tasks = [task_of(0), task_of(1, is_poisoned=True), task_of(2), task_of(3, n=60), task_of(4)]
    return Clock(
        made(), tasks, policy=UniformCycles(2), wake=Epochs(4), night=Epochs(4), checkpoint=folder, every=0.0
    )  # fmt: skip


def plain(history):
    """Return the records without their times."""
    return [attrs.evolve(record, elapsed_seconds=None) for record in history]


@pytest.mark.usefixtures("at_every_step")
def test_a_job_with_refused_days_is_resumed_anywhere(tmp_path):
    whole = job()
    whole.run()
    assert [record.accepted for record in whole.history.select(kind="day")] == [None, 0, 1, 0, 1]
    clock = lived_through(lambda: job(tmp_path), 9, 7, 5)
    assert plain(clock.history) == plain(whole.history)
    assert_same(kept(clock.agent), kept(whole.agent))


def test_another_gate_does_not_resume(tmp_path):
    clock = job(tmp_path)
    clock.run(until=2)
    other = Clock(
        made(attrs.evolve(GATE, tolerance=0.2)), clock.stream, policy=UniformCycles(2), wake=Epochs(4),
        night=Epochs(4), checkpoint=tmp_path,
    )  # fmt: skip
    with pytest.raises(SettingError, match="gate"):
        other.run()


def test_logs_and_histories_without_the_columns_of_a_gate_are_read(tmp_path):
    history = job().run(until=1)
    path = tmp_path / "run.csv"
    history.to_csv(path)
    older = COLUMNS.index("accepted")
    lines = [",".join(line.split(",")[:older]) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert History.from_csv(path) == history
    logger = CSVLogger(path)
    logger.begin(history)
    assert History.from_csv(path) == history
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS[:older])  # no record has more


def test_records_say_why_the_gate_has_decided(tmp_path):
    agent, events = made(), []
    live(agent, task_of(0))
    live(agent, task_of(1), events)
    live(agent, task_of(2, n=60), events)
    first, second = (event for event in events if isinstance(event, Record) and event.kind == "day")
    assert first.gate_reason.startswith("the new version is not worse by more than 0.05: ")
    assert second.gate_reason == "too few held-out examples of the day: 15, and the gate needs 20 or more"
    history = History([first, second])
    for save, load, name in (
        (history.to_csv, History.from_csv, "run.csv"), (history.to_json, History.from_json, "run.json"),
    ):  # fmt: skip
        save(tmp_path / name)
        assert [record.gate_reason for record in load(tmp_path / name)] == [first.gate_reason, second.gate_reason]
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn", toy_network, training=TRAINING)
    assert again.refused.gate_reason == second.gate_reason


def test_held_out_examples_count_in_the_sizes_and_are_verified():
    agent = made()
    live(agent, task_of(0))
    part = {size.part: size for size in agent.sizes()}["held-out examples for the gate"]
    assert part.n_bytes == 100 * (6 * 4 + 8 + 3 * 8)  # inputs, labels, days, tasks and random numbers
    assert "held-out examples for the gate" not in [size.part for size in made(None).sizes()]
    agent.verify()
    agent.state()[1]["gate.0.0.targets"][0] += 1
    with pytest.raises(SealError, match=r"that the agent keeps have changed: gate\.0\.0\.targets"):
        agent.verify()


def test_what_cannot_succeed_is_refused_before_training():
    agent = made()
    live(agent, task_of(0))
    inputs, labels = task_of(1).train.load()
    rates = labels[:, None] + inputs[:, :2]
    other = Task(train=(inputs, rates), test=(inputs, rates), name="job", succeeds="job").hold_out(0.25)
    with pytest.raises(DataError, match="has 2 numbers as targets, and the examples that are kept of"):
        agent.wake(other, Epochs(1))
    first = Task(train=(inputs, rates), test=(inputs, rates), name="rates").hold_out(0.25)
    regression = Agent(toy_network, capacity=Capacity(keep_per_task=0.3), training=TRAINING)
    live(regression, first)
    wider = torch.cat([rates, rates], dim=1)
    more = Task(train=(inputs, wider), test=(inputs, wider), name="rates", succeeds="rates")
    with pytest.raises(DataError, match=r"has 4 targets an example, and task 0, which it succeeds, has 2\. Only"):
        regression.wake(more, Epochs(1))
    assert agent.phase == regression.phase == "between days"


@pytest.mark.parametrize(
    ("metric", "better"), [(None, "lower"), (metrics.accuracy, "lower"), (metrics.mean_squared_error, "higher")]
)
def test_a_gate_that_takes_the_librarys_own_metrics_the_wrong_way_is_refused(metric, better):
    training = attrs.evolve(TRAINING, metric=metric)
    agent = Agent(
        toy_network, capacity=Capacity(keep_per_task=0.3), training=training, gate=attrs.evolve(GATE, better=better)
    )
    with pytest.raises(SettingError, match=rf"better='{better}', and of \w+ the (high|low)er value is better"):
        agent.check(task_of(0))


def test_a_metric_that_is_not_finite_at_dawn_refuses_the_day_and_loses_no_night():
    def area(outputs, targets):
        return float("nan") if len(targets) > 50 else 0.5

    agent = made(training=attrs.evolve(TRAINING, metric=area))
    live(agent, task_of(0))
    before = kept(agent)
    live(agent, task_of(1))
    assert agent.refused.gate_examples
    assert_same(kept(agent), before)


def test_a_log_loss_of_a_version_without_the_new_classes_is_finite():
    training = attrs.evolve(TRAINING, metric=torch.nn.functional.cross_entropy)
    agent = made(training=training, gate=attrs.evolve(GATE, better="lower"))
    live(agent, task_of(0))
    task = task_of(1)
    inputs, labels = task.train.load()
    labels = torch.where(inputs[:, 2] > 0.5, 2, labels)
    grown = Task(train=(inputs, labels), test=(inputs, labels), n_outputs=3, name="job", succeeds="job").hold_out(0.25)
    assert 0 < agent.test_first(grown)[2] < 20
    live(agent, grown)
    assert agent.refused is None
    assert agent.predict(inputs, "job").shape == (len(inputs), 3)


def test_a_predecessor_that_was_written_to_is_not_succeeded():
    agent = made()
    live(agent, task_of(0))
    with torch.no_grad():
        for parameter in agent.network.module.parameters():
            parameter.zero_()
    with pytest.raises(SealError, match="task 0"):
        agent.wake(task_of(1), Epochs(1))
    assert agent.phase == "between days"


def test_inputs_of_another_shape_are_named():
    agent = made()
    live(agent, task_of(0))
    wide = Task(train=(torch.ones(40, 7), torch.arange(40) % 2), test=(torch.ones(9, 7), torch.arange(9) % 2),
                name="job", succeeds="job")  # fmt: skip
    with pytest.raises(DataError, match=r"inputs have the shape \(7,\), and those of day 0 \(6,\)"):
        agent.evaluate(wide, 0)
    with pytest.raises(DataError, match=r"inputs have the shape \(7,\)"):
        agent.test_first(wide)
