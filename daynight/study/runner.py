"""`Study`: does many runs in parallel, and keeps their results in a store."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from daynight.errors import MissingPackageError, SettingError, StudyError
from daynight.study.results import Results
from daynight.study.runs import Run, unique
from daynight.study.store import Store
from daynight.study.worker import Done, do
from daynight.support import atomic, checks

#: How often a pool of workers is made again after a worker was killed, if no run is finished in between.
MAX_RESTARTS = 3


class Study:
    """Does many runs and stores their results. A run that is in the store is not done again.

    Several calls and machines can share a store, in which each run has a file. The result of a finished run is in the
    store as a whole, whatever happens afterwards. A study can be stopped in any way; the same call then continues it.

    Args:
        folder: The folder of the store. It is made by `run`.
        jobs: Number of processes at a time, each with one thread. Within ``joblib.parallel_config(backend=...)``, that
            backend does the runs, such as a Dask cluster. Each process does one run at a time.
        progress: Whether to show a progress bar of runs.
        device: The device for methods that have a parameter ``device``, such as ``"cuda"``; jobs share it. It is stored
            beside the result of a run, and is not part of the run's name. Each device rounds in its own way, and a GPU
            draws other random numbers for dropout.
        states: A folder for states, for methods that have a parameter ``state`` (`packnet`, `memory`, `multinet`): a
            run that was stopped resumes from its last checkpoint, and runs that differ only after their first dusk
            share it, whichever process does them. A run's state is deleted at its end. Dusks stay; delete the folder
            when the study is over. With None, a run that was stopped starts again from its beginning.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(
        self, folder: Any, *, jobs: int = 1, progress: bool = False, states: Any = None, device: str = "cpu"
    ) -> None:
        self.jobs = checks.integer("jobs", jobs, least=1)
        checks.flag("progress", progress)
        self.progress = progress
        self.device = _device(device)
        self.store = Store(atomic.folder_named(folder))
        self.states = None if states is None else atomic.folder_named(states)

    def run(self, runs: Iterable[Run]) -> Results:
        """Do the runs that are not in the store, and return the results of all, each once.

        Raises:
            OutputError: If a folder cannot be made or written to; no run is started then.
            StudyError: If runs have failed; all others are done first.
            MissingPackageError: If joblib is not installed.
        """
        wanted = unique(runs)
        missing = {key: run for key, run in wanted.items() if key not in self.store}
        if missing:
            for folder in (self.store.folder, self.states):
                if folder is not None:
                    atomic.check_folder(folder)
        failed: list[tuple[Run, str]] = []
        with self._bar(wanted, len(wanted) - len(missing)) as bar:
            for done in self._done(missing):
                run = wanted[done.key]
                if done.error is None:
                    entry = {"run": run.about, "result": done.result, "seconds": round(done.seconds, 3)}
                    self.store.write(run.key, {**entry, "machine": done.machine})
                    if self.states is not None:
                        for state in self.states.glob(f"{run.key}*"):  # the states on all devices
                            shutil.rmtree(state, ignore_errors=True)
                else:
                    failed.append((run, done.error))
                bar.update()
        if failed:
            run, error = failed[0]
            others = len({error for _, error in failed}) - 1
            kept = f"; the others are in {self.store.folder}" if len(failed) < len(wanted) else ""
            raise StudyError(
                f"{len(failed)} of {len(wanted)} runs have failed{kept}. The first, "
                f"with {run.about['settings']}: {error}" + (f" (and {others} other errors)" if others else "")
            )
        return self.results(wanted.values())

    def results(self, runs: Iterable[Run]) -> Results:
        """Return the results of those runs that are in the store, each once.

        Raises:
            DataError: If a file of the store is damaged.
        """
        return Results([self.store.read(key) for key in unique(runs) if key in self.store])

    def _done(self, runs: Mapping[str, Run]) -> Iterator[Done]:
        """Do runs, and yield the outcome of each as soon as it is over."""
        try:
            import joblib
            from joblib.externals.loky import get_reusable_executor
            from joblib.externals.loky.process_executor import TerminatedWorkerError
        except ImportError as error:
            raise MissingPackageError("a study needs joblib. Install it with: pip install 'daynight[study]'") from error
        left, stale, n_restarts = dict(runs), set[str](), 0
        while left:
            try:
                parallel = joblib.Parallel(n_jobs=self.jobs, return_as="generator_unordered", batch_size=1)
                calls = (joblib.delayed(do)(run, self._extras(run), os.getpid()) for run in list(left.values()))
                found = set[str]()
                for done in parallel(calls):
                    if done.is_stale and done.key not in stale:
                        found.add(done.key)
                        continue
                    del left[done.key]
                    n_restarts = 0
                    yield done
                if found:
                    # Workers live on from one study to the next, with the code that they loaded for the first.
                    get_reusable_executor().shutdown(wait=True)
                    stale |= found
            except TerminatedWorkerError as error:
                n_restarts += 1
                if n_restarts > MAX_RESTARTS:
                    raise StudyError(
                        f"workers were killed {n_restarts} times in a row, and no run was finished in between. "
                        f"{len(left)} runs are left, the first with {next(iter(left.values())).about['settings']}. Is "
                        "there enough memory for so many jobs?"
                    ) from error

    def _extras(self, run: Run) -> dict[str, Any]:
        """Return the device and the state's folder, if the method has such parameters and the run no such settings."""
        extras: dict[str, Any] = {} if self.states is None else {"state": self._state(self.states, run.key)}
        extras |= {} if self.device == "cpu" else {"device": self.device}
        takes = inspect.signature(run.method).parameters.keys() - run.settings.keys()
        takes -= getattr(run.method, "keywords", {}).keys()  # the arguments of a partial
        return {name: value for name, value in extras.items() if name in takes}

    def _state(self, states: Path, key: str) -> Path:
        """Return the folder for the state of a run on this device; a state of another device leads to other results."""
        return states / (key if self.device == "cpu" else f"{key}-{self.device.replace(':', '')}")

    def _bar(self, runs: Mapping[str, Run], n_done: int) -> Any:
        from tqdm import tqdm

        names = sorted({getattr(run.method, "__name__", "runs") for run in runs.values()})
        return tqdm(
            total=len(runs), initial=n_done, disable=not self.progress or n_done == len(runs), unit="run",
            desc=", ".join(names), dynamic_ncols=True, smoothing=0.05,
            bar_format="{desc}: {n_fmt}/{total_fmt} runs |{bar}| {elapsed}, {remaining} left",
        )  # fmt: skip


def _device(device: Any) -> str:
    """Return the name of a device, which may be missing on this machine: workers may run on other machines.

    Raises:
        SettingError: If PyTorch has no such device.
    """
    try:
        return str(torch.device(device))
    except (RuntimeError, TypeError) as error:
        raise SettingError(f"device must be one of PyTorch's, such as 'cpu' or 'cuda', not {device!r}.") from error
