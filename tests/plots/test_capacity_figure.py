"""The figure of the capacity: at each dawn, what living tasks own and what is free are the whole."""

import itertools

import attrs
import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daynight import Agent, Capacity, Clock, Gate, History, OneShot, Record, Steps, Task, Training, plots
from daynight.plots.runs import bands_of
from daynight.testing import toy_network

#: What may happen on a day: the task succeeds that of a line, is refused as one, or sees all earlier tasks, or none.
KINDS = ("line a", "line b", "refused", "sees all", "sees none")


def task_of(day, kind):
    drawn = torch.Generator().manual_seed(day)
    n = 10 if kind == "refused" else 40
    inputs = torch.randn(n + 8, 6, generator=drawn)
    labels = torch.arange(n + 8) % 2
    line = {"line a": "a", "line b": "b", "refused": "a"}.get(kind)
    return Task(
        train=(inputs[:n], labels[:n]), test=(inputs[n:], labels[n:]), n_outputs=2, name=line or f"alone {day}",
        succeeds=line, sees=None if line else kind.removeprefix("sees "),
    ).hold_out(0.2)  # fmt: skip


def lived(days, one_clock):
    """Live days (kind, index of the task to retire before, or None); return the history, and what each task owned."""
    gate = Gate(tolerance=1, least=5)
    agent = Agent(toy_network, capacity=Capacity(keep_per_task=0.05), training=Training(batch_size=8), gate=gate)
    tasks = [task_of(day, kind) for day, (kind, _) in enumerate(days)]
    shared = Clock(agent, tasks, policy=OneShot(), wake=Steps(1), night=Steps(1))
    histories, owned = [shared.history], []
    for day, (_, retired) in enumerate(days):
        if one_clock:
            shared.step()
        else:
            if retired in agent.living and len(agent.living) > 1:
                agent.retire(retired)
            own = Clock(agent, [tasks[day]], first_day=day, policy=OneShot(), wake=Steps(1), night=Steps(1))
            histories.append(own.run())
        living = {task: agent.owned[task] for task in agent.living}
        owned.append((living, sum(agent.owned)))
    return History(itertools.chain.from_iterable(histories)), owned


def stacks(history):
    """Return for each dawn what the figure piles up, by task."""
    days, bands = history.select(kind="day"), bands_of(history)
    found = []
    for index in range(len(days)):
        pile = sorted((band.bottom, band.top, band.task) for band in bands if band.first <= index < band.end)
        assert [bottom for bottom, _, _ in pile] == [0, *(top for _, top, _ in pile)][: len(pile)]
        found.append({task: top - bottom for bottom, top, task in pile})
    return found


@settings(max_examples=25, deadline=None)
@given(
    days=st.lists(st.tuples(st.sampled_from(KINDS), st.none() | st.integers(0, 6)), min_size=1, max_size=8),
    one_clock=st.booleans(),
)
@example(days=[("line a", None)] * 5, one_clock=True)
@example(days=[("line a", None), ("line b", None), ("refused", None), ("line a", None), ("line b", 3)], one_clock=False)
@example(days=[("sees none", None), ("sees all", 0), ("sees none", 1), ("sees none", 2)], one_clock=False)
def test_at_each_dawn_what_is_owned_and_what_is_free_are_the_capacity(days, one_clock):
    history, owned = lived(days, one_clock)
    for record, (living, total), pile in zip(history.select(kind="day"), owned, stacks(history), strict=True):
        assert sum(pile.values()) + record.free == record.capacity
        assert sum(pile.values()) == total
        if one_clock or not any(retired is not None for _, retired in days):
            assert {task: n for task, n in pile.items() if task >= 0} == {t: n for t, n in living.items() if n}


def test_a_line_of_versions_owns_one_share_and_a_refused_night_changes_nothing():
    days = [("line a", None), ("line a", None), ("refused", None), ("line a", None)]
    history, _ = lived(days, one_clock=False)
    assert history.successors == {0: 1, 1: 3}
    (share,) = {record.owned for record in history.select(kind="day") if record.owned}
    assert stacks(history) == [{0: share}, {1: share}, {1: share}, {3: share}]
    ax = plots.capacity(history)
    free = 1 - share / history.select(kind="day")[0].capacity
    assert [text.get_text() for text in ax.texts] == ["task 3", *4 * [f"{free:.2%} free"]]
    assert ax.get_ylim() == (0, pytest.approx(1.1 * share))
    plt.close("all")


def test_a_retired_task_whose_weights_others_see_is_grey():
    history, _ = lived([*3 * [("sees all", None)], ("sees all", 1)], one_clock=False)
    assert [sorted(pile) for pile in stacks(history)][-1] == [0, 1, 2, 3]  # nothing says that task 1 has retired
    day = history.select(kind="day")[-1]
    (own,) = history.select(kind="evaluation", day=3, phase="dawn")
    known = History([*history, *(attrs.evolve(own, task=task) for task in (0, 2))])
    assert stacks(known)[-1] == dict.fromkeys((-1, 0, 2, 3), day.owned)
    assert "retired" in [text.get_text() for text in plots.capacity(known).texts]
    plt.close("all")


def test_many_nights_of_one_line_stay_at_the_height_of_one_version():
    def records(day):
        place = {"day": day, "step": day}
        before = Record(kind="evaluation", phase="before", task=day - 1, score=0.5, **place)
        own = Record(kind="day", phase="dawn", owned=10, free=90, capacity=100, **place)
        return [before, own] if day else [own]

    history = History(itertools.chain.from_iterable(map(records, range(40))))
    assert stacks(history) == [{day: 10} for day in range(40)]
    ax = plots.capacity(history)
    (areas,) = ax.collections
    heights = [path.vertices[:, 1].max() for path in areas.get_paths()]
    assert heights == 40 * [10]
    assert ax.get_ylim() == (0, 11)
    assert [text.get_text() for text in ax.texts] == ["90.00% free"]
    plt.close("all")
