r"""The gap between PackNet and methods that see all data, at equal nights: one row for each run of a grid.

The study (`docs/reproduction.rst`) compares methods with one prune a night. Here, PackNet, Memory and Multinet have the
same nights: one prune, the recommended policy, or uniform cycles. All else is as in the study: split MNIST, all
training images, 784:256:256, batches of 128, 72 epochs a wake and 72 a night, test accuracy at the end. `--only` picks
a part of the grid, and `--list` shows what is missing of it. A lift takes away one of the things in which the methods
differ:

    order 43210      the tasks in another order (PackNet, Memory)
    old 0.2          a fifth of each batch is of earlier tasks, whatever their number; of Memory, usually 1/2 to 4/5 is
    shares           Multinet in five days with a fifth of the steps each: its mask grows by PackNet's shares
    shares frozen    the same, and each day's weights freeze at its dawn; each day's task is the union of all tasks
    unfrozen         PackNet; after the last night, the weights of all tasks train on with the same masks, on all data,
                     for as many steps as all nights had (`unfrozen.py`). It takes half as many steps again

Beside the accuracy of all tasks and of each, in the order of the days, a row says, by day and by layer of hidden units
or of weights:

    silent           hidden units that no image of the task activates, at the end
    silent_dusk      the same at the task's dusk, before anything is pruned
    no_gradient      hidden units without a gradient of the task's loss at its dusk
    in_vain          owned weights that reach no output, or that no input reaches (`Agent.sizes`)
    blank            owned weights, of the first layer, of pixels that are black in all images of the task

    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/gap.py
    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/gap.py --only method=Multinet p=0.995,0.99 seed=0,1,2

Each row is appended when its run is over, and runs that the file has are left out. The runs that say most come first. A
run takes one to five minutes of a core, and the whole grid 50 to 70 hours. `gap_tables.py` makes tables and figures.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import functools
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rows
import torch
import unfrozen
from torch import Tensor, nn

import daynight as dn
from daynight.data.splits import load
from daynight.data.unions import union, within_union
from daynight.networks.connectivity import Connections, in_vain

PRUNINGS, MORE = (0.995, 0.99, 0.95), (0.9975, 0.99875)
EPOCHS, QUICK = 72.0, 0.25
#: What names a run; the other columns are what it has found.
NAMES = ("method", "nights", "restart", "p", "lift", "epochs", "seed")
COLUMNS = (
    *NAMES, "accuracy", "by_task", "owned", "silent", "silent_dusk", "no_gradient", "in_vain", "blank", "steps",
    "seconds", "version",
)  # fmt: skip
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "gap.csv"
#: Images of a task with which activations and gradients are looked at.
N_LOOKED_AT = 2048
ONE, BEST, UNIFORM = "one", "recommended", "uniform-72"
ORDERS = ("order 43210", "order 14023", "order 20413")


def grid(epochs: float = EPOCHS) -> list[dict[str, Any]]:
    """Return the settings of all runs, those that say most first.

    Multinet has one day, and no restart. Of PackNet with one prune or recommended nights and "zero", the study has the
    accuracies, so these runs come later: they add what happens to units and weights. Uniform cycles are those that the
    tournament chose for PackNet (`docs/choosing.rst`).
    """
    few, more = range(3), range(3, 10)
    found = [
        *runs(["Multinet", "Memory"], BEST, "zero", PRUNINGS, few),
        *runs(["PackNet", "Memory"], ONE, "redraw", PRUNINGS, few),
        *runs(["PackNet"], ONE, "zero", PRUNINGS, few),
        *runs(["PackNet"], BEST, "zero", PRUNINGS, few),
        *runs(["PackNet", "Memory"], BEST, "redraw", PRUNINGS, few),
        *runs(["Multinet", "Memory"], BEST, "zero", MORE, few),
        *runs(["Multinet", "Memory"], UNIFORM, "zero", (*PRUNINGS, *MORE), few),
        *runs(["Memory"], BEST, "redraw", MORE, few),
    ]  # fmt: skip
    lifts = {"Memory": ("old 0.2", "old 0.5"), "Multinet": ("shares", "shares frozen"), "PackNet": ("unfrozen",)}
    for p in PRUNINGS:
        for method, own in lifts.items():
            for lift, nights in itertools.product(own, (BEST, ONE)):
                found += runs([method], nights, "zero", [p], few, lift)
    for order, method, nights in itertools.product(ORDERS, ("PackNet", "Memory"), (BEST, ONE)):
        found += runs([method], nights, "zero", PRUNINGS, few, order)
    found += runs(["PackNet", "Memory"], UNIFORM, "redraw", PRUNINGS, few)
    found += runs(["PackNet"], UNIFORM, "zero", PRUNINGS, few)
    found += runs(["Multinet", "Memory"], ONE, "zero", PRUNINGS, few)
    found += [{**run, "seed": seed} for run in found if run["seed"] == 0 for seed in more]
    return [{**run, "epochs": epochs} for run in found]


def runs(
    methods: Sequence[str], nights: str, restart: str, prunings: Sequence[float], seeds: Sequence[int], lift: str = ""
) -> list[dict[str, Any]]:
    """Return the settings of some runs."""
    return [
        {"method": method, "nights": nights, "restart": restart, "p": p, "lift": lift, "epochs": EPOCHS, "seed": seed}
        for method in methods for p in prunings for seed in seeds
    ]  # fmt: skip


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="NAME=VALUE,...", help="runs with these settings: " + ", ".join(NAMES))
    add("--jobs", type=int, default=1, metavar="N", help="processes (1)")
    add("--list", action="store_true", help="list what is missing, and run nothing")
    add("--quick", action="store_true", help="few images and steps, to see that it works; into another --out")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="the table, which a run continues (that of the docs)")
    settings = parser.parse_args(arguments)
    if settings.quick and settings.out == RESULTS:
        parser.error("--quick is not for the table of the docs: give another --out.")
    for item in settings.only:
        if item.partition("=")[0] not in NAMES:
            parser.error(f"--only takes NAME=VALUE with a name of {', '.join(NAMES)}, not {item!r}.")
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the table does not have."""
    settings = parse(arguments)
    torch.set_num_threads(1)
    wanted = list(chosen(grid(QUICK if settings.quick else EPOCHS), settings.only))
    if not settings.out.exists():
        settings.out.write_text("# Made by benchmarks/gap.py\n" + ",".join(COLUMNS) + "\n")
    done = {name_of(row) for row in rows.read(settings.out)[1]}
    missing = [run for run in wanted if name_of(run) not in done]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are done", flush=True)
    if settings.list:
        for run in missing:
            print(*name_of(run), sep=", ")
        return
    do = functools.partial(row_of, data="sample" if settings.quick else "full")
    with (
        multiprocessing.get_context("spawn").Pool(settings.jobs)
        if settings.jobs > 1
        else contextlib.nullcontext() as pool
    ):
        for row in (pool.imap_unordered if pool else map)(do, missing):
            with settings.out.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
            print(*name_of(row), row["accuracy"], f"{row['seconds']} s", flush=True)


def chosen(found: Sequence[dict[str, Any]], only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the runs with all of some settings, each given as NAME=VALUE,..."""
    wanted = {name: values.split(",") for name, _, values in (item.partition("=") for item in only)}
    for run in found:
        if all(f"{run[name]}" in values for name, values in wanted.items()):
            yield run


def name_of(run: dict[str, Any]) -> tuple[str, ...]:
    """Return the settings of a run, or of a row, as texts."""
    return tuple(str(run[name]) for name in NAMES)


@functools.cache
def tasks_of(data: Any) -> list[dn.Task]:
    """Return the five tasks, which are read once a process."""
    return list(dn.split_mnist(data=data))


@functools.cache
def version() -> str:
    """Return the commit of the library, and the version of PyTorch."""
    return rows.versions(()).partition("; Python")[0].removeprefix("daynight ")


def row_of(run: dict[str, Any], data: str) -> dict[str, Any]:
    """Do a run, and return its row."""
    torch.set_num_threads(1)
    began = time.process_time()
    found = lived(tasks_of(data), **run)
    return {**run, **found, "seconds": f"{time.process_time() - began:.0f}", "version": version()}


def lived(
    tasks: list[dn.Task], method: str, nights: str, restart: Any, p: float, lift: str, epochs: float, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Do a run, and return what it has found."""
    if lift.startswith("order "):
        tasks = [tasks[int(place)] for place in lift.split()[1]]
    days, settings, share = days_of(method, tasks, lift)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=p, days=len(days)),
        training=dn.Training(batch_size=128), restart=restart, seed=seed, **settings,
    )  # fmt: skip
    dusks = []
    for day, task in enumerate(days):
        # In steps, since an epoch has more of them if a part of each batch is of earlier tasks.
        length = dn.Steps(round(epochs * share * agent.training.steps_per_epoch(task)))
        agent.wake(task, length)
        columns = agent.network.heads.columns(day)
        dusks.append(looked_at(copy.deepcopy(agent.network.module), agent, task, columns))
        agent.sleep(policy_of(nights), length)
    if method == "Multinet":
        scores = [agent.evaluate(within_union(tasks, index), len(days) - 1)[1] for index in range(len(tasks))]
    else:
        scores = [agent.evaluate(task, index)[1] for index, task in enumerate(tasks)]
    if lift == "unfrozen":
        scores = unfrozen.scores(agent, tasks, epochs, seed)
    ends = [looked_at(agent.subnetwork(day), agent, task, slice(None)) for day, task in enumerate(days)]
    return {
        "accuracy": f"{sum(scores) / len(scores):.6f}", "by_task": json.dumps([round(score, 6) for score in scores]),
        "owned": json.dumps(agent.owned), "silent": json.dumps([silent for silent, _ in ends]),
        "silent_dusk": json.dumps([silent for silent, _ in dusks]),
        "no_gradient": json.dumps([missing for _, missing in dusks]),
        "in_vain": json.dumps(vain_of(agent)), "blank": json.dumps(blank_of(agent, days)), "steps": agent.n_steps,
    }  # fmt: skip


def days_of(method: str, tasks: list[dn.Task], lift: str) -> tuple[list[dn.Task], dict[str, Any], float]:
    """Return the tasks of the days, settings of the agent, and which share of the epochs each day has."""
    kind, _, value = lift.partition(" ")
    if method == "Multinet":
        if kind.startswith("shares"):
            days = [union(tasks, f"union {day}") for day in range(len(tasks))]
            return days, {"consolidation": "freeze" if value == "frozen" else "fine-tune"}, 1 / len(tasks)
        return [union(tasks)], {}, 1.0
    if method == "Memory":
        replay = dn.Replay(sum(len(task.train) for task in tasks), share=float(value)) if kind == "old" else None
        return tasks, {"consolidation": "rehearse", "replay": replay}, 1.0
    return tasks, {}, 1.0


def policy_of(nights: str) -> dn.SleepPolicy:
    """Return the policy of nights."""
    if nights == BEST:
        return dn.recommended_policy()
    return dn.UniformCycles(1 if nights == ONE else int(nights.removeprefix("uniform-")))


def looked_at(module: nn.Module, agent: dn.Agent, task: dn.Task, columns: slice) -> tuple[list[int], list[int]]:
    """Count hidden units of each layer that no image activates, and those without a gradient of the loss.

    Args:
        module: A copy of the network that computes the task.
        agent: The agent.
        task: The task, of whose training images some are looked at.
        columns: The outputs that belong to the task.
    """
    index = torch.linspace(0, len(task.train) - 1, min(N_LOOKED_AT, len(task.train))).round().long()
    inputs, targets = load(task.train.subset(index), torch.float32, torch.device("cpu"))
    before = list[Tensor]()  # what each layer of hidden units gives to its ReLU

    def keep(_: nn.Module, __: Any, outputs: Tensor) -> None:
        outputs.retain_grad()
        before.append(outputs)

    for name in agent.network.weights:
        module.get_submodule(name).register_forward_hook(keep)
    module.eval().requires_grad_(True)
    agent.training.loss_of(task)(module(inputs)[:, columns], targets).backward()
    gradients = [units.grad for units in before if units.grad is not None]
    return (
        [int((units <= 0).all(0).sum()) for units in before],
        [int((gradient == 0).all(0).sum()) for gradient in gradients],
    )


def vain_of(agent: dn.Agent) -> list[list[int]]:
    """Return how many weights of each layer each task owns in vain."""
    connections = Connections.of(agent.network, torch.rand(2, 784))
    return [
        [int(mask.sum()) for mask in in_vain(agent.network, connections, task).values()]
        for task in agent.living
    ]  # fmt: skip


def blank_of(agent: dn.Agent, days: Sequence[dn.Task]) -> list[int]:
    """Return how many weights each task owns of pixels that are black in all its training images."""
    first = next(iter(agent.network.owners.values()))
    is_black = [~load(task.train, torch.float32, torch.device("cpu"))[0].flatten(1).any(0) for task in days]
    return [int((first[:, black] == day).sum()) for day, black in enumerate(is_black)]


if __name__ == "__main__":
    sys.exit(main())
