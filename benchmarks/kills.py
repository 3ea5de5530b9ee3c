"""Whether a run that is killed at any moment, and resumed in a new process, ends as if it had never been killed.

Three days of split MNIST, with dropout, batch normalisation, noise on the inputs and a learning-rate schedule. Each
trial starts them with a checkpoint folder, kills the process (SIGKILL) at a random moment, and starts it again. The
agent at the end, and all of its history but the seconds, must be bitwise equal to those of a run without a checkpoint.
A trial takes about fifteen seconds of a core. The exit status is 1 if a trial ends differently.

    DAYNIGHT_DATA=/data python benchmarks/kills.py --kills 100 --jobs 2 --out kills.json
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import attrs
import machine
import torch
from torch import Tensor, nn

import daynight as dn
from daynight.support.atomic import replacing

N_DAYS, EVERY = 3, 0.05
#: Makes new processes that have imported what they need, which takes seconds, and have done nothing else.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["daynight", "torch._dynamo", "safetensors.torch"])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kills", type=int, default=100, metavar="N", help="number of runs that are killed (100)")
    add("--jobs", type=int, default=1, metavar="J", help="number of runs at a time (1)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the random moments (0)")
    add("--data", default="auto", choices=("full", "sample", "auto"), help="which images; see daynight.split_mnist")
    add("--epochs", type=float, default=6.0, metavar="E", help="epochs of each wake and each night (6)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


class Network(nn.Module):
    """A network that draws random numbers as it trains, and keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(100, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the outputs."""
        outputs: Tensor = self.head(self.body(inputs.flatten(1)))
        return outputs


def noisy(inputs: Tensor) -> Tensor:
    """Return the inputs with noise."""
    return inputs + 0.1 * torch.randn_like(inputs)


def one_cycle(optimizer: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule of learning rate and momentum."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=n_steps + 1)


def work(settings: argparse.Namespace, folder: str | None, sender: Connection) -> None:
    """Run the days, or what is left of them, and send the outcome."""
    torch.set_num_threads(1)
    stream = dn.split_mnist(data=settings.data)[:N_DAYS]
    training = dn.Training(batch_size=64, augment=noisy, scheduler=one_cycle, carry_optimizer=True)
    agent = dn.Agent(Network, capacity=dn.Capacity(free_at_end=0.9, days=N_DAYS), training=training)
    clock = dn.Clock(
        agent, stream, policy=dn.GradualPruning(12, 0.4), wake=dn.Epochs(settings.epochs),
        night=dn.Epochs(settings.epochs), checkpoint=folder, every=EVERY,
    )  # fmt: skip
    clock.resume()
    sender.send({"day": agent.day, "phase": agent.phase, "step": agent.n_steps})
    began = time.perf_counter()
    clock.run()
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as place:
        sender.send({"outcome": outcome(clock, f"{place}/agent.dn"), "seconds": seconds})


def outcome(clock: dn.Clock, path: str) -> str:
    """Return a digest of the agent and the history of a run, without seconds."""
    import safetensors.torch

    clock.agent.verify()
    clock.agent.save(path)
    found = hashlib.sha256()
    for name, tensor in sorted(safetensors.torch.load_file(path).items()):
        found.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    found.update(repr([timeless(record) for record in (*clock.history, *clock.agent.days)]).encode())
    return found.hexdigest()


def timeless(record: dn.Record) -> dn.Record:
    """Return a record without its seconds."""
    return attrs.evolve(record, elapsed_seconds=None)


def started(
    settings: argparse.Namespace, folder: str | None, work: Callable[..., None] = work
) -> tuple[ForkServerProcess, Connection]:
    """Start a process that runs the days, or does other work; return it and the connection that it sends to."""
    receiver, sender = FRESH.Pipe(duplex=False)
    process = FRESH.Process(target=work, args=(settings, folder, sender))
    process.start()
    sender.close()
    return process, receiver


def received(process: ForkServerProcess, receiver: Connection) -> dict[str, Any]:
    """Return the next message of a process."""
    try:
        found: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"a process ended with the status {process.exitcode} before it was done.") from None
    return found


def trial(moment: float, settings: argparse.Namespace) -> dict[str, Any]:
    """Kill a run after some seconds, and resume it."""
    with tempfile.TemporaryDirectory() as folder:
        process, receiver = started(settings, folder)
        received(process, receiver)
        time.sleep(moment)
        process.kill()
        process.join()
        again = started(settings, folder)
        return {"moment": moment, "goes_on_at": received(*again), **received(*again)}


def main() -> None:
    """Run all trials, and compare."""
    settings = parse()
    about = machine.describe()
    print(machine.line(about), flush=True)
    plain = started(settings, None)
    received(*plain)
    expected = received(*plain)
    print(f"Without a kill: {expected['seconds']:.1f} s.", flush=True)
    draw = random.Random(settings.seed)
    moments = [draw.uniform(0, expected["seconds"]) for _ in range(settings.kills)]
    trials = []
    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        for found in pool.map(functools.partial(trial, settings=settings), moments):
            found["is_equal"] = found.pop("outcome") == expected["outcome"]
            trials.append(found)
            where = found["goes_on_at"]
            print(
                f"{len(trials)}: killed after {found['moment']:.2f} s, resumed at day {where['day']}, "
                f"{where['phase']}, step {where['step']}: {'equal' if found['is_equal'] else 'NOT equal'}",
                flush=True,
            )
    n_equal = sum(found["is_equal"] for found in trials)
    print(f"{n_equal} of {len(trials)} ended bit for bit like the run that was not killed.")
    if settings.out:
        with replacing(settings.out) as temporary:
            result = {"machine": about, "seconds": expected["seconds"], "every": EVERY, "trials": trials}
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if n_equal == len(trials) and trials else 1)


if __name__ == "__main__":
    main()
