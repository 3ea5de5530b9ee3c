"""What a benchmark says about the machine that it ran on."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIB = 2**20  # bytes
#: Makes a process, PyTorch included, compute on one thread.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def describe() -> dict[str, Any]:
    """Give CPU, versions and number of threads of this process, in plain values."""
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
    """Put what `describe` gives into one line."""
    return (
        f"{about['cpu']}, {about['n_cpus']} cores, {about['torch_threads']} thread(s) a process, "
        f"torch {about['torch']} ({about['blas']}), Python {about['python']}, daynight {about['daynight']}"
    )


def cpu_model() -> str:
    """Give the CPU's name as Linux knows it, or else what Python can tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((text.partition(":")[2].strip() for text in lines if text.startswith("model name")), "unknown CPU")


def resident_bytes() -> int:
    """Give the resident memory of this process now; where /proc is missing, the most that it ever was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return _max_rss()


def peak_bytes() -> int:
    """Give the most resident memory that this program has had.

    ``ru_maxrss`` is not enough on Linux: it also counts what the process was before it began to run this
    program, which is a copy of its parent. The kernel's VmHWM counts from this program's start.
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
    """Give the name of a stream's data without the place where they are, which nobody else has."""
    return source.partition(" in full,")[0] + " in full" if " in full," in source else source
