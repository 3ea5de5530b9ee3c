"""Whether networks of many kinds learn three short tasks, and keep the predictions of each bit for bit.

Networks of torchvision on pairs of CIFAR10's classes, an LSTM that reads digits row by row, and a regression of the
angle of turned digits, with its own loss and metric.

    DAYNIGHT_DATA=/data python benchmarks/networks.py --out networks.json

VGG with its 129 million weights takes most of the time; the table says how long each network takes.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import machine
import torch
from torch import Tensor, nn
from torchvision import models as vision

import daynight as dn
from daynight.data.streams import Rotation
from daynight.support.atomic import replacing

N_TASKS, N_TEST = 3, 500
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
USUAL = dn.Training(batch_size=32, optimizer=ADAM)


class RowReader(nn.Module):
    """Reads images (batch, 1, 28, 28) row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 64, batch_first=True), nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs (batch, 2)."""
        outputs: Tensor = self.head(self.lstm(images[:, 0])[0][:, -1])
        return outputs


def vit() -> nn.Module:
    """Return a small vision transformer."""
    return vision.VisionTransformer(
        image_size=32, patch_size=4, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=2
    )


def less_degrees_off(outputs: Tensor, targets: Tensor) -> float:
    """Return minus the mean error of an angle in degrees, from its sine and cosine (n, 2)."""
    angles = torch.atan2(outputs[:, 0], outputs[:, 1]) - torch.atan2(targets[:, 0], targets[:, 1])
    return -float(torch.rad2deg(torch.atan2(angles.sin(), angles.cos())).abs().mean())


def cifar(n_train: int) -> dn.TaskStream:
    """Return tasks of three pairs of CIFAR10's classes."""
    return shortened(dn.split_cifar10(n_train=n_train))


def digits(n_train: int) -> dn.TaskStream:
    """Return tasks of three pairs of MNIST's digits."""
    return shortened(dn.split_mnist(n_train=n_train))


def turned(n_train: int) -> dn.TaskStream:
    """Return tasks of three pairs of digits, each image turned by an angle; targets are its sine and cosine."""
    tasks = []
    for index, task in enumerate(digits(n_train)):
        splits = {}
        for name, split in task.splits().items():
            images, _ = split.load()
            generator = torch.Generator().manual_seed(index)
            angles = torch.rand(len(images), generator=generator) * 120 - 60
            parts = [Rotation(float(angle))(image[None]) for image, angle in zip(images, angles, strict=True)]
            splits[name] = torch.cat(parts), torch.stack([angles.deg2rad().sin(), angles.deg2rad().cos()], 1)
        tasks.append(dn.Task(train=splits["train"], test=splits["test"], name=f"turned {task.name}"))
    return dn.TaskStream(tasks)


def shortened(stream: dn.TaskStream) -> dn.TaskStream:
    """Return the first N_TASKS tasks, with the first N_TEST test examples of each."""
    tasks = list(stream)[:N_TASKS]
    return dn.TaskStream(
        [attrs.evolve(task, test=task.test.subset(torch.arange(min(N_TEST, len(task.test))))) for task in tasks]
    )


@attrs.frozen(kw_only=True)
class Contestant:
    """A network and what it learns.

    Attributes:
        name: Name in the table.
        network: Function that returns the network.
        stream: Function that returns the tasks, for a number of training examples in each.
        training: How it learns them.
        private: See `daynight.Agent`.
        share: Share of the training examples and of the epochs that it gets, 0 to 1.
    """

    name: str
    network: Callable[[], nn.Module]
    stream: Callable[[int], dn.TaskStream] = cifar
    training: dn.Training = USUAL
    private: tuple[str, ...] = ()
    share: float = 1.0


CONTESTANTS = (
    Contestant(name="torchvision resnet18", network=lambda: vision.resnet18(num_classes=2)),
    Contestant(name="torchvision mobilenet_v3_small", network=lambda: vision.mobilenet_v3_small(num_classes=2)),
    Contestant(name="torchvision vgg11_bn", network=lambda: vision.vgg11_bn(num_classes=2), share=0.25),
    Contestant(name="torchvision VisionTransformer", network=vit, private=("encoder.pos_embedding",)),
    Contestant(name="torch.nn.LSTM", network=RowReader, stream=digits),
    Contestant(
        name="regression, own loss and metric", network=lambda: dn.models.MLP(784, 256, 256), stream=turned,
        training=dn.Training(
            batch_size=32, optimizer=ADAM, loss=nn.functional.smooth_l1_loss, metric=less_degrees_off, clip_norm=1.0
        ),
    ),
    Contestant(
        name="torchvision resnet18, bfloat16", network=lambda: vision.resnet18(num_classes=2),
        training=dn.Training(batch_size=32, optimizer=ADAM, autocast=torch.bfloat16), share=0.5,
    ),
)  # fmt: skip


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=int, default=1000, metavar="I", help="training images a task (1000)")
    add("--epochs", type=float, default=4.0, metavar="E", help="epochs of each wake, and of each night (4)")
    add("--free", type=float, default=0.5, metavar="P", help="fraction of weights free at the end (0.5)")
    add("--only", metavar="TEXT", default="", help="only networks whose names contain this")
    add("--out", metavar="FILE", help="write the table as JSON")
    return parser.parse_args()


def main() -> None:
    """Run all networks, and print the table."""
    settings = parse()
    torch.set_num_threads(1)
    about = machine.describe()
    print(machine.line(about), flush=True)
    rows = []
    for contestant in CONTESTANTS:
        if settings.only in contestant.name:
            rows.append(live(contestant, settings))
            print(", ".join(f"{name}: {value}" for name, value in rows[-1].items()), flush=True)
    if settings.out:
        with replacing(settings.out) as path:
            path.write_text(json.dumps({"settings": vars(settings), "machine": about, "networks": rows}, indent=1))


def live(contestant: Contestant, settings: argparse.Namespace) -> dict[str, Any]:
    """Run three days; compare each task's predictions with those at its dawn, after every day and from a file."""
    stream = contestant.stream(max(16, math.ceil(settings.images * contestant.share)))
    agent = dn.Agent(
        contestant.network, capacity=dn.Capacity(free_at_end=settings.free, days=N_TASKS, min_per_layer=1),
        training=contestant.training, private=contestant.private,
    )  # fmt: skip
    length = dn.Epochs(settings.epochs * contestant.share)
    clock = dn.Clock(agent, stream, policy=dn.UniformCycles(2), wake=length, night=length)
    began, at_dawn, is_frozen = time.perf_counter(), list[Tensor](), True
    for day in range(N_TASKS):
        clock.step()
        at_dawn.append(predicted(agent, stream, day))
        is_frozen &= all(torch.equal(predicted(agent, stream, task), then) for task, then in enumerate(at_dawn))
    seconds = time.perf_counter() - began
    agent.verify()
    with tempfile.TemporaryDirectory() as folder:
        agent.save(Path(folder) / "agent.dn")
        again = dn.Agent.load(Path(folder) / "agent.dn", contestant.network, training=contestant.training)
    is_same = all(torch.equal(predicted(again, stream, task), then) for task, then in enumerate(at_dawn))
    return {
        "network": contestant.name, "tasks": ", ".join(task.name for task in stream), "weights": agent.n_weights,
        "layers masked": len(agent.network.sizes), "images a task": len(stream[0].train),
        "epochs": length.n, "seconds": round(seconds, 1),
        "scores": [round(float(score), 3) for score in clock.history.accuracy[-1]],
        "bitwise frozen": "yes" if is_frozen else "no", "the same from its file": "yes" if is_same else "no",
    }  # fmt: skip


def predicted(agent: dn.Agent, stream: dn.TaskStream, task: int) -> Tensor:
    """Return an agent's predictions for a task's test examples."""
    return agent.predict(stream[task].test.load()[0], task)


if __name__ == "__main__":
    main()
