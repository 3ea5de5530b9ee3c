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
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lives
import torch

import daynight as dn
from daynight.study.nights import held_out
from daynight.study.statistics import paired, summarize

FIRST_SEED, SCORED, VALIDATION = 100, 1 / 6, 0.1
#: What makes a life, and what comes out of it: errors in percent on the examples to score on, after the last day.
FACTORS = ("least", "most", "loan", "tolerance")
SETTINGS = ("p", "share", *FACTORS, "epochs", "data", "seed")
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


def wanted(given: argparse.Namespace, data: str) -> Iterator[dict[str, Any]]:
    """Yield the settings of each life."""
    factors = {name: f"{getattr(given, name):g}" for name in FACTORS}
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for p in given.p:
            rest = {"p": f"{p:g}", "epochs": f"{given.epochs:g}", "data": data, "seed": seed}
            yield {**rest, "share": "equal", **dict.fromkeys(factors, "")}
            yield {**rest, "share": "need", **factors}


def lived(stream: dn.TaskStream, life: dict[str, Any]) -> dict[str, Any]:
    """Live all days with the settings of a life, and return the other columns."""
    factors = {name: float(life[name]) for name in FACTORS if life[name]}
    capacity = dn.Capacity(free_at_end=float(life["p"]), days=len(stream), share=life["share"], **factors)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=capacity, training=dn.Training(batch_size=128), seed=life["seed"]
    )
    length = dn.Epochs(float(life["epochs"]))
    history = dn.Clock(agent, stream, policy=dn.recommended_policy(), wake=length, night=length).run()
    errors = 100 * (1 - history.accuracy[-1])
    return {
        "error": f"{errors.mean():.4f}", "errors": " ".join(f"{error:.3f}" for error in errors),
        "owned": " ".join(map(str, agent.owned)), "steps": agent.n_steps,
    }  # fmt: skip


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
    data = "full" if stream.n_train > 10_000 else "sample"
    show(lives.complete(given.out, stream.source, COLUMNS, wanted(given, data), functools.partial(lived, stream)))


if __name__ == "__main__":
    main()
