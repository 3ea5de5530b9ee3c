"""The paper's experiments on each data set: networks, lengths and grids, at full and at reduced size."""

from __future__ import annotations

import contextlib
import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import attrs
import torch

from daynight import models
from daynight.data import streams
from daynight.data.tasks import TaskStream
from daynight.errors import DataError, DataNotFoundError
from daynight.nights.budgets import Epochs
from daynight.nights.schedules import UniformCycles
from daynight.storage.identity import describe, digest
from daynight.study import methods
from daynight.study.entries import Entry
from daynight.study.labels import Labels, short
from daynight.study.results import Results
from daynight.study.runner import Study
from daynight.study.runs import RESULTS_FORMAT, Method, combinations, grid
from daynight.training.settings import Training

#: Mean accuracy of PackNet with one cycle a night, by data set and p: the titles of Figure 3.
ACCURACY: dict[str, dict[float, float]] = {
    "mnist": {0.95: 0.996, 0.99: 0.989, 0.995: 0.970},
    "cifar10": {0.8: 0.891, 0.9: 0.843, 0.95: 0.797},
}
ACCURACY["cifar10-small"] = ACCURACY["cifar10"]  # to compare the shape: the paper has no such size
#: Compression against PackNet at equal accuracy, by data set, method and p: Table 1.
COMPRESSION: dict[str, dict[str, dict[float, float]]] = {
    "mnist": {
        "Memory": {0.95: 1.17, 0.99: 1.45, 0.995: 1.54},
        "Multinet": {0.95: 1.63, 0.99: 2.77, 0.995: 3.32},
    },
    "cifar10": {
        "Memory": {0.8: 1.60, 0.9: 2.25, 0.95: 2.08},
        "Multinet": {0.8: 2.82, 0.9: 2.26, 0.95: 2.27},
    },
}
COMPRESSION["cifar10-small"] = COMPRESSION["cifar10"]

#: Digests of all data of the experiments and of the tournament's streams, as in descriptions of runs. By them, runs
#: are found in a store without reading data.
DATA = {
    "mnist": "a2283aedb0b8f7a271b4", "cifar10": "11feb175472b03f361e5", "cifar10-small": "31a4502deb6a7ae62672",
    "nights": "ae9a8d7e7b3616d8da9b", "permuted": "98cfb8c0d668b1320341", "rotated": "ea4dc88a0cd32f5f10d9",
}  # fmt: skip

Network = Callable[[], torch.nn.Module]
DatasetName = Literal["mnist", "cifar10", "cifar10-small"]

#: The methods of the paper's Section 2, in the order of its figures.
METHODS = {"PackNet": methods.packnet, "Memory": methods.memory, "Multinet": methods.multinet}
#: Methods without pruning, which show what is forgotten and what a network per task reaches.
UNPRUNED = {"Fine-tuning": methods.fine_tuning, "From scratch": methods.from_scratch}
_FUNCTIONS = METHODS | UNPRUNED


@attrs.frozen(kw_only=True)
class Setup:
    """How the tasks of the paper's experiments on one data set are learnt.

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning", Appendix A.

    Attributes:
        dataset: Name of the data set.
        stream: A function that returns the five tasks.
        network: Makes the network.
        training: How a task is learnt.
        epochs: E, epochs of each wake.
        budget: B, epochs of each night.
        prunings: The p of Figures 2 to 4 and Table 1.
        curve: The p of Figure 1.
        cycles: The N of Figure 2.
        unbudgeted: The N of Figure 4, each with a night of N x B epochs.
        n_seeds: Number of seeds of Figures 1 and 3 and Table 1.
        n_cycle_seeds: Number of seeds of Figures 2 and 4, and of the tournament's reports.
        tolerance: Relative tolerance of the kept fraction in matching.
        settings: Further settings of the methods, such as ``biases``.
        tasks: Names of the tasks.
        data: Digest of the data of `stream`, if it is known; see `doing`.
    """

    dataset: DatasetName
    stream: Callable[..., TaskStream]
    network: Network
    training: Training
    epochs: float
    budget: float
    prunings: tuple[float, ...]
    curve: tuple[float, ...]
    cycles: tuple[int, ...]
    unbudgeted: tuple[int, ...]
    n_seeds: int = 5
    n_cycle_seeds: int = 10
    tolerance: float = 0.1
    settings: dict[str, Any] = attrs.field(factory=dict)
    tasks: tuple[str, ...] = tuple("/".join(map(str, pair)) for pair in streams.PAIRS)
    data: str | None = None

    def title(self, p: float) -> str:
        """Return the title of a panel: the data set and a fraction of weights free at the end."""
        return f"{self.dataset.upper()}, $p$ = {p:g}"

    def settings_of(self, method: str, *args: Any, **changes: Any) -> dict[str, Any]:
        """Return the settings of runs of a method; methods without pruning get only the settings that they have.

        Args:
            method: A key of `METHODS` or `UNPRUNED`.
            *args: Arguments of `choices`.
            **changes: Keyword arguments of `choices`.
        """
        if method in METHODS:
            return self.choices(*args, **changes)
        settings = self.choices(())
        return {name: settings[name] for name in ("network", "training", "wake", "night")}

    def choices(self, prunings: Sequence[float], n_cycles: Sequence[int] = (1,), nights: float = 1.0,
                **changes: Any) -> dict[str, Any]:  # fmt: skip
        """Return the settings of runs of a method. A list stands for several values, of which each run has one.

        Args:
            prunings: Fractions of weights free at the end.
            n_cycles: Numbers of cycles per night.
            nights: Length of each night, in units of `budget`.
            changes: Further settings, which replace those of the same name.
        """
        return {
            "network": self.network, "training": self.training, "wake": Epochs(self.epochs),
            "night": Epochs(self.budget * nights), "free_at_end": list(prunings),
            "policy": [UniformCycles(n) for n in n_cycles], **self.settings, **changes,
        }  # fmt: skip


#: Returns the results of runs: a function of a method, the seeds, and the method's settings, where a list stands for
#: several values.
Fetch = Callable[..., Results]
#: Returns the results of runs of a setup: a function of a key of `METHODS` or `UNPRUNED`, a number of seeds, and the
#: arguments of `Setup.choices`.
Source = Callable[..., Results]


def doing(stream: Callable[[], TaskStream], study: Study, data: str | None = None) -> Fetch:
    """Return a `Fetch` that does the missing runs.

    Args:
        stream: A function that returns the tasks. It is called only if runs are missing, or `data` is None.
        study: Does the runs.
        data: Digest of the tasks' data, if it is known.
    """

    @functools.cache
    def known() -> Fetch:
        return reading(() if data is None else of_data(study.store, data), is_whole=True)

    def fetch(method: Method, seeds: Iterable[int], **settings: Any) -> Results:
        seeds = list(seeds)
        with contextlib.suppress(DataError):  # runs are missing; or an entry of another run is damaged
            return known()(method, seeds, **settings)
        try:
            return study.run(grid(method, stream, seeds=seeds, **settings))
        except DataNotFoundError as error:
            raise DataNotFoundError(
                f"{study.store.folder} does not have all runs, and the missing ones need their data: {error} "
                "The option --done draws from the runs that are there.",
                page=error.page,
            ) from error

    return fetch


def of_data(entries: Iterable[Entry], data: str | None) -> list[Entry]:
    """Return the entries of runs on the data with a digest, or on any if it is None, whose results count today."""
    return [
        entry for entry in entries
        if data in (None, entry["run"].get("data")) and entry["run"].get("version") == RESULTS_FORMAT
    ]  # fmt: skip


def reading(entries: Iterable[Entry], *, is_whole: bool = False) -> Fetch:
    """Return a `Fetch` that reads runs from a store, without their data. It raises DataError if there are none.

    Args:
        entries: The entries of the store, all from the same data.
        is_whole: Whether it is also an error if some of the runs are missing.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        settings = dict(entry["run"]["settings"])
        del settings["seed"]
        found.setdefault(digest([entry["run"]["method"], settings]), []).append(entry)

    def fetch(method: Method, seeds: Iterable[int], **settings: Any) -> Results:
        own, wanted, n_wanted = [], set(seeds), 0
        for values in combinations(settings):
            name = digest([describe(method), {key: describe(value) for key, value in values.items()}])
            own += [entry for entry in found.get(name, []) if entry["run"]["settings"]["seed"] in wanted]
            n_wanted += len(wanted)
        if not own or (is_whole and len(own) < n_wanted):
            texts = {key: short(str(Labels().of(describe(value)))) for key, value in settings.items()}
            named = ", ".join(f"{key}={textwrap.shorten(text, 60, placeholder=' ...')}" for key, text in texts.items())
            raise DataError(
                f"the store has {len(own) or 'no'} runs of {method.__name__} with {named}. Without --done, the command "
                "does those that are missing.", page="studies",
            )  # fmt: skip
        return Results(own)

    return fetch


def source(setup: Setup, fetch: Fetch) -> Source:
    """Return a source of the results that a setup's figures show.

    Args:
        setup: The setup.
        fetch: Does or reads its runs.
    """

    def results(method: str, n_seeds: int, *args: Any, **choices: Any) -> Results:
        return fetch(_FUNCTIONS[method], range(n_seeds), **setup.settings_of(method, *args, **choices))

    return results


def full(dataset: DatasetName, data: str | None = None, n_train: int | None = None) -> Setup:
    """Return the setup of the paper or, on CIFAR10, one of reduced size.

    Args:
        dataset: ``"mnist"``, ``"cifar10"`` or, with a tenth of the images, fewer seeds and values, ``"cifar10-small"``.
        data: Where the data come from; see `daynight.split_mnist`. None requires all of them.
        n_train: Number of training examples per task; None is all, or 1,000 at the reduced size.
    """
    if dataset == "cifar10-small":
        return attrs.evolve(
            full("cifar10", data, 1000 if n_train is None else n_train), dataset=dataset,
            curve=(0.5, 0.8, 0.9, 0.95, 0.98), unbudgeted=(1, 2, 3), n_seeds=3, n_cycle_seeds=3, tolerance=0.2,
            data=DATA[dataset] if data in (None, "full") and n_train in (None, 1000) else None,
        )  # fmt: skip
    source: Any = data or "full"
    known = DATA[dataset] if source == "full" and n_train is None else None
    if dataset == "mnist":
        return Setup(
            dataset="mnist",
            stream=functools.partial(streams.split_mnist, data=source, n_train=n_train),
            network=functools.partial(models.MLP, 784, 256, 256),
            training=Training(batch_size=128),
            epochs=72.0,
            budget=72.0,
            prunings=(0.95, 0.99, 0.995),
            curve=(0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998),
            cycles=(1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 72),
            unbudgeted=(1, 2, 3, 4, 6),
            data=known,
        )
    return Setup(
        dataset="cifar10",
        stream=functools.partial(streams.split_cifar10, data=source, n_train=n_train),
        network=models.ConvNet,
        training=Training(batch_size=32, optimizer=functools.partial(torch.optim.Adam, lr=1e-4, fused=True)),
        epochs=12.0,
        budget=6.0,
        prunings=(0.8, 0.9, 0.95),
        curve=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98),
        cycles=(1, 2, 3, 6),
        unbudgeted=(1, 2, 3, 6),
        data=known,
    )


def quick(setup: Setup, n_train: int | None = None) -> Setup:
    """Return a setup that takes minutes: few images, epochs, seeds and values. It only shows that everything runs.

    Args:
        setup: The setup to reduce.
        n_train: Number of training examples per task; None is a few.
    """
    few, length = (400, 6.0) if setup.dataset == "mnist" else (64, 1.0)
    stream = functools.partial(setup.stream, n_train=few if n_train is None else n_train)
    return attrs.evolve(
        setup, stream=functools.partial(few_tested, stream), epochs=length, budget=length,
        prunings=tuple(dict.fromkeys((setup.prunings[0], setup.prunings[-1]))), curve=setup.curve[1::2],
        cycles=setup.cycles[:3], unbudgeted=setup.unbudgeted[:2], n_seeds=2, n_cycle_seeds=2, data=None,
    )  # fmt: skip


def few_tested(stream: Callable[[], TaskStream], n_test: int = 200) -> TaskStream:
    """Return a stream with the first few test examples of each task."""
    whole = stream()
    tasks = [attrs.evolve(task, test=task.test.subset(torch.arange(min(n_test, len(task.test))))) for task in whole]
    return TaskStream(tasks, f"{whole.source}, tested on {n_test} examples a task")
