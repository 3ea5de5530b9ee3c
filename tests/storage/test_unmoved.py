"""Evaluations that are carried over: only while nothing that a finished task's predictions use has changed."""

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_versions import Normed
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Record, Steps, Task, Training
from daynight.errors import SettingError
from daynight.testing import toy_network, toy_stream


def made(
    n_days=4, network=toy_network, capacity=None, stream=None, agent=None, on_event=(), evaluate="changed", **rest
):
    agent = agent or Agent(
        network, capacity=capacity or Capacity(keep_per_night=0.15), training=Training(batch_size=20), **rest
    )
    return Clock(agent, stream or toy_stream(n_days), policy=OneShot(), wake=Epochs(1), night=Epochs(1),
                 on_event=on_event, evaluate=evaluate)  # fmt: skip


def timeless(history):
    return [attrs.evolve(record, elapsed_seconds=None) for record in history]


def measured(history, **fields):
    """Return (day, phase, task) of the evaluations that were not carried over."""
    found = history.select(kind="evaluation", **fields)
    return [
        (record.day, record.phase, record.task) for record in found
        if record.elapsed_seconds is not None and record.phase != "before"
    ]  # fmt: skip


DAY_BY_DAY = [(day, phase, day) for day in range(4) for phase in ("dusk", "dawn")]


@pytest.mark.parametrize(
    "life",
    [{}, {"network": Normed}, {"biases": "freeze-after-first"}, {"restart": "redraw"}, {"gate": None}],
    ids=["plain", "norms", "shared biases", "redraw", "no gate"],
)
def test_only_the_task_of_the_day_is_measured_and_the_history_is_the_same(life):
    carried, whole = made(**life).run(), made(**life, evaluate="all").run()
    assert measured(carried) == DAY_BY_DAY
    assert len(measured(whole)) == 20
    assert timeless(carried) == timeless(whole)
    assert len(carried) == len(carried.records) == len(whole)
    assert np.array_equal(carried.accuracy, whole.accuracy, equal_nan=True)
    assert np.array_equal(carried.scores("dusk"), whole.scores("dusk"), equal_nan=True)


@pytest.mark.parametrize("consolidation", ["rehearse", "fine-tune"])
def test_all_are_measured_if_owned_weights_keep_learning(consolidation):
    assert len(measured(made(consolidation=consolidation).run())) == 20


def test_all_are_measured_if_scores_depend_on_other_tasks():
    assert len(measured(made(keeps=("signature",)).run())) == 20


def test_hooks_hear_what_is_carried_over():
    heard = []
    history = made(on_event=heard.append).run()
    assert [event for event in heard if isinstance(event, Record)] == list(history)
    assert timeless(history) == timeless(made().run())


class Listener:
    """Hears what is carried over at once, and looks at the history as it does."""

    def __init__(self):
        self.heard, self.lengths = [], []

    def begin(self, history):
        self.history = history

    def __call__(self, event):
        if isinstance(event, Record):
            self.several([event])

    def several(self, records):
        self.heard += records
        self.lengths.append((len(self.heard), len(self.history)))


def test_hooks_may_hear_what_is_carried_over_at_once():
    alone, beside, heard = Listener(), Listener(), []
    lives = [made(on_event=on_event).run() for on_event in (alone, [heard.append, beside])]
    assert timeless(lives[0]) == timeless(lives[1])
    records = [event for event in heard if isinstance(event, Record)]
    for listener in (alone, beside):
        assert timeless(listener.heard) == timeless(listener.history) == timeless(records)
        assert all(n_heard == n for n_heard, n in listener.lengths)
        assert len(listener.lengths) < len(records)


def of_module(agent):
    with torch.no_grad():
        next(iter(agent.network.weights.values())).data[agent.network.owners["body.1"] == 0] += 1.0


def of_frozen(agent):
    with torch.no_grad():
        agent.network.module.body[1].bias.data += 1.0


def of_head(agent):
    with torch.no_grad():
        next(agent.network.heads.of(0).parameters()).add_(1.0)


def of_last_head(agent):
    next(agent.network.module.head.parameters()).data += 1.0


def of_replaced_head(agent):
    head = agent.network.heads.of(0)
    head.weight = nn.Parameter(head.weight.detach() + 1.0)


def of_assigned_head(agent):
    head = agent.network.heads.of(0)
    head.load_state_dict({name: value + 1.0 for name, value in head.state_dict().items()}, assign=True)


def of_memory(agent):
    weight = agent.network.heads.of(0).weight
    weight.data = weight.data + 1.0


def of_owners(agent):
    owners = agent.network.owners["body.1"]
    owners[owners == 1] = 0


@pytest.mark.parametrize(
    ("write", "moved", "life"),
    [
        (of_module, {0, 1}, {}), (of_frozen, {0, 1}, {"biases": "freeze-after-first"}), (of_head, {0}, {}),
        (of_last_head, {1}, {}), (of_owners, {0}, {}), (of_replaced_head, {0}, {}), (of_assigned_head, {0}, {}),
        (of_memory, {0}, {}),
    ],
)  # fmt: skip
def test_what_was_written_to_is_measured_again(write, moved, life):
    clock = made(3, **life)
    clock.run(until=2)
    assert clock.agent.unmoved() == {0, 1}
    write(clock.agent)
    assert clock.agent.unmoved() == {0, 1} - moved
    clock.to_dusk()
    assert measured(clock.history, day=2) == [(2, "dusk", task) for task in (*sorted(moved), 2)]
    for task in moved:
        record = clock.history.select(kind="evaluation", day=2, phase="dusk", task=task)[0]
        assert (record.loss, record.score) == clock.agent.evaluate(clock.stream[task], task)


def test_what_was_restored_is_carried_over_again():
    clock = made(3)
    clock.run(until=2)
    weight = clock.agent.network.weights["body.1"].data
    before = weight.clone()
    weight.fill_(7.0)
    assert clock.agent.unmoved() == frozenset()
    weight.copy_(before)
    assert clock.agent.unmoved() == {0, 1}
    assert measured(clock.run(), day=2) == [(2, "dusk", 2), (2, "dawn", 2)]


@pytest.mark.parametrize("resumes", [False, True])
def test_a_score_of_a_dawn_stands_only_if_it_is_that_of_what_was_sealed(resumes, tmp_path):
    """A hook writes to the first task before its evaluation at its dawn, and restores it afterwards."""

    def writes(event):
        if isinstance(event, Record) and event.day == 0 and event.phase == "dawn":
            weight = clock.agent.network.weights["body.1"].data
            weight.mul_(-1.0)  # at the record of the day, and back after the evaluation

    clock = Clock(made().agent, toy_stream(3), policy=OneShot(), wake=Epochs(2), night=Epochs(2), on_event=writes,
                  checkpoint=tmp_path)  # fmt: skip
    clock.run(until=1)
    assert clock.agent.unmoved() == {0}
    if resumes:
        clock = Clock(made().agent, toy_stream(3), policy=OneShot(), wake=Epochs(2), night=Epochs(2),
                      checkpoint=tmp_path)  # fmt: skip
    history = clock.run()
    assert [task for _, phase, task in measured(history, day=1) if phase == "dusk"] == [0, 1]
    right = clock.agent.evaluate(clock.stream[0], 0)
    assert all((record.loss, record.score) == right for record in history.select(kind="evaluation", task=0, day=2))


def test_lives_and_nights_in_inference_mode_are_as_others():
    clocks = [made(3, evaluate=evaluate) for evaluate in ("changed", "all")]
    for clock in clocks:
        clock.to_dusk()
        with torch.inference_mode():
            clock.agent.finish_night()
        clock.run()
    assert timeless(clocks[0].history) == timeless(clocks[1].history)
    with torch.inference_mode():
        assert clocks[0].agent.unmoved() == {0, 1, 2}


STREAM = toy_stream(6)


def version(index, succeeds, sees):
    source = STREAM[index]
    return Task(train=source.train, test=source.test, n_outputs=2, name=f"task {index}", succeeds=succeeds, sees=sees)


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, "none", "all"])), min_size=2, max_size=5), st.booleans()
)
def test_lives_with_versions_have_the_same_scores_as_if_all_was_measured(days, forks):
    tasks, newest = list[Task](), 0
    for index, (is_version, sees) in enumerate([(False, None), *days]):
        tasks.append(version(index, newest if is_version else None, None if is_version else sees))
        newest = index
    capacity = Capacity(keep_per_task=0.1, min_per_layer=1)
    found = []
    for evaluate in ("changed", "all"):
        clock = made(stream=tasks, capacity=capacity, network=Normed, evaluate=evaluate)
        if forks:
            clock.run(until=len(days) - 1)
            clock = clock.fork()
            assert clock.evaluate == evaluate
        found.append(clock.run())
    assert timeless(found[0]) == timeless(found[1])
    assert measured(found[0]) == [(day, phase, day) for day in range(len(tasks)) for phase in ("dusk", "dawn")]


def test_tasks_without_an_evaluation_of_their_dawn_are_measured_in_their_turn():
    histories = []
    for evaluate in ("changed", "all"):
        agent = made(4).agent
        for task in toy_stream(2):
            agent.wake(task, Steps(2))
            agent.sleep(OneShot(), Steps(2))
        histories.append(made(4, agent=agent, evaluate=evaluate).run())
    history = histories[0]
    assert timeless(history) == timeless(histories[1])
    assert measured(history, day=3) == [(3, phase, task) for phase in ("dusk", "dawn") for task in (0, 1, 3)]


def test_what_to_evaluate_is_one_of_two_words():
    with pytest.raises(SettingError, match="evaluate must be one of 'changed', 'all', not 'none'"):
        made(evaluate="none")
