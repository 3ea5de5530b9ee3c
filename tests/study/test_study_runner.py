"""Studies: results are kept, whatever happens, and runs are not done again."""

import collections
import functools
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import study_script
import torch

from daynight import Clock, Epochs, OneShot, Split, Task, TaskStream, UniformCycles
from daynight.errors import SettingError, StudyError
from daynight.study import Store, Study, grid, memory, packnet
from daynight.testing import toy_network, toy_stream

SCRIPT = Path(study_script.__file__)


def counted(stream, *, seed, a, log=None):
    if log is not None:
        with Path(log).open("a") as lines:
            lines.write(f"{a} {seed}\n")
    return {"value": a + seed / 10, "threads": torch.get_num_threads()}


def results_in(folder):
    return {entry["key"]: entry["result"] for entry in Store(folder)}


def test_grid_has_each_value_with_each_other_and_each_seed():
    runs = grid(counted, toy_stream, seeds=range(2), a=[1, 2], log=None)
    assert [(run.settings["seed"], run.settings["a"]) for run in runs] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len({run.key for run in runs}) == 4
    again = grid(counted, toy_stream(3), seeds=[0], a=1, log=None)
    assert again[0].key == runs[0].key
    assert grid(counted, functools.partial(toy_stream, seed=1), seeds=[0], a=1, log=None)[0].key != runs[0].key


def test_runs_are_done_once_and_kept_as_text(tmp_path):
    log = str(tmp_path / "log")
    runs = grid(counted, toy_stream, seeds=range(3), a=[1, 2], log=log)
    first = Study(tmp_path / "store").run(runs[:4])
    assert len(first) == 4
    found = Study(tmp_path / "store").run(runs)
    assert sorted(Path(log).read_text().split("\n")[:-1]) == sorted(f"{a} {seed}" for a in (1, 2) for seed in range(3))
    assert found.select(a=2).values("value") == {0: 2.0, 1: 2.1, 2: 2.2}
    entry = json.loads((tmp_path / "store" / f"{runs[0].key}.json").read_text())
    assert entry["run"]["settings"] == {"a": 1, "log": log, "seed": 0}
    assert entry["result"] == {"value": 1.0, "threads": 1}


def test_runs_are_the_same_in_several_processes(tmp_path):
    runs = grid(packnet, toy_stream, seeds=range(2), network=toy_network, free_at_end=[0.4, 0.6],
                policy=[UniformCycles(1), UniformCycles(3)], wake=Epochs(2), night=Epochs(2))  # fmt: skip
    Study(tmp_path / "one").run(runs)
    Study(tmp_path / "two", jobs=2).run(runs)
    assert results_in(tmp_path / "one") == results_in(tmp_path / "two")
    assert len(results_in(tmp_path / "one")) == 8


def test_a_failed_run_does_not_end_the_others(tmp_path):
    def picky(stream, *, seed):
        if seed == 1:
            raise ValueError("not this one")
        return {"value": seed}

    runs = grid(picky, toy_stream, seeds=range(3))
    with pytest.raises(StudyError, match=r"1 of 3 runs have failed; .* with \{'seed': 1\}: (.|\n)*not this one"):
        Study(tmp_path).run(runs)
    assert len(Study(tmp_path).results(runs)) == 2


def test_a_method_that_leaves_the_program_fails_alone(tmp_path):
    def method(stream, *, seed):
        if seed == 0:
            sys.exit("gone")
        return {"value": seed}

    runs = grid(method, toy_stream, seeds=range(3))
    with pytest.raises(StudyError, match=r"1 of 3 runs have failed(.|\n)*gone"):
        Study(tmp_path).run(runs)
    assert len(Study(tmp_path).results(runs)) == 2


def test_runs_that_come_twice_are_done_and_given_once(tmp_path):
    log = str(tmp_path / "log")
    runs = grid(counted, toy_stream, seeds=[0, 0], a=[1, 1], log=log)
    found = Study(tmp_path / "store").run(iter(runs))
    assert Path(log).read_text() == "1 0\n"
    assert found.values("value") == {0: 1.0}
    assert len(Study(tmp_path / "store").run(runs[0])) == 1


def test_a_run_that_kills_its_worker_each_time_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("daynight.study.runner.MAX_RESTARTS", 1)  # each new pool of workers takes seconds

    def method(stream, *, seed):
        if seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": seed}

    runs = grid(method, toy_stream, seeds=range(3))
    with pytest.raises(StudyError, match=r"killed 2 times in a row, .* 1 runs are left, the first with \{'seed': 1\}"):
        Study(tmp_path, jobs=2).run(runs)
    assert len(Study(tmp_path).results(runs)) == 2


def test_workers_with_older_code_are_started_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "edited_method.py"
    for value in (1, 22):
        path.write_text(f"def method(stream, *, seed):\n    return {{'value': {value}}}\n")
        importlib.invalidate_caches()
        sys.modules.pop("edited_method", None)
        method = importlib.import_module("edited_method").method
        found = Study(tmp_path / "store", jobs=2).run(grid(method, toy_stream, seeds=range(2)))
        assert found.values("value") == {0: value, 1: value}
    assert len(Store(tmp_path / "store")) == 4


def test_runs_in_threads_of_one_process_are_those_of_one_thread(tmp_path):
    runs = grid(packnet, toy_stream, seeds=range(4), network=toy_network, free_at_end=[0.4, 0.6],
                policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3))  # fmt: skip
    Study(tmp_path / "one").run(runs)
    with joblib.parallel_config(backend="threading"):
        Study(tmp_path / "threads", jobs=4).run(runs)
    assert results_in(tmp_path / "one") == results_in(tmp_path / "threads")


def seen(stream, *, seed):
    return {"value": float(stream[0].train.load()[0].sum())}


def test_streams_that_differ_in_their_views_alone_are_told_apart_in_a_process(tmp_path):
    inputs, labels = torch.arange(8.0).reshape(4, 2), torch.arange(4) % 2

    def stream(view):
        return TaskStream([Task(train=Split(inputs, labels, view=view), test=(inputs, labels))])

    runs = [grid(seen, stream(view), seeds=[0])[0] for view in (None, torch.exp, torch.zeros_like)]
    found = [Study(tmp_path).run([run]).values("value")[0] for run in runs]
    assert found == [28.0, pytest.approx(float(inputs.exp().sum())), 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"b": 1}, "counted cannot be called with these settings: .*missing"),
        ({"a": 1, "c": 2}, "counted cannot be called with these settings: got an unexpected keyword argument 'c'"),
        ({"a": object()}, "grid: a: daynight cannot describe"),
        ({"a": 1, "seeds": [-1]}, "grid: a seed must be a whole number from 0 up"),
        ({"a": 1, "stream": 3}, "stream must be a TaskStream, what makes one .*, or a function .*, not a int"),
        ({"a": 1, "seeds": 3}, "grid: seeds must be several whole numbers, such as range\\(5\\), not 3"),
        ({"a": []}, "grid: a is an empty list, which leaves no runs"),
    ],
)
def test_wrong_grids_are_refused(settings, message):
    stream = settings.pop("stream", toy_stream)
    with pytest.raises(SettingError, match=message):
        grid(counted, stream, **{"seeds": [0], **settings})


def test_other_data_on_another_machine_are_refused(tmp_path):
    n_calls = []

    def stream():
        n_calls.append(1)
        return toy_stream(seed=len(n_calls))

    with pytest.raises(StudyError, match="are not those of the study: 3 toy tasks"):
        Study(tmp_path).run(grid(counted, stream, seeds=[0], a=1))


def begun_as_a_script(*arguments):
    """Run the study's script, and return its process and what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    return process.pid, process.stdout, process.wait


def begun_by_a_fork(*arguments):
    """Do the same in a fork of a process that has imported PyTorch, which takes seconds.

    That process does not know the folder of this file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["daynight.study", "daynight.testing"])
    ends = context.Pipe(duplex=False)
    process = context.Process(target=study_script.alone, args=(ends[1], *arguments))
    process.start()
    ends[1].close()

    def wait():
        process.join()
        return process.exitcode

    return process.pid, os.fdopen(os.dup(ends[0].fileno()), "rb"), wait


@pytest.mark.parametrize(("jobs", "n_kills", "begin"), [(1, 10, begun_by_a_fork), (2, 2, begun_as_a_script)])
def test_a_study_that_is_killed_ends_as_if_it_had_not_been(tmp_path, monkeypatch, jobs, n_kills, begin):
    if begin is begun_as_a_script:
        monkeypatch.setattr(study_script.slow_sum, "__module__", "__main__")  # as it is where the script is run
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    generator = torch.Generator().manual_seed(jobs)
    runs = study_script.runs(str(log))
    names = {f"{run.settings['a']} {run.settings['b']} {run.settings['seed']}": run.key for run in runs}
    for kill in range(n_kills + 1):
        done, n_lines = set(results_in(broken)), len(log.read_text().splitlines()) if log.exists() else 0
        group, printed, wait = begin(str(broken), str(log), str(jobs))
        n_heard = int(torch.randint(1, 4, (1,), generator=generator)) if kill < n_kills else -1
        for heard, _ in enumerate(printed, start=1):
            if heard == n_heard:
                os.killpg(group, signal.SIGKILL)
                break
        printed.close()
        returned = wait()
        begun = log.read_text().splitlines()[n_lines:]
        assert {names[line] for line in begun}.isdisjoint(done)
    assert returned == 0
    Study(whole).run(runs)
    assert results_in(broken) == results_in(whole)
    assert len(results_in(broken)) == 24


def test_workers_end_with_the_study_that_made_them(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), "endless", "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout.readline() == b"begun\n"
    finally:
        process.kill()
        process.wait()
    process.stdout.read()  # to the end, which comes as the last worker lets go
    process.stdout.close()


def study_of_its_own(folder):
    return Study(folder, jobs=2).run(grid(counted, toy_stream, seeds=range(2), a=1))


def test_a_study_may_be_the_work_of_a_worker(tmp_path):
    (found,) = joblib.Parallel(n_jobs=2)([joblib.delayed(study_of_its_own)(tmp_path)])
    assert len(found) == 2


def dying(stream, *, seed, folder):
    """Kill its own process the first time that seed 1 is run."""
    mark = Path(folder) / f"begun {seed}"
    with mark.open("a") as lines:
        lines.write("x")
    if seed == 1 and mark.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": seed}


def test_a_killed_worker_costs_its_run_alone(tmp_path):
    (tmp_path / "marks").mkdir()
    runs = grid(dying, toy_stream, seeds=range(6), folder=str(tmp_path / "marks"))
    assert len(Study(tmp_path / "store", jobs=2).run(runs)) == 6


@pytest.mark.filterwarnings("default")  # of the cluster's own, when workers die
def test_a_dask_cluster_gives_the_same_numbers_and_survives_a_killed_worker(tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = {"network": toy_network, "wake": Epochs(2), "night": Epochs(2), "policy": OneShot()}
    runs = grid(packnet, toy_stream, seeds=range(3), free_at_end=[0.4, 0.6], **settings)
    Study(tmp_path / "here").run(runs)
    (tmp_path / "marks").mkdir()
    fragile = grid(dying, toy_stream, seeds=range(4), folder=str(tmp_path / "marks"))
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        Study(tmp_path / "there").run(runs)
        assert len(Study(tmp_path / "fragile").run(fragile)) == 4
    assert results_in(tmp_path / "here") == results_in(tmp_path / "there")
    marks = collections.Counter({path.name: len(path.read_text()) for path in (tmp_path / "marks").iterdir()})
    assert marks["begun 1"] == 2


def test_streams_that_are_given_whole_are_used_as_they_are(tmp_path):
    inputs, labels = torch.eye(6), torch.arange(6) % 2
    stream = TaskStream([Task(train=(inputs, labels), test=(inputs, labels))])
    found = Study(tmp_path).run(
        grid(packnet, stream, seeds=[0], network=toy_network, free_at_end=0.5, wake=Epochs(1), night=Epochs(1))
    )
    assert found.values("n_steps") == {0: 2}


def unfinished(folder):
    """Return the states of runs, without the shared dusks next to them, which stay."""
    return [path for path in (folder / "states").iterdir() if not path.name.startswith("dusk-")]


def test_a_run_that_was_stopped_resumes_from_its_last_day(tmp_path, monkeypatch):
    settings = {"network": toy_network, "wake": Epochs(2), "night": Epochs(2), "policy": UniformCycles(2)}
    runs = [
        run for method in (packnet, memory) for run in grid(method, toy_stream, seeds=[3], free_at_end=0.4, **settings)
    ]
    study = Study(tmp_path / "store", states=tmp_path / "states")
    step, n_days = Clock.step, []

    def interrupted(clock):
        if len(n_days) == 1:
            raise RuntimeError("the machine goes down")
        n_days.append(clock.agent.day)
        step(clock)

    monkeypatch.setattr(Clock, "step", interrupted)
    for run in runs:
        n_days.clear()
        with pytest.raises(StudyError, match="the machine goes down"):
            study.run([run])
    assert {path.name for path in unfinished(tmp_path)} == {run.key for run in runs}

    def noted(clock):
        n_days.append(clock.agent.day)
        step(clock)

    monkeypatch.setattr(Clock, "step", noted)
    n_days.clear()
    (tmp_path / "states" / f"{runs[0].key}-cuda").mkdir()  # one of another device
    study.run(runs)
    assert n_days == [1, 2, 1, 2]
    assert unfinished(tmp_path) == []
    Study(tmp_path / "whole").run(runs)
    assert results_in(tmp_path / "store") == results_in(tmp_path / "whole")


def test_a_setting_that_cannot_be_described_is_refused_before_the_data_are_read(tmp_path):
    def reads():
        raise AssertionError

    with SCRIPT.open() as file, pytest.raises(SettingError, match=r"grid: log: .* changes as it is read"):
        grid(counted, reads, seeds=[0], a=1, log=[None, file])
