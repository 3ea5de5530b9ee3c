"""Lives that go on: tasks that retire, that succeed others, and that see some of the earlier tasks alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resumable import lived_through
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, Gate, OneShot, Replay, Steps, Task, Training, UniformCycles
from daynight.errors import CapacityError, DataError, SettingError, StateError
from daynight.networks.masked import FREE
from daynight.support import archive
from daynight.testing import toy_network, toy_stream

STREAM = toy_stream(6)
INPUTS = STREAM[0].test.load()[0]


def task_of(index, n_outputs=2, n_held=0, **settings):
    source = STREAM[index % 6]
    validation = source.test.subset(torch.arange(n_held)) if n_held else None
    return Task(train=source.train, test=source.test, validation=validation, n_outputs=n_outputs, **settings)


class Normed(nn.Module):
    """Has norms, whose statistics are private to each task."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def made(network=toy_network, capacity=None, **settings):
    capacity = Capacity(keep_per_task=0.1, min_per_layer=1) if capacity is None else capacity
    return Agent(network, capacity=capacity, training=Training(batch_size=10), **settings)


def live(agent, task, steps=4, **settings):
    agent.wake(task, Steps(steps), **settings)
    agent.sleep(UniformCycles(2), Steps(steps))
    return agent.day - 1


def owners_of(agent):
    return torch.cat([owners.flatten() for owners in agent.network.owners.values()])


def test_a_task_that_retires_leaves_its_weights_and_nothing_else(tmp_path):
    agent = made()
    for index in range(3):
        live(agent, task_of(index), sees="none")
    before = {task: agent.predict(INPUTS, task) for task in (0, 2)}
    n_free, n_own = agent.n_free, agent.owned[1]
    agent.retire(1)
    assert agent.n_free == n_free + n_own
    assert agent.living == (0, 2)
    assert [record.day for record in agent.days] == [0, 2]
    for task, outputs in before.items():
        assert torch.equal(agent.predict(INPUTS, task), outputs)
    with pytest.raises(StateError, match=r"^task 1 has retired\. The living tasks are \[0, 2\]\."):
        agent.predict(INPUTS, 1)
    agent.save(tmp_path / "agent.dn")
    _, tensors = archive.read(tmp_path / "agent.dn", "agent")
    assert not [name for name in tensors if name.startswith(("heads.1.", "private.1."))]
    again = Agent.load(tmp_path / "agent.dn")
    assert (again.living, again.n_free, again.day, again.n_steps) == (agent.living, agent.n_free, 3, agent.n_steps)
    assert live(again, task_of(3)) == 3
    for task, outputs in before.items():
        assert torch.equal(again.predict(INPUTS, task), outputs)


def test_weights_that_a_living_task_sees_stay():
    agent = made()
    for index in range(3):
        live(agent, task_of(index))
    before, owned = agent.predict(INPUTS, 2), agent.owned
    n_free = agent.n_free
    agent.retire(0)
    agent.retire(1)
    assert (agent.n_free, agent.owned) == (n_free, owned)
    assert torch.equal(agent.predict(INPUTS, 2), before)
    agent.verify()


def test_the_last_living_task_and_a_begun_day_are_not_retired():
    agent = made()
    live(agent, task_of(0))
    with pytest.raises(StateError, match=r"^retire: task 0 is the only living task"):
        agent.retire(0)
    live(agent, task_of(1))
    agent.wake(task_of(2), Steps(1))
    with pytest.raises(StateError, match=r"^retire: day 2 has begun"):
        agent.retire(0)
    agent.abandon_day()
    agent.retire("1") if agent.task_names[1] == "1" else agent.retire(1)
    with pytest.raises(StateError, match=r"^retire: task 7 has not been learnt"):
        agent.retire(7)


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
def test_where_all_weights_are_shared_no_task_retires_or_chooses(consolidation):
    agent = made(consolidation=consolidation)
    live(agent, task_of(0))
    with pytest.raises(
        SettingError, match=rf"^retire: with consolidation='{consolidation}' all tasks share all weights"
    ):
        agent.retire(0)
    for settings_ in ({"sees": "none"}, {"succeeds": 0}):
        with pytest.raises(SettingError, match="only with consolidation='freeze'"):
            agent.wake(task_of(1), Steps(1), **settings_)


@pytest.mark.parametrize("network", [toy_network, Normed])
def test_a_successor_begins_with_what_its_predecessor_has_learnt(network):
    agent = made(network)
    live(agent, task_of(0, name="demand"), 20)
    before = agent.predict(INPUTS, "demand")
    agent.wake(task_of(0, name="demand", succeeds="demand"), Steps(1))
    assert torch.equal(agent.predict(INPUTS, "demand"), before)  # the living version answers
    agent.abandon_day()
    agent.wake(task_of(0, name="demand", succeeds="demand"), Steps(0))
    assert torch.allclose(agent.predict(INPUTS, 1), before, atol=1e-6)
    agent.sleep(OneShot(), Steps(0))
    assert agent.living == (1,)
    if network is Normed:
        return  # its statistics are taken anew after the prune
    # The same share is kept, of weights among which only the predecessor's are not zero.
    assert torch.allclose(agent.predict(INPUTS, "demand"), before, atol=1e-6)


def test_a_job_of_one_task_never_ends():
    agent = made()
    owned = set()
    for day in range(12):
        live(agent, task_of(0, name="demand", succeeds="demand"))
        owned.add(agent.n_weights - agent.n_free)
        assert agent.living == (day,)
    assert owned == {sum(agent.capacity.owned_after(tuple(agent.network.sizes.values()), 1))}
    for index in range(3):
        live(agent, task_of(index + 1))
    assert agent.n_weights - agent.n_free == 4 * owned.pop()


def test_what_others_see_is_not_taken_over():
    agent = made()
    live(agent, task_of(0, name="a"))
    live(agent, task_of(1, name="b"))  # sees a
    before = agent.predict(INPUTS, "b")
    live(agent, task_of(0, name="a", succeeds="a"), 10)
    assert agent.living == (1, 2)
    assert agent.owned[0] > 0
    assert torch.equal(agent.predict(INPUTS, "b"), before)
    live(agent, task_of(1, name="b", succeeds="b"), 10)
    assert agent.living == (2, 3)
    agent.verify()


def test_new_classes_are_added_to_the_head():
    agent = made()
    live(agent, task_of(0, name="demand"), 10)
    head = agent.network.heads.kept[0]
    agent.wake(task_of(0, 4, name="demand", succeeds="demand"), Steps(0))
    assert torch.equal(agent.network.heads.live.weight[:2], head.weight)
    assert agent.predict(INPUTS, 1).shape == (len(INPUTS), 4)
    agent.finish_night()
    with pytest.raises(DataError, match=r"has 2 outputs, and task 1, which it succeeds, has 4\. A successor keeps all"):
        agent.wake(task_of(0, name="demand", succeeds="demand"), Steps(1))


def test_an_abandoned_successor_leaves_nothing_behind():
    for network in (toy_network, Normed):
        agent = made(network)
        live(agent, task_of(0, name="a"), 10)
        live(agent, task_of(1, name="b"), sees="none")
        before = {name: tensor.clone() for name, tensor in agent.network.state().items()}
        agent.wake(task_of(2, name="a", succeeds="a"), Steps(5))
        agent.abandon_day()
        after = agent.network.state()
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(after[name], tensor), name
        agent.verify()
        live(agent, task_of(2, name="a", succeeds="a"))


@pytest.mark.parametrize("sees", ["none", ["a"], ["b"], [0, 1], "all"])
def test_a_task_computes_with_what_it_sees_alone(sees):
    agent = made(capacity=Capacity(keep_per_night=0.2))
    live(agent, task_of(0, name="a"), 10)
    live(agent, task_of(1, name="b"), 10, sees="none")
    agent.wake(task_of(2, name="c"), Steps(10), sees=sees)
    others = {"none": {0, 1}, "all": set()}.get(sees if isinstance(sees, str) else "", {0, 1} - {
        {"a": 0, "b": 1}.get(task, task) for task in sees})  # fmt: skip
    during = agent.predict(INPUTS, 2)
    agent.sleep(OneShot(), Steps(6))
    assert not torch.equal(during, agent.predict(INPUTS, 2))
    before = agent.predict(INPUTS, 2)
    for name, weight in agent.network.weights.items():
        for other in others:
            weight.data[agent.network.owners[name] == other] = 7.0
    assert torch.equal(agent.predict(INPUTS, 2), before)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sees": "some"}, SettingError, "sees must be one of 'all', 'none'"),
        ({"sees": [5]}, StateError, "sees: task 5 has not been learnt"),
        ({"sees": ["c"]}, StateError, r"sees: task 'c' has not been learnt: task 0 has so far\. The names are 'a'\."),
        ({"sees": "none", "succeeds": "a"}, SettingError, "leave sees= out"),
        ({"succeeds": "c"}, StateError, "succeeds: task 'c' has not been learnt"),
        ({"succeeds": 1.5}, SettingError, "succeeds, the name or index of a task must be a whole number"),
    ],
)
def test_wrong_wishes_are_refused_before_the_day(settings, error, message):
    agent = made()
    live(agent, task_of(0, name="a"))
    with pytest.raises(error, match=message):
        agent.wake(task_of(1, name="d"), Steps(1), **settings)
    assert agent.phase == "between days"


def test_names_ask_the_latest_version_of_a_line():
    agent = made()
    live(agent, task_of(0, name="demand"))
    live(agent, task_of(1, name="price"))
    live(agent, task_of(2, name="demand 2", succeeds="demand"))
    for name in ("demand", "demand 2"):
        assert torch.equal(agent.predict(INPUTS, name), agent.predict(INPUTS, 2))
    live(agent, task_of(3, name="price"))
    with pytest.raises(StateError, match=r"^tasks 1, 3 are named 'price'\. Give the index\."):
        agent.predict(INPUTS, "price")


def test_a_day_for_which_too_little_is_free_is_refused():
    agent = made(capacity=Capacity(keep_per_task=0.4))
    for index in range(2):
        live(agent, task_of(index))
    with pytest.raises(CapacityError, match=r"day 2: a task's share is \d+ weights, and of some layers less is free"):
        agent.wake(task_of(2), Steps(1))
    live(agent, task_of(2, name="c"), succeeds=1)
    assert agent.living == (0, 2)


class Model:
    """What a life must look like from outside."""

    def __init__(self, agent):
        self.agent, self.outputs = agent, {}

    def check(self):
        agent = self.agent
        assert set(agent.living) == set(self.outputs)
        for task, outputs in self.outputs.items():
            assert torch.equal(agent.predict(INPUTS, task), outputs)
        for name, weight in agent.network.weights.items() if agent.day else ():
            assert not weight[agent.network.owners[name] == FREE].any()
        sight, owners = agent.network.sight.needed, owners_of(agent)
        assert all(owner in sight for owner in owners[owners != FREE].tolist())
        assert agent.n_free == int((owners == FREE).sum())
        share = sum(agent.capacity.owned_after(tuple(agent.network.sizes.values()), 1))
        assert all(record.owned == share == agent.owned[record.day] for record in agent.days)
        agent.verify()


KINDS = "new", "none", "see", "succeed", "refuse", "abandon", "retire", "file"
ACTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), min_size=3, max_size=9)


@settings(max_examples=25)
@given(acts=ACTS, network=st.sampled_from([toy_network, Normed]), restart=st.sampled_from(["zero", "redraw", "keep"]))
def test_random_lives_keep_the_promises(acts, network, restart, tmp_path_factory):
    path = tmp_path_factory.mktemp("life") / "agent.dn"
    gate = Gate(tolerance=9.0, least=8)  # refuses days with fewer held-out examples, and no others
    model = Model(made(network, Capacity(keep_per_task=0.15, min_per_layer=1), restart=restart, gate=gate))
    for act, number in acts:
        agent, living = model.agent, model.agent.living
        chosen = living[number % len(living)] if living else None
        if act == "file":
            agent.save(path)
            model.agent = Agent.load(path, None if network is toy_network else network())
        elif act == "retire":
            if len(living) > 1:
                agent.retire(chosen)
                del model.outputs[chosen]
        else:
            wishes = {"none": {"sees": "none"}}.get(act, {})
            if chosen is not None:
                wishes |= {"see": {"sees": [chosen]}}.get(act, {})
                wishes |= {"succeeds": chosen} if act in ("succeed", "refuse") else {}
            before = {name: tensor.clone() for name, tensor in agent.network.state().items()}
            try:
                agent.wake(task_of(number, n_held=4 if act == "refuse" else 9), Steps(2), **wishes)
            except CapacityError:
                model.check()
                continue
            for task, outputs in model.outputs.items():
                assert torch.equal(agent.predict(INPUTS, task), outputs)
            if act == "abandon":
                agent.abandon_day()
            else:
                agent.sleep(OneShot(), Steps(2))
                if act == "refuse" and wishes:
                    assert agent.refused.day == agent.day - 1
                    found = agent.network.state()
                    assert found.keys() == before.keys()
                    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
                    model.check()
                    continue
                model.outputs.pop(wishes.get("succeeds"), None)
                model.outputs[agent.day - 1] = agent.predict(INPUTS, agent.day - 1)
        model.check()


def job(tmp_path=None, **settings):
    tasks = [task_of(0, name="a", succeeds="a"), task_of(1, name="b"), task_of(2, name="a", succeeds="a"),
             task_of(3, name="b", succeeds="b"), task_of(4, name="a", succeeds="a")]  # fmt: skip
    return Clock(made(**settings), tasks, policy=UniformCycles(2), wake=Epochs(1), night=Epochs(1), checkpoint=tmp_path,
                 every=0.0)  # fmt: skip


def test_a_clock_runs_versions_and_evaluates_the_living():
    clock = job()
    history = clock.run()
    assert clock.agent.living == (3, 4)
    assert [record.task for record in history.select(kind="evaluation", day=4, phase="dawn")] == [3, 4]
    assert [record.task for record in history.select(kind="evaluation", day=2, phase="dusk")] == [0, 1, 2]


@pytest.mark.usefixtures("at_every_step")
def test_a_clock_with_versions_is_resumed_anywhere(tmp_path):
    whole = job()
    whole.run()
    clock = lived_through(lambda: job(tmp_path), 4, 3, 4)
    state, other = whole.agent.network.state(), clock.agent.network.state()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    np.testing.assert_array_equal(clock.history.accuracy, whole.history.accuracy)


def versions(*labels, **given):
    """Return tasks of one name, each of which succeeds the one before, with the given labels."""
    drawn = torch.Generator().manual_seed(0)
    return [
        Task(
            train=(torch.randn(len(own), 6, generator=drawn), torch.as_tensor(own)),
            test=(torch.randn(4, 6, generator=drawn), torch.as_tensor(own[:4])),
            name="job", succeeds="job", **given,
        )
        for own in labels
    ]  # fmt: skip


def labels_with(*wrong, n=20):
    return [0, 1] * ((n - len(wrong)) // 2) + list(wrong)


WIDER = (
    "task 'job' has 8 outputs because of its labels, and task 'job', which it succeeds, has 2. New is the label 7, in "
    "1 of 24 examples. All later versions will need as many outputs. If these are new classes, give n_outputs=8; if "
    "they are mistakes, correct them, and give n_outputs=2, with which they are refused."
)


def run(agent, tasks, **settings):
    return Clock(agent, tasks, policy=OneShot(), wake=Steps(2), night=Steps(2), **settings).run()


@pytest.mark.parametrize("replay", [None, Replay(20)])
def test_a_label_that_makes_more_outputs_is_warned_of_once_before_training(replay):
    first, second = versions(labels_with(), labels_with(7, 1))
    agent, heard = made(replay=replay), []
    run(agent, [first])
    with pytest.warns(UserWarning, match="because of its labels") as caught:
        run(agent, [second], first_day=1, on_event=lambda event: heard.append(len(caught)))
    assert [str(warning.message) for warning in caught] == [WIDER]
    assert set(heard) == {1}
    agent = made(replay=replay)
    with pytest.warns(UserWarning, match="because of its labels") as caught:  # of days to come, too
        run(agent, [first, second])
    assert [str(warning.message) for warning in caught] == [WIDER]
    with pytest.warns(UserWarning, match="because of its labels") as caught:  # and without a clock
        live(agent.fork(), versions(labels_with(9, 8, 10, 11, 12, 13))[0])
    assert "New are the labels 8, 9, 10, 11, 12, ..., in 6 of 24 examples." in str(caught[0].message)


def test_more_outputs_that_are_given_are_not_warned_of_and_wrong_labels_are_refused():
    agent = made()
    run(agent, versions(labels_with(), n_outputs=2))
    run(agent, versions(labels_with(7, 1), n_outputs=8), first_day=1)
    with pytest.raises(DataError, match=r"train labels run from 0 to 7, and must be from 0 to 1 with 2 outputs"):
        versions(labels_with(7, 1), n_outputs=2)
    held_out = versions(labels_with(7, 7, 7, 7, 7, 7))[0].hold_out(0.3)
    assert held_out.infers_outputs
    assert not versions(labels_with(), n_outputs=2)[0].hold_out(0.3).infers_outputs


def test_a_night_after_one_of_wrong_labels_says_how_to_go_back():
    agent = made()
    run(agent, versions(labels_with()))
    with pytest.warns(UserWarning, match="because of its labels"):
        run(agent, versions(labels_with(7, 1)), first_day=1)
    with pytest.raises(DataError) as caught:
        run(agent, versions(labels_with()), first_day=2)
    assert str(caught.value) == (
        "task 'job' has 2 outputs, and task 1, which it succeeds, has 8. A successor keeps all outputs. If these are "
        "right, give n_outputs=8, also on a day without examples of some class. If the earlier task has too many "
        "because of wrong labels, take the agent's file from before its day, correct the labels, and learn from that "
        "day on again."
    )
    assert caught.value.page == "nightly"


FLOATS = "Its targets are floating point, which means regression. If earlier versions have class labels, give whole"


@pytest.mark.filterwarnings("ignore:.*0.0 or 1.0, and floating point")
@pytest.mark.parametrize("n_outputs", [None, 2])
def test_labels_in_floating_point_are_recognised_where_earlier_versions_have_classes(n_outputs):
    (classes,) = versions(labels_with())
    (numbers,) = versions([float(n) for n in labels_with()], n_outputs=n_outputs)
    agent = made()
    expected = FLOATS if n_outputs is None else "floating-point targets, which means regression, of 1 value an example"
    with pytest.raises(DataError, match=FLOATS):  # in one stream
        run(agent, [classes, numbers])
    assert agent.day == 0
    run(agent, [classes])
    with pytest.raises((DataError, SettingError), match=expected):
        run(agent, [numbers], first_day=1)
    wide = Task(train=(numbers.train.inputs, torch.rand(20, 3)), test=(numbers.test.inputs, torch.rand(4, 3)),
                name="job", succeeds="job")  # fmt: skip
    with pytest.raises(DataError, match=r"3 targets an example, .* has 2\. .* class labels, give whole numbers from 0"):
        run(agent, [wide], first_day=1)
