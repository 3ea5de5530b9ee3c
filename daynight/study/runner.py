"""Many runs: a grid of settings times seeds, run in parallel, with what is done kept in a store."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from daynight.errors import MissingPackageError, SettingError, StudyError
from daynight.study.results import Results
from daynight.study.runs import Run, _unique
from daynight.study.store import Store
from daynight.study.worker import Done, do
from daynight.support import atomic, checks

#: A pool of which a worker was killed is made anew as often as this, with no run being done in between.
MAX_RESTARTS = 3


class Study:
    """Does runs and keeps what came of them. What is in the store is not done again.

    Runs of several calls and machines can share a store, in which each is one file. A run that is over is in
    the store whole, whatever happens afterwards; stop a study in any way, and the same call goes on.

    Args:
        folder: Of the store.
        jobs: Number of processes at a time, each of one thread. Within ``joblib.parallel_config(backend=...)``
            runs go where that says, such as to a Dask cluster; those of one process are done one at a time.
        progress: Whether to show a bar of runs.
        device: Where methods that have a ``device`` live their lives, such as ``"cuda"``; jobs share it. It is noted
            beside what came of a run and no part of its name: rounding, and on a GPU the random numbers of dropout
            too, are the device's own.
        states: A folder for states, for methods that put theirs by (`packnet`, `memory`, `multinet`): a run that was
            stopped goes on from its last whole day, and runs that differ only after their first dusk share it,
            whichever process does them. Dusks stay there; delete the folder when the study is over. States are
            pickles: whoever can write into the folder can run code here. None goes without.

    Raises:
        OutputError: If a folder cannot be written to.
        SettingError: If another argument is outside its range.
    """

    def __init__(
        self, folder: Any, *, jobs: int = 1, progress: bool = False, states: Any = None, device: str = "cpu"
    ) -> None:
        self.jobs = checks.whole("jobs", jobs, least=1)
        checks.flag("progress", progress)
        self.progress = progress
        self.device = _device(device)
        self.store = Store(atomic.check_folder(folder))
        self.states = None if states is None else atomic.check_folder(states)

    def run(self, runs: Iterable[Run]) -> Results:
        """Do those runs that are not in the store, and give what came of all, each once.

        Raises:
            StudyError: If some have failed; all others are done first.
            MissingPackageError: If joblib is not installed.
        """
        unique = _unique(runs)
        missing = {key: run for key, run in unique.items() if key not in self.store}
        failed: list[tuple[Run, str]] = []
        with self._bar(unique, len(unique) - len(missing)) as bar:
            for done in self._done(missing):
                run = unique[done.key]
                if done.error is None:
                    entry = {"run": run.about, "result": done.result, "seconds": round(done.seconds, 3)}
                    self.store.write(run.key, {**entry, "machine": done.machine})
                    if self.states is not None:
                        for state in self.states.glob(f"{run.key}*.pkl"):  # of each device
                            state.unlink(missing_ok=True)
                else:
                    failed.append((run, done.error))
                bar.update()
        if failed:
            run, error = failed[0]
            others = len({error for _, error in failed}) - 1
            kept = f"; the others are in {self.store.folder}" if len(failed) < len(unique) else ""
            raise StudyError(
                f"{len(failed)} of {len(unique)} runs have failed{kept}. The first, "
                f"with {run.about['settings']}: {error}" + (f" (and {others} other errors)" if others else "")
            )
        return self.results(unique.values())

    def results(self, runs: Iterable[Run]) -> Results:
        """Give what came of those runs that are in the store, each once.

        Raises:
            DataError: If a file of the store is damaged.
        """
        return Results([self.store.read(key) for key in _unique(runs) if key in self.store])

    def _done(self, runs: Mapping[str, Run]) -> Iterator[Done]:
        """Do runs, and give what came of each as soon as it is over."""
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
                        f"workers were killed {n_restarts} times on end, and no run was done in between. "
                        f"{len(left)} runs are left, the first with {next(iter(left.values())).about['settings']}. Is "
                        "there enough memory for as many jobs?"
                    ) from error

    def _extras(self, run: Run) -> dict[str, Any]:
        """Give what a run's method has a parameter for and no setting: where to live, and where to put its state."""
        extras: dict[str, Any] = {} if self.states is None else {"state": self._state(run.key)}
        extras |= {} if self.device == "cpu" else {"device": self.device}
        takes = inspect.signature(run.method).parameters.keys() - run.settings.keys()
        takes -= getattr(run.method, "keywords", {}).keys()  # a partial's own
        return {name: value for name, value in extras.items() if name in takes}

    def _state(self, key: str) -> Path:
        """Give the file for the state of a run on this device; one of another device is of no use to it."""
        assert self.states is not None
        return self.states / (f"{key}.pkl" if self.device == "cpu" else f"{key}-{self.device.replace(':', '')}.pkl")

    def _bar(self, runs: Mapping[str, Run], n_done: int) -> Any:
        from tqdm import tqdm

        names = sorted({getattr(run.method, "__name__", "runs") for run in runs.values()})
        return tqdm(
            total=len(runs), initial=n_done, disable=not self.progress or n_done == len(runs), unit="run",
            desc=", ".join(names), dynamic_ncols=True, smoothing=0.05,
            bar_format="{desc}: {n_fmt}/{total_fmt} runs |{bar}| {elapsed}, {remaining} left",
        )  # fmt: skip


def _device(device: Any) -> str:
    """Give the name of a device, which need not be on this machine: workers may be on others.

    Raises:
        SettingError: If it names none.
    """
    try:
        return str(torch.device(device))
    except (RuntimeError, TypeError) as error:
        raise SettingError(f"device must be one of PyTorch's, such as 'cpu' or 'cuda', not {device!r}.") from error
