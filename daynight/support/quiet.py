"""Threads of OpenMP that wait without computing, so that small kernels do not suffer beside other programs.

PyTorch computes a kernel on several threads, which wait for each other at its end. GNU's OpenMP waits by computing for
a while. If another program has one of the cores, the threads take what is left of the cores from each other
(`benchmarks/first_command.py`). OpenMP lets them sleep much sooner as soon as it manages more threads than there are
cores (`GOMP_SPINCOUNT` in the manual of libgomp). So this module lets it manage a few more, which do nothing. Neither
the number of threads of a kernel nor a bit of its result depends on it.
"""

from __future__ import annotations

import os
import sys
import threading

import torch

#: Variables by which a user says how threads wait. Then nothing is changed.
CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: Name of the threads that do nothing.
NAME = "daynight-quiet"
#: Most threads that do nothing; each has a team of OpenMP's threads.
MOST = 4

#: Threads that do nothing; empty before the first call.
idle_threads = list[threading.Thread]()
_lock = threading.Lock()


def n_needed(n_threads: int, n_cores: int) -> int:
    """Return how many more teams of threads OpenMP must manage to have more threads than cores; 0 if too many.

    A first team has `n_threads` threads, and each further one `n_threads` - 1 that are new to OpenMP.

    Args:
        n_threads: Number of threads of a team.
        n_cores: Number of cores that the process may use.
    """
    if n_threads < 2:
        return 0
    needed = max(0, n_cores - n_threads) // (n_threads - 1) + 1
    return needed if needed <= MOST else 0


def wait_quietly() -> None:
    """Let OpenMP's threads of this process wait without computing from now on, where they are GNU's, on Linux.

    The first call does it, if PyTorch computes on several threads then. Nothing happens if the user has set one of
    `CHOSEN`.
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in CHOSEN):
        return
    with _lock:
        needed = 0 if idle_threads else n_needed(torch.get_num_threads(), len(os.sched_getaffinity(0)))
        for _ in range(needed):
            ready = threading.Event()
            thread = threading.Thread(target=_idle, args=(ready,), name=NAME, daemon=True)
            thread.start()
            ready.wait()
            idle_threads.append(thread)


if hasattr(os, "register_at_fork"):  # a fork may come while another thread holds the lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _idle(ready: threading.Event) -> None:
    """Make a team of OpenMP's threads, and keep it for as long as the process lives."""
    torch.ones(2**17).add_(1)  # large enough for several threads
    ready.set()
    threading.Event().wait()
