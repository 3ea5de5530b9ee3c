"""What a process of a study does: one run after another, each on one thread."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from daynight import checks
from daynight.errors import DataError, DaynightError, SettingError, StudyError
from daynight.identity import describe, describe_views, digest, digest_of_data
from daynight.interrupts import Terminated
from daynight.tasks import TaskStream

#: The format of results, which is a part of each run's description ("version") and so of its key. It is raised when
#: results of equal settings may change, so that those runs are done again. A release alone changes no key: the
#: runs in docs/results carry this format.
RESULTS_FORMAT = "0.1.0.dev0"

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


@attrs.frozen(kw_only=True)
class Done:
    """What came of a try at a run.

    Attributes:
        key: The run's.
        result: What its method gave, in JSON; None if it failed.
        seconds: How long it took.
        machine: What it was done with.
        error: Why it failed; None if it did not.
        is_stale: Whether the process has other code than the one that laid the run out.
    """

    key: str
    result: Any = None
    seconds: float = 0.0
    machine: Mapping[str, str] = attrs.field(factory=dict)
    error: str | None = None
    is_stale: bool = False


def about(method: Method, data: str, views: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a run in JSON.

    Args:
        method: Its method.
        data: Digest of its data.
        views: Description of their views.
        settings: Its settings.

    Raises:
        SettingError: If something cannot be told apart from others.
    """
    described = {name: _described(name, value) for name, value in settings.items()}
    return {
        "method": describe(method), "data": data, "views": views, "version": RESULTS_FORMAT, "settings": described,
    }  # fmt: skip


#: Runs of one process are done one at a time: they share PyTorch's number of threads and its global generator.
_alone = threading.RLock()
#: The stream that this process loaded last, by its digest and views.
_streams: dict[str, TaskStream] = {}


def do(run: Run, extras: Mapping[str, Any], study: int) -> Done:
    """Do one run. A failure is given back, so that it does not end the others.

    Args:
        run: The run.
        extras: What its method is given beside its settings, and what comes of it does not depend on.
        study: Number of the process that the study runs in.
    """
    with _alone:
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        began = time.perf_counter()
        try:
            _leave_with(study)
            stream = _loaded(run)
            if digest(about(run.method, run.about["data"], describe_views(stream), run.settings)) != run.key:
                return Done(
                    key=run.key, is_stale=True,
                    error="this process has other code than the one that laid the run out. Start its workers anew.",
                )  # fmt: skip
            machine = _machine(extras["device"] if "device" in extras else run.settings.get("device", "cpu"))
            result = _as_json("the result", run.method(stream, **run.settings, **extras))
            if not isinstance(result, dict):
                raise StudyError(f"a method must give a dict of what came of it, not {result!r}.")
            return Done(key=run.key, result=result, seconds=time.perf_counter() - began, machine=machine)
        except Terminated as ended:
            if _is_worker_of(study):  # whose end is that of its own run alone, which is done again
                os._exit(ended.code if isinstance(ended.code, int) else 1)
            raise
        except DaynightError as error:
            return Done(key=run.key, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - began)
        except (Exception, SystemExit):
            return Done(key=run.key, error=traceback.format_exc(), seconds=time.perf_counter() - began)
        finally:
            torch.set_num_threads(n_threads)


def given(stream: Any) -> TaskStream:
    """Give the stream that is meant.

    Raises:
        SettingError: If it is neither a stream, nor what makes one.
    """
    found = stream() if callable(stream) and not isinstance(stream, TaskStream) else stream
    if isinstance(found, TaskStream):
        return found
    try:
        return TaskStream(found)
    except DataError as error:
        raise SettingError(
            "stream must be a TaskStream, what makes one (tasks, or pairs of training and test data), or a function "
            f"without arguments that gives either, not a {type(found).__name__}: {error}"[:600]
        ) from error


def _loaded(run: Run) -> TaskStream:
    """Give the run's stream, as long as this machine has the same data as the one that laid out the run."""
    name = digest([run.about["data"], run.about["views"]])
    if name not in _streams:
        _streams.clear()
        loaded = given(run.stream)
        if digest_of_data(loaded) != run.about["data"]:
            raise StudyError(
                f"the data that this process has are not those of the study: {loaded.source}. Give each machine the "
                "same."
            )
        _streams[name] = loaded
    return _streams[name]


def _machine(device: Any) -> dict[str, str]:
    """Name what a run is done with: PyTorch, and the GPU, or else the kind of processor.

    Args:
        device: Where its agents live; what is none of PyTorch's means something else, and nothing here.

    Raises:
        SettingError: If it cannot be used here.
    """
    name = platform.machine()
    with contextlib.suppress(RuntimeError, TypeError):
        found = torch.device(device)
        checks.usable_device(str(found))
        name = torch.cuda.get_device_name(found) if found.type == "cuda" else name
    return {"torch": torch.__version__, "platform": name}


def _described(name: str, value: Any) -> Any:
    try:
        return describe(value)
    except SettingError as error:
        raise SettingError(f"grid: {name}: {error}") from error


def _as_json(where: str, value: Any) -> Any:
    """Give a result in JSON: numbers of NumPy and PyTorch become Python's own.

    Raises:
        StudyError: If it has something else in it, or a number that is not finite.
    """
    if isinstance(value, Mapping):
        return {str(key): _as_json(f"{where}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _as_json(where, value.tolist())
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and np.isfinite(value)):
        return value
    raise StudyError(f"{where} must be finite numbers, text, None, or lists and dicts of them, and is {value!r}.")


def _is_worker_of(study: int) -> bool:
    """Tell whether this process was made by a study on this machine, by the number of the study's own."""
    return study != os.getpid() and multiprocessing.current_process().name.startswith("LokyProcess")


@functools.cache
def _leave_with(study: int) -> None:
    """End this process with the study that made it, whose results nobody would keep.

    Args:
        study: The number of its process. Workers of a cluster belong to somebody else, and are left alone; a study that
            is itself the work of such a process does its runs there.
    """
    if not _is_worker_of(study):
        return

    def watch() -> None:
        while os.getppid() == study:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
