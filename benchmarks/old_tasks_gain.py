"""How much the hardest old task could gain if the weights that it sees moved again, with all its data at hand.

This bounds what a way of letting old tasks gain, with few examples kept and a bound for the others, can be worth. An
agent lives split MNIST, p = 0.995, with recommended nights. Then the old task with the lowest accuracy trains on: its
mask stays, and all weights that it sees, its biases and its head move, for as many epochs of its data as a night had.
Nothing holds the other tasks, which lose. It is scored on a sixth of the training images, which is held out: no test
images are read.

    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/old_tasks_gain.py --out docs/results/old_tasks_gain.csv

A life of 72 epochs takes three minutes of one core. Lives that the file has are left out.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import lives
import numpy as np
import torch
import unfrozen

import daynight as dn
from daynight.study.nights import held_out
from daynight.study.statistics import paired, summarize
from daynight.study.tournament.tournament import HELD_OUT

COLUMNS = ("p", "epochs", "seed", "task", "before", "after")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--p", type=float, default=0.995, help="fraction still free after the last day (0.995)")
    add("--seeds", type=int, default=5, metavar="N", help="seeds 100 to 99 + N (5)")
    add("--epochs", type=float, default=72.0, metavar="E", help="epochs of each wake and of each night (72)")
    add("--data", default="full", choices=("full", "sample"), help="which MNIST (full)")
    add("--out", type=Path, required=True, metavar="CSV", help="the table; a run that was cut off continues it")
    return parser.parse_args()


def lived(stream: dn.TaskStream, life: dict[str, Any]) -> dict[str, Any]:
    """Live all days, train the hardest old task on, and return its accuracies before and after."""
    epochs, seed = float(life["epochs"]), life["seed"]
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=float(life["p"]), days=len(stream)),
        training=dn.Training(batch_size=128), seed=seed,
    )  # fmt: skip
    length = dn.Epochs(epochs)
    before = dn.Clock(agent, stream, policy=dn.recommended_policy(), wake=length, night=length).run().accuracy[-1]
    task = int(np.argmin(before[:-1]))
    after = unfrozen.scores(agent, list(stream), epochs, seed, trained=[task])
    return {"task": task, "before": f"{before[task]:.6f}", "after": f"{after[task]:.6f}"}


def main() -> None:
    """Do the lives that the table does not have yet, and print the mean gain with its interval."""
    given = parse()
    torch.set_num_threads(1)
    stream = held_out(lambda: dn.split_mnist(data=given.data), HELD_OUT)
    same = {"p": f"{given.p:g}", "epochs": f"{given.epochs:g}"}
    wanted = [{**same, "seed": seed} for seed in range(100, 100 + given.seeds)]
    rows = lives.complete(given.out, stream.source, COLUMNS, wanted, functools.partial(lived, stream))
    kept = [row for row in rows if same.items() <= row.items()]
    before, after = ({int(row["seed"]): float(row[name]) for row in kept} for name in ("before", "after"))
    print(f"before {summarize(before.values())}, after {summarize(after.values())}")
    if len(kept) > 1:
        print(f"gain of the task {paired(after, before)}")


if __name__ == "__main__":
    main()
