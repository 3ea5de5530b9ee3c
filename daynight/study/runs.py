"""Runs of a study: a method on a stream with one value for each setting, and grids of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from daynight.data.tasks import TaskStream
from daynight.errors import DataError, SettingError
from daynight.storage.identity import describe, describe_views, digest, digest_of_data
from daynight.support import checks

#: The format of results, which is a part of each run's description ("version") and so of its key. It is raised when
#: results of equal settings may change, so that those runs are done again. A release alone changes no key: the runs in
#: docs/results have this format.
RESULTS_FORMAT = "0.1.0.dev0"

Method = Callable[..., Mapping[str, Any]]
Stream = TaskStream | Callable[[], TaskStream]


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A method, on a stream, with one value for each of its settings.

    Attributes:
        method: Called with the stream and the settings.
        stream: The tasks, or a function without arguments that returns them, which each process calls for itself.
        settings: The settings by name; ``seed`` is one of them.
        about: Describes all of these in JSON.
        key: The run's name in a store: a digest of `about`.
    """

    method: Method
    stream: Stream
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    key: str


def about(method: Method, data: str, views: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a run in JSON.

    Args:
        method: The run's method.
        data: Digest of the run's data.
        views: Description of the views of the data.
        settings: The run's settings.

    Raises:
        SettingError: If the value of a setting cannot be described.
    """
    described = {name: _described(name, value) for name, value in settings.items()}
    return {
        "method": describe(method), "data": data, "views": views, "version": RESULTS_FORMAT, "settings": described,
    }  # fmt: skip


def given(stream: Any) -> TaskStream:
    """Return the stream that a user's `stream` stands for.

    Raises:
        SettingError: If `stream` is not a stream, and no stream can be made from it.
    """
    found = stream() if callable(stream) and not isinstance(stream, TaskStream) else stream
    if isinstance(found, TaskStream):
        return found
    try:
        return TaskStream(found)
    except DataError as error:
        raise SettingError(
            "stream must be a TaskStream, what makes one (tasks, or pairs of training and test data), or a function "
            f"without arguments that returns either, not a {type(found).__name__}: {error}"[:600]
        ) from error


def _described(name: str, value: Any) -> Any:
    try:
        return describe(value)
    except SettingError as error:
        raise SettingError(f"grid: {name}: {error}") from error


def grid(method: Method, stream: Stream, *, seeds: Iterable[int], **settings: Any) -> list[Run]:
    """Return runs with every combination of the settings' values and the seeds.

    Args:
        method: A function of (stream, seed=..., and the settings) that returns its results in JSON, such as those in
            `daynight.study.methods`.
        stream: The tasks, or a function without arguments that returns them. The function is called once in each
            process; a stream is copied to the process with each run.
        seeds: Whole numbers from 0 up.
        settings: Settings of the method. A list stands for several values, of which each run has one.

    Returns:
        The runs, seed by seed, so that runs which can share a first wake follow each other.

    Raises:
        SettingError: If the method has no such setting, or a setting has no values or cannot be described.
    """
    if not isinstance(seeds, Iterable):
        raise SettingError(f"grid: seeds must be several whole numbers, such as range(5), not {seeds!r}.")
    seeds = [checks.integer("grid: a seed", seed, least=0) for seed in seeds]
    empty = [name for name, value in {"seeds": seeds, **settings}.items() if isinstance(value, list) and not value]
    if empty:
        raise SettingError(f"grid: {empty[0]} is an empty list, which leaves no runs. Give at least one value.")
    _check_settings(method, settings)
    for name, value in settings.items():  # before the data are read, which may take long
        for one in value if isinstance(value, list) else [value]:
            _described(name, one)
    loaded = given(stream)
    data, views = digest_of_data(loaded), describe_views(loaded)
    runs = []
    for seed in seeds:
        for values in combinations(settings):
            values["seed"] = seed
            described = about(method, data, views, values)
            runs.append(Run(method=method, stream=stream, settings=values, about=described, key=digest(described)))
    return runs


def combinations(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each combination of settings, where a list stands for several values."""
    choices = [value if isinstance(value, list) else [value] for value in settings.values()]
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*choices)]


def unique(runs: Iterable[Run]) -> dict[str, Run]:
    """Return each run once, by its key.

    Raises:
        SettingError: If one of `runs` is not a `Run`.
    """
    listed = [runs] if isinstance(runs, Run) else list(runs) if isinstance(runs, Iterable) else [runs]
    for run in listed:
        checks.kind("each run of a study", run, Run, "those that grid(...) returns")
    return {run.key: run for run in listed}


def _check_settings(method: Method, settings: Mapping[str, Any]) -> None:
    """Raise SettingError if the method cannot be called with these settings."""
    checks.function("grid: method", method)
    try:
        inspect.signature(method).bind(None, seed=0, **settings)
    except TypeError as error:
        name = getattr(method, "__name__", repr(method))
        raise SettingError(f"grid: {name} cannot be called with these settings: {error}.") from error
