"""The machine that a benchmark runs on: its CPU, versions and memory."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIB = 2**20  # bytes
#: Environment of a process that computes on one thread, PyTorch included.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def describe() -> dict[str, Any]:
    """Return the CPU, the versions and the number of threads of this process, in plain values."""
    import torch

    import daynight

    return {
        "cpu": cpu_model(),
        "n_cpus": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "blas": "mkl" if torch.backends.mkl.is_available() else "other",
        "python": platform.python_version(),
        "daynight": daynight.__version__,
    }


def line(about: Mapping[str, Any]) -> str:
    """Return what `describe` returned, as one line."""
    return (
        f"{about['cpu']}, {about['n_cpus']} cores, {about['torch_threads']} thread(s) a process, "
        f"torch {about['torch']} ({about['blas']}), Python {about['python']}, daynight {about['daynight']}"
    )


def cpu_model() -> str:
    """Return the CPU's name from Linux, or what Python knows elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((text.partition(":")[2].strip() for text in lines if text.startswith("model name")), "unknown CPU")


def resident_bytes() -> int:
    """Return the resident memory of this process now; without /proc, its peak."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return _max_rss()


def peak_bytes() -> int:
    """Return the peak of the resident memory of this program.

    On Linux ``ru_maxrss`` is too high: it also counts the time before the process began to run this program, when it
    was a copy of its parent. The kernel's VmHWM counts from the start of the program.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(text.split()[1]) * 1024 for text in lines if text.startswith("VmHWM"))
    except (OSError, StopIteration):
        return _max_rss()


def _max_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def named(source: str) -> str:
    """Return the name of a stream's data without their path, which only this machine has."""
    return source.partition(" in full,")[0] + " in full" if " in full," in source else source
