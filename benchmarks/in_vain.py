r"""What prunes gain that keep no weight in vain (`Capacity(connected=True)`), on split MNIST.

An agent lives five days with `connected=False` and another one with `connected=True`; all else is equal, seed included.
Scores are on a sixth of the training images, which is held out: test images are not read. The settings are those of the
study (`docs/reproduction.rst`). A row has each task's accuracy, and how many of its weights the task owns in vain.

    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/in_vain.py --out in_vain.csv

Each row is written when its life is over, and lives that the file has are left out. A life with nights of one prune
takes two minutes of one core, one with recommended nights about twice as long. `--show` only prints the means.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lives
import torch

import daynight as dn
from daynight.networks.connectivity import Connections, in_vain
from daynight.study.nights import held_out
from daynight.study.statistics import paired
from daynight.study.tournament.tournament import HELD_OUT

NIGHTS: dict[str, Callable[[], dn.SleepPolicy]] = {"one": dn.OneShot, "recommended": dn.recommended_policy}
#: What names a life; the other columns are what it has found.
NAMES = ("p", "nights", "restart", "connected", "epochs", "seed")
COLUMNS = (*NAMES, "accuracy", "by_task", "owned", "in_vain", "seconds")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", type=int, default=10, metavar="N", help="seeds 100 to 99 + N (10)")
    add("--p", type=float, nargs="+", default=[0.995, 0.99, 0.95], help="fractions of weights free at the end")
    add("--nights", nargs="+", default=list(NIGHTS), choices=list(NIGHTS), help="kinds of nights (all)")
    add("--restart", nargs="+", default=["zero"], choices=("zero", "redraw", "keep"), help="see daynight.Agent (zero)")
    add("--epochs", type=float, default=72.0, metavar="E", help="epochs of each wake and of each night (72)")
    add("--data", default="full", choices=("full", "sample"), help="which MNIST (full)")
    add("--show", action="store_true", help="print the means of the file, and run nothing")
    add("--out", type=Path, required=True, metavar="CSV", help="the table; a run that was cut off continues it")
    return parser.parse_args()


def main() -> None:
    """Live all lives that the table does not have, and print the means."""
    settings = parse()
    torch.set_num_threads(1)
    if settings.show:
        show(lives.read(settings.out))
        return
    stream = held_out(lambda: dn.split_mnist(data=settings.data), HELD_OUT)
    wanted = [
        dict(zip(NAMES, (p, nights, restart, is_connected, settings.epochs, 100 + seed), strict=True))
        for seed in range(settings.seeds) for p in settings.p for nights in settings.nights
        for restart in settings.restart for is_connected in (False, True)
    ]  # fmt: skip
    show(lives.complete(settings.out, stream.source, COLUMNS, wanted, lambda life: lived(stream, **life)))


def lived(
    stream: dn.TaskStream, p: float, nights: str, restart: Any, connected: bool, epochs: float, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Live a life, and return what it has found."""
    began = time.process_time()
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256),
        capacity=dn.Capacity(free_at_end=p, days=len(stream), connected=connected),
        training=dn.Training(batch_size=128), restart=restart, seed=seed,
    )  # fmt: skip
    length = dn.Epochs(epochs)
    scores = dn.Clock(agent, stream, policy=NIGHTS[nights](), wake=length, night=length).run().accuracy[-1]
    connections = Connections.of(agent.network, torch.rand(2, 784))
    vain = [in_vain(agent.network, connections, task).values() for task in range(len(stream))]
    return {
        "accuracy": f"{scores.mean():.6f}", "by_task": " ".join(f"{score:.6f}" for score in scores),
        "owned": sum(agent.owned), "in_vain": " ".join(str(sum(int(mask.sum()) for mask in own)) for own in vain),
        "seconds": f"{time.process_time() - began:.0f}",
    }  # fmt: skip


def show(found: Sequence[dict[str, str]]) -> None:
    """Print, for each setting, mean errors, the gain of connected prunes with its interval, and weights in vain."""
    groups: dict[tuple[str, ...], dict[str, dict[int, dict[str, str]]]] = {}
    for row in found:
        key = tuple(row[name] for name in ("p", "nights", "restart", "epochs"))
        groups.setdefault(key, {}).setdefault(row["connected"], {})[int(row["seed"])] = row
    for key, by in groups.items():
        errors = {name: {seed: 100 - 100 * float(row["accuracy"]) for seed, row in own.items()}
                  for name, own in by.items()}  # fmt: skip
        vain = [sum(map(int, row["in_vain"].split())) / int(row["owned"]) for row in by.get("False", {}).values()]
        if errors.keys() < {"False", "True"} or not errors["False"].keys() & errors["True"].keys():
            continue
        means = {name: sum(own.values()) / len(own) for name, own in errors.items()}
        print(
            f"p = {key[0]}, {key[1]} nights, restart {key[2]}, {key[3]} epochs: error {means['False']:.3f} %, "
            f"connected {means['True']:.3f} %\n"
            f"    the first minus the second: {paired(errors['False'], errors['True'])}\n"
            f"    in vain without: {100 * sum(vain) / len(vain):.1f} % of the weights"
        )


if __name__ == "__main__":
    main()
