"""Whether the hundredth day takes longer, or more memory, than the first: 100 days of permuted MNIST.

Each day is short (2 + 2 epochs of 2,000 images), and each night keeps 0.5 % of the weights of an MLP 784:256:256 with
ten classes, so that half of them are owned at the end. Training (wake and night) and the evaluation of all tasks so
far, whose time must grow with the number of tasks, are timed separately; the rest of a day is the clock's own work.
Takes about four minutes on one thread.

    DAYNIGHT_DATA=/data python benchmarks/hundred_days.py --out hundred_days.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence

import attrs
import machine
import torch

import daynight as dn
from daynight.support.atomic import replacing

Row = dict[str, float]
WINDOW = 5  # days of which the median is taken
LABELS = {
    "training_seconds": "wake and night, s",
    "seconds_per_evaluation": "one evaluation, s",
    "evaluation_seconds": "all evaluations, s",
    "other_seconds": "the clock's own work, s",
    "resident_mib": "resident memory, MiB",
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--days", type=int, default=100, help="number of days, at least 2 (100)")
    add("--n-train", type=int, default=2000, help="training images a day (2000)")
    add("--n-test", type=int, default=1000, help="test images of each task (1000)")
    add("--epochs", type=float, default=2.0, metavar="E", help="epochs of each wake (2)")
    add("--budget", type=float, default=2.0, metavar="B", help="epochs of each night (2)")
    add("--rounds", type=int, default=1, metavar="N", help="rounds a night (1)")
    add("--keep", type=float, default=0.005, help="fraction of all weights that a night keeps (0.005)")
    add("--engine", default="auto", choices=("auto", "dense", "sparse", "module"))
    add("--seed", type=int, default=0)
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def main() -> None:
    """Run the days, and print the first and the last."""
    settings = parse()
    torch.set_num_threads(1)
    about = machine.describe()
    stream = dn.permuted_mnist(settings.days, n_train=settings.n_train)
    print(f"{machine.line(about)}\nData: {stream.source}.", flush=True)
    chosen = torch.arange(min(settings.n_test, len(stream[0].test)))
    test = stream[0].test.subset(chosen)
    tasks = [attrs.evolve(task, test=attrs.evolve(test, view=task.test.view)) for task in stream]
    rows, accuracy = live(dn.TaskStream(tasks, stream.source), settings)
    report(rows)
    print(f"Mean accuracy of all tasks at the end: {accuracy:.4f}.")
    if settings.out:
        with replacing(settings.out) as path:
            result = {"data": machine.named(stream.source), "machine": about, "settings": vars(settings)}
            path.write_text(json.dumps({**result, "accuracy": accuracy, "days": rows}) + "\n")


def live(stream: dn.TaskStream, settings: argparse.Namespace) -> tuple[list[Row], float]:
    """Run all days of a stream.

    Returns:
        A row for each day, and the mean accuracy of all tasks at the end.
    """
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256, n_outputs=10),
        capacity=dn.Capacity(keep_per_night=settings.keep),
        training=dn.Training(batch_size=128, engine=settings.engine),
        seed=settings.seed,
    )
    clock = dn.Clock(
        agent, stream, policy=dn.UniformCycles(settings.rounds), wake=dn.Epochs(settings.epochs),
        night=dn.Epochs(settings.budget), evaluate="all",
    )  # fmt: skip
    rows: list[Row] = []
    while not clock.is_over:
        day = agent.day
        n_before = len(clock.history)
        began = time.perf_counter()
        clock.step()
        seconds = time.perf_counter() - began
        records = clock.history.records[n_before:]
        training = sum(record.elapsed_seconds or 0.0 for record in records if record.kind == "day")
        evaluations = [record.elapsed_seconds or 0.0 for record in records if record.kind == "evaluation"]
        rows.append(
            {
                "day": day,
                "training_seconds": training,
                "evaluation_seconds": sum(evaluations),
                "seconds_per_evaluation": statistics.mean(evaluations),
                "other_seconds": seconds - training - sum(evaluations),
                "resident_mib": machine.resident_bytes() / machine.MIB,
            }
        )
        if (day + 1) % 10 == 0:
            print(f"{day + 1} days, the last in {seconds:.2f} s", flush=True)
    return rows, float(clock.history.accuracy[-1].mean())


def report(rows: Sequence[Row]) -> None:
    """Print day 1 and the last day, alone and in windows. Day 0 is left out: it also warms the caches."""
    first, last = min(1, len(rows) - 1), len(rows) - 1
    early, late = rows[first : first + WINDOW], rows[max(first, len(rows) - WINDOW) :]
    windows = (f"days {first}-{first + len(early) - 1}", f"days {last - len(late) + 1}-{last}")
    print(f"\n{'':24} {f'day {first}':>11} {f'day {last}':>11} {'ratio':>6}", end="")
    print(f" {windows[0]:>12} {windows[1]:>12} {'ratio':>6}")
    for name, label in LABELS.items():
        values = [rows[first][name], rows[last][name]]
        values += [statistics.median(row[name] for row in window) for window in (early, late)]
        ratios = [values[1] / values[0], values[3] / values[2]]
        print(f"{label:24} {values[0]:>11.4f} {values[1]:>11.4f} {ratios[0]:>6.2f}", end="")
        print(f" {values[2]:>12.4f} {values[3]:>12.4f} {ratios[1]:>6.2f}")
    growth = (rows[last]["resident_mib"] - rows[first]["resident_mib"]) / max(1, last - first)
    print(f"Memory grows by {growth * 1024:.0f} KiB a day.")


if __name__ == "__main__":
    main()
