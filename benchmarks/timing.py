"""The time of a short call."""

from __future__ import annotations

import time
from collections.abc import Callable

N_ROUNDS = 5


def seconds_of(function: Callable[[], object], seconds: float) -> float:
    """Return the seconds of one call: the best of five rounds, which take about `seconds` in total."""
    function()
    began = time.perf_counter()
    function()
    n_calls = max(1, int(seconds / N_ROUNDS / max(time.perf_counter() - began, 1e-7)))
    best = float("inf")
    for _ in range(N_ROUNDS):
        began = time.perf_counter()
        for _ in range(n_calls):
            function()
        best = min(best, (time.perf_counter() - began) / n_calls)
    return best
