"""The progress bar is shown in a terminal, and nowhere else."""

import io

import pytest
from terminal import Terminal

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Progress, Record
from daynight.loggers import ProgressBar
from daynight.testing import toy_network, toy_stream


def test_bar_says_where_in_the_run_it_is():
    stream = Terminal()
    bar = ProgressBar(n_days=5, n_steps=100, stream=stream)
    seen = []
    for event in (
        Progress(day=0, phase="wake"),
        Progress(day=0, phase="wake", step=25, loss=0.5),
        Record(kind="prune", day=0, phase="nrem", step=30, cycle=0),
        Progress(day=0, phase="rem", cycle=0, n_cycles=3, step=30),
        Record(kind="epoch", day=0, phase="rem", step=40, cycle=0, loss=0.25),
        Progress(day=1, phase="rem", cycle=4, n_cycles=None, step=100, loss=0.125),
    ):
        bar(event)
        bar.refresh()
        seen.append(stream.getvalue().split("\r")[-1].split("|")[0].strip())
    bar.close()
    assert seen == [
        "day 0 (1/5) wake", "day 0 (1/5) wake, loss 0.5000", "day 0 (1/5) wake, loss 0.5000", "day 0 (1/5) REM 1/3",
        "day 0 (1/5) REM 1/3, loss 0.2500", "day 1 (2/5) REM 5, loss 0.1250",
    ]  # fmt: skip
    assert "100%" in stream.getvalue()


@pytest.mark.parametrize("n_steps", [100, None])
def test_nothing_of_the_bar_is_written_into_a_file(n_steps):
    stream = io.StringIO()
    bar = ProgressBar(n_days=5, n_steps=n_steps, stream=stream)
    bar(Progress(day=0, phase="wake", step=25, loss=0.5))
    bar.refresh()
    bar.close()
    assert stream.getvalue() == ""


def test_a_run_shows_its_bar_in_a_terminal_only(monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
        Clock(agent, toy_stream(1), policy=OneShot(), wake=Epochs(1), night=Epochs(1), progress=True).run()
        assert ("day 0 (1/1) REM 1/1" in stream.getvalue()) == stream.isatty()
