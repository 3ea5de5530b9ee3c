import io

from daynight import Progress, Record
from daynight.loggers import ProgressBar


def test_bar_says_where_in_the_run_it_is():
    stream = io.StringIO()
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
        bar._bar.refresh()
        seen.append(stream.getvalue().split("\r")[-1].split("|")[0].strip())
    bar.close()
    assert seen == [
        "day 1/5 wake", "day 1/5 wake, loss 0.5000", "day 1/5 wake, loss 0.5000", "day 1/5 REM 1/3",
        "day 1/5 REM 1/3, loss 0.2500", "day 2/5 REM 5, loss 0.1250",
    ]  # fmt: skip
    assert "100%" in stream.getvalue()
