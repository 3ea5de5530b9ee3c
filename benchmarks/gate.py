"""Whether the gate refuses days that do harm, and accepts those that do not.

A life learns two days of digits, each as a new version of the same task. Its third day is lived three times from the
same file: with examples like those before, with the labels of the day shuffled (also those of the held-out examples),
and with 20 examples only. The settings are those of the page on nightly jobs, without replay. Each life has its own
seed and examples. Scores are on the test images: before the third day, and of the version that answers after it.

    DAYNIGHT_DATA=/data python benchmarks/gate.py --lives 100 --out gate.csv

A life takes about five seconds on one thread. A run that was cut off continues its file.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import lives
import machine
import torch
from scipy import stats

import daynight as dn

N_DAY, N_TINY, HELD_OUT = 300, 20, 0.2
DAYS = ("honest", "shuffled", "tiny")
COLUMNS = ("life", "day", "accepted", "difference", "low", "high", "examples", "before", "after")


def network() -> torch.nn.Module:
    """Return a new network."""
    return dn.models.MLP(784, 64, 64)


def day_of(digits: dn.Task, life: int, night: int, kind: str = "honest") -> dn.Task:
    """Return the task of a night: some examples, drawn for this life."""
    inputs, labels = digits.train.load()
    drawn = torch.Generator().manual_seed(1000 * life + night)
    some = torch.randperm(len(labels), generator=drawn)[: N_TINY if kind == "tiny" else N_DAY]
    given = labels[some]
    if kind == "shuffled":
        given = given[torch.randperm(len(given), generator=drawn)]
    task = dn.Task(
        train=(inputs[some], given), test=digits.test, name="digits", succeeds="digits", n_outputs=digits.n_outputs
    )
    return task.hold_out(HELD_OUT)


def lived(agent: dn.Agent, task: dn.Task) -> dn.Agent:
    """Live a day and its night."""
    dn.Clock(
        agent, [task], first_day=agent.day, policy=dn.recommended_policy(), wake=dn.Epochs(4), night=dn.Epochs(4)
    ).run()
    return agent


def life(digits: dn.Task, number: int) -> list[tuple[object, ...]]:
    """Return the rows of a life."""
    agent = dn.Agent(
        network, capacity=dn.Capacity(keep_per_task=0.1), training=dn.Training(batch_size=32), seed=number,
        gate=dn.Gate(tolerance=0.02),
    )  # fmt: skip
    for night in range(2):
        lived(agent, day_of(digits, number, night))
    before = agent.evaluate(digits, agent.living[-1])[1]
    rows: list[tuple[object, ...]] = []
    for kind in DAYS:
        twin = lived(agent.fork(), day_of(digits, number, 2, kind))
        record = twin.refused or twin.days[-1]
        after = twin.evaluate(digits, twin.living[-1])[1]
        found = (getattr(record, f"gate_{name}") for name in ("difference", "low", "high"))
        numbers = ["" if value is None else f"{value:.4f}" for value in found]
        rows.append((number, kind, record.accepted, *numbers, record.gate_examples, f"{before:.4f}", f"{after:.4f}"))
    return rows


def show(path: Path) -> None:
    """Print how many days of each kind were accepted, and what the scores were."""
    found = defaultdict(list)
    for row in lives.read(path):
        found[row["day"]].append(row)
    for kind in DAYS:
        accepted, n = sum(int(row["accepted"]) for row in found[kind]), len(found[kind])
        interval = stats.binomtest(accepted, n).proportion_ci()
        before, after = (sum(float(row[name]) for row in found[kind]) / n for name in ("before", "after"))
        print(
            f"{kind}: {accepted} of {n} accepted ({interval.low:.3f} to {interval.high:.3f}); test accuracy "
            f"{before:.4f} before, {after:.4f} after"
        )


def main() -> None:
    """Live all lives, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=100, metavar="N", help="number of lives (100)")
    parser.add_argument("--data", default="auto", choices=("auto", "full", "sample"), help="which MNIST (auto)")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the rows; a run continues them")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    stream = dn.split_mnist([tuple(range(10))], data=settings.data)
    if not settings.out.exists():
        with settings.out.open("w", newline="") as file:
            file.write(f"# {machine.line(machine.describe())}; {machine.named(stream.source)}\n")
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)
    done = settings.out.read_text().count("tiny")
    for number in range(done, settings.lives):
        rows = life(stream[0], number)
        with settings.out.open("a", newline="") as file:  # the rows of a life at once
            file.write("".join(",".join(map(str, row)) + "\n" for row in rows))
    show(settings.out)


if __name__ == "__main__":
    main()
