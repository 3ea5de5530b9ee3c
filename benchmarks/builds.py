"""How long this build of daynight takes, over another checkout of it: run, wake, REM, and import.

    git worktree add /tmp/before COMMIT
    DAYNIGHT_DATA=/data python benchmarks/builds.py /tmp/before --pairs 10 --out builds.json

Each pair is one run of either build, in turns and with equal seeds: PackNet with iterative pruning on split MNIST, as
in speed.py. Each build has one process, which has the data in memory. Reported are medians of the ratios, with the
least and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import machine
import tables

from daynight.support.atomic import replacing

IMPORT = "import time, torch; t = time.perf_counter(); import daynight; print(time.perf_counter() - t)"
#: Does runs in a process that stays: each line of its input is the setting of one.
WORKER = """
import json, sys
import torch
import daynight, one_run
torch.set_num_threads(1)
stream = daynight.split_mnist(data=sys.argv[1])
for line in sys.stdin:
    print(json.dumps(one_run.measure("daynight", stream, json.loads(line))), flush=True)
"""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("other", metavar="FOLDER", help="the checkout to compare with")
    add("--pairs", type=int, default=10, metavar="N", help="pairs of runs of each setting (10)")
    add("--epochs", type=float, default=2.0, metavar="E", help="epochs of each wake (2)")
    add("--budget", type=float, default=2.0, metavar="B", help="epochs of each night (2)")
    add("--p", type=float, default=0.99, help="fraction free at the end (0.99)")
    add("--rounds", type=int, nargs="+", default=[1, 12], metavar="N", help="rounds a night (1 12)")
    add("--data", choices=("full", "sample"), default="full", help="all of MNIST, or its sample of 5,000")
    add("--out", metavar="FILE", help="write the raw numbers as JSON, after each pair")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the ratios."""
    settings = parse()
    result: dict[str, Any] = {"machine": machine.describe(), "settings": vars(settings), "pairs": []}
    builds = {"here": Path(__file__).parents[1], "other": Path(settings.other).resolve()}
    workers = {name: worker_of(build, settings.data) for name, build in builds.items()}
    for pair in range(-1, settings.pairs):
        # Which of the two comes first changes from pair to pair. The first pair only warms up.
        order = sorted(builds, reverse=bool(pair % 2))
        for rounds in settings.rounds:
            setting = {
                "p": settings.p, "rounds": rounds, "seed": max(pair, 0), "epochs": settings.epochs,
                "budget": settings.budget, "engine": "auto",
            }  # fmt: skip
            done = {name: run_of(workers[name], setting) for name in order}
            result["pairs"] += [{"rounds": rounds, "pair": pair, **done}] if pair >= 0 else []
        seconds = {name: seconds_of_import(builds[name]) for name in order}
        result["pairs"] += [{"import": True, "pair": pair, **seconds}] if pair >= 0 else []
        if pair >= 0 and settings.out:
            with replacing(settings.out) as path:
                path.write_text(json.dumps(result, indent=1) + "\n")
    print(text(result))
    for worker in workers.values():
        worker.terminate()


def worker_of(build: Path, data: str) -> subprocess.Popen[str]:
    """Start a process of a build, which has loaded the data and waits for settings of runs."""
    return started(build, "-c", WORKER, data)


def started(build: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Python with a build, to be asked by `answer`."""
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=build / "benchmarks", env=environment_of(build), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def answer(worker: subprocess.Popen[str], asked: dict[str, Any]) -> dict[str, Any]:
    """Give a process a line of JSON, and return the line with which it answers."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(asked) + "\n")
    worker.stdin.flush()
    found: dict[str, Any] = json.loads(worker.stdout.readline())
    return found


def run_of(worker: subprocess.Popen[str], setting: dict[str, Any]) -> dict[str, float]:
    """Let a process do a run, and return its seconds, and those of an epoch of its wakes and REMs."""
    found = answer(worker, setting)
    return {"run": found["seconds"], "wake": tables.per_epoch(found["wakes"]), "REM": tables.per_epoch(found["rems"])}


def seconds_of_import(build: Path) -> float:
    """Return the seconds that ``import daynight`` adds to those of ``import torch``, in a process of its own."""
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, env=environment_of(build), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def environment_of(build: Path) -> dict[str, str]:
    """Return the environment of a process that uses a build, on one thread."""
    return {**os.environ, **machine.ONE_THREAD, "PYTHONPATH": str(build)}


def text(result: dict[str, Any]) -> str:
    """Return the ratios so far as lines of text."""
    lines = []
    for rounds in result["settings"]["rounds"]:
        pairs = [pair for pair in result["pairs"] if pair.get("rounds") == rounds]
        for name in ("run", "wake", "REM"):
            lines.append(f"N={rounds} {name}: {shown([pair['here'][name] / pair['other'][name] for pair in pairs])}")
    imports = [pair["here"] / pair["other"] for pair in result["pairs"] if "import" in pair]
    return "\n".join([*lines, f"import daynight after torch: {shown(imports)}"])


def shown(ratios: list[float]) -> str:
    """Show ratios by their median, the least and the largest."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"


if __name__ == "__main__":
    main()
