"""Figures of runs, and nights as paths."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from daynight import Agent, Capacity, Clock, Epochs, History, NoSleep, Record, UniformCycles, plots
from daynight.errors import DataError, SettingError
from daynight.testing import toy_network, toy_stream


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def lived(days=3, fraction=0.25, policy=None):
    stream = toy_stream(days)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=days))
    stream = stream.hold_out(fraction) if fraction else stream
    clock = Clock(agent, stream, policy=policy or UniformCycles(3), wake=Epochs(2), night=Epochs(4))
    return clock.run(), agent


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_accuracy_matrix_shows_every_score_once():
    history, _ = lived()
    ax = plots.accuracy(history)
    shown = np.asarray(ax.images[0].get_array().filled(np.nan))
    np.testing.assert_array_equal(shown, history.accuracy)
    assert len(ax.texts) == 6
    assert texts(ax)[0] == f"{history.accuracy[0, 0]:.3f}".removeprefix("0")
    assert ax.get_ylabel() == "dawn of day"
    assert plots.accuracy(history, "dusk").get_ylabel() == "dusk of day"


def test_the_accuracy_matrix_takes_any_score_and_many_days():
    def history(n, score):
        return History(
            Record(kind="evaluation", day=day, phase="dawn", step=day, task=task, score=score)
            for day in range(n) for task in range(day + 1)
        )  # fmt: skip

    assert texts(plots.accuracy(history(2, -0.25))) == ["-0.250"] * 3
    assert not plots.accuracy(history(13, 1.0)).texts


def test_the_accuracy_matrix_has_only_what_was_tested():
    records = [Record(kind="evaluation", day=day, phase="dawn", step=1, task=day, score=0.5) for day in (5, 7)]
    for some, days, places in ((records, (5, 7), [(5, 5), (7, 7)]), (records[1:], (7, 7), [(7, 7)])):
        ax = plots.accuracy(History(some))
        assert [text.xy for text in ax.texts] == places
        first, last = days
        assert (ax.get_xlim(), ax.get_ylim()) == ((first - 0.5, last + 0.5), (last + 0.5, first - 0.5))
        assert list(ax.get_xticks()) == list(range(first, last + 1))


def test_versions_show_scores_day_by_day_and_which_were_refused():
    def tested(day, phase, score, task=None):
        task = day if task is None else task
        return Record(kind="evaluation", day=day, phase=phase, step=day, task=task, score=score)

    def over(day, accepted=None):
        return Record(kind="day", day=day, phase="dawn", step=day, accepted=accepted)

    history = History([
        tested(0, "dusk", 0.9), over(0), tested(0, "dawn", 0.8),
        tested(1, "before", 0.7, 0), tested(1, "dusk", 0.6), over(1, accepted=0), tested(1, "dawn", 0.8, 0),
        tested(2, "before", 0.75, 0), tested(2, "dusk", 0.95), over(2, accepted=1), tested(2, "dawn", 0.85),
    ])  # fmt: skip
    ax = plots.versions(history)
    shown = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert shown == {
        "before learning, on the day's training data": [[1, 0.7], [2, 0.75]],
        "at dusk, on test data": [[0, 0.9], [1, 0.6], [2, 0.95]],
        "at dawn, on test data": [[0, 0.8], [2, 0.85]],
        "refused, at dusk": [[1, 0.6]],
    }
    _, own = plt.subplots()
    assert plots.versions(lived(1)[0], own) is own
    assert len(own.lines) == 2
    with pytest.raises(DataError, match="no evaluation of a day's own task yet"):
        plots.versions(History())


def test_ownership_shows_the_share_of_each_layer():
    _, agent = lived()
    ax = plots.ownership(agent)
    sizes = agent.network.sizes
    widths = [bar.get_width() for bar in ax.patches]
    expected = [agent.network.count(task)[name] / size for task in range(3) for name, size in sizes.items()]
    assert widths == pytest.approx(expected)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(sizes)
    free = agent.network.count(-1)
    assert texts(ax) == [f"{free[name] / size:.2%} of {size:,} free" for name, size in sizes.items()]


def test_a_descent_begins_at_dusk_and_goes_through_every_prune():
    history, _ = lived()
    ax = plots.descent(history, 1)
    course = [record for record in history.select(day=1) if record.kind in ("epoch", "prune")]
    dusk = max(index for index, record in enumerate(course) if record.phase == "wake")
    losses = [record.validation_loss for record in course[dusk:]]
    segments = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [line.get_ydata()[0] for line in segments] == losses[:-1]
    assert segments[-1].get_ydata()[1] == losses[-1]
    densities = [record.density for record in history.select(kind="prune", day=1)]
    assert sorted({x for line in segments for x in line.get_xdata()}) == pytest.approx(sorted({1.0, *densities}))
    assert ax.get_ylabel() == "validation loss"
    assert texts(ax) == ["dusk", "dawn"]
    assert ax.xaxis_inverted()
    assert plots.descent(history, 2, ax).xaxis_inverted()


@pytest.mark.parametrize("policy", [UniformCycles(3), NoSleep()], ids=repr)
def test_a_descent_without_validation_shows_training_losses(policy):
    history, _ = lived(fraction=0, policy=policy)
    ax = plots.descent(history)
    assert ax.get_ylabel() == "training loss"
    assert len([line for line in ax.lines if len(line.get_xdata()) == 2]) == len(
        history.select(kind="epoch", day=0, phase="rem")
    )


def test_means_have_standard_errors():
    ax = plots.means({8: [0.5], 1: [0.1, 0.3], 2: [0.2, 0.2, 0.2]}, "one")
    line = ax.lines[0]
    assert list(line.get_xdata()) == [1, 2, 8]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.2, 0.5])
    low, high = np.array([segment[:, 1] for segment in ax.collections[0].get_segments()]).T
    assert (high - low) / 2 == pytest.approx([0.1, 0, 0])
    assert plots.means({1: [0.3]}, "two", ax) is ax
    assert len(ax.lines) == 6  # each with its caps


@pytest.mark.parametrize("draw", [plots.accuracy, plots.descent, plots.ownership, plots.means])
def test_axes_are_taken(draw):
    history, agent = lived(days=1)
    given = {plots.ownership: agent, plots.means: {1: [0.5]}}.get(draw, history)
    ax = plt.figure().subplots()
    assert draw(given, ax=ax) is ax


def test_what_is_not_there_cannot_be_drawn():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2))
    with pytest.raises(DataError, match="no evaluation at dawn yet"):
        plots.accuracy(History())
    with pytest.raises(SettingError, match="phase must be one of 'dusk', 'dawn'"):
        plots.accuracy(History(), "noon")
    with pytest.raises(DataError, match="no night of day 1"):
        plots.descent(lived(days=1)[0], 1)
    with pytest.raises(SettingError, match="day must be"):
        plots.descent(History(), -1)
    with pytest.raises(DataError, match="finished no task yet"):
        plots.ownership(agent)
    for nothing in ({}, {1: []}, {1: [float("nan")]}):
        with pytest.raises(DataError, match="one or more finite values"):
            plots.means(nothing)


def scored(*scores):
    """Return a history of days with one evaluation each, of their own task."""
    return History(
        Record(kind="evaluation", day=day, phase="dawn", step=day, task=day, score=score)
        for day, score in enumerate(scores)
    )


def test_scores_near_one_are_coloured_by_their_errors():
    ax = plots.accuracy(scored(0.9, 0.99, 0.999))
    norm = ax.images[0].norm
    steps = np.diff([float(norm(score)) for score in (0.9, 0.99, 0.999)])
    assert steps == pytest.approx([steps[0]] * 2)
    assert steps[0] > 0.4
    assert texts(ax) == [".9000", ".9900", ".9990"]
    ticks = [label.get_text() for label in ax.figure.axes[1].get_yticklabels()]
    assert {"0.9", "0.99"} <= set(ticks) or len(ticks) >= 3
    shown = plots.accuracy(scored(1.0, 1.0)).images[0]
    assert float(shown.norm(1.0)) == pytest.approx(1.0)


@pytest.mark.parametrize("scores", [(0.5, 0.8), (-0.2, 0.95), (3.0, 12.0)])
def test_other_scores_are_coloured_as_they_are(scores):
    norm = plots.accuracy(scored(*scores)).images[0].norm
    middle = float(norm(sum(scores) / 2))
    assert middle == pytest.approx((float(norm(scores[0])) + float(norm(scores[1]))) / 2)


def test_both_axes_of_capacity_have_names():
    history, _ = lived()
    ax = plots.capacity(history)
    (share,) = ax.child_axes
    assert (ax.get_ylabel(), share.get_ylabel()) == (
        f"owned weights, of {history.select(kind='day')[0].capacity:,}", "owned share of all weights",
    )  # fmt: skip
