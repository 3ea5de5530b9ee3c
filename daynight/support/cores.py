"""On how many threads PyTorch computes: small networks are computed on one, however many cores there are.

The threads of a kernel wait for each other, and OpenMP's threads wait by computing. If another program has a core, each
small kernel waits for it: a step takes several times as long as on one thread. So what is small depends on shapes
alone, and neither on the number of cores nor on what else runs, so that bits do not depend on these either.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

#: A network is small if its largest product takes fewer multiplications than this (see docs/speed.rst).
LARGE = 2**26
#: Modules with parameters that take long only if their products do.
_KNOWN = nn.Linear, nn.BatchNorm1d, nn.LayerNorm


def chooser(module: nn.Module, n: int) -> Callable[[bool], contextlib.AbstractContextManager[None]]:
    """Return what makes the block in which a network is computed: on one thread, if the network is small.

    Args:
        module: The network.
        n: Number of rows that are computed at once.

    Returns:
        A function of whether the block may take long. If so, it is found out anew whether the user has chosen a number
        of threads, which takes some microseconds; a short block relies on what was found before.
    """
    return OneThread if is_small(module, n) else lambda is_long: contextlib.nullcontext()


def is_small(module: nn.Module, n: int) -> bool:
    """Return whether a network is known to be small: on a CPU, of linear layers and norms, and without large products.

    Args:
        module: The network.
        n: Number of rows that are computed at once.
    """
    owners = [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]
    if not all(type(part) in _KNOWN for part in owners):
        return False
    return all(own.device.type == "cpu" and n * own.numel() < LARGE for own in module.parameters())


class OneThread:
    """A block in which PyTorch computes on one thread, and other threads of the process as before.

    If the user has chosen a number of threads, the block changes nothing; nor does it where that cannot be known.

    Args:
        is_long: Whether to find out anew if the user has chosen a number.
    """

    #: Whether the user has chosen, by the number of threads at which this was found out.
    known: ClassVar[dict[int, bool]] = {}

    def __init__(self, is_long: bool = True) -> None:
        self._n_before = torch.get_num_threads()
        self._set = setter() if self._n_before > 1 else None
        if self._set is not None:
            if is_long or self._n_before not in self.known:
                self.known[self._n_before] = is_chosen(self._set)
            if self.known[self._n_before]:
                self._set = None

    def __enter__(self) -> None:
        if self._set is not None:
            self._set(1)

    def __exit__(self, *_: object) -> None:
        # Code of the user, such as a hook, may have chosen a number within the block.
        if self._set is not None and torch.get_num_threads() == 1:
            self._set(self._n_before)


def is_chosen(set_number: Callable[[int], object]) -> bool:
    """Return whether the user has chosen how many threads compute, by the environment or ``torch.set_num_threads``."""
    if os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS"):
        return True
    # MKL asks OpenMP for its number of threads, until torch.set_num_threads tells it one.
    before = torch.get_num_threads()
    set_number(1)
    try:
        found = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    finally:
        set_number(before)
    return found is None or found[1] != "1"


@functools.cache
def setter() -> Callable[[int], object] | None:
    """Return the function of PyTorch's own OpenMP that sets the number of threads, of the calling thread only.

    ``torch.set_num_threads`` sets that of the process, too. None if PyTorch has no GNU OpenMP of its own, as on macOS
    and Windows.
    """
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        function = ctypes.CDLL(str(path)).omp_set_num_threads
        function.argtypes, function.restype = [ctypes.c_int], None
        return function
    return None
