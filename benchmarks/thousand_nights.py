"""Whether a job of one task costs the same on its thousandth night as on its tenth.

One night is what a timer starts: load the agent's file, learn the examples of the day as a new version of the task, let
the gate decide, save the agent. The agent also keeps replayed examples, and a profile and a signature of each version.
All nights run in one process, so that memory that is not given back would show. Wakes and nights are of 20 optimizer
steps, so that most of the time is not training. The samples that the agent keeps for the gate and for replay are full
by night 5. Time is that of the CPU, which other processes do not change much. The exit status is 1 if a number is more
than 5 % higher at the end than after ten nights.

    python benchmarks/thousand_nights.py --nights 1000 --out thousand_nights.csv
"""

from __future__ import annotations

import argparse
import csv
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine
import torch

import daynight as dn

N_DAY, HELD_OUT = 500, 0.2
COLUMNS = ("night", "cpu_seconds", "file_bytes", "resident_bytes", "accepted", "score")
#: Numbers are medians of this many nights.
N_MEDIAN = 10


def network() -> torch.nn.Module:
    """Return a new network."""
    return dn.models.MLP(784, 64, 64)


def tonight(folder: Path, night: int, stream: dn.TaskStream, training: dn.Training) -> dn.Agent:
    """Learn a day, and leave the agent's file of that night alone in the folder."""
    before, digits = folder / f"{night - 1}.dn", stream[0]
    if night:
        agent = dn.Agent.load(before, network, training=training)
    else:
        agent = dn.Agent(
            network, capacity=dn.Capacity(keep_per_task=0.1), training=training, replay=dn.Replay(500, share=0.3),
            gate=dn.Gate(tolerance=0.02, holds=300), keeps=("profile", "signature"),
        )  # fmt: skip
    inputs, labels = digits.train.load()
    some = torch.randperm(len(labels), generator=torch.Generator().manual_seed(night))[:N_DAY]
    task = dn.Task(train=(inputs[some], labels[some]), test=digits.test, name="digits", succeeds="digits")
    clock = dn.Clock(
        agent, [task.hold_out(HELD_OUT)], first_day=agent.day, policy=dn.UniformCycles(2), wake=dn.Steps(20),
        night=dn.Steps(20),
    )  # fmt: skip
    clock.run()
    agent.save(folder / f"{night}.dn")
    before.unlink(missing_ok=True)
    return agent


def ends(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, float]]:
    """Yield what is measured, and its median over early and late nights."""
    for name in COLUMNS[1:4]:
        values = [float(row[name]) for row in rows]
        yield name, statistics.median(values[N_MEDIAN : 2 * N_MEDIAN]), statistics.median(values[-N_MEDIAN:])


def main() -> None:
    """Live the nights, and compare late ones with early ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=1000, metavar="N", help="number of nights (1000)")
    parser.add_argument("--data", default="sample", choices=("auto", "full", "sample"), help="which MNIST (sample)")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write a line for each night")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    about = f"# {machine.line(machine.describe())}"
    print(about)
    images, training, rows = dn.split_mnist([tuple(range(10))], data=settings.data), dn.Training(batch_size=32), []
    with tempfile.TemporaryDirectory() as place:
        for night in range(settings.nights):
            began = time.process_time()
            agent = tonight(Path(place), night, images, training)
            seconds = time.process_time() - began
            size = (Path(place) / f"{night}.dn").stat().st_size
            score = agent.evaluate(images[0], agent.living[-1])[1]
            accepted = int(agent.refused is None)
            del agent
            gc.collect()
            rows.append((night, round(seconds, 4), size, machine.resident_bytes(), accepted, round(score, 4)))
            if not (night + 1) % 100:
                print(f"{night + 1} nights, {size} bytes, {machine.resident_bytes()} resident", flush=True)
    if settings.out:
        with settings.out.open("w", newline="") as file:
            file.write(about + "\n")
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    worst = 0.0
    for name, early, late in ends([dict(zip(COLUMNS, row, strict=True)) for row in rows]):
        worst = max(worst, late / early)
        print(f"{name}: nights 11 to 20 {early:g}, the last {N_MEDIAN} {late:g}: {late / early:.3f} of it")
    sys.exit(0 if worst <= 1.05 else 1)


if __name__ == "__main__":
    main()
