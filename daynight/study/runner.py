"""Many runs: a grid of settings times seeds, run in parallel, with what is done kept in a store."""

from __future__ import annotations

import functools
import inspect
import itertools
import multiprocessing
import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from daynight import checks, files
from daynight._version import __version__
from daynight.errors import MissingPackageError, SettingError, StudyError
from daynight.study.identity import describe, describe_views, digest, digest_of_data
from daynight.study.results import Results
from daynight.study.store import Store
from daynight.tasks import TaskStream

#: A pool of workers of which one was killed is made anew as often as this.
MAX_RESTARTS = 10

Method = Callable[..., Mapping[str, Any]]
Stream = TaskStream | Callable[[], TaskStream]


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A method, on a stream, with one value for each of its settings.

    Attributes:
        method: Called with the stream and the settings.
        stream: The tasks, or a function without arguments that gives them, which each process calls for itself.
        settings: By name; ``seed`` is one of them.
        about: Describes all of these in JSON.
        key: Names the run in a store: a digest of `about`.
    """

    method: Method
    stream: Stream
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    key: str


def grid(method: Method, stream: Stream, *, seeds: Iterable[int], **settings: Any) -> list[Run]:
    """Lay out runs: each value of each setting with each of all others, and all with each seed.

    Args:
        method: A function of (stream, seed=..., and the settings) that gives what came of it in JSON, such as those in
            `daynight.study.methods`.
        stream: The tasks, or a function without arguments that gives them: that is called once in each process, where
            a stream is copied to it with each run.
        seeds: Whole numbers from 0.
        settings: Those of the method. A list stands for several values, of which each run has one.

    Returns:
        The runs, seed by seed, so that runs which can share a first wake follow each other.

    Raises:
        SettingError: If a setting is none of the method's, or cannot be told apart from others.
    """
    seeds = [checks.whole("grid: a seed", seed, least=0) for seed in seeds]
    _check_names(method, settings)
    loaded = _given(stream)
    data, views = digest_of_data(loaded), describe_views(loaded)
    about_method = describe(method)
    runs = []
    for seed in seeds:
        for given in combinations(settings):
            given["seed"] = seed
            described = {name: _described(name, value) for name, value in given.items()}
            about = {
                "method": about_method,
                "data": data,
                "views": views,
                "version": __version__,
                "settings": described,
            }
            runs.append(Run(method=method, stream=stream, settings=given, about=about, key=digest(about)))
    return runs


def combinations(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give each combination of settings, where a list stands for several values."""
    choices = [value if isinstance(value, list) else [value] for value in settings.values()]
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*choices)]


class Study:
    """Does runs and keeps what came of them. What is in the store is not done again.

    Runs of several calls and machines can share a store, in which each is one file. A run that is over is in
    the store whole, whatever happens afterwards; stop a study in any way, and the same call goes on.

    Args:
        folder: Of the store.
        jobs: Number of processes at a time, each of one thread. Within ``joblib.parallel_config(backend=...)``
            runs go where that says, such as to a Dask cluster.
        progress: Whether to show a bar of runs.
        states: A folder for states, for methods that put theirs by (`packnet`, `memory`, `multinet`): a run that was
            stopped goes on from its last whole day, and runs that differ only after their first dusk share it,
            whichever process does them. Dusks stay there; delete the folder when the study is over. None goes
            without.
    """

    def __init__(self, folder: Any, *, jobs: int = 1, progress: bool = False, states: Any = None) -> None:
        self.store = Store(folder)
        self.states = None if states is None else files.check_folder(states)
        self.jobs = checks.whole("jobs", jobs, least=1)
        self.progress = progress

    def run(self, runs: Sequence[Run]) -> Results:
        """Do those runs that are not in the store, and give what came of all.

        Raises:
            StudyError: If some have failed; all others are done first.
            MissingPackageError: If joblib is not installed.
        """
        missing = list({run.key: run for run in runs if run.key not in self.store}.values())
        failed: list[tuple[Run, str]] = []
        with self._bar(len(runs), len(runs) - len(missing)) as bar:
            for run, done, seconds, error in self._done(missing):
                if error is None:
                    machine = {"torch": torch.__version__, "platform": platform.machine()}
                    entry = {"run": run.about, "result": done, "seconds": round(seconds, 3), "machine": machine}
                    self.store.write(run.key, entry)
                    if self.states is not None:
                        (self.states / f"{run.key}.pkl").unlink(missing_ok=True)
                else:
                    failed.append((run, error))
                bar.update()
        if failed:
            run, error = failed[0]
            raise StudyError(
                f"{len(failed)} of {len(runs)} runs have failed; the others are in {self.store.folder}. The first, "
                f"with {run.about['settings']}: {error}"
            )
        return self.results(runs)

    def results(self, runs: Sequence[Run]) -> Results:
        """Give what came of those runs that are in the store.

        Raises:
            DataError: If a file of the store is damaged.
        """
        return Results([self.store.read(run.key) for run in runs if run.key in self.store])

    def _done(self, runs: Sequence[Run]) -> Iterator[tuple[Run, Any, float, str | None]]:
        """Do runs, and give each as soon as it is over."""
        try:
            import joblib
            from joblib.externals.loky.process_executor import TerminatedWorkerError
        except ImportError as error:
            raise MissingPackageError("a study needs joblib. Install it with: pip install 'daynight[study]'") from error
        left = {run.key: run for run in runs}
        n_restarts = 0
        while left:
            try:
                parallel = joblib.Parallel(n_jobs=self.jobs, return_as="generator_unordered", batch_size=1)
                calls = (
                    joblib.delayed(_do)(
                        run.key, run.method, run.stream, run.about["data"], self._given(run), os.getpid()
                    )
                    for run in list(left.values())
                )
                for key, *done in parallel(calls):
                    yield left.pop(key), *done
            except TerminatedWorkerError:
                n_restarts += 1
                if n_restarts > MAX_RESTARTS:
                    raise

    def _given(self, run: Run) -> dict[str, Any]:
        """Give the settings to call a method with: its run's and, if it can put it by, where its state is."""
        if self.states is None or "state" not in inspect.signature(run.method).parameters:
            return dict(run.settings)
        return {**run.settings, "state": self.states / f"{run.key}.pkl"}

    def _bar(self, n_runs: int, n_done: int) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=n_runs, initial=n_done, disable=not self.progress or n_done == n_runs, unit="run",
            dynamic_ncols=True, smoothing=0.05,
            bar_format="{n_fmt}/{total_fmt} runs |{bar}| {elapsed}, {remaining} left",
        )  # fmt: skip


#: The stream that this process loaded last, by the digest of its data.
_streams: dict[str, TaskStream] = {}


def _do(
    key: str, method: Method, stream: Stream, data: str, settings: Mapping[str, Any], study: int
) -> tuple[str, Any, float, str | None]:
    """Do one run, on one thread; a failure is given back, so that it does not end the others."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        _leave_with(study)
        if data not in _streams:
            _streams.clear()
            _streams[data] = _checked(stream, data)
        done = dict(method(_streams[data], **settings))
        digest(done)  # must be JSON
        return key, done, time.perf_counter() - began, None
    except Exception:
        return key, None, time.perf_counter() - began, traceback.format_exc()
    finally:
        torch.set_num_threads(n_threads)


@functools.cache
def _leave_with(study: int) -> None:
    """End this process with the study that made it, whose results nobody would keep.

    Args:
        study: The number of its process. Workers of a cluster belong to somebody else, and are left alone.
    """
    if not multiprocessing.current_process().name.startswith("LokyProcess"):
        return

    def watch() -> None:
        while os.getppid() == study:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _checked(stream: Stream, data: str) -> TaskStream:
    """Give the stream, as long as this machine has the same data as the one that laid out the runs."""
    loaded = _given(stream)
    if digest_of_data(loaded) != data:
        raise StudyError(
            f"the data that this process has are not those of the study: {loaded.source}. Give each machine the same."
        )
    return loaded


def _given(stream: Stream) -> TaskStream:
    found = stream() if callable(stream) else stream
    if not isinstance(found, TaskStream):
        raise SettingError(
            f"stream must be a TaskStream or a function without arguments that gives one, not {found!r}."
        )
    return found


def _described(name: str, value: Any) -> Any:
    try:
        return describe(value)
    except SettingError as error:
        raise SettingError(f"grid: {name}: {error}") from error


def _check_names(method: Method, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a method does not have, and a method without those that it needs."""
    try:
        inspect.signature(method).bind(None, seed=0, **settings)
    except TypeError as error:
        name = getattr(method, "__name__", repr(method))
        raise SettingError(f"grid: {name} cannot be called with these settings: {error}.") from error
