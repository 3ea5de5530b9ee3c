"""The processor's time of a short call."""

from __future__ import annotations

import time
from collections.abc import Callable

N_ROUNDS = 5


def seconds_of(function: Callable[[], object], seconds: float) -> float:
    """Return the processor's seconds of one call: the best of five rounds, which take about `seconds` in total.

    What other programs do meanwhile counts little in them, as far as the call computes on one thread.
    """
    function()
    began = time.process_time()
    function()
    n_calls = max(1, int(seconds / N_ROUNDS / max(time.process_time() - began, 1e-7)))
    best = float("inf")
    for _ in range(N_ROUNDS):
        began = time.process_time()
        for _ in range(n_calls):
            function()
        best = min(best, (time.process_time() - began) / n_calls)
    return best
