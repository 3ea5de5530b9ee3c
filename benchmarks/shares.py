"""Equal shares against shares by need, on split MNIST with the recommended policy.

Each seed lives both lives: with equal shares, and with `Capacity(share="need")`. A sixth of the training data is held
out to score on, and never test data; of the rest, a tenth is the validation split, by which nights choose, in both
lives. The seeds are 100 and up, which are for choosing.

    python benchmarks/shares.py --p 0.995 --seeds 10 --epochs 12 --out shares.csv

A life of 12 epochs takes less than a minute on one core with all of MNIST. Rows are written as lives end. A command
that was cut off, or is given more seeds, does the lives that the file does not have yet.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import torch

import daynight as dn
from daynight.study.nights import held_out
from daynight.study.statistics import paired, summarize

FIRST_SEED, SCORED, VALIDATION = 100, 1 / 6, 0.1
#: What makes a life, and what comes out of it: errors in percent on the examples to score on, after the last day.
SETTINGS = ("p", "share", "least", "most", "loan", "tolerance", "epochs", "data", "seed")
COLUMNS = (*SETTINGS, "error", "errors", "owned", "steps")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--p", type=float, nargs="+", default=[0.995], help="fractions still free after the last day (0.995)")
    add("--seeds", type=int, default=10, metavar="N", help="number of seeds, from 100 on (10)")
    add("--epochs", type=float, default=12.0, metavar="E", help="epochs of each wake, and of each night (12)")
    for name, default in (("least", 0.5), ("most", 2.0), ("loan", 1.0), ("tolerance", 0.02)):
        add(f"--{name}", type=float, default=default, metavar="X", help=f"see Capacity ({default:g})")
    add("--data", default="auto", choices=("auto", "full", "sample"), help="which MNIST (auto)")
    add("--out", type=Path, required=True, metavar="CSV", help="the rows; a run continues them")
    return parser.parse_args()


def lives(given: argparse.Namespace, data: str) -> Iterator[tuple[dn.Capacity, dict[str, str]]]:
    """Yield the capacity of each life, and its settings as text, as in the file."""
    factors = {name: getattr(given, name) for name in ("least", "most", "loan", "tolerance")}
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for p in given.p:
            rest = {"p": f"{p:g}", "epochs": f"{given.epochs:g}", "data": data, "seed": str(seed)}
            yield dn.Capacity(free_at_end=p, days=5), {**rest, "share": "equal", **dict.fromkeys(factors, "")}
            need = dn.Capacity(free_at_end=p, days=5, share="need", **factors)
            yield need, {**rest, "share": "need", **{name: f"{value:g}" for name, value in factors.items()}}


def lived(stream: dn.TaskStream, capacity: dn.Capacity, epochs: float, seed: int) -> dict[str, Any]:
    """Live all days, and return what comes out of them."""
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=capacity, training=dn.Training(batch_size=128), seed=seed
    )
    clock = dn.Clock(
        agent, stream, policy=dn.recommended_policy(), wake=dn.Epochs(epochs), night=dn.Epochs(epochs)
    )  # fmt: skip
    errors = 100 * (1 - clock.run().accuracy[-1])
    return {
        "error": f"{errors.mean():.4f}", "errors": " ".join(f"{error:.3f}" for error in errors),
        "owned": " ".join(map(str, agent.owned)), "steps": agent.n_steps,
    }  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of the file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def show(rows: list[dict[str, str]]) -> None:
    """Print the mean errors, and seed by seed by how much they differ, of each kind of life with shares by need."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for row in rows:
        kind = tuple(row[name] for name in SETTINGS[:-1])
        found.setdefault(kind, {})[int(row["seed"])] = float(row["error"])
    for kind, errors in found.items():
        named = ", ".join(f"{name} {value}" for name, value in zip(SETTINGS, kind, strict=False) if value)
        print(f"{named}: error {summarize(errors.values())} %")
        equal = (kind[0], "equal", "", "", "", "", *kind[-2:])
        if kind != equal and set(errors) & set(found.get(equal, {})):
            print(f"    less error than with equal shares: {paired(found[equal], errors)} percentage points")


def main() -> None:
    """Live the lives that the file does not have yet, and compare."""
    given = parse()
    torch.set_num_threads(1)
    stream = held_out(lambda: dn.split_mnist(data=given.data), SCORED).hold_out(VALIDATION)
    source = machine.named(stream.source)
    if not given.out.exists():
        with given.out.open("w", newline="") as file:
            file.write(f"# {machine.line(machine.describe())}; {source}\n")
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writeheader()
    known = [{name: row[name] for name in SETTINGS} for row in read(given.out)]
    for capacity, settings in lives(given, "full" if stream.n_train > 10_000 else "sample"):
        if settings in known:
            continue
        row = settings | lived(stream, capacity, given.epochs, int(settings["seed"]))
        with given.out.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        print(", ".join(f"{name} {row[name]}" for name in ("p", "share", "seed", "error", "owned")), flush=True)
    show(read(given.out))


if __name__ == "__main__":
    main()
