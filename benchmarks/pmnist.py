r"""Permuted MNIST, ten tasks, at a stated capacity: designs beside what the Winning SubNetworks paper reports.

As in that paper (Kang et al., ICML 2022, tables 1 and 2): an MLP 784:100:100, five epochs a task, batches of 10, Adam.
A task's wake and night share the five epochs. The capacity is counted as there: the weights that tasks own, 32 bits
each, and the masks of all tasks, Huffman coded, as a share of the bits of all maskable weights (`Agent.sizes`). Heads
and biases are private to tasks and stand in a column of their own. Each row is appended when its run is over, and runs
that the file has are left out.

    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/pmnist.py --out docs/results/pmnist.csv
    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/pmnist.py --on validation --seeds 100 101 --tasks 3 \
        --designs recommended alone --free 0.84 --out docs/results/pmnist.csv

Designs are chosen on validation data: 10,000 of the training images, seeds from 100 on. A run of ten tasks takes about
ten minutes of a core.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import rows
import torch

import daynight as dn

N_TASKS, EPOCHS = 10, 5
COLUMNS = ("design", "free", "seed", "on", "tasks", "accuracy", "by_task", "owned", "capacity", "private", "seconds")


@attrs.frozen(kw_only=True)
class Design:
    """How a task is learnt.

    Attributes:
        policy: Makes the policy of the nights.
        wake: Epochs of a wake; the night has the rest of `EPOCHS`.
        rate: Learning rate of Adam.
        settings: Further arguments of the agent.
        capacity: Further arguments of its capacity.
        sees: Whose weights each task sees.
        is_even: Whether all tasks get the same share. If not, each night frees the same share of what is available, as
            in the study (`daynight.Capacity`).
    """

    policy: Callable[[], dn.SleepPolicy]
    wake: float = 3.0
    rate: float = 1e-3
    settings: dict[str, Any] = attrs.field(factory=dict)
    capacity: dict[str, Any] = attrs.field(factory=dict)
    sees: str = "all"
    is_even: bool = False


def gradual() -> dn.SleepPolicy:
    """Return a policy that prunes in the first 30 % of the night, while the learning rate falls to a tenth."""
    return dn.Rated(dn.GradualPruning(72, 0.7), dn.rates.Linear(1.0, 0.1), "night")


CONNECTED = {"connected": True}
GRADUAL = Design(policy=gradual, wake=1.0, rate=3e-3, settings={"restart": "redraw"}, is_even=True)
DESIGNS = {
    "one prune": Design(policy=dn.OneShot),
    "recommended": Design(policy=dn.recommended_policy),
    "recommended, redraw": Design(policy=dn.recommended_policy, settings={"restart": "redraw"}),
    "gradual": GRADUAL,
    "gradual, connected": attrs.evolve(GRADUAL, capacity=CONNECTED),
    "alone": attrs.evolve(GRADUAL, sees="none"),
    "alone, connected": attrs.evolve(GRADUAL, sees="none", capacity=CONNECTED),
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--designs", nargs="+", default=list(DESIGNS), choices=list(DESIGNS), help="which designs (all)")
    add("--free", nargs="+", type=float, default=[0.84], metavar="P", help="share of weights free at the end (0.84)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N", help="seeds (0 1 2 3 4)")
    add("--on", default="test", choices=("test", "validation"), help="which images are counted (test)")
    add("--tasks", type=int, default=N_TASKS, metavar="N", help="live only the first N of the ten days")
    add("--data", default="auto", choices=("auto", "full", "sample"), help="which MNIST (auto)")
    add("--out", type=Path, required=True, metavar="CSV", help="the table; a run that was cut off continues it")
    return parser.parse_args()


def main() -> None:
    """Run what the table does not have."""
    settings = parse()
    torch.set_num_threads(1)
    if not settings.out.exists():
        settings.out.write_text(f"# {rows.versions(())}\n" + ",".join(COLUMNS) + "\n")
    for free in settings.free:
        for seed in settings.seeds:
            for name in settings.designs:
                known = [(row["design"], float(row["free"]), int(row["seed"]), row["on"], int(row["tasks"]))
                         for row in rows.read(settings.out)[1]]  # fmt: skip
                if (name, free, seed, settings.on, settings.tasks) in known:
                    continue
                row = measured(name, free, seed, settings)
                with settings.out.open("a", newline="") as stream:
                    csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(row)
                print(
                    f"{name}, {free}, seed {seed}: {row['accuracy']} at {row['capacity']} ({row['seconds']} s)",
                    flush=True,
                )


def measured(name: str, free: float, seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """Run one life, and return its row."""
    began, design = time.perf_counter(), DESIGNS[name]
    tasks = list[dn.Task]()
    for task in list(dn.permuted_mnist(N_TASKS, seed=seed, data=settings.data))[: settings.tasks]:
        held = task.hold_out(1 / 6, seed) if settings.on == "validation" else task
        test = held.validation or task.test
        tasks.append(dn.Task(train=held.train, test=test, n_outputs=10, name=task.name, sees=design.sees))
    if design.is_even:
        capacity = dn.Capacity(keep_per_night=(1 - free) / N_TASKS, **design.capacity)
    else:
        capacity = dn.Capacity(free_at_end=free, days=N_TASKS, **design.capacity)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 100, 100), capacity=capacity,
        training=dn.Training(batch_size=10, optimizer=lambda params: torch.optim.Adam(params, lr=design.rate)),
        seed=seed, **design.settings,
    )  # fmt: skip
    clock = dn.Clock(
        agent, tasks, policy=design.policy(), wake=dn.Epochs(design.wake), night=dn.Epochs(EPOCHS - design.wake)
    )
    by_task = [round(100 * float(score), 2) for score in clock.run().accuracy[-1]]
    parts = {size.part: size for size in agent.sizes()}
    n_bits = 32 * agent.n_weights
    owned = sum(agent.owned) / agent.n_weights
    masks = 8 * (parts["owner maps"].n_coded_bytes or 0) / n_bits
    private = sum(record.private or 0 for record in agent.days) / agent.n_weights
    return {
        "design": name, "free": free, "seed": seed, "on": settings.on, "tasks": settings.tasks,
        "accuracy": f"{sum(by_task) / len(by_task):.3f}", "by_task": json.dumps(by_task), "owned": f"{owned:.5f}",
        "capacity": f"{owned + masks:.5f}", "private": f"{private:.5f}", "seconds": round(time.perf_counter() - began),
    }  # fmt: skip


if __name__ == "__main__":
    main()
