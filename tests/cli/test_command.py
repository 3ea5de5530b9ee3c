"""The command line."""

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from daynight import (
    Agent,
    Capacity,
    Clock,
    Epochs,
    GradualPruning,
    History,
    OneShot,
    Rated,
    UniformCycles,
    models,
    rates,
)
from daynight.cli.expressions import made_of
from daynight.cli.main import main
from daynight.errors import SettingError
from daynight.loggers import CSVLogger, log_night
from daynight.testing import toy_stream

MINE = """
import torch
import daynight as dn
from daynight.testing import toy_stream

class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = torch.nn.Linear(6, width)
        self.head = torch.nn.Linear(width, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs).relu())

class Policy(dn.SleepPolicy):
    def __init__(self, n):
        self.n = n

    def cycles(self, night):
        yield from dn.UniformCycles(self.n).cycles(night)

def stream(days=2):
    return toy_stream(days)

def training():
    return dn.Training(loss=lambda outputs, targets: torch.nn.functional.cross_entropy(outputs, targets))

def broken():
    raise ValueError("no luck")

def pairs():
    return [((task.train.inputs, task.train.targets), (task.test.inputs, task.test.targets)) for task in stream()]
"""
RUN = [
    "run",
    "--stream",
    "mine:stream()",
    "--network",
    "mine:Network(8)",
    "--wake",
    "2",
    "--night",
    "Steps(6)",
    "--quiet",
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(MINE)


def test_a_run_leaves_an_agent_a_history_and_a_report(capsys):
    assert main([*RUN, "--policy", "mine:Policy(3)", "--out", "out", "--hold-out", "0.2"]) == 0
    shown = capsys.readouterr().out
    assert "Data: 2 toy tasks" in shown
    assert "Wrote agent.dn, history.json, settings.json and report.html into out/." in shown
    about = json.loads(Path("out/settings.json").read_text())
    assert (about["settings"]["policy"], about["settings"]["hold_out"]) == ("mine:Policy(3)", 0.2)
    assert about["data"].startswith("2 toy tasks")
    history = History.from_json("out/history.json")
    assert len(history.select(kind="prune")) == 6
    assert history.select(kind="epoch")[0].validation_loss is not None
    assert f"{history.accuracy[-1].mean():.4f}" in shown
    assert "<h1>out</h1>" in Path("out/report.html").read_text()
    assert main([*RUN, "--policy", "mine:Policy(3)", "--out", "out", "--hold-out", "0.2"]) == 0
    assert "All days are over already." in capsys.readouterr().out
    assert History.from_json("out/history.json") == history
    assert main(["verify", "out/agent.dn", "--network", "mine:Network(8)"]) == 0
    assert "task 1: " in capsys.readouterr().out


def test_a_run_that_was_stopped_resumes(capsys, monkeypatch):
    from daynight.clock import Clock

    step = Clock.step

    def stopped(clock):
        if clock.agent.day == 1:
            raise KeyboardInterrupt
        step(clock)

    monkeypatch.setattr("daynight.storage.checkpoints.Checkpoint.is_due", lambda *_: True)
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "step", stopped)
        assert main(RUN) == 130
    assert "stopped." in capsys.readouterr().err
    assert main(RUN) == 0
    assert "Resumes on day 1 (2/2), after" in capsys.readouterr().out
    assert Agent.load("daynight_run/agent.dn", made_of("mine:Network(8)", "network", "")).day == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "UniformCycle(3)"], "daynight has no 'UniformCycle'. Did you mean UniformCycles?"),
        (["--policy", "UniformCycles(0)"], "n must be a whole number from 1 up"),
        (["--policy", "UniformCycles"], "--policy must be a call, such as 'UniformCycles(4)', not 'UniformCycles'."),
        (["--policy", "Epochs(3)"], "policy"),
        (["--policy", "nowhere:Policy()"], "there is no module 'nowhere' that can be imported from here"),
        (["--policy", "mine:Nothing()"], "mine or daynight has no 'Nothing'"),
        (["--policy", "__import__('os')"], "has no '__import__'"),
        (["--policy", "open('x').read()"], "is not a name in a module"),
        (["--policy", "UniformCycles(*[3])"], "an argument must be a plain value, a name or a call, not '*[3]'"),
        (["--policy", "UniformCycles(1 + x)"], "an argument must be a plain value, a name or a call, not '1 + x'"),
        (
            ["--policy", "mine.Policy(3)"],
            "daynight has no 'mine'. Write a class or function of your own as mine:Policy(...).",
        ),
        (["--out", ""], "a folder must be named by text or a path, not ''"),
        (["--policy", "models.importlib.import_module('os')"], "has no 'importlib'"),
        (["--training", "Training(metric=metrics.best)"], "daynight.metrics has no 'best'"),
        (["--stream", "mine:broken()"], "--stream, 'mine:broken()': ValueError: no luck"),
        (["--stream", "UniformCycles(3)"], "--stream must be"),
        (["--training", "UniformCycles(3)"], "--training must be"),
        (["--network", "MLP(7, 8)"], "the network cannot read inputs of shape (6,)"),
        (["--wake", "soon"], "--wake (a number of epochs, or a budget) must be a call"),
        (["--night", "-1"], "Epochs: n must be"),
        (
            ["--stream", "nothing()", "--night", "OneShot()"],
            "--night (a number of epochs, or a budget) must be a budget",
        ),
        (["--free-at-end", "1"], "free_at_end must be above 0 and below 1"),
        (["--out", "mine.py"], "mine.py"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_a_line_with_the_page_that_helps(options, message, capsys):
    assert main([*RUN, *options]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 2  # the error, and the page that helps
    assert not Path("daynight_run", "agent.dn").exists()


@pytest.mark.parametrize("arguments", [[], ["fly"], [*RUN, "--altitude", "3"], ["report"]])
def test_wrong_usage_has_the_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: daynight" in capsys.readouterr().err


def test_a_damaged_agent_has_the_status_1(capsys):
    main(RUN)
    path = Path("daynight_run/agent.dn")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert main(["verify", str(path), "--network", "mine:Network(8)"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(["verify", "nothing.dn"]) == 1
    assert "there is no file nothing.dn" in capsys.readouterr().err


def test_an_agent_with_functions_of_its_own_is_verified_with_them(capsys):
    assert main([*RUN, "--training", "mine:training()"]) == 0
    verify = ["verify", "daynight_run/agent.dn", "--network", "mine:Network(8)"]
    assert main(verify) == 1
    assert "give them with training=" in capsys.readouterr().err
    assert main(["verify", "daynight_run"]) == 1
    said = capsys.readouterr().err
    assert (
        "The options are --network and --training. daynight_run/settings.json has the call that the run was started"
        in said
    )
    assert main([*verify, "--training", "mine:training()"]) == 0


def test_runs_and_studies_are_reported(capsys):
    main(RUN)
    assert main(["report", "daynight_run/history.json", "--out", "run.html", "--title", "Mine"]) == 0
    assert "<h1>Mine</h1>" in Path("run.html").read_text()
    from daynight.study import Study, grid
    from daynight.testing import toy_stream

    Study("runs").run(grid(scored, toy_stream, seeds=range(2), n=[1, 2]))
    assert main(["report", "runs", "--by", "n", "--values", "score", "--out", "study.html"]) == 0
    assert "score by n" in Path("study.html").read_text()
    Path("empty").mkdir()
    for wrong, message in (
        ("runs", "runs has no history. If it is the folder of a store, name settings with --by"),
        ("empty --by n --values x", "there are no runs. Name the folder"),
    ):
        assert main(["report", *wrong.split()]) == 1
        assert message in capsys.readouterr().err
    assert main(["report", "nothing.json"]) == 1


def scored(stream, *, seed, n):
    return {"score": n + seed / 10}


def test_a_study_is_that_of_the_module(monkeypatch):
    heard = []
    monkeypatch.setattr("daynight.study.paper.experiments.main", heard.append)
    monkeypatch.setattr("daynight.study.tournament.tournament.main", heard.append)
    assert main(["study", "figure2", "--quick", "--seeds", "3"]) == 0
    assert main(["study", "tournament", "screen", "--quick"]) == 0
    assert heard == [["figure2", "--quick", "--seeds", "3"], ["screen", "--quick"]]


def test_a_study_has_its_own_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["study", "figure2", "--help"])
    assert caught.value.code == 0
    assert "--prunings" in capsys.readouterr().out


def test_pairs_are_a_stream_and_the_report_says_what_was_run(capsys):
    assert main([*RUN, "--stream", "mine:pairs()", "--out", "a"]) == 0
    text = Path("a/report.html").read_text()
    assert "mine:Network(8), UniformCycles(n=4), Training(" in text
    assert "night Steps(" in text
    assert main(["report", "a", "--out", "b.html"]) == 0
    assert Path("b.html").read_text() == text
    Path("a/settings.json").write_text("[")
    for command in (["report", "a", "--out", "b.html"], ["verify", "a", "--network", "mine:Network(8)"]):
        assert main(command) == 0
    assert main(["report", "nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err
    assert main(["report", "a", "--by", "n"]) == 1
    assert "--by, --values, --where and --against are for a study's store" in capsys.readouterr().err


def test_an_error_in_ones_own_code_says_where(capsys):
    assert main([*RUN, "--stream", "mine:broken()"]) == 1
    line = MINE.splitlines().index('    raise ValueError("no luck")') + 1
    assert f"no luck (mine.py, line {line})" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["KeyError", "FileNotFoundError"])
def test_an_error_of_ones_own_network_says_where(error, capsys):
    text = MINE.replace("return self.head", f"self.n = getattr(self, 'n', 0) + 1\n        if self.n > 60:\n            "
                        f"raise {error}('late')\n        return self.head")  # fmt: skip
    Path("mine.py").write_text(text)
    line = text.splitlines().index(f"            raise {error}('late')") + 1
    assert main([*RUN, "--training", "Training(batch_size=2, engine='module')"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {error}: ")
    assert f"late' (mine.py, line {line})" in shown or f"late (mine.py, line {line})" in shown


def test_large_objects_are_not_printed(capsys):
    assert main([*RUN, "--policy", "MLP(784, 10, 10)"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(("ending", "status"), [("| head -c 0", 141), ("> /dev/full", 1)])
def test_output_that_nobody_takes_is_no_traceback(ending, status):
    main(RUN)
    command = f"{sys.executable} -m daynight verify daynight_run --network 'mine:Network(8)' {ending}; "
    command += "exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("error: the output cannot be written" in done.stderr) == (status == 1)


def test_expressions_are_calls_within_calls():
    rated = made_of("Rated(GradualPruning(4, 0.5), Linear(start=1.0))", "it", "")
    assert isinstance(rated, Rated)
    assert repr(rated) == repr(Rated(GradualPruning(4, 0.5), rates.Linear(start=1.0)))
    assert repr(made_of(" UniformCycles(n=3) ", "it", "")) == repr(UniformCycles(3))
    with pytest.raises(SettingError, match="must be a call"):
        made_of("UniformCycles(3", "it", "OneShot()")


def test_the_command_is_installed_and_a_module():
    found = subprocess.run([sys.executable, "-m", "daynight", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("daynight ")
    import importlib.metadata

    (command,) = importlib.metadata.entry_points(group="console_scripts", name="daynight")
    assert command.load() is main


def nights(home, n=3, widths=(6, 8, 8)):
    """Do the job of docs/nightly.rst for some nights."""
    task = toy_stream(1)[0]
    given = attrs.evolve(task, name="toy", succeeds="toy").hold_out(0.2)
    agent = Agent(models.MLP(*widths), capacity=Capacity(keep_per_task=0.2))
    home.mkdir()
    for day in range(n):
        log = CSVLogger(home / f"2026-11-0{day + 1}.csv")
        clock = Clock(agent, [given], first_day=day, policy=OneShot(), wake=Epochs(1), night=Epochs(1), on_event=log)
        clock.run()
        log_night(home / "nights.csv", clock)
    return agent


def test_the_nights_of_a_job_are_reported_as_one(capsys, tmp_path):
    agent = nights(tmp_path / "job")
    files = [f"job/2026-11-0{day}.csv" for day in (3, 1, 2)]
    assert main(["report", *files, "--out", "job.html"]) == 0
    text = Path("job.html").read_text()
    assert "<h1>job</h1>" in text
    assert "3 days" in text
    assert f"{agent.n_free:,} of {agent.n_weights:,} weights free" in text
    assert main(["report", files[0], "--out", "one.html"]) == 0
    assert "<h1>2026-11-03</h1>" in Path("one.html").read_text()
    assert main(["report", "job"]) == 1
    said = capsys.readouterr().err
    assert (
        "job is not the folder of one run. It has 3 histories, to be named: daynight report job/2026-11-0*.csv" in said
    )
    Path("job/folder.csv").mkdir()
    for path in files[:2]:
        Path(path).unlink()
    main(["report", "job"])
    assert "It has 1 history, to be named: daynight report job/2026-11-02.csv" in capsys.readouterr().err


def test_histories_that_are_not_of_one_life_are_not_joined(capsys, tmp_path):
    nights(tmp_path / "job", n=2)
    nights(tmp_path / "other", n=3, widths=(6, 4, 4))
    one, other = "job/2026-11-02.csv", "other/2026-11-03.csv"
    for paths, message in (
        ([one, "job/nights.csv"], "job/nights.csv is a log of nights, which has a line for each night and no records."),
        (["job/nights.csv"], "job/nights.csv is a log of nights"),
        ([one, one], f"day 1 is both in {one} and in {one}. Name each day once"),
        ([one, other], f"{one} is of an agent with 112 weights, and {other} of one with 40. Report one agent"),
        ([one, "job"], "job is a folder without a history. To report several runs as one, name histories."),
        ([one, "mine.py"], "mine.py is not a history"),
        ([one, other, "--by", "n"], "--by, --values, --where and --against are for a study's store"),
        ([one, "nothing.csv"], "nothing.csv does not exist"),
    ):
        assert main(["report", *paths]) == 1
        assert message in capsys.readouterr().err
    assert not Path("report.html").exists()
