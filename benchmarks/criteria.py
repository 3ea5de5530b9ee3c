"""Which criterion should prunes use, and which shares should tasks have? The tournament's streams, seed by seed.

An agent lives five days with each criterion (`daynight.criteria`) and each kind of shares, equal or by need
(`daynight.Capacity`); nights choose by the loss on all training images, since none are held out for them. All else is
equal, seed included, and as in the study (`docs/reproduction.rst`). To choose, ``--on validation`` scores on a sixth of
the training images, which is held out, with seeds 100 and up. To report, ``--on test`` scores on test images, with
seeds 0 and up. The streams are those of the tournament (`docs/choosing.rst`): permuted and rotated MNIST are five tasks
of ten digits, with 12,000 images each, and cifar10-small is the study's CIFAR10 with a tenth of the images.

    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/criteria.py --on test --out docs/results/criteria.csv

A life takes about three minutes of one core, and on cifar10-small by output_change more than half an hour. Lives that
the file has are left out. `--show` only prints the means.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lives
import torch

import daynight as dn
from daynight.study.nights import held_out
from daynight.study.paper.setups import Setup
from daynight.study.statistics import paired, summarize
from daynight.study.tournament.tournament import HELD_OUT, STREAMS, streams

FIRST = {"validation": 100, "test": 0}
SETTINGS = ("on", "stream", "p", "nights", "criterion", "ranking", "share", "epochs", "seed")
NIGHTS: dict[str, Callable[[], dn.SleepPolicy]] = {
    "one": dn.OneShot, "recommended": dn.recommended_policy, "uniform 72": functools.partial(dn.UniformCycles, 72),
}  # fmt: skip
COLUMNS = (*SETTINGS, "error", "errors", "owned", "steps", "seconds")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--on", default="validation", choices=list(FIRST), help="the images to score on (validation)")
    add("--stream", default="mnist", choices=STREAMS, help="the tasks (mnist)")
    add("--nights", nargs="+", default=["recommended"], choices=list(NIGHTS), help="policies (recommended)")
    add("--p", type=float, nargs="+", default=[0.995], help="fractions still free after the last day (0.995)")
    add(
        "--criteria",
        nargs="+",
        default=["magnitude", "output_change"],
        metavar="NAME",
        help="functions of daynight.criteria",
    )
    add("--ranking", nargs="+", default=["layer"], choices=("layer", "global", "balanced"), help="see Capacity (layer)")
    add("--share", nargs="+", default=["equal"], choices=("equal", "need"), help="see Capacity (equal)")
    add("--seeds", type=int, default=10, metavar="N", help="number of seeds (10)")
    add(
        "--epochs",
        type=float,
        metavar="E",
        help="epochs of each night (72; of cifar10-small 6, with wakes of twice as many)",
    )
    add("--show", action="store_true", help="print the means of the file, and run nothing")
    add("--out", type=Path, required=True, metavar="CSV", help="the rows; a command that was cut off continues them")
    return parser.parse_args()


def lived(setup: Setup, stream: dn.TaskStream, life: dict[str, Any]) -> dict[str, Any]:
    """Live all days with the settings of a life, and return the other columns."""
    began, night = time.process_time(), float(life["epochs"])
    capacity = {name: life[name] for name in ("ranking", "share")}
    agent = dn.Agent(
        setup.network, seed=life["seed"], training=setup.training,
        capacity=dn.Capacity(free_at_end=float(life["p"]), days=len(stream), **capacity),
        criterion=getattr(dn.criteria, life["criterion"]),
    )  # fmt: skip
    wake = dn.Epochs(night * setup.epochs / setup.budget)
    history = dn.Clock(agent, stream, policy=NIGHTS[life["nights"]](), wake=wake, night=dn.Epochs(night)).run()
    errors = 100 * (1 - history.accuracy[-1])
    return {
        "error": f"{errors.mean():.4f}", "errors": " ".join(f"{error:.3f}" for error in errors),
        "owned": " ".join(map(str, agent.owned)), "steps": agent.n_steps,
        "seconds": round(time.process_time() - began),
    }  # fmt: skip


def show(rows: list[dict[str, str]]) -> None:
    """Print mean errors, and by how much they are lower than by magnitude, seed by seed."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in SETTINGS[:-1]), {})[int(row["seed"])] = float(row["error"])
    for kind, errors in found.items():
        print(f"{', '.join(kind)} epochs: error {summarize(errors.values())} %")
        usual = found.get((*kind[:4], "magnitude", "layer", "equal", kind[-1]), {})
        equal = found.get((*kind[:6], "equal", kind[-1]), {})
        for what, others in (("by magnitude in each layer", usual), ("with equal shares", equal)):
            if others is not errors and len(set(errors) & set(others)) > 1:
                print(f"    less error than {what}: {paired(others, errors)} percentage points")


def main() -> None:
    """Live the lives that the file does not have yet, and compare."""
    given = parse()
    torch.set_num_threads(1)
    if given.show:
        show(lives.read(given.out))
        return
    setup, first = streams()[given.stream], FIRST[given.on]
    whole = setup.stream()
    stream = whole if given.on == "test" else held_out(lambda: whole, HELD_OUT)
    wanted = [
        {"on": given.on, "stream": given.stream, "p": f"{p:g}", "nights": nights, "criterion": criterion,
         "ranking": ranking, "share": share, "epochs": f"{given.epochs or setup.budget:g}", "seed": seed}
        for seed in range(first, first + given.seeds) for p in given.p
        for nights in given.nights for criterion in given.criteria for ranking in given.ranking for share in given.share
    ]  # fmt: skip
    show(lives.complete(given.out, whole.source, COLUMNS, wanted, functools.partial(lived, setup, stream)))


if __name__ == "__main__":
    main()
