"""What a wake step, a REM step and the memory of a day cost, over a plain loop on the same module.

    git worktree add /tmp/before COMMIT
    python benchmarks/steps.py --against /tmp/before --out steps.json

The plain loop has its tensors in memory and a fused Adam, and nothing is masked. An agent lives two days on random
images, in batches of 32. After each epoch of it, the plain loop takes one too, in the same process: each two make a
pair, in seconds of the processor. Reported are medians of the pairs, with the least and the largest: how many times as
fast as the plain loop the wakes of both days are, and the REM of the second day at a density of 1 per cent. Memory is
the peak of a process of its own above what it has after its imports; such a process has phases of two epochs.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builds
import machine
import torch
import torchvision
from torch import Tensor, nn

import daynight as dn
from daynight.history import Event, Hook
from daynight.support.atomic import replacing

BATCH, N_STEPS = 32, 3  # of an epoch
ADAM = functools.partial(torch.optim.Adam, lr=1e-4, fused=True)


class Reader(nn.Module):
    """An LSTM of two layers, which reads sequences (batch, 64, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 128, 2, batch_first=True), nn.Linear(128, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (batch, 2)."""
        outputs: Tensor = self.head(self.lstm(inputs)[0][:, -1])
        return outputs


IMAGES = (3, 32, 32)
PRIVATE = ("encoder.pos_embedding",)  # of the vision transformer
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=2), IMAGES),
    "ConvNet": (dn.models.ConvNet, IMAGES),
    "ViT": (lambda: torchvision.models.VisionTransformer(32, 4, 4, 4, 128, 256, num_classes=2), IMAGES),
    "LSTM": (Reader, (64, 32)),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=2), IMAGES),
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS, metavar="NAME", help=f"{list(NETWORKS)}")
    add("--against", metavar="FOLDER", help="another checkout, measured in turns with this one")
    add("--epochs", type=int, default=8, metavar="N", help="of each phase, one more than there are pairs (8)")
    add("--keep", type=float, default=0.01, help="density of each REM (0.01)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON, after each network")
    add("--work", help=argparse.SUPPRESS)  # in a process of its own: measures what this line of JSON asks for
    return parser.parse_args()


def main() -> None:
    """Measure, and print the medians."""
    settings = parse()
    if settings.work:
        torch.set_num_threads(1)
        print(json.dumps(measured(**json.loads(settings.work))))
        return
    folders = {"here": Path(__file__).parents[1]}
    folders |= {"other": Path(settings.against).resolve()} if settings.against else {}
    result: dict[str, Any] = {"machine": machine.describe() | {"torch_threads": 1}, "settings": vars(settings)}
    result["networks"] = {}
    for network in settings.networks:
        asked = {"network": network, "n_epochs": settings.epochs, "keep": settings.keep}
        found = {name: asking(folder, asked | {"what": "steps"}) for name, folder in folders.items()}
        asked["n_epochs"] = 2
        plain = asking(folders["here"], asked | {"what": "plain memory"})
        for name, folder in folders.items():
            found[name]["memory"] = asking(folder, asked | {"what": "memory"}) / plain
        result["networks"][network] = found
        print("\n".join(lines_of(network, found)), flush=True)
        if settings.out:
            with replacing(settings.out) as path:
                path.write_text(json.dumps(result, indent=1) + "\n")


def asking(folder: Path, asked: dict[str, Any]) -> Any:
    """Let a new process of a build measure, by this file."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", json.dumps(asked)]
    done = subprocess.run(
        command, env=builds.environment_of(folder), cwd=folder / "benchmarks", stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def measured(what: str, network: str, n_epochs: int, keep: float) -> Any:
    """Measure steps, or the memory of a life or of the plain loop, in bytes above the imports."""
    before = machine.resident_bytes()
    make, shape = NETWORKS[network]
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.rand(BATCH * N_STEPS, *shape, generator=drawn)
    data = inputs, torch.arange(len(inputs)) % 2
    if what == "steps":
        return of_steps(make, data, n_epochs, keep)
    if what == "memory":
        live(make, data, n_epochs, keep, lambda event: None)
    else:
        epoch = plain_loop(make, data)
        for _ in range(n_epochs):
            epoch()
    return machine.peak_bytes() - before


def plain_loop(make: Callable[[], nn.Module], data: tuple[Tensor, Tensor]) -> Callable[[], float]:
    """Return a function that trains for an epoch and returns the seconds of the processor."""
    module, (inputs, targets) = make().train(), data
    optimizer, loss = ADAM(module.parameters()), nn.CrossEntropyLoss()

    def epoch() -> float:
        began = time.process_time()
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss(module(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return time.process_time() - began

    return epoch


def live(
    make: Callable[[], nn.Module], data: tuple[Tensor, Tensor], n_epochs: int, keep: float, on_event: Hook
) -> None:  # fmt: skip
    """Let an agent live two days with phases of `n_epochs`, apart from the first night, which has one epoch."""
    agent = dn.Agent(
        make, capacity=dn.Capacity(keep_per_night=keep), training=dn.Training(batch_size=BATCH, optimizer=ADAM),
        private=lambda name, part: name in PRIVATE,
    )  # fmt: skip
    for day, task in enumerate(dn.TaskStream([(data, (data[0][:64], data[1][:64]))] * 2)):
        agent.wake(task, dn.Epochs(n_epochs), on_event)
        agent.sleep(dn.OneShot(), dn.Epochs(n_epochs if day else 1), on_event)


def of_steps(
    make: Callable[[], nn.Module], data: tuple[Tensor, Tensor], n_epochs: int, keep: float
) -> dict[str, list[float]]:  # fmt: skip
    """Return, for each phase, the seconds of an epoch of the plain loop over those of the agent, pair by pair."""
    epoch = plain_loop(make, data)
    epoch()
    ratios: dict[str, list[float]] = {}
    began, place = math.nan, None

    def hear(event: Event) -> None:
        nonlocal began, place
        ended = time.process_time()
        now = event.day, event.phase
        if now != place:
            place, began = now, math.nan  # the first epoch of a phase also has what is done once a phase
        if isinstance(event, dn.Record) and event.kind == "epoch":
            with torch.enable_grad():
                own = epoch()
            if not math.isnan(began):
                ratios.setdefault(f"{event.phase} {event.day}", []).append(own / (ended - began))
            began = time.process_time()

    live(make, data, n_epochs, keep, hear)
    return ratios


def lines_of(network: str, found: dict[str, Any]) -> list[str]:
    """Return what was measured of a network as lines of text."""
    lines = []
    for build, values in found.items():
        for name, value in values.items():
            shown = f"{value:.2f}" if name == "memory" else builds.shown(value)
            lines.append(f"{network}, {build}: {name} {shown}")
    return lines


if __name__ == "__main__":
    main()
