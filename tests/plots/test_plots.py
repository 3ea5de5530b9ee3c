import re

import attrs
import matplotlib.pyplot as plt
import pytest

from daynight import (
    Agent,
    Capacity,
    Clock,
    Cycle,
    Epochs,
    History,
    Night,
    OneShot,
    Rated,
    Record,
    Rewound,
    UniformCycles,
    plots,
    rates,
)
from daynight.errors import DataError, OutputError, SettingError
from daynight.testing import toy_network, toy_stream


def run(stream, days=3):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=days))
    return Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(2), night=Epochs(4)).run()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.mark.parametrize("fraction", [0, 0.25])
def test_hypnogram_shows_every_prune_and_the_course_of_each_day(fraction):
    stream = toy_stream(3)
    history = run(stream.hold_out(fraction) if fraction else stream)
    upper, lower = plots.hypnogram(history)
    prunes = {record.step for record in history.select(kind="prune")}
    for lines in upper.collections[-2:]:
        assert {segment[0, 0] for segment in lines.get_segments()} == prunes
    assert len(lower.lines) == 3
    assert lower.get_ylabel() == ("validation accuracy" if fraction else "training loss")
    assert [label.get_text() for label in upper.get_yticklabels()] == ["wake", "REM", "NREM"]
    values = [record.validation_score if fraction else record.loss
              for record in history.select(day=1) if record.kind in ("epoch", "prune")]  # fmt: skip
    assert list(lower.lines[1].get_ydata()) == [value for value in values if value is not None]
    (right,) = set(upper.figure.axes) - {upper, lower}
    densities = [record.density for record in history.select(kind="prune", day=1)]
    assert list(right.lines[1].get_ydata()) == [1.0, *densities, densities[-1]]


def test_capacity_bars_are_what_the_tasks_own():
    history = run(toy_stream(3))
    ax = plots.capacity(history)
    owned = [record.owned for record in history.select(kind="day")]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [owned[0]] * 3 + [owned[1]] * 2 + [owned[2]]
    assert "50.00% free" in [text.get_text() for text in ax.texts]


def later_days():
    """Return the history of days 2 and 3 of an agent with 100 weights, 40 of which earlier tasks own."""
    dawn = {"kind": "day", "phase": "dawn", "capacity": 100, "wake_steps": 10}
    return History([
        Record(kind="epoch", day=2, phase="wake", step=110, loss=0.5),
        Record(kind="prune", day=2, phase="nrem", step=110, owned=20, free=40),
        Record(kind="epoch", day=2, phase="rem", step=120, loss=0.3),
        Record(**dawn, day=2, step=120, owned=20, free=40, night_steps=10),
        Record(kind="epoch", day=3, phase="wake", step=130, loss=0.4),
        Record(**dawn, day=3, step=130, owned=10, free=30, night_steps=0),
    ])  # fmt: skip


def test_capacity_of_later_days_stands_on_what_earlier_tasks_own():
    ax = plots.capacity(later_days())
    bars = [(bar.get_x() + 0.4, bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert bars == [(2, 0, 40), (3, 0, 40), (2, 40, 20), (3, 40, 20), (3, 60, 10)]
    assert ax.get_ylabel() == "owned weights, of 100"
    texts = {text.get_text(): text.xy[1] for text in ax.texts}
    assert texts == {"earlier": 20, "task 2": 50, "40.00% free": 60, "task 3": 65, "30.00% free": 70}


def test_capacity_that_the_history_does_not_tell_is_refused():
    history = History([attrs.evolve(record, capacity=None) for record in later_days()])
    with pytest.raises(DataError, match=r"the history does not contain the capacity\. Make it with this version"):
        plots.capacity(history)


@pytest.mark.parametrize(
    ("history", "begin"),
    [
        (later_days(), 100),
        (later_days().records[:3], 110),  # a day that is not finished
        ([attrs.evolve(record, day=0) for record in later_days().records[:3]], 0),
        (later_days().records[:1], 110),
    ],
)
def test_hypnogram_begins_with_its_first_day(history, begin):
    history = History(history)
    upper, lower = plots.hypnogram(history)
    assert lower.get_xlim()[0] == begin
    first_wake = upper.collections[0].get_paths()[0].vertices[:, 0]
    assert (first_wake.min(), first_wake.max()) == (begin, 110)
    shades = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in lower.patches]
    assert shades[0] == (110, max(record.step for record in history if record.day == history.records[0].day))


def test_figures_draw_in_the_callers_axes():
    history = run(toy_stream(1), days=1)
    _, axes = plt.subplots(3)
    assert plots.hypnogram(history, axes=axes[:2])[0] is axes[0]
    assert plots.capacity(history, ax=axes[2]) is axes[2]
    assert len(plt.get_fignums()) == 1


def test_empty_history_is_refused():
    for draw in (plots.hypnogram, plots.capacity):
        with pytest.raises(DataError, match="so there is nothing to draw"):
            draw(History())


def test_figures_are_saved_whole(tmp_path):
    axes = plots.hypnogram(run(toy_stream(1), days=1))
    plots.save(axes, tmp_path / "a.png")
    plots.save(axes[0], tmp_path / "a.pdf")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(OutputError, match="cannot write to"):
        plots.save(axes, tmp_path / "a.png" / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png"]


@pytest.mark.parametrize("name", ["x.xyz", "x", ".png", "x."])
def test_ending_that_is_no_format_is_refused_and_nothing_written(tmp_path, name):
    _, ax = plt.subplots()
    with pytest.raises(SettingError) as caught:
        plots.save(ax, tmp_path / name)
    assert re.fullmatch(
        rf"path must end in the name of a format, one of .*\.pdf, .*\.png, .*, not '{tmp_path / name}'\.",
        str(caught.value),
    )
    assert not list(tmp_path.iterdir())
    plots.save(ax, tmp_path / "x.PNG")


NO_PLANS = [
    (), (Cycle(keep="dawn", length=1.0),), [1], [None], "x", UniformCycles(3), Cycle(keep=0.5, length=0.5),
]  # fmt: skip


def test_a_plan_shows_density_and_rate():
    night = Night(day=0, budget=Epochs(8), n_steps=80, steps_per_epoch=10, dawn_density=0.04)
    ax = plots.plan(Rated(UniformCycles(2), rates.Linear(2.0, 0.0)).plan(night))
    (line,) = ax.lines
    assert list(line.get_xdata()) == [0, 0, 0, 0.5, 0.5, 1]
    assert list(line.get_ydata()) == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])
    rate = next(other for other in ax.figure.axes if other is not ax)
    assert rate.get_ylim() == (0, pytest.approx(2.1))
    _, own = plt.subplots()
    assert plots.plan(UniformCycles(2).plan(night), own) is own
    assert own.figure.axes == [own]  # the rate does not change
    assert not own.collections  # nor is anything rewound
    (rewound,) = plots.plan(Rewound(UniformCycles(2), 0.5).plan(night)).collections
    assert rewound.get_offsets().tolist() == [[0, pytest.approx(0.2)], [0.5, pytest.approx(0.04)]]


def test_plans_in_the_same_axes_are_told_apart():
    night = Night(day=0, budget=Epochs(8), n_steps=80, steps_per_epoch=10, dawn_density=0.04)
    _, (ax, neighbour) = plt.subplots(1, 2, sharex=True)
    plots.plan(Rated(UniformCycles(2), rates.Linear(3.0, 0.0)).plan(night), neighbour)
    for policy in (UniformCycles(2), Rated(UniformCycles(2), rates.Linear(2.0, 0.0)), Rated(OneShot(), rates.Linear())):
        plots.plan(policy.plan(night), ax)
    assert len({line.get_color() for line in ax.lines}) == 3
    places = [other.get_position().bounds for other in ax.figure.axes]
    assert len(places) == 4
    (rate,) = (other for other in ax.figure.axes if other is not ax and other.get_position().bounds == places[0])
    assert rate.get_ylim() == (0, pytest.approx(2.1))
    assert len(rate.lines) == 2
    assert ax.get_ylim() == (pytest.approx(0.025), 1.6)


@pytest.mark.parametrize("cycles", NO_PLANS)
def test_a_plan_without_densities_is_refused(cycles):
    with pytest.raises(DataError, match=r"draws cycles with densities as numbers, as policy.plan\(night\) returns"):
        plots.plan(cycles)


def test_hypnogram_of_one_day_in_ones_own_axes():
    history = run(toy_stream(3))
    _, axes = plt.subplots(4, 1)
    upper, lower = plots.hypnogram(history, axes[2:], day=1)
    assert (upper, lower) == tuple(axes[2:])
    assert upper.get_xlim() == lower.get_xlim()
    assert len(lower.lines) == 1
    with pytest.raises(DataError, match="no epoch of day 7 yet"):
        plots.hypnogram(history, day=7)
    for wrong in (axes[0], axes):
        with pytest.raises(SettingError, match="axes must be two"):
            plots.hypnogram(history, wrong)


def test_hypnogram_of_a_day_that_is_not_over_begins_where_the_day_does():
    clock = Clock(
        Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3)),
        toy_stream(3), policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2),
    )  # fmt: skip
    clock.run(until=1)
    clock.to_dusk()
    upper, _ = plots.hypnogram(clock.history, day=1)
    assert upper.get_xlim()[0] == clock.history.select(kind="day")[0].step
