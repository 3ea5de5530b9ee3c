"""Five short lives, and digests of all that is noted of them: equal bits before and after a change of the code.

    python tests/guards/guarded_lives.py

writes the digests of this machine beside those that ``digests.json`` has. The whole numbers of a life (steps, owned and
free weights) and its densities follow from settings alone and are the same everywhere. Losses and scores are the same
on equal machines with equal versions.
"""

import csv
import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import daynight as dn
from daynight.testing import toy_stream

DIGESTS = Path(__file__).with_name("digests.json")
#: Columns of a history that follow from settings alone.
COUNTS = ("kind", "day", "phase", "step", "cycle", "task", "owned", "free", "capacity", "private", "wake_steps",
          "night_steps", "unspent_steps", "n_train")  # fmt: skip


def images(n_days, side=8):
    """Make days of small pictures of two classes, of which one is brighter than the other."""
    generator = torch.Generator().manual_seed(1)
    days = []
    for _ in range(n_days):
        labels = torch.arange(96) % 2
        pictures = torch.randn(96, 3, side, side, generator=generator) + labels[:, None, None, None]
        days.append(dn.Task(train=(pictures[:64], labels[:64]), test=(pictures[64:], labels[64:]), n_outputs=2))
    return dn.TaskStream(days)


def sequences(n_days):
    """Make days of sequences (n, 7, 3) whose sum decides their class."""
    generator = torch.Generator().manual_seed(2)
    days = []
    for _ in range(n_days):
        numbers = torch.randn(96, 7, 3, generator=generator)
        labels = (numbers.sum((1, 2)) > 0).long()
        days.append(dn.Task(train=(numbers[:64], labels[:64]), test=(numbers[64:], labels[64:]), n_outputs=2))
    return dn.TaskStream(days)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 12, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, inputs):
        return self.head(self.lstm(inputs)[0][:, -1])


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(16, 2)

    def forward(self, inputs):
        return self.head(self.layers(inputs))


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)


def mnist():
    """Live two days of the packaged sample of MNIST with the settings of the example."""
    stream = dn.split_mnist(data="sample").hold_out(0.1, 0)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=0.95, days=5),
        training=dn.Training(batch_size=128), biases="per-task", seed=0,
    )  # fmt: skip
    clock = dn.Clock(agent, stream, policy=dn.UniformCycles(4), wake=dn.Epochs(30), night=dn.Epochs(60))
    return clock.run(until=2)


def convnet():
    """Live two days of a convolutional network, whose nights react and rewind."""
    agent = dn.Agent(
        lambda: dn.models.ConvNet(side=8), capacity=dn.Capacity(free_at_end=0.8, days=2, ranking="balanced"),
        training=dn.Training(batch_size=16), seed=1,
    )  # fmt: skip
    policy = dn.Rewound(dn.Controlled(0.05, 1 / 4), 0.5)
    stream = images(2).hold_out(0.25, 0)
    return dn.Clock(agent, stream, policy=policy, wake=dn.Epochs(2), night=dn.Epochs(4, price=0.25)).run()


def lstm():
    """Live three days of a recurrent network, with decay, a learning-rate shape and free weights drawn anew."""
    agent = dn.Agent(
        Recurrent, capacity=dn.Capacity(keep_per_night=0.2), restart="redraw",
        training=dn.Training(batch_size=16, optimizer=momentum, clip_norm=1.0), seed=2,
    )  # fmt: skip
    policy = dn.Rated(dn.GeometricCycles(3, 2.0), dn.rates.Linear(1.0, 0.0), "night")
    return dn.Clock(agent, sequences(3), policy=policy, wake=dn.Epochs(3), night=dn.Steps(20)).run()


def carried():
    """Live three days with batch normalisation, and an optimizer that is carried through the night."""
    agent = dn.Agent(
        Normed, capacity=dn.Capacity(free_at_end=0.4, days=3), restart="keep", seed=3,
        training=dn.Training(batch_size=16, carry_optimizer=True), criterion=dn.criteria.gradient_times_weight,
    )  # fmt: skip
    stream = toy_stream(3, n_train=64).hold_out(0.2)
    return dn.Clock(agent, stream, policy=dn.GradualPruning(5, 0.4), wake=dn.Epochs(4), night=dn.Epochs(6)).run()


def rehearsed():
    """Live three days that rehearse all data so far."""
    agent = dn.Agent(
        lambda: dn.models.MLP(6, 16, 16), capacity=dn.Capacity(free_at_end=0.5, days=3), consolidation="rehearse",
        training=dn.Training(batch_size=16), seed=4,
    )  # fmt: skip
    return dn.Clock(agent, toy_stream(3), policy=dn.UniformCycles(3), wake=dn.Epochs(3), night=dn.Epochs(5)).run()


LIVES = {life.__name__: life for life in (mnist, convnet, lstm, carried, rehearsed)}


def machine():
    """Name what the bits of floating-point numbers depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def digests(history):
    """Return the SHA-256 of the counts of a history, and of all but its times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        history.to_csv(path)
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    timeless = [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in rows]
    counts = [{name: row[name] for name in COUNTS} for row in rows]
    return {
        name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in
        (("counts", counts), ("bits", timeless))
    }  # fmt: skip


def write():
    """Write the digests of this machine."""
    torch.set_num_threads(1)
    known = json.loads(DIGESTS.read_text()) if DIGESTS.is_file() else {}
    for name, life in LIVES.items():
        found = digests(life())
        bits = known.get(name, {}).get("bits", {}) | {machine(): found["bits"]}
        known[name] = {"counts": found["counts"], "bits": bits}
    DIGESTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(write())
