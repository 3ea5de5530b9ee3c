"""Whether two processes on two cores do twice the work of one: the same work, in one process and in two at once.

The work is two tasks of split MNIST at p = 0.99 with 4 + 4 epochs, one thread a process. Processes load their data,
warm up and wait for a line of input before the time is taken. Takes about two minutes; other programs on the machine
change the result.

    DAYNIGHT_DATA=/data python benchmarks/two_processes.py --out two_processes.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import machine
import torch

import daynight as dn
from daynight.support.atomic import replacing

N_TASKS = 2


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--epochs", type=float, default=4.0, metavar="E", help="epochs of each wake and each night (4)")
    add("--p", type=float, default=0.99, help="fraction free after five days (0.99)")
    add("--repeats", type=int, default=5, metavar="R", help="number of measurements (5)")
    add("--engine", default="auto", choices=("auto", "dense", "sparse", "module"))
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    add("--work", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure one process and two processes in turn, and print the ratio of their throughputs."""
    settings = parse()
    torch.set_num_threads(1)
    if settings.work:
        work(settings)
        return
    about = machine.describe()
    stream = dn.split_mnist()
    print(f"{machine.line(about)}\nData: {stream.source}.", flush=True)
    pairs = []
    for repeat in range(settings.repeats):
        alone, together = at_once(1, settings), at_once(2, settings)
        pairs.append((alone, together))
        print(
            f"repeat {repeat}: one {alone[0]:.2f} s, two at once {together[0]:.2f} s and {together[1]:.2f} s, "
            f"throughput x {throughput(alone, together):.2f}",
            flush=True,
        )
    ratios = [throughput(alone, together) for alone, together in pairs]
    print(
        f"Two processes do {statistics.median(ratios):.2f} times the work of one "
        f"(median; {min(ratios):.2f} to {max(ratios):.2f})."
    )
    if settings.out:
        data = machine.named(stream.source)
        result: dict[str, Any] = {"data": data, "machine": about, "settings": vars(settings), "pairs": pairs}
        with replacing(settings.out) as path:
            path.write_text(json.dumps(result) + "\n")


def throughput(alone: list[float], together: list[float]) -> float:
    """Return the work per second of several processes at once, divided by that of one."""
    return len(together) * alone[0] / max(together)


def at_once(n_processes: int, settings: argparse.Namespace) -> list[float]:
    """Let several processes do the work at once, and return the seconds that each took."""
    arguments = ["--work", f"--epochs={settings.epochs}", f"--p={settings.p}", f"--engine={settings.engine}"]
    command = [sys.executable, __file__, *arguments]
    environment = {**os.environ, **machine.ONE_THREAD}
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) for _ in range(n_processes)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            sys.exit("a process failed; see its output above.")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in processes]


def work(settings: argparse.Namespace) -> None:
    """Load the data, learn a little to warm up, wait for a line of input, and print the seconds that the work takes."""
    stream = dn.split_mnist()[:N_TASKS]
    _live(stream, dn.Steps(20), settings)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    _live(stream, dn.Epochs(settings.epochs), settings)
    print(time.perf_counter() - began, flush=True)


def _live(stream: dn.TaskStream, budget: dn.Budget, settings: argparse.Namespace) -> None:
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256),
        capacity=dn.Capacity(free_at_end=settings.p, days=5),
        training=dn.Training(batch_size=128, engine=settings.engine),
    )
    dn.Clock(agent, stream, policy=dn.OneShot(), wake=budget, night=budget).run()


if __name__ == "__main__":
    main()
