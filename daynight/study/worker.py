"""The work of a study's process: one run after another, each on one thread."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import platform
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from daynight.data.tasks import TaskStream
from daynight.errors import DaynightError, StudyError
from daynight.storage.identity import describe_views, digest, digest_of_data
from daynight.study.runs import Run, about, given
from daynight.support import checks
from daynight.support.interrupts import Terminated


@attrs.frozen(kw_only=True)
class Done:
    """The outcome of one try to do a run.

    Attributes:
        key: The run's key.
        result: What its method returned, in JSON; None if it failed.
        seconds: How long the try took.
        machine: The version of PyTorch, and the GPU or processor.
        error: Why the run failed; None if it succeeded.
        is_stale: Whether the process has other code than the process of the study.
    """

    key: str
    result: Any = None
    seconds: float = 0.0
    machine: Mapping[str, str] = attrs.field(factory=dict)
    error: str | None = None
    is_stale: bool = False


#: The runs of one process are done one at a time: they share PyTorch's number of threads and its global generator.
_alone = threading.RLock()
#: The stream that this process loaded last, by its digest and views.
_streams: dict[str, TaskStream] = {}


def do(run: Run, extras: Mapping[str, Any], study: int) -> Done:
    """Do one run, and return its outcome. A failure is returned too, so that the other runs are done.

    Args:
        run: The run.
        extras: Further arguments of the run's method, on which the result does not depend.
        study: Id of the study's process.
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
                    error="this process has other code than the process of the study. Restart its workers.",
                )  # fmt: skip
            machine = _machine(extras["device"] if "device" in extras else run.settings.get("device", "cpu"))
            result = _as_json("the result", run.method(stream, **run.settings, **extras))
            if not isinstance(result, dict):
                raise StudyError(f"a method must return a dict of its results, not {result!r}.")
            return Done(key=run.key, result=result, seconds=time.perf_counter() - began, machine=machine)
        except Terminated as ended:
            if _is_worker_of(study):  # only this process's run ends, and is done again
                os._exit(ended.code if isinstance(ended.code, int) else 1)
            raise
        except DaynightError as error:
            return Done(key=run.key, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - began)
        except (Exception, SystemExit):
            return Done(key=run.key, error=traceback.format_exc(), seconds=time.perf_counter() - began)
        finally:
            torch.set_num_threads(n_threads)


def _loaded(run: Run) -> TaskStream:
    """Return the run's stream.

    Raises:
        StudyError: If this machine has other data than the study.
    """
    name = digest([run.about["data"], run.about["views"]])
    if name not in _streams:
        _streams.clear()
        loaded = given(run.stream)
        if digest_of_data(loaded) != run.about["data"]:
            raise StudyError(
                f"the data of this process are not those of the study: {loaded.source}. Give each machine the same "
                "data."
            )
        _streams[name] = loaded
    return _streams[name]


def _machine(device: Any) -> dict[str, str]:
    """Return the version of PyTorch, and the name of the GPU or, without a GPU, the kind of processor.

    Args:
        device: The device of the run. If PyTorch has no such device, the value has another meaning and is ignored.

    Raises:
        SettingError: If the device cannot be used here.
    """
    name = platform.machine()
    with contextlib.suppress(RuntimeError, TypeError):
        found = torch.device(device)
        checks.usable_device(str(found))
        name = torch.cuda.get_device_name(found) if found.type == "cuda" else name
    return {"torch": torch.__version__, "platform": name}


def _as_json(where: str, value: Any) -> Any:
    """Return a result in JSON: numbers of NumPy and PyTorch become Python's own.

    Raises:
        StudyError: If the result holds any other value, or a number that is not finite.
    """
    if isinstance(value, Mapping):
        return {str(key): _as_json(f"{where}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _as_json(where, value.tolist())
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and np.isfinite(value)):
        return value
    raise StudyError(f"{where} must be finite numbers, text, None, or lists and dicts of them, not {value!r}.")


def _is_worker_of(study: int) -> bool:
    """Return whether this process was started by the study with that process id, on this machine."""
    return study != os.getpid() and multiprocessing.current_process().name.startswith("LokyProcess")


@functools.cache
def _leave_with(study: int) -> None:
    """End this process when the study that started it ends, since later results are lost.

    Args:
        study: Id of the study's process. Workers of a cluster were not started by the study, and continue. A worker in
            which another study runs also continues.
    """
    if not _is_worker_of(study):
        return

    def watch() -> None:
        while os.getppid() == study:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
