"""Whether a job of many nights that is killed again and again ends as if it had never been killed.

The job is that of the page on nightly jobs: every night it learns the examples of the day as a new version of its
task, with a gate, replayed examples and keepsakes, a checkpoint folder and a log, and leaves one file. The network has
dropout and batch normalisation. A process that works on it is killed (SIGKILL) at a random moment, a new one goes on,
and so on, until that many have been killed; the next one ends the job. The last file, all records of the agent and the
rows of the logs of all nights, but their seconds, must be equal bit for bit to those of a job that nobody killed. (Logs
of tries that were killed before their first checkpoint are left over under other names.) The exit status is 1 if they
are not.

    python benchmarks/killed_job.py --nights 100 --kills 40 --out killed_job.json
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import kills
import machine
import torch

import daynight as dn
from daynight.loggers import CSVLogger
from daynight.support.atomic import replacing

N_DAY, HELD_OUT, EVERY = 400, 0.2, 0.02


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--nights", type=int, default=100, metavar="N", help="number of nights (100)")
    add("--kills", type=int, default=40, metavar="K", help="number of kills (40)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the random moments (0)")
    add("--data", default="sample", choices=("full", "sample", "auto"), help="which images (sample)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def network() -> torch.nn.Module:
    """Return a network for ten digits."""
    module = kills.Network()
    module.head = torch.nn.Linear(100, 10)
    return module


def tonight(home: Path, night: int, stream: dn.TaskStream) -> None:
    """Learn a day, unless it is learnt."""
    date, digits, files = f"{night:04}", stream[0], sorted(home.glob("[0-9]*.dn"))
    training = dn.Training(batch_size=32, augment=kills.noisy)
    if not files:
        agent = dn.Agent(
            network, capacity=dn.Capacity(keep_per_task=0.1), training=training, replay=dn.Replay(300, share=0.3),
            gate=dn.Gate(tolerance=0.02, holds=300), keeps=("profile", "signature"),
        )  # fmt: skip
    else:
        agent = dn.Agent.load(files[-1], network, training=training)
        if files[-1].stem >= date:
            return
    inputs, labels = digits.train.load()
    some = torch.randperm(len(labels), generator=torch.Generator().manual_seed(night))[:N_DAY]
    given = labels[some]
    if night % 7 == 3:  # a day that the gate should refuse
        given = given[torch.randperm(len(given), generator=torch.Generator().manual_seed(night))]
    task = dn.Task(train=(inputs[some], given), test=digits.test, name="digits", succeeds="digits")
    clock = dn.Clock(
        agent, [task.hold_out(HELD_OUT)], first_day=agent.day, policy=dn.UniformCycles(2), wake=dn.Steps(40),
        night=dn.Steps(40), checkpoint=home / date, every=EVERY, on_event=CSVLogger(home / f"{date}.csv"),
    )  # fmt: skip
    clock.run()
    agent.save(home / f"{date}.dn")
    shutil.rmtree(home / date)


def work(settings: argparse.Namespace, folder: str, sender: Connection) -> None:
    """Do the job, or what is left of it."""
    torch.set_num_threads(1)
    home, stream = Path(folder), dn.split_mnist([tuple(range(10))], data=settings.data)
    n_done = len(list(home.glob("[0-9]*.dn")))
    sender.send({"nights": n_done})
    for night in range(n_done, settings.nights):
        tonight(home, night, stream)
    sender.send({"outcome": outcome(home)})


def outcome(home: Path) -> dict[str, str]:
    """Return digests of what the job has left, without seconds: the last file, the agent's records, and each log."""
    import safetensors.torch

    files = sorted(home.glob("[0-9]*.dn"))
    agent = dn.Agent.load(files[-1], network, training=dn.Training(augment=kills.noisy))
    agent.verify()
    tensors = sorted(safetensors.torch.load_file(files[-1]).items())
    found: dict[str, Any] = {name: tensor.reshape(-1).view(torch.uint8).tolist() for name, tensor in tensors}
    found["days"] = [kills.timeless(record) for record in agent.days]
    for log in sorted(home.glob("*.csv")):
        if not log.stem.isdigit():
            continue
        with log.open() as file:
            found[log.name] = [row | {"elapsed_seconds": ""} for row in csv.DictReader(file)]
    return {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in found.items()}


def ended(settings: argparse.Namespace, folder: Path, moments: list[float]) -> tuple[dict[str, str], list[int]]:
    """Do a job in which a process is killed after each of some times; return its outcome, and where it went on."""
    begins = []
    for moment in moments:
        process, receiver = kills.started(settings, str(folder), work)
        begins.append(kills.received(process, receiver)["nights"])
        time.sleep(moment)
        process.kill()
        process.join()
    process, receiver = kills.started(settings, str(folder), work)
    begins.append(kills.received(process, receiver)["nights"])
    return kills.received(process, receiver)["outcome"], begins


def main() -> None:
    """Do the job without kills, then with them, and compare."""
    settings = parse()
    about = machine.describe()
    print(machine.line(about), flush=True)
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        expected, _ = ended(settings, Path(place), [])
        seconds = time.perf_counter() - began
    print(f"Without a kill: {seconds:.1f} s.", flush=True)
    draw = random.Random(settings.seed)
    # The moments are random parts of a job that, with what is done twice, is longer.
    moments = [draw.uniform(0, 1.6 * seconds / (settings.kills + 1)) for _ in range(settings.kills)]
    with tempfile.TemporaryDirectory() as place:
        found, begins = ended(settings, Path(place), moments)
    n_kills = sum(begin < settings.nights for begin in begins[1:])  # others came after the end
    differ = sorted(name for name in expected.keys() | found if expected.get(name) != found.get(name))
    print(f"{n_kills} kills, after which the job went on with the nights {begins[1:]}")
    print(f"NOT equal: {', '.join(differ)}" if differ else f"equal: {len(expected)} tensors, records and logs")
    if settings.out:
        with replacing(settings.out) as temporary:
            result: dict[str, Any] = {
                "machine": about, "nights": settings.nights, "seconds": seconds, "every": EVERY, "moments": moments,
                "begins": begins, "n_kills": n_kills, "differ": differ,
            }  # fmt: skip
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if not differ and n_kills == settings.kills else 1)


if __name__ == "__main__":
    main()
