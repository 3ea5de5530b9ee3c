import matplotlib.pyplot as plt
import pytest

from daynight import Agent, Capacity, Clock, Epochs, History, UniformCycles, plots
from daynight.errors import DataError, OutputError
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
    assert {line.get_xdata()[0] for line in upper.lines} == prunes
    assert len(upper.lines) == 2 * len(history.select(kind="prune"))
    assert len(lower.lines) == 3
    assert lower.get_ylabel() == ("validation score" if fraction else "training loss")
    assert [label.get_text() for label in upper.get_yticklabels()] == ["wake", "REM", "NREM"]
    values = [record.validation_score if fraction else record.loss
              for record in history.select(day=1) if record.kind in ("epoch", "prune")]  # fmt: skip
    assert list(lower.lines[1].get_ydata()) == [value for value in values if value is not None]


def test_capacity_bars_are_what_the_tasks_own():
    history = run(toy_stream(3))
    ax = plots.capacity(history)
    owned = [record.owned for record in history.select(kind="day")]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [owned[0]] * 3 + [owned[1]] * 2 + [owned[2]]
    assert "50.00% free" in [text.get_text() for text in ax.texts]


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
