"""How long this build of daynight takes, over another checkout of it: run, wake, REM, and import.

    git worktree add /tmp/before COMMIT
    DAYNIGHT_DATA=/data python benchmarks/builds.py /tmp/before --pairs 10 --out builds.json

Each pair is one run of either build, in processes of their own and in turns, with equal seeds: PackNet with iterative
pruning on split MNIST, as in speed.py. Reported are medians of the ratios, with the least and the largest.
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


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("other", metavar="FOLDER", help="the checkout to compare with")
    add("--pairs", type=int, default=10, metavar="N", help="pairs of runs of each setting (10)")
    add("--epochs", type=float, default=6.0, metavar="E", help="epochs of each wake (6)")
    add("--budget", type=float, default=6.0, metavar="B", help="epochs of each night (6)")
    add("--p", type=float, default=0.99, help="fraction free at the end (0.99)")
    add("--rounds", type=int, nargs="+", default=[1, 12], metavar="N", help="rounds a night (1 12)")
    add("--data", choices=("full", "sample"), default="full", help="all of MNIST, or its sample of 5,000")
    add("--out", metavar="FILE", help="write the raw numbers as JSON, after each pair")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the ratios."""
    settings = parse()
    here, other = Path(__file__).parents[1], Path(settings.other).resolve()
    result: dict[str, Any] = {"machine": machine.describe(), "settings": vars(settings), "pairs": []}
    for pair in range(settings.pairs):
        for rounds in settings.rounds:
            setting = {
                "method": "daynight", "data": settings.data, "p": settings.p, "rounds": rounds, "seed": pair,
                "epochs": settings.epochs, "budget": settings.budget, "engine": "auto",
            }  # fmt: skip
            # Which of the two comes first changes from pair to pair.
            order = (here, other) if pair % 2 else (other, here)
            done = {build: run_of(build, setting) for build in order}
            result["pairs"].append({"rounds": rounds, "pair": pair, "here": done[here], "other": done[other]})
        imports = {
            build: float(in_python(build, "-c", IMPORT)) for build in ((here, other) if pair % 2 else (other, here))
        }
        result["pairs"].append({"import": True, "here": imports[here], "other": imports[other]})
        print(text(result), flush=True)
        if settings.out:
            with replacing(settings.out) as path:
                path.write_text(json.dumps(result, indent=1) + "\n")


def run_of(build: Path, setting: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of a run of a build, and of an epoch of its wakes and REMs."""
    found = json.loads(in_python(build, str(build / "benchmarks" / "one_run.py"), json.dumps(setting)).splitlines()[-1])
    return {"run": found["seconds"], "wake": tables.per_epoch(found["wakes"]), "REM": tables.per_epoch(found["rems"])}


def in_python(build: Path, *arguments: str) -> str:
    """Run Python with a build, on one thread, and return what it prints."""
    environment = {**os.environ, **machine.ONE_THREAD, "PYTHONPATH": str(build)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=build, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


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
