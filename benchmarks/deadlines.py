"""How late nights in seconds end, alone and with other programs on all cores.

The agent of the main example (split MNIST, MLP 784:256:256:2, p = 0.99) wakes once, and each night begins at this first
dusk, with uniform cycles. The whole call of `Agent.sleep`, which also checks that all numbers are finite and seals the
task, is timed from outside, too. Takes 25 minutes, or less with fewer nights.

    DAYNIGHT_DATA=/data python benchmarks/deadlines.py --out deadlines.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from typing import Any

import machine
import torch

import daynight as dn
from daynight.support.atomic import replacing

N_CYCLES = 8


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, nargs="+", default=[1.0, 5.0, 30.0], metavar="S", help="lengths of nights (1 5 30)")
    add("--nights", type=int, default=20, metavar="N", help="nights of each length (20)")
    add("--epochs", type=float, default=6.0, metavar="E", help="epochs of the wake (6)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure nights alone and with other programs, and print how late they were."""
    settings = parse()
    torch.set_num_threads(1)
    about = machine.describe()
    stream = dn.split_mnist()
    print(f"{machine.line(about)}\nData: {stream.source}.", flush=True)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=0.99, days=5), training=dn.Training()
    )
    agent.wake(stream[0], dn.Epochs(settings.epochs))
    nights: list[dict[str, Any]] = []
    for load in (False, True):
        stop = multiprocessing.Event()
        busy = [multiprocessing.Process(target=work, args=(stop,)) for _ in range(os.cpu_count() or 1)] if load else []
        for process in busy:
            process.start()
        try:
            for seconds in settings.seconds:
                nights += [one(agent, seconds, load) for _ in range(settings.nights)]
                print(line(seconds, load, nights), flush=True)
        finally:
            stop.set()
            for process in busy:
                process.join()
    if settings.out:
        with replacing(settings.out) as path:
            path.write_text(json.dumps({"settings": vars(settings), "machine": about, "nights": nights}, indent=1))


def one(agent: dn.Agent, seconds: float, load: bool) -> dict[str, Any]:
    """Sleep one night in a fork of an agent, and return how long it took."""
    sleeper = agent.fork()
    began = time.perf_counter()
    sleeper.sleep(dn.UniformCycles(N_CYCLES), dn.Seconds(seconds))
    took, day = time.perf_counter() - began, sleeper.days[0]
    return {
        "seconds": seconds, "load": load, "night_seconds": day.night_seconds, "call_seconds": took,
        "longest_step_seconds": day.longest_step_seconds, "longest_prune_seconds": day.longest_prune_seconds,
        "n_steps": day.night_steps,
    }  # fmt: skip


def work(stop: Any) -> None:
    """Keep a core busy."""
    torch.set_num_threads(1)
    matrix = torch.rand(512, 512)
    while not stop.is_set():
        matrix = (matrix @ matrix).clamp(0, 1)


def rows(nights: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each length, with and without other programs: how late nights were, in milliseconds."""
    found = []
    for load, seconds in dict.fromkeys((night["load"], night["seconds"]) for night in nights):
        own = [night for night in nights if (night["load"], night["seconds"]) == (load, seconds)]
        late = [(night["night_seconds"] - seconds) * 1e3 for night in own]
        bounds = [(night["longest_step_seconds"] + night["longest_prune_seconds"]) * 1e3 for night in own]
        found.append(
            {
                "night": f"{seconds:g} s", "other programs": "on all cores" if load else "none", "nights": len(own),
                "late by, median (ms)": statistics.median(late), "most (ms)": max(late),
                "least bound (ms)": min(bounds),
                "beyond its bound": sum(a > b for a, b in zip(late, bounds, strict=True)),
                "whole call, most (ms)": max((night["call_seconds"] - seconds) * 1e3 for night in own),
                "steps, median": statistics.median(night["n_steps"] for night in own),
            }
        )  # fmt: skip
    return found


def line(seconds: float, load: bool, nights: list[dict[str, Any]]) -> str:
    """Return a line that says how late the nights of one length were."""
    (row,) = rows([night for night in nights if (night["load"], night["seconds"]) == (load, seconds)])
    return ", ".join(
        f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}" for name, value in row.items()
    )


if __name__ == "__main__":
    main()
