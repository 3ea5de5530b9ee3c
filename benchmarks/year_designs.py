r"""The settings that were compared for `year.py`, on January and February, with seed 0.

A learner lives through both months, and is scored on the days of February: the mean of their AUCs. The best of each row
was taken into `year.py`, except for the forest, for which ten trees take too long.

    OMP_NUM_THREADS=1 python benchmarks/year_designs.py --out docs/results/year
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import flights
import rows
import torch
import year

import daynight as dn

COLUMNS = ("row", "design", "auc", "seconds", "nights_lost")
RATES = (3e-4, 1e-3, 3e-3)

GRADUAL = dn.GradualPruning(5, 0.5)

DESIGNS: dict[str, dict[str, year.Made]] = {
    "fine-tuned": {f"rate {rate:g}": year.dense(rate=rate) for rate in (1e-4, *RATES)},
    "day alone": {f"rate {rate:g}": year.dense(rate=rate, anew=True) for rate in (*RATES, 1e-2)},
    "all past, anew": {f"rate {rate:g}": year.dense(rate=rate, past=True, anew=True) for rate in (1e-3, 3e-3, 1e-2)},
    "all past, goes on": {f"rate {rate:g}": year.dense(rate=rate, past=True) for rate in RATES},
    "river, logistic": {
        f"rate {rate:g}": partial(year.River, model=partial(year.linear, rate=rate), as_kinds=False)
        for rate in (1e-3, 3e-3, 1e-2, 3e-2)
    },
    "river, forest": {
        f"{n_trees} trees": partial(year.River, model=partial(year.forest, n_trees=n_trees), as_kinds=True)
        for n_trees in (3, 10)
    },
    "deep-river": {f"rate {rate:g}": partial(year.DeepRiver, rate=rate) for rate in (1e-3, 3e-3)},
    "succession": {
        "wake 5, one prune, rate 0.001": year.succession(wake=5, rate=1e-3),
        **{f"wake 20, one prune, rate {rate:g}": year.succession(wake=20, rate=rate) for rate in (1e-4, *RATES)},
        **{
            f"wake 50, five prunes, rate {rate:g}": year.succession(wake=50, policy=GRADUAL, rate=rate)
            for rate in RATES
        },
    },
    "succession, replay": {
        "wake 5, one prune, rate 0.001, share 0.1": year.succession(wake=5, rate=1e-3, replay=0.1),
        **{
            f"wake 20, one prune, rate {rate:g}, share {share:g}": year.succession(wake=20, rate=rate, replay=share)
            for share in (0.5, 0.8) for rate in RATES
        },
        "wake 20, one prune, rate 0.001, share 0.2": year.succession(wake=20, rate=1e-3, replay=0.2),
        "wake 5, one prune, rate 0.001, share 0.2": year.succession(wake=5, rate=1e-3, replay=0.2),
        **{
            f"wake 50, five prunes, rate {rate:g}, share 0.8": year.succession(
                wake=50, policy=GRADUAL, rate=rate, replay=0.8
            )
            for rate in (3e-4, 1e-3)
        },
    },
}  # fmt: skip


def main() -> None:
    """Try what is not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(DESIGNS), choices=list(DESIGNS), metavar="ROW")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a table that was begun is continued")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    path = year.begun(settings.out / "tried.csv", COLUMNS)
    done = {(row["row"], row["design"]) for row in rows.read(path)[1]}
    found = flights.read()
    for name in settings.only:
        for design, make in DESIGNS[name].items():
            if (name, design) not in done:
                tried = {"row": name, "design": design, **february(make, found)}
                year.append(path, COLUMNS, [tried])
                print(tried, flush=True)


def february(make: year.Made, found: flights.Flights) -> dict[str, object]:
    """Return how a learner does in February."""
    nights, _ = year.lived(make(found, 0), found, year.MARCH, year.FEBRUARY)
    auc = statistics.mean(night["auc"] for night in nights if night["day"] >= year.FEBRUARY)
    seconds = statistics.mean(night["seconds"] for night in nights)
    return {"auc": f"{auc:.5f}", "seconds": f"{seconds:.3f}", "nights_lost": sum(night["lost"] for night in nights)}


if __name__ == "__main__":
    main()
