"""How long daynight takes, compared with a plain PyTorch loop, Avalanche's PackNet, and bare matrix products.

PackNet with iterative pruning, MLP 784:256:256:2, split MNIST (five days), batch 128, Adam at 1e-3, one thread. Each
run has its own process. The methods take turns; reported are medians, and medians of the ratios of runs that were made
one after another. With the defaults it takes about half an hour; ``--epochs 72 --budget 72``, the length of the paper,
takes about four hours, half of them for Avalanche. Without Avalanche (``pip install 'daynight[benchmarks]'``) its rows
are left out.

    DAYNIGHT_DATA=/data python benchmarks/speed.py --out speed.json --rst docs/speed.inc
    python benchmarks/speed.py --from speed.json --rst docs/speed.inc

Seconds per epoch are those of the optimizer steps and their batches, without pruning, evaluation, and the preparation
of a phase (the optimizer; daynight's engine). The whole run is everything but the start of the process and the loading
of the data, with one evaluation at its end. Peak memory is that of the whole process. The floor is the time of the
eight matrix products of a step alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import tables
import torch

import daynight as dn
from daynight.support.atomic import replacing

METHODS = ("floor", "daynight", "plain", "avalanche", "avalanche-tensors")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--epochs", type=float, default=6.0, metavar="E", help="epochs of each wake (6)")
    add("--budget", type=float, default=6.0, metavar="B", help="epochs of each night (6)")
    add("--repeats", type=int, default=5, metavar="R", help="runs of each method and setting (5)")
    add("--p", type=float, nargs="+", default=[0.95, 0.99, 0.995], help="fractions free at the end")
    add("--rounds", type=int, nargs="+", default=[1, 12], metavar="N", help="rounds a night (1 12)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="what to measure (all)")
    add("--engine", default="auto", choices=("auto", "dense", "sparse", "module"), help="daynight's engine (auto)")
    add("--seed", type=int, default=0, help="seed of the first repeat; each takes the next (0)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON, after each run")
    add("--rst", metavar="FILE", help="write the table as reStructuredText, too")
    add("--from", dest="stored", nargs="+", metavar="FILE", help="measure nothing; print the results in these files")
    return parser.parse_args()


def main() -> None:
    """Measure, or read results, and print the table."""
    settings = parse()
    result = stored(settings.stored) if settings.stored else measure(settings)
    print(tables.text(result))
    if settings.rst:
        with replacing(settings.rst) as path:
            path.write_text(tables.rst(result))


def stored(paths: list[str]) -> dict[str, Any]:
    """Return the results in one or several files, which must have equal epochs and budgets, and different seeds."""
    parts = [json.loads(Path(path).read_text()) for path in paths]
    runs = [run for part in parts for run in part["runs"]]
    return {**parts[0], "runs": runs}


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """Do all runs; return their results, and write them to a file after each run."""
    torch.set_num_threads(1)
    stream = dn.split_mnist()
    is_full = stream.n_train > 10_000
    methods = [name for name in settings.methods if _can_run(name, settings)]
    result: dict[str, Any] = {
        "data": machine.named(stream.source),
        "machine": machine.describe(),
        "settings": {name: value for name, value in vars(settings).items() if name not in ("out", "rst", "stored")},
        "runs": [],
    }
    print(f"{machine.line(result['machine'])}\nData: {stream.source}.", flush=True)
    todo = list(_runs(settings, methods))
    for number, run in enumerate(todo, start=1):
        given = {"data": "full" if is_full else "sample", "engine": settings.engine, **run}
        measured = {**run, **_in_a_process({**given, "epochs": settings.epochs, "budget": settings.budget})}
        result["runs"].append(measured)
        if settings.out:
            with replacing(settings.out) as path:
                path.write_text(json.dumps(result) + "\n")
        _report(number, len(todo), measured)
    return result


def _runs(settings: argparse.Namespace, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the runs in their order: those that are compared follow each other."""
    for repeat in range(settings.repeats):
        for p in settings.p:
            for rounds in settings.rounds:
                for method in methods:
                    if not method.startswith("avalanche") or rounds == 1:
                        seed = settings.seed + repeat
                        yield {"method": method, "p": p, "rounds": rounds, "repeat": repeat, "seed": seed}


def _can_run(method: str, settings: argparse.Namespace) -> bool:
    if not method.startswith("avalanche"):
        return True
    if method == "avalanche" and "DAYNIGHT_DATA" not in os.environ:
        print("Avalanche's own SplitMNIST reads MNIST from DAYNIGHT_DATA, which is not set: its rows are left out.")
        return False
    if importlib.util.find_spec("avalanche") is None:
        print("Avalanche is not installed, so its rows are left out: pip install 'daynight[benchmarks]'")
        return False
    if any(n != int(n) or n < 1 for n in (settings.epochs, settings.budget)):
        print("Avalanche counts in whole epochs, at least one, so its rows are left out.")
        return False
    return True


def _in_a_process(setting: dict[str, Any]) -> dict[str, Any]:
    """Do one run in its own process, and return what it prints."""
    script = Path(__file__).with_name("one_run.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(setting)],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **machine.ONE_THREAD},
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _report(number: int, n_runs: int, run: dict[str, Any]) -> None:
    means = [f"{name} {tables.per_epoch(run[key]):.4f} s/epoch" for name, key in (("wake", "wakes"), ("REM", "rems"))
             if run[key]]  # fmt: skip
    if "seconds" in run:
        means += [f"run {run['seconds']:.1f} s", f"accuracy {sum(run['accuracy']) / len(run['accuracy']):.4f}"]
    where = f"p={run['p']:g} N={run['rounds']} repeat {run['repeat']}"
    print(f"{number}/{n_runs} {run['method']} {where}: {', '.join(means)}", flush=True)


if __name__ == "__main__":
    main()
