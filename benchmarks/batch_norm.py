"""What becomes of batch normalisation in a night without a REM: statistics of the wake, or taken anew after the prune.

    nice -n 10 python benchmarks/batch_norm.py --out docs/results/batch_norm.csv

Three networks learn two days of the packaged digits. At each dusk, the agent is forked for nights of several lengths.
After each night, the accuracy on test data is measured with the statistics that the night leaves, with those of the
wake, and with statistics that are taken anew on some batches of the training data.
"""

import argparse
import csv
import itertools
import sys
from pathlib import Path

import torch
from torch import nn

import daynight as dn

#: Lengths of the nights, in epochs; 0 is a night that only prunes.
REMS = (0, 0.25, 0.5, 1, 2, 4)
#: On how many batches, of which size, statistics are taken anew.
BATCHES = ((1, 32), (4, 32), (32, 32), (1, 256))
COLUMNS = ("network", "seed", "free_at_end", "day", "rem", "statistics", "score")


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, inputs):
        """Map channels (batch, width, height, width) to channels of the same shape."""
        return torch.relu(inputs + self.body(inputs))


def mlp():
    """Make a network of linear layers with batch normalisation."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128), nn.BatchNorm1d(128),
        nn.ReLU(), nn.Linear(128, 2),
    )  # fmt: skip


def convnet():
    """Make a network of convolutions and linear layers with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 64),
        nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip


def resnet():
    """Make a small residual network."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Residual(16), Residual(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Residual(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip


NETWORKS = {network.__name__: network for network in (mlp, convnet, resnet)}


def score(module, task):
    """Return the accuracy of a module on the test data of a task."""
    module.eval()
    inputs, targets = task.test.load()
    with torch.no_grad():
        return float((module(inputs).argmax(1) == targets).double().mean())


def take_anew(module, task, n_batches, size, seed):
    """Take the statistics of a module anew, as means over some batches of a task's training data."""
    inputs, _ = task.train.load()
    inputs = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))]
    torch.optim.swa_utils.update_bn(inputs.split(size)[:n_batches], module)


def nights(name, seed, free_at_end, wake):
    """Live two days, and yield the rows that are measured at their dawns."""
    stream = list(itertools.islice(dn.split_mnist(data="sample"), 2))
    agent = dn.Agent(
        NETWORKS[name], capacity=dn.Capacity(free_at_end=free_at_end, days=5, min_per_layer=1), seed=seed,
        training=dn.Training(batch_size=32),
    )  # fmt: skip
    for day, task in enumerate(stream):
        agent.wake(task, dn.Epochs(wake))
        at_dusk = {key: value.clone() for key, value in agent.network.module.named_buffers()}
        dusk = float((agent.predict(task.test.load()[0], day).argmax(1) == task.test.load()[1]).double().mean())
        yield name, seed, free_at_end, day, "", "dusk", dusk
        for rem in REMS:
            twin = agent.fork()
            twin.sleep(dn.OneShot(), dn.Epochs(rem))
            yield name, seed, free_at_end, day, rem, "dawn", score(twin.subnetwork(day), task)
            module = twin.subnetwork(day)
            module.load_state_dict(at_dusk, strict=False)
            yield name, seed, free_at_end, day, rem, "wake", score(module, task)
            for n_batches, size in BATCHES:
                module = twin.subnetwork(day)
                take_anew(module, task, n_batches, size, seed)
                yield name, seed, free_at_end, day, rem, f"{n_batches} x {size}", score(module, task)
        agent.sleep(dn.OneShot(), dn.Epochs(2))


def main():
    """Measure, and write one row for each score."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--wake", type=float, default=4, help="epochs of each wake")
    parser.add_argument("--free", type=float, nargs="+", default=[0.5, 0.95], help="fractions free after five days")
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with Path(given.out).open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for name, free, seed in itertools.product(NETWORKS, given.free, range(given.seeds)):
            for *about, value in nights(name, seed, free, given.wake):
                rows.writerow([*about, f"{value:.4f}"])
            file.flush()
            print(name, free, seed, file=sys.stderr)


if __name__ == "__main__":
    main()
